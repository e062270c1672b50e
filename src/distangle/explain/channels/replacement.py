"""Images whose channels replace the channels that are removed."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from distangle.errors import ExplanationError, did_you_mean
from distangle.explain.sites import ExplainedSites, SiteBatch

Removal = Literal["mean", "control", "other_well"]
Baselines = Float[Tensor, "baseline channel height width"]

# Of a standardized intensity: rounding leaves the mean of a channel standardized by itself about 1e-7 off 0.
ROUNDING = 1e-5
REQUIRED_IMAGES = {
    "control": ("controls", "images of control wells"),
    "other_well": ("other_wells", "images of other wells of the plate"),
}


def default_removal(sites: SiteBatch | ExplainedSites) -> Removal:
    """Return the default removal: `control` with controls, else `mean`."""
    return "mean" if sites.controls is None else "control"


def baseline_images(sites: SiteBatch, removal: Removal | None = None) -> Baselines:
    """Return replacement images: one per site, or one for all.

    - `mean`: the channel's own mean over the image, everywhere. Nothing comes from outside the image, but no well
      looks like it; and where images are not standardized one by one, what a channel says by its brightness is not
      removed.
    - `control`: the same channel of a control well of the same plate: what it would be without the perturbation,
      close to what the network was trained on.
    - `other_well`: the same channel of any other well of the plate: what it is on this plate at large, whatever was
      done there. The other well's perturbation comes along.

    Args:
        sites: With `controls` for `control`, with `other_wells` for `other_well`.
        removal: Which of them; None as `default_removal`.

    Raises:
        ExplanationError: Unknown removal; images that are missing or do not fit.
    """
    removal = default_removal(sites) if removal is None else removal
    if removal not in get_args(Removal):
        raise ExplanationError(f"No removal is called {removal!r}. {did_you_mean(removal, get_args(Removal))}")
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
    # Equal for all sites where images were standardized one by one, so that the empty coalition is shared.
    means = torch.where(means.abs() < ROUNDING, 0, means)
    if len(means) > 1 and bool((means == means[:1]).all()):
        means = means[:1]
    return means.to(images).expand(-1, -1, *images.shape[2:])
