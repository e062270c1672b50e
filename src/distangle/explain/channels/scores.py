"""Compute all removal-based channel scores from one run of the coalitions."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distangle.explain.channels.coalition_outputs import ShapleySettings, coalition_outputs
from distangle.explain.channels.coalitions import ablation_of, check_channels, coalitions, interactions_of, shapley_of
from distangle.explain.sites import ExplainedSites, SiteBatch
from distangle.model import PerturbationClassifier


def channel_scores(
    model: PerturbationClassifier, batch: SiteBatch, *, targets: Int[Tensor, " target"], settings: ShapleySettings
) -> Mapping[str, Float[np.ndarray, "site *_"]]:  # noqa: F821 - axes
    """Return the channel scores of some sites for their own and for other targets.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        batch: The sites.
        targets: Sorted unique targets, including those of the sites.
        settings: How channels are removed.

    Returns:
        `shapley` and `ablation` [site, channel], `interactions` [site, channel, channel], `shapley_by_target` and
        `ablation_by_target` [site, channel, target]; float32.

    Raises:
        ExplanationError: Whatever `coalition_outputs` refuses.
        ConfigError: Channels, cell types or references do not match the model.
    """
    channels = batch.images.shape[1]
    check_channels(channels)
    outputs = coalition_outputs(
        model, batch, targets=targets.to(batch.device), present=coalitions(channels), settings=settings
    )
    own = torch.searchsorted(targets, batch.targets.cpu())
    table = outputs[torch.arange(len(outputs)), :, own]
    by_target = outputs.transpose(1, 2).flatten(0, 1)
    scores = {
        "shapley": shapley_of(table),
        "ablation": ablation_of(table),
        "interactions": interactions_of(table),
        "shapley_by_target": shapley_of(by_target).reshape(len(outputs), len(targets), channels).mT,
        "ablation_by_target": ablation_of(by_target).reshape(len(outputs), len(targets), channels).mT,
    }
    return {name: values.float().numpy() for name, values in scores.items()}


def control_scores(
    model: PerturbationClassifier, control_sites: ExplainedSites, *, settings: ShapleySettings, batch_size: int
) -> Mapping[str, Float[np.ndarray, "site channel"]]:
    """Return `shapley` and `ablation` of control wells for their own targets.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        control_sites: The `control_sites` of the sites to explain.
        settings: Settings of the Shapley values of these sites.
        batch_size: Sites in one batch.
    """
    device = next(model.parameters()).device
    targets = torch.unique(control_sites.targets)

    def score(batch: SiteBatch) -> Mapping[str, np.ndarray]:
        scores = channel_scores(model, batch, targets=targets, settings=settings)
        return {name: scores[name] for name in ("shapley", "ablation")}

    return control_sites.map(score, batch_size=batch_size, device=device)
