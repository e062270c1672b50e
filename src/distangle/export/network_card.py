"""Describe an exported network: inputs, outputs and preprocessing."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from distangle import __version__
from distangle.images.preprocessing import EPSILON, Preprocessing
from distangle.model import ModelCard, PerturbationClassifier

REFERENCES_KEY = "references_without_wells"
"""Key of the input `references` for a site whose group has no other wells."""
_GROUPS = {
    "plate": "all images of the plate",
    "experiment": "all images of the experiment",
    "controls": "the negative controls of the plate",
    "experiment_controls": "the negative controls of the experiment (all its images, if it has fewer than three)",
}


def network_card(
    model: PerturbationClassifier, card: ModelCard, *, inputs: Mapping[str, Tensor], file: str, format: str
) -> dict[str, Any]:
    """Return the JSON values that a user of an exported network needs.

    Args:
        model: The network.
        card: Its card.
        inputs: Example inputs by name, with the batch first.
        file: Name of the file of the network.
        format: `torch` or `onnx`.
    """
    n_classes, embedding_size = len(card.classes), model.config.embedding_size
    values: dict[str, Any] = {
        "format": "distangle network export",
        "distangle": __version__,
        "file": file,
        "runtime": "torch.export.load(file).module()" if format == "torch" else "any runtime of ONNX, such as OpenVINO",
        "inputs": {name: _describe(list(tensor.shape[1:])) for name, tensor in inputs.items()},
        "outputs": {"logits": _describe([n_classes]), "embedding": _describe([embedding_size])},
        "target": card.target,
        "classes": list(card.classes),
        "channels": list(card.channels),
        "cell_types": list(card.cell_types),
        "preprocessing": card.preprocessing.model_dump(mode="json"),
        "steps": steps(card),
        "notes": notes(model, card),
    }
    if model.prior is not None:
        zeros = [0.0] * (model.n_references - model.n_features)
        values[REFERENCES_KEY] = [*map(float, model.prior[0].tolist()), *zeros]
    return values


def steps(card: ModelCard) -> list[str]:
    """Return what the caller does from pixels to inputs, one sentence each, in order."""
    preprocessing = card.preprocessing
    sentences = [f"Stack the channels {', '.join(card.channels)} in this order, as unsigned integers."]
    if preprocessing.binning > 1:
        n = preprocessing.binning
        sentences.append(
            f"Replace every {n} x {n} pixels by their mean, rounded to an integer; drop remaining rows and columns."
        )
    if preprocessing.transform == "sqrt":
        sentences.append("Take the square root of every pixel.")
    sentences.append(_standardization(preprocessing))
    if card.cell_types:
        sentences.append(f"Set `cell_types` to 1 at the cell type of the image and to 0 elsewhere: {card.cell_types}.")
    sentences.append("For probabilities, take the softmax of the logits.")
    return sentences


def notes(model: PerturbationClassifier, card: ModelCard) -> list[str]:
    """Return where the exported network differs from `distangle predict`."""
    sentences = []
    if card.batch_norm.statistics != "running":
        sentences.append(
            f"`distangle predict` uses batch-norm statistics of the {card.batch_norm.statistics}; this file has the "
            "running statistics of the training."
        )
    if model.n_references:
        sentences.append(
            f"`references` is the batch correction {card.correction}: offsets of {model.n_features} features"
            f"{', then logarithms of scales' if model.n_references > model.n_features else ''}. `distangle predict` "
            f"estimates it from other wells of the group; `{REFERENCES_KEY}` is the value for a group without any."
        )
    return sentences


def _standardization(preprocessing: Preprocessing) -> str:
    after = "Subtract the mean of every channel and divide by its standard deviation (divided by n, at least "
    if preprocessing.standardize == "image":
        return f"{after}{EPSILON:g}), both over the pixels of the image."
    if preprocessing.standardize == "training":
        return f"{after}{EPSILON:g}), both in `preprocessing.fixed`: first the means, then the standard deviations."
    return f"{after}{EPSILON:g}), both over the pixels of {_GROUPS[preprocessing.standardize]}."


def _describe(shape: list[int]) -> dict[str, Any]:
    return {"dtype": "float32", "shape": ["batch", *shape]}
