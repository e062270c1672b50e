"""Metadata files of microscopes: channel names, pixel size, well of each file."""
