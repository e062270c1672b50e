"""Baseline images, whose channels replace the removed channels of a site."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from distangle.errors import ExplanationError, did_you_mean
from distangle.explain.sites import ExplainedSites, SiteBatch

Removal = Literal["mean", "control", "other_well"]
Baselines = Float[Tensor, "baseline channel height width"]
# In standardized intensity: rounding leaves the mean of a standardized channel about 1e-7 off 0.
ROUNDING = 1e-5
REQUIRED_IMAGES = {
    "control": ("controls", "images of control wells"),
    "other_well": ("other_wells", "images of other wells of the plate"),
}


def default_removal(sites: SiteBatch | ExplainedSites) -> Removal:
    """Return the default removal: `control` with controls, else `mean`."""
    return "mean" if sites.controls is None else "control"


def baseline_images(sites: SiteBatch, removal: Removal | None = None) -> Baselines:
    """Return baseline images: one per site, or one for all.

    - `mean`: the mean of the channel over the image. It uses only the image itself, but no real well looks like it. If
      images are not standardized one by one, the brightness of the channel remains.
    - `control`: the same channel of a control well of the plate, which shows the channel without the perturbation and
      resembles the training images.
    - `other_well`: the same channel of any other well of the plate, which shows the channel on this plate. The effect
      of the perturbation of that well remains.

    Args:
        sites: With `controls` for `control`, with `other_wells` for `other_well`.
        removal: One of these; None for `default_removal`.

    Raises:
        ExplanationError: The removal is unknown, or images are missing or have the wrong shape.
    """
    removal = default_removal(sites) if removal is None else removal
    if removal not in get_args(Removal):
        raise ExplanationError(f"Unknown removal {removal!r}. {did_you_mean(removal, get_args(Removal))}")
    images = sites.images
    if removal == "mean":
        return _channel_means(images)
    name, description = REQUIRED_IMAGES[removal]
    replacement = sites.controls if removal == "control" else sites.other_wells
    if replacement is None:
        raise ExplanationError(
            f"Removal {removal!r} needs the {description}. Give `{name}`, one per site or one for all, or use "
            "removal='mean'."
        )
    if replacement.shape[1:] != images.shape[1:] or len(replacement) not in (1, len(images)):
        raise ExplanationError(
            f"`{name}` of shape {tuple(replacement.shape)} do not fit images of shape {tuple(images.shape)}. Give one "
            "image per site, or one for all, with the same channels, height and width."
        )
    return replacement.to(images)


def _channel_means(images: Tensor) -> Tensor:
    means = images.float().mean((2, 3), keepdim=True)
    # If images were standardized one by one, the means are equal for all sites, and the empty coalition is shared.
    means = torch.where(means.abs() < ROUNDING, 0, means)
    if len(means) > 1 and bool((means == means[:1]).all()):
        means = means[:1]
    return means.to(images).expand(-1, -1, *images.shape[2:])
