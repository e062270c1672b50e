"""Classical measurements of an image as a layer without parameters: intensity, granularity, colocalisation."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from distangle.axes import Images

N_SCALES = 4  # each twice as coarse as the one before
QUANTILES = (0.02, 0.25, 0.5, 0.75, 0.98)
EPSILON = 1e-3  # of a standardised intensity: the logarithm of an empty channel stays finite


class Measurements(nn.Module):
    """What an image-analysis program would measure of a whole image, per channel and per pair of channels.

    Per channel: mean, spread and five quantiles; at each of four scales the energy of what is lost by halving the
    resolution (granularity), its tail and its skewness. Per pair: the correlation of intensities, and of each
    scale (colocalisation). They join the pooled maps like the cell type, which spares a small network with few
    images from having to learn them. None changes when the image is turned or flipped.

    Departs: the paper has no such layer; the presets `seed` and `rcic1st` leave it out. An activation map does not
        see what passes through it, a Shapley value of a stain does.

    Args:
        n_channels: Channels of an image.

    Attributes:
        n_features: Numbers that come out.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.pairs = list(itertools.combinations(range(n_channels), 2))
        per_channel = 2 + len(QUANTILES) + 3 * N_SCALES
        self.n_features = n_channels * per_channel + len(self.pairs) * (1 + N_SCALES)

    def forward(self, images: Images) -> Float[Tensor, "site feature"]:
        """Return the measurements, float32 also under autocast.

        Args:
            images: Standardised intensities, at least 16 pixels a side.
        """
        with torch.autocast(images.device.type, enabled=False):
            plane = images.float()
            flat = plane.flatten(2)
            said = [flat.mean(2), flat.std(2), *_quantiles(flat)]
            said += [self._correlations(flat)]
            for _ in range(N_SCALES):
                coarser = functional.avg_pool2d(plane, 2)
                fine = plane - functional.interpolate(coarser, size=plane.shape[2:], mode="nearest")
                band = fine.flatten(2)
                spread = band.square().mean(2).add(EPSILON**2).sqrt()
                tail = band.pow(4).mean(2).add(EPSILON**4).pow(0.25)
                skew = band.pow(3).mean(2) / spread.pow(3)
                said += [spread.log(), (tail / spread).log(), skew.clamp(-5, 5), self._correlations(band)]
                plane = coarser
            return torch.cat(said, 1)

    def _correlations(self, flat: Tensor) -> Tensor:
        centred = flat - flat.mean(2, keepdim=True)
        unit = centred / centred.norm(dim=2, keepdim=True).clamp_min(EPSILON)
        found = [(unit[:, first] * unit[:, second]).sum(1) for first, second in self.pairs]
        return torch.stack(found, 1) if found else flat.new_zeros((len(flat), 0))


def _quantiles(flat: Tensor) -> list[Tensor]:
    ordered = flat.sort(dim=2).values
    last = ordered.shape[2] - 1
    return [ordered[:, :, round(share * last)] for share in QUANTILES]
