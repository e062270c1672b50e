"""Compute intensity, granularity and colocalization features as maps."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from distangle.axes import Images

N_SCALES = 4  # each at half the resolution of the one before
LEVELS = (-1.0, 0.0, 1.0, 2.0, 4.0)  # standardized intensities; a feature is the share of pixels above each
SOFTNESS = 0.25  # width of a level, in standardized intensity
EPSILON = 1e-3  # in standardized intensity: keeps the logarithm of an empty channel finite


class HandcraftedFeatures(nn.Module):
    """Handcrafted features of an image, by channel and pair of channels.

    Per channel: mean, standard deviation and the share above five levels; at each of four scales the energy lost by
    halving the resolution (granularity), its tail and its skewness. Per pair: the correlation of intensities, and of
    each scale (colocalization). All are functions of mean products over pixels, so they start as maps that are pooled
    with those of the backbone, and activation maps include them. None changes under rotation of the image.

    Departs: the paper has no such maps; the presets `seed` and `rcic1st` leave them out. They spare a small network
        with few images from having to learn them.

    Args:
        n_channels: Channels of an image.

    Attributes:
        n_maps: Maps to be pooled.
        n_features: Features computed from the pooled maps.
        channels: The two channels that each map depends on; the same channel twice for a map of one channel.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.pairs = list(itertools.combinations(range(n_channels), 2))
        self.n_maps = n_channels * (2 + len(LEVELS) + 3 * N_SCALES) + len(self.pairs) * (1 + N_SCALES)
        self.n_features = self.n_maps
        each = [(channel, channel) for channel in range(n_channels)]
        self.channels = [*each * (2 + len(LEVELS)), *self.pairs, *[*each * 3, *self.pairs] * N_SCALES]

    def maps(self, images: Images, *, size: tuple[int, int]) -> Float[Tensor, "site feature _ _"]:
        """Return local mean products on a grid, float32 also under autocast.

        Args:
            images: Standardized intensities, at least 16 pixels per side.
            size: Height and width of the grid.
        """
        with torch.autocast(images.device.type, enabled=False):
            plane = images.float().contiguous()  # pooling few channels in channels-last format takes twice the time
            # Pooled one by one: a stack of all products at full size would cost more in memory than in arithmetic.
            grids = [_pool(plane, size), _pool(plane.square(), size)]
            grids += [_pool(torch.sigmoid((plane - level) / SOFTNESS), size) for level in LEVELS]
            grids += self._products(plane, size)
            for _ in range(N_SCALES):
                coarser = functional.avg_pool2d(plane, 2)
                band = plane - functional.interpolate(coarser, size=plane.shape[2:], mode="nearest")
                squared = band.square()
                grids += [_pool(product, size) for product in (squared, squared.square(), squared * band)]
                grids += self._products(band, size)
                plane = coarser
            return torch.cat(grids, 1)

    def features(self, pooled: Float[Tensor, "site map"]) -> Float[Tensor, "site feature"]:
        """Return the features that follow from the means of the maps.

        Args:
            pooled: Mean of each of the `maps`.
        """
        n, n_pairs = self.n_channels, len(self.pairs)
        sizes = [n, n, *[n] * len(LEVELS), n_pairs, *[n, n, n, n_pairs] * N_SCALES]
        mean, square, *rest = torch.split(pooled.float(), sizes, 1)
        levels, products, bands = rest[: len(LEVELS)], rest[len(LEVELS)], rest[len(LEVELS) + 1 :]
        std = (square - mean.square()).clamp_min(EPSILON**2).sqrt()
        features = [mean, std, *levels, self._correlation(products, std, mean)]
        for scale in range(N_SCALES):
            second, fourth, cubed, product = bands[4 * scale : 4 * scale + 4]
            energy = second.clamp_min(EPSILON**2).sqrt()
            tail = fourth.clamp_min(EPSILON**4).pow(0.25)
            skew = (cubed / energy.pow(3)).clamp(-5, 5)
            features += [energy.log(), (tail / energy).log(), skew, self._correlation(product, energy, None)]
        return torch.cat(features, 1)

    def _products(self, plane: Tensor, size: tuple[int, int]) -> list[Tensor]:
        return [_pool(plane[:, a : a + 1] * plane[:, b : b + 1], size) for a, b in self.pairs]

    def _correlation(self, products: Tensor, std: Tensor, mean: Tensor | None) -> Tensor:
        first, second = ([pair[k] for pair in self.pairs] for k in (0, 1))
        covariance = products if mean is None else products - mean[:, first] * mean[:, second]
        return (covariance / (std[:, first] * std[:, second])).clamp(-1, 1)


def _pool(plane: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.adaptive_avg_pool2d(plane, size)
