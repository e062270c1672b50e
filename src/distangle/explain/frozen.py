"""A network held still while it is explained."""

import contextlib
from collections.abc import Iterator

import torch

from distangle.errors import ExplanationError
from distangle.model import PerturbationClassifier, evaluating


@contextlib.contextmanager
def frozen(model: PerturbationClassifier) -> Iterator[None]:
    """Hold the network in evaluation mode without parameter gradients.

    Mode and gradient flags are restored afterwards.

    In evaluation mode the norms use their running statistics, so that a site's explanation does not depend on
    the sites beside it, and nothing is recomputed in the backward pass.
    """
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with evaluating(model):
        try:
            for parameter in asking:
                parameter.requires_grad = False
            yield
        finally:
            for parameter in asking:
                parameter.requires_grad = True


def check_targets(model: PerturbationClassifier, targets: torch.Tensor) -> None:
    """Refuse a perturbation that the network does not know.

    Raises:
        ExplanationError: Names the first wrong one and its row.
    """
    known = model.config.n_perturbations
    wrong = ((targets < 0) | (targets >= known)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ExplanationError(
            f"Row {row} asks for perturbation {int(targets[row])}; the model knows {known}, from 0 to {known - 1}. "
            "Give the index of a column of its logits."
        )
