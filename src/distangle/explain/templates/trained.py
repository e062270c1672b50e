"""The templates of a finished run, and which of its outputs are junk classes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from distangle.errors import RunError
from distangle.explain.templates.geometry import Vectors
from distangle.explain.templates.junk import training_wells
from distangle.inference import open_model
from distangle.model import PerturbationClassifier, build_classifier
from distangle.results import RunFolder
from distangle.screen import Folds, Screen
from distangle.training import read_config

HEADS = ("softmax", "arc")


@dataclass(frozen=True, kw_only=True)
class TrainedTemplates:
    """What a run learnt per output.

    Attributes:
        name: Of the run.
        pseudo_labels: The strategy that it was trained with; `none` for without.
        perturbations: Names of the outputs.
        wells: Labelled training wells of each output.
        junk: Outputs that nothing was trained on: no labelled training well, or none that could be read.
        heads: Templates by head, `softmax` and `arc`.
        first: The same before the first step, from the seed of the run.
        bias: Of the softmax head.
    """

    name: str
    pseudo_labels: str
    perturbations: tuple[str, ...]
    wells: Int[np.ndarray, " perturbation"]
    junk: Bool[np.ndarray, " perturbation"]
    heads: Mapping[str, Vectors]
    first: Mapping[str, Vectors]
    bias: Float[np.ndarray, " perturbation"]

    @property
    def with_bias(self) -> Vectors:
        """Return softmax templates with their bias as one more dimension.

        The logit is their product with (embedding, 1).
        """
        return np.concatenate([self.heads["softmax"], self.bias[:, None]], axis=1)


def read_templates(run: RunFolder, screen: Screen, *, name: str) -> TrainedTemplates:
    """Read the templates of a run with the training wells per output.

    Args:
        run: Finished.
        screen: That it was trained on.
        name: To call it by.

    Raises:
        RunError: It is not finished, or was trained on another screen.
        FoldError: Its folds are damaged, or do not know the sites of the screen.
        WeightsError: Its weights are damaged.
    """
    model, about = open_model(run)
    config, classes = read_config(run.config), about.classes
    known = {*screen.sites[about.target].astype(str)} if about.target in screen.sites.columns else set()
    if not known & set(classes):
        raise RunError(
            f"{run.root} learnt {', '.join(classes[:3])} and so on, none of which {screen.folder} has. Compare runs on "
            "one screen, and name the screen that they were trained on."
        )
    wells = training_wells(screen, Folds.read(run.folds), classes, target=about.target)
    return TrainedTemplates(
        name=name,
        pseudo_labels=config.pseudo_labels.strategy,
        perturbations=classes,
        wells=wells,
        junk=(wells == 0) | (np.asarray(about.class_sites) == 0),
        heads=_heads(model),
        first=_heads(build_classifier(model.config, seed=config.seed)),
        bias=_array(model.linear_templates.bias),
    )


def _heads(model: PerturbationClassifier) -> dict[str, Vectors]:
    return {"softmax": _array(model.linear_templates.weight), "arc": _array(model.cosine_templates.weight)}


def _array(parameter: object) -> np.ndarray:
    return np.asarray(parameter.detach().cpu().numpy(), dtype=np.float64)  # type: ignore[attr-defined]
