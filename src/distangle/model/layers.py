"""Layers by name: what an explanation may look at."""

from torch import nn

from distangle.errors import ExplanationError, nearest
from distangle.model.classifier import PerturbationClassifier


def layer_names(model: PerturbationClassifier) -> list[str]:
    """Name all layers with feature maps, from input to output.

    A name is such as `features.denseblock4`.
    """
    return [name for name, _ in model.backbone.named_modules() if name.split(".")[0] == "features"]


def _around(wanted: str, names: list[str]) -> list[str]:
    """Return the layers directly inside the deepest part of the name that exists."""
    inside = wanted
    while inside not in names:
        inside = inside.rpartition(".")[0] or "features"
    return [name for name in names if name.rpartition(".")[0] == inside] or [inside]


def find_layer(model: PerturbationClassifier, name: str) -> nn.Module:
    """Return a layer by its name in `layer_names`; `backbone.` may stand before it.

    Args:
        model: Where to look.
        name: Such as `features.denseblock4.denselayer24`.

    Raises:
        ExplanationError: When there is no such layer; says which names are near.
    """
    names = layer_names(model)
    wanted = name.removeprefix("backbone.")
    if wanted not in names:
        raise ExplanationError(
            f"{model.config.backbone} has no layer {name!r}. {nearest(wanted, _around(wanted, names))}"
        )
    return model.backbone.get_submodule(wanted)
