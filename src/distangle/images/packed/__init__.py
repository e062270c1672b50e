"""Lossless packed images: one file with a checksum for each, fast to read."""

from distangle.images.packed.read import is_packed, packed_header, read_packed

__all__ = ["is_packed", "packed_header", "read_packed"]
