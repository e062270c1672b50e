"""Packed images: a file per image, without loss, with a checksum, read many times faster than a PNG per channel."""

from distangle.images.packed.read import is_packed, packed_header, read_packed

__all__ = ["is_packed", "packed_header", "read_packed"]
