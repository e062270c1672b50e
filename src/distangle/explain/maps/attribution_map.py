"""Attribution maps: one map per site in [0, 1] at the size of the image."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from distangle.axes import Maps
from distangle.errors import ExplanationError
from distangle.model import Outputs

Head = Literal["softmax", "arc"]
Method = Literal["grad_cam", "hires_cam", "layer_cam", "integrated_gradients", "occlusion"]
MIN_RELATIVE_RANGE = 1e-6  # a map whose range is below this share of its maximum is constant up to rounding


@dataclass(frozen=True, kw_only=True)
class AttributionMaps:
    """Attribution maps of some sites, and the outputs that they explain.

    Attributes:
        maps: Maps in [0, 1] at the requested size; the maximum of each map is 1. A map is all 0 if the image or the map
            is constant, or if the map has no positive part.
        raw: Signed map of the method before the ReLU, on its own grid, for Grad-CAM sum_k alpha_k A_k on the grid of
            the layer; negative where a position speaks against the perturbation.
        outputs: Outputs of the network for the sites.
        layer: Name of the layer, or `image`.
        head: Head of the explained output.
        method: Attribution method of the maps.
    """

    maps: Maps
    raw: Float[Tensor, "site _ _"]
    outputs: Outputs
    layer: str
    head: Head
    method: Method = "grad_cam"


def to_attribution_map(
    raw: Tensor,
    outputs: Outputs,
    images: Tensor,
    *,
    layer: str,
    head: Head,
    size: tuple[int, int] | None,
    method: Method = "grad_cam",
) -> AttributionMaps:
    """Turn signed maps into attribution maps at the size of the image.

    The positive part is enlarged and divided by its maximum.

    Raises:
        ExplanationError: A map is not finite.
    """
    raw = raw.detach().float()
    finite = raw.isfinite().flatten(1).all(1)
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise ExplanationError(
            f"The activations of row {row} at layer {layer!r} are not finite. Check that its image has no NaN and "
            "that training did not diverge."
        )
    height, width = size or (images.shape[2], images.shape[3])
    maps = normalized_maps(enlarge(raw.clamp(min=0), (height, width)))
    flat = (images.flatten(2).amax(2) == images.flatten(2).amin(2)).all(1)
    maps = torch.where(flat[:, None, None], torch.zeros_like(maps), maps)
    detached = Outputs(
        logits=outputs.logits.detach(), cosines=outputs.cosines.detach(), embedding=outputs.embedding.detach()
    )
    return AttributionMaps(maps=maps, raw=raw, outputs=detached, layer=layer, head=head, method=method)


def enlarge(maps: Maps, size: tuple[int, int]) -> Float[Tensor, "site _ _"]:
    """Enlarge maps to `size` (height, width), bilinear between pixel centers."""
    return functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def normalized_maps(maps: Maps) -> Maps:
    """Divide each non-negative map by its maximum; constant maps become 0."""
    top, low = maps.amax((1, 2), keepdim=True), maps.amin((1, 2), keepdim=True)
    pointing = top - low > MIN_RELATIVE_RANGE * top
    return torch.where(pointing, maps / torch.where(pointing, top, torch.ones_like(top)), torch.zeros_like(maps))
