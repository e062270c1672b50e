"""Lay a box of one image over another, and mix the labels by area (CutMix)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Box:
    """A box inside an image, half open, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def area(self) -> int:
        """Pixels inside."""
        return (self.bottom - self.top) * (self.right - self.left)


def random_box(rng: np.random.Generator, *, height: int, width: int, alpha: float = 1.0) -> Box:
    """Draw the box B.

    Source: Eq. (8).
    Departs: (r_x, r_y) is the centre of the box, which is clipped to the image; the printed text calls it a
        corner, where a box would leave the image.

    Args:
        rng: Source of randomness.
        height: H, in pixels.
        width: W, in pixels.
        alpha: Of the Beta distribution of lambda.
    """
    side = np.sqrt(1.0 - rng.beta(alpha, alpha))
    row, column = rng.uniform(0, height), rng.uniform(0, width)
    tall, wide = side * height, side * width
    top, bottom = (int(np.clip(round(edge), 0, height)) for edge in (row - tall / 2, row + tall / 2))
    left, right = (int(np.clip(round(edge), 0, width)) for edge in (column - wide / 2, column + wide / 2))
    return Box(top, left, bottom, right)


def kept_area(box: Box, *, height: int, width: int) -> float:
    """Return lambda, the share of image A that is left, in [0, 1].

    Source: Sec. 3.4.
    Departs: computed from the clipped box; the printed r_w r_h / (W H) = 1 - lambda holds unclipped only.
    """
    return 1.0 - box.area / (height * width)


def mix_images(images: np.ndarray, partners: np.ndarray, box: Box) -> np.ndarray:
    """Lay the box of each image's partner over it, in place, before normalisation.

    Source: Eq. (9).

    Args:
        images: Any data type [site, channel, height, width]; changed and returned.
        partners: int [site]: the row of `images` that image B is.
        box: One box for all.
    """
    inside = np.s_[:, :, box.top : box.bottom, box.left : box.right]
    images[inside] = images[inside][partners]
    return images


def mix_rows(rows: np.ndarray, partners: np.ndarray, kept: float) -> np.ndarray:
    """Mix labels or cell types (one-hot rows) with the weight lambda.

    Source: Eq. (9).
    Departs: the cell type is mixed like the label, which the paper leaves open.
    """
    return np.asarray(kept * rows + (1.0 - kept) * rows[partners], dtype=np.float32)
