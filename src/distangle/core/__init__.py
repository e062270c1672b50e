"""Files, processes and statistics for every package; imports no other package."""
