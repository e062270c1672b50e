"""Standardise and jitter the pixels of a batch, on the host or on the device."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from distangle.axes import Images
from distangle.images import standardise
from distangle.images.intensity import Transform
from distangle.model.arriving import affine, measured_after, standardising
from distangle.training.batches.cutmix import Box


@dataclass(frozen=True, kw_only=True)
class LastStep:
    """Turns whole pixels, already turned, cropped and mixed, into network input.

    Attributes:
        statistics: float32 [site, 2, channel], mean and spread of each image.
        transform: What they were measured after.
        gain: float32 [site, channel], by which standardised pixels are multiplied; None for 1.
        offset: float32 [site, channel], which is added then; None for 0.
        box: Where the pixels of partners lie (CutMix); None nowhere.
        partners: int [site], whose pixels lie there: each pixel is standardised by the image it came from, or the box
            would show its own brightness.
    """

    statistics: np.ndarray
    transform: Transform = "none"
    gain: np.ndarray | None = None
    offset: np.ndarray | None = None
    box: Box | None = None
    partners: np.ndarray | None = None

    def on_host(self, pixels: np.ndarray, *, out: np.ndarray) -> np.ndarray:
        """Write the network input into a float32 buffer.

        The pixels are uint8 or uint16 [site, channel, height, width].
        """
        standardise(pixels, self.statistics, out=out, transform=self.transform)
        if self.box is not None and self.partners is not None:
            edges = (self.box.top, self.box.left, self.box.bottom, self.box.right)
            standardise(pixels, self.statistics[self.partners], out=out, transform=self.transform, box=edges)
        if self.gain is not None:
            out *= self.gain[:, :, None, None]
        if self.offset is not None:
            out += self.offset[:, :, None, None]
        return out

    def on_device(self, pixels: Tensor) -> Images:
        """Compute the network input on the device of the pixels.

        It takes one multiplication and addition a pixel.

        Equal to `on_host` but for rounding: standardising and jitter are one affine map of a channel of an image.
        """
        ready = measured_after(pixels, self.transform)
        inside = None
        if self.box is not None and self.partners is not None:
            box = np.s_[:, :, self.box.top : self.box.bottom, self.box.left : self.box.right]
            inside = affine(ready[box], *self._factors(self.statistics[self.partners]))
        ready = affine(ready, *self._factors(self.statistics))
        if inside is not None:
            ready[box] = inside
        return ready

    def _factors(self, statistics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Factor and summand of every channel of every image."""
        factor, summand = standardising(statistics)
        if self.gain is not None:
            factor, summand = factor * self.gain, summand * self.gain
        return factor, summand if self.offset is None else summand + self.offset
