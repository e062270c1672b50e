"""Attribution maps of sites by several methods, and their overlap with cells."""
