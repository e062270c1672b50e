"""Readers of image files: PNG, TIFF, OME-Zarr and packed images, each with checks of integrity."""
