"""What names of files and folders say: plate, well, site, channel; no file is opened."""
