"""What is odd in the pixels of a screen: damage, clipping, empty and blurred fields, copies, files changed since."""

from distangle.images.checks.run import check_pixels

__all__ = ["check_pixels"]
