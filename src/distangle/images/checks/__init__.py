"""Find damaged, clipped, empty, blurred, copied and changed images."""

from distangle.images.checks.run import check_pixels

__all__ = ["check_pixels"]
