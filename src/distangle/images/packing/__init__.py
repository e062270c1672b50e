"""Packed images: one lossless file with a checksum per image, read many times faster than a PNG per channel."""
