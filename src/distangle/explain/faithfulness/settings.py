"""How maps are examined, and on how many sites."""

from pydantic import BaseModel, ConfigDict, Field

from distangle.explain.stains.removal import Removal


class FaithfulnessSettings(BaseModel):
    """How maps are examined; written beside the result.

    The defaults are a few thousand forward passes in all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_sites: int = Field(default=24, ge=1, description="sites whose maps are compared after each change")
    n_curve_sites: int = Field(default=8, ge=1, description="of these, sites with deletion and insertion curves")
    n_stain_sites: int = Field(default=3, ge=0, description="of these, sites whose Shapley values are compared too")
    n_kept_maps: int = Field(default=6, ge=0, description="of these, sites whose maps of an untrained network are kept")
    n_null_maps: int = Field(default=4, ge=1, description="random maps per site beside its curves")
    n_steps: int = Field(default=10, ge=1, description="steps of a curve")
    n_networks: int = Field(default=2, ge=1, description="draws of random weights")
    n_targets: int = Field(default=3, ge=1, description="other perturbations explained per site")
    stain_views: int = Field(default=1, ge=1, le=7, description="views whose Shapley values are compared")
    removal: Removal | None = Field(
        default=None, description="what replaces an absent channel; none: control where there are controls, else mean"
    )
    n_draws: int = Field(default=1000, ge=1, description="of nulls")
    sites_at_once: int = Field(default=16, ge=1, description="sites in one forward pass for the maps")
    most_at_once: int = Field(default=64, ge=1, description="images in one forward pass for curves and Shapley values")
