"""Read plain grey PNG files fast; leave unusual ones to the general reader."""

from distangle.images.png.read import SIGNATURE, check_single, check_stream, png_header, read_pngs

__all__ = ["SIGNATURE", "check_single", "check_stream", "png_header", "read_pngs"]
