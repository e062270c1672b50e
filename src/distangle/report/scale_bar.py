"""Draw a scale bar of a round length into a picture."""

import math

import numpy as np

TARGET = 0.22  # share of the width of the picture
_STEPS = (1.0, 2.0, 5.0)


def bar_length_um(width_um: float) -> float:
    """Return the length of a bar: 1, 2 or 5 times a power of ten.

    Args:
        width_um: Width of the picture in micrometers.
    """
    limit = TARGET * width_um
    power = 10.0 ** math.floor(math.log10(limit))
    return max(step * power for step in _STEPS if step * power <= limit * (1 + 1e-9))


def draw_scale_bar(picture: np.ndarray, *, um_per_pixel: float) -> tuple[np.ndarray, float]:
    """Draw a white bar with a black edge into the lower right corner.

    Args:
        picture: uint8 [height, width] or [height, width, 3].
        um_per_pixel: Size of a pixel of this picture in micrometers.

    Returns:
        A copy with the bar, and the length of the bar in micrometers.
    """
    height, width = picture.shape[:2]
    length = bar_length_um(width * um_per_pixel)
    n_pixels = max(1, round(length / um_per_pixel))
    thickness, margin = max(2, height // 80), max(3, height // 28)
    bottom, right = height - margin, width - margin
    drawn = picture.copy()
    drawn[max(0, bottom - thickness - 1) : bottom + 1, max(0, right - n_pixels - 1) : right + 1] = 0
    drawn[bottom - thickness : bottom, max(0, right - n_pixels) : right] = 255
    return drawn, length


def length_text(length_um: float) -> str:
    """Return a length with its unit, such as `50 µm`."""
    return f"{length_um:g}\u202fµm"
