"""Read plate, well, site and channel from names of files and folders."""
