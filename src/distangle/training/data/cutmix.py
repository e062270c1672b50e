"""Paste a box of one image into another, and mix the labels by area (CutMix)."""

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
        alpha: Parameter of the Beta distribution of lambda.
    """
    side = np.sqrt(1.0 - rng.beta(alpha, alpha))
    row, column = rng.uniform(0, height), rng.uniform(0, width)
    box_height, box_width = side * height, side * width
    top, bottom = (int(np.clip(round(edge), 0, height)) for edge in (row - box_height / 2, row + box_height / 2))
    left, right = (int(np.clip(round(edge), 0, width)) for edge in (column - box_width / 2, column + box_width / 2))
    return Box(top, left, bottom, right)


def remaining_area(box: Box, *, height: int, width: int) -> float:
    """Return lambda, the share of image A outside the box, in [0, 1].

    Source: Sec. 3.4.
    Departs: computed from the clipped box; the printed r_w r_h / (W H) = 1 - lambda holds unclipped only.
    """
    return 1.0 - box.area / (height * width)


def mix_images(images: np.ndarray, partners: np.ndarray, box: Box) -> np.ndarray:
    """Paste a box of each image's partner into it, in place, before normalization.

    Source: Eq. (9).

    Args:
        images: Any data type [site, channel, height, width]; changed and returned.
        partners: int [site], row of `images` with image B.
        box: One box for all images.
    """
    inside = np.s_[:, :, box.top : box.bottom, box.left : box.right]
    images[inside] = images[inside][partners]
    return images


def mix_rows(rows: np.ndarray, partners: np.ndarray, share: float) -> np.ndarray:
    """Mix labels or cell types (one-hot rows) with the weight lambda.

    Source: Eq. (9).
    Departs: the cell type is mixed like the label, which the paper leaves open.
    """
    return np.asarray(share * rows + (1.0 - share) * rows[partners], dtype=np.float32)
