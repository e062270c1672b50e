"""Readers of PNG, TIFF, OME-Zarr and packed images, with integrity checks."""
