"""Interpret TIFF pages by their metadata: channels, planes, times, thumbnails."""

from distangle.images.stacks.contents import stack_of

__all__ = ["stack_of"]
