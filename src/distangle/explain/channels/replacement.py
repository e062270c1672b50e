"""Images whose channels replace the channels that are taken away."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from distangle.errors import ExplanationError, did_you_mean
from distangle.explain.sites import ExplainedSites, SiteBatch

Removal = Literal["mean", "control", "other_well"]
StandIns = Float[Tensor, "stand_in channel height width"]

# Of a standardised intensity: rounding leaves the mean of a channel standardised by itself about 1e-7 off 0.
ROUNDING = 1e-5
NEEDS = {
    "control": ("controls", "images of control wells"),
    "other_well": ("others", "images of other wells of the plate"),
}


def default_removal(sites: SiteBatch | ExplainedSites) -> Removal:
    """Return the default removal: `control` with controls, else `mean`."""
    return "mean" if sites.controls is None else "control"


def baseline_images(sites: SiteBatch, removal: Removal | None = None) -> StandIns:
    """Return replacement images: one per site, or one for all.

    - `mean`: the channel's own mean over the image, everywhere. Nothing comes from outside the image, but no well
      looks like it; and where images are not standardised one by one, what a channel says by its brightness is not
      removed.
    - `control`: the same channel of a control well of the same plate: what it would be without the perturbation,
      close to what the network was trained on.
    - `other_well`: the same channel of any other well of the plate: what it is on this plate at large, whatever was
      done there. The other well's perturbation comes along.

    Args:
        sites: With `controls` for `control`, with `others` for `other_well`.
        removal: Which of them; None as `default_removal`.

    Raises:
        ExplanationError: Unknown removal; images that are missing or do not fit.
    """
    removal = default_removal(sites) if removal is None else removal
    if removal not in get_args(Removal):
        raise ExplanationError(f"No removal is called {removal!r}. {did_you_mean(removal, get_args(Removal))}")
    images = sites.images
    if removal == "mean":
        return _means(images)
    name, words = NEEDS[removal]
    chosen = sites.controls if removal == "control" else sites.others
    if chosen is None:
        raise ExplanationError(
            f"Removal {removal!r} needs the {words}. Give `{name}`, one per site or one for all, or say removal='mean'."
        )
    if chosen.shape[1:] != images.shape[1:] or len(chosen) not in (1, len(images)):
        raise ExplanationError(
            f"`{name}` of shape {tuple(chosen.shape)} do not fit images of shape {tuple(images.shape)}. Give one "
            "image per site, or one for all, with the same channels, height and width."
        )
    return chosen.to(images)


def _means(images: Tensor) -> Tensor:
    means = images.float().mean((2, 3), keepdim=True)
    # Equal for all sites where images were standardised one by one, so that the empty coalition is shared.
    means = torch.where(means.abs() < ROUNDING, 0, means)
    if len(means) > 1 and bool((means == means[:1]).all()):
        means = means[:1]
    return means.to(images).expand(-1, -1, *images.shape[2:])
