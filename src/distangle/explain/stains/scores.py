"""All scores of the stains that come from taking them away, from one run through the coalitions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distangle.explain.chosen import ChosenSites, Piece
from distangle.explain.stains.answers import Of, coalition_answers
from distangle.explain.stains.coalitions import ablation_of, check_channels, coalitions, interactions_of, shapley_of
from distangle.explain.stains.removal import Removal, stand_ins
from distangle.model import PerturbationClassifier


@dataclass(frozen=True, kw_only=True)
class Taking:
    """How stains are taken away and what is asked then.

    Attributes:
        of: What the scores share out; see `coalition_answers`.
        removal: What stands in; see `stand_ins`.
        most_at_once: Images that the network sees together.
        bf16: Run the backbone under bfloat16 autocast.
    """

    of: Of = "log_probability"
    removal: Removal = "mean"
    most_at_once: int = 64
    bf16: bool = False


def stain_scores(
    model: PerturbationClassifier, piece: Piece, *, asked: Int[Tensor, " asked"], taking: Taking
) -> Mapping[str, Float[np.ndarray, "site *_"]]:  # noqa: F821 - axes
    """Return the scores of the stains of some sites, for their own target and for others.

    Args:
        model: Left as it was found.
        piece: The sites.
        asked: Targets, sorted, each once; those of the sites among them.
        taking: How.

    Returns:
        `shapley` and `ablation` [site, channel], `interactions` [site, channel, channel], `shapley_by_target` and
        `ablation_by_target` [site, channel, asked]; float32.

    Raises:
        ExplanationError: Whatever `channel_shapley` refuses.
        ConfigError: Channels, cell types or references that are not those of the model.
    """
    channels = piece.images.shape[1]
    check_channels(channels)
    absent = stand_ins(
        piece.images,
        taking.removal,
        controls=piece.controls if taking.removal == "control" else None,
        others=piece.others if taking.removal == "other_well" else None,
    )
    with piece.norms_of_plate(model):
        answers = coalition_answers(
            model,
            piece.images,
            piece.cell_types,
            asked=asked.to(piece.images.device),
            present=coalitions(channels),
            absent=absent,
            references=piece.references,
            of=taking.of,
            most_at_once=taking.most_at_once,
            bf16=taking.bf16,
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


def untreated_scores(
    model: PerturbationClassifier, untreated: ChosenSites, *, taking: Taking, at_once: int
) -> Mapping[str, Float[np.ndarray, "site channel"]]:
    """Return `shapley` and `ablation` of untreated wells for their own targets.

    Args:
        model: Left as it was found.
        untreated: The `untreated` of the sites to be explained.
        taking: As for those.
        at_once: Sites in one piece.
    """
    device = next(model.parameters()).device
    asked = torch.unique(untreated.targets)
    order: list[int] = []
    pieces = []
    for piece in untreated.pieces(at_once=at_once, device=device):
        pieces.append(stain_scores(model, piece, asked=asked, taking=taking))
        order += piece.rows
    back = np.argsort(order)
    return {name: np.concatenate([piece[name] for piece in pieces])[back] for name in ("shapley", "ablation")}
