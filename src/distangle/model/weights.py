"""Load published weights into a backbone, with every key accounted for."""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from distangle.errors import WeightsError
from distangle.model.checkpoint import non_finite, some
from distangle.model.classifier import PerturbationClassifier

PICKLED = (".pth", ".pt")
# What torch.load raises on a file that is cut, changed, or holds more than tensors.
UNREADABLE = (
    UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    struct.error,
)
# torchvision's DenseNet files of 2017 say `norm.1` where the modules have been called `norm1` since.
LEGACY = re.compile(r"^(?P<layer>.*denselayer\d+\.(?:norm|relu|conv))\.(?P<rest>[12]\..*)$")
HEADS = ("classifier.weight", "classifier.bias", "fc.weight", "fc.bias")
FIRST_CONVOLUTIONS = ("conv0.weight", "conv1.weight", "conv_stem.weight")
UNDERSCORES = re.compile(r"(^|\.)_")  # `_blocks.0._bn1.weight`: names of EfficientNet-Lite's file


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """Where every key of a file went, and where every tensor of the model came from.

    Attributes:
        path: The file.
        loaded: Tensors of the model taken from the file as they are.
        inflated: Tensors of the model whose image channels were made from those of the file.
        left_out: Keys of the file that were not used: the head of the other task, a first convolution not wanted.
        new: Tensors of the model that keep the values they had.
    """

    path: Path
    loaded: tuple[str, ...]
    inflated: tuple[str, ...]
    left_out: tuple[str, ...]
    new: tuple[str, ...]

    def __str__(self) -> str:
        n_taken = len(self.loaded) + len(self.inflated)
        made = f" ({some(self.inflated)} from its image channels)" if self.inflated else ""
        unused = f"; {len(self.left_out)} of the file are not used" if self.left_out else ""
        return (
            f"weights: {n_taken} of the network's {n_taken + len(self.new)} arrays start from {self.path.name}{made}, "
            f"{len(self.new)} from random values{unused}"
        )


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, without a trainer's wrapping."""
    if not path.is_file():
        raise WeightsError(f"There are no weights at {path}. Expected a .pth, .pt or .safetensors file.")
    try:
        if path.suffix in PICKLED:
            found = torch.load(path, map_location="cpu", weights_only=True)
        elif path.suffix == ".safetensors":
            found = safetensors.torch.load_file(path)
        else:
            raise WeightsError(f"{path} ends in {path.suffix!r}. Expected a .pth, .pt or .safetensors file.")
    except WeightsError:
        raise
    except (safetensors.SafetensorError, *UNREADABLE) as error:
        raise WeightsError(
            f"{path} cannot be read as tensors: it holds something else, or is cut short. "
            "Expected a state dict of tensors alone; save one as safetensors, or restore the file."
        ) from error
    for wrapping in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapping), Mapping):
            found = found[wrapping]
    others = (
        [] if not isinstance(found, Mapping) else [key for key, value in found.items() if not isinstance(value, Tensor)]
    )
    if not isinstance(found, Mapping) or not found or others:
        what = f"also {some([str(key) for key in others])}" if others else f"a {type(found).__name__}"
        raise WeightsError(f"{path} holds {what}. Expected a state dict: names and tensors, nothing else.")
    return {str(name): tensor for name, tensor in found.items()}


def _our_name(name: str) -> str:
    """Return the name under `backbone.features` of a published key."""
    bare = UNDERSCORES.sub(r"\1", name.removeprefix("module.").removeprefix("features."))
    legacy = LEGACY.match(bare)
    return bare if legacy is None else legacy["layer"] + legacy["rest"]


def _inflated(weight: Tensor, *, n_channels: int) -> Tensor:
    """Return a first convolution for `n_channels`, repeating the file's channels.

    Scaled by the ratio of the numbers of channels, so that equal channels give the sums they gave before; one
    channel takes the sum. The rule is timm's.
    """
    n_given = weight.shape[1]
    if n_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    turns = [channel % n_given for channel in range(n_channels)]
    return weight[:, turns] * (n_given / n_channels)


def load_published_weights(
    model: PerturbationClassifier, path: Path, *, first_convolution: Literal["inflate", "new"] = "inflate"
) -> WeightsReport:
    """Copy published weights into the backbone of a model, or leave it untouched.

    Understood: torchvision's names, with or without `features.` before them, its DenseNet names of 2017
    (`denselayer1.norm.1.weight`), timm's, which are torchvision's, and those of EfficientNet-Lite's own file.
    `num_batches_tracked`, absent from old files, may be missing.

    Args:
        model: Changed in place.
        path: A `.pth` or `.pt` file (tensors only: read with `weights_only`) or a `.safetensors` file.
        first_convolution: "inflate" repeats its image channels to those of the model, "new" leaves the model's own.

    Raises:
        WeightsError: When the file cannot be read, lacks a tensor of the backbone, has one that the backbone
            lacks, of another shape, or not finite; names them.
    """
    published = _read(path)
    expected = model.backbone.features.state_dict()
    first = next(name for name in FIRST_CONVOLUTIONS if name in expected)
    beyond = getattr(model.backbone, "beyond", ())
    loaded: dict[str, Tensor] = {}
    inflated: list[str] = []
    left_out: list[str] = []
    problems: list[str] = []
    came_from: dict[str, str] = {}
    for key, tensor in published.items():
        name = _our_name(key)
        if name in came_from:
            problems.append(f"{key} and {came_from[name]} are the same tensor of the network")
        elif name in HEADS or name.startswith(beyond) or (name == first and first_convolution == "new"):
            left_out.append(key)
        elif name not in expected:
            problems.append(f"{key} is unknown")
        else:
            wanted = expected[name]
            if name == first and tensor.dim() == 4 and tensor.shape[1] != wanted.shape[1]:
                tensor = _inflated(tensor, n_channels=wanted.shape[1])
                inflated.append(name)
            if tensor.shape != wanted.shape:
                problems.append(f"{key} is {tuple(tensor.shape)} instead of {tuple(wanted.shape)}")
            loaded[name] = tensor
        came_from[name] = key
    may_be_new = {first} if first_convolution == "new" else set()
    problems += [
        f"{name} is missing"
        for name in expected
        if name not in loaded and name not in may_be_new and not name.endswith("num_batches_tracked")
    ]
    problems += [f"{name} is not finite" for name in non_finite(loaded)]
    if problems:
        raise WeightsError(
            f"{path} does not fit {model.config.backbone}: {some(problems)}. Choose the file of that backbone."
        )
    model.backbone.features.load_state_dict({**expected, **loaded}, strict=True)
    prefix = "backbone.features."
    taken = {prefix + name for name in loaded}
    return WeightsReport(
        path=path,
        loaded=tuple(prefix + name for name in loaded if name not in inflated),
        inflated=tuple(prefix + name for name in inflated),
        left_out=tuple(left_out),
        new=tuple(name for name in model.state_dict() if name not in taken),
    )
