"""What the pages of a TIFF file are, as its own metadata say: channels, focal planes, times, thumbnails."""

from distangle.images.stacks.contents import stack_of

__all__ = ["stack_of"]
