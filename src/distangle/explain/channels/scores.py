"""Channel scores by removal, from one run of the coalitions."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distangle.explain.channels.coalition_outputs import ShapleySettings, coalition_answers
from distangle.explain.channels.coalitions import ablation_of, check_channels, coalitions, interactions_of, shapley_of
from distangle.explain.sites import ExplainedSites, SiteBatch
from distangle.model import PerturbationClassifier


def channel_scores(
    model: PerturbationClassifier, piece: SiteBatch, *, asked: Int[Tensor, " asked"], settings: ShapleySettings
) -> Mapping[str, Float[np.ndarray, "site *_"]]:  # noqa: F821 - axes
    """Return the channel scores of some sites, for their own target and for others.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        piece: The sites.
        asked: Targets, sorted, each once; those of the sites among them.
        settings: How channels are taken away.

    Returns:
        `shapley` and `ablation` [site, channel], `interactions` [site, channel, channel], `shapley_by_target` and
        `ablation_by_target` [site, channel, asked]; float32.

    Raises:
        ExplanationError: Whatever `channel_shapley` refuses.
        ConfigError: Channels, cell types or references that are not those of the model.
    """
    channels = piece.images.shape[1]
    check_channels(channels)
    answers = coalition_answers(
        model, piece, asked=asked.to(piece.device), present=coalitions(channels), settings=settings
    )
    own = torch.searchsorted(asked, piece.targets.cpu())
    table = answers[torch.arange(len(answers)), :, own]
    each = answers.transpose(1, 2).flatten(0, 1)
    found = {
        "shapley": shapley_of(table),
        "ablation": ablation_of(table),
        "interactions": interactions_of(table),
        "shapley_by_target": shapley_of(each).reshape(len(answers), len(asked), channels).mT,
        "ablation_by_target": ablation_of(each).reshape(len(answers), len(asked), channels).mT,
    }
    return {name: values.float().numpy() for name, values in found.items()}


def control_scores(
    model: PerturbationClassifier, untreated: ExplainedSites, *, settings: ShapleySettings, at_once: int
) -> Mapping[str, Float[np.ndarray, "site channel"]]:
    """Return `shapley` and `ablation` of control wells for their own targets.

    Args:
        model: The network; evaluation mode and its gradient flags are restored.
        untreated: The `untreated` of the sites to be explained.
        settings: The same as for those.
        at_once: Sites in one batch.
    """
    device = next(model.parameters()).device
    asked = torch.unique(untreated.targets)

    def score(piece: SiteBatch) -> Mapping[str, np.ndarray]:
        scores = channel_scores(model, piece, asked=asked, settings=settings)
        return {name: scores[name] for name in ("shapley", "ablation")}

    return untreated.map(score, at_once=at_once, device=device)
