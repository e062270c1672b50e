"""Find the 1x1 convolutions of a network and the norms around them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from distangle.errors import ExplanationError, did_you_mean
from distangle.model import PerturbationClassifier, layer_names

Filters = Float[np.ndarray, "filter input"]
PRINTED = ("features.denseblock1.denselayer6.conv1", "features.denseblock2.denselayer2.conv1")  # of Fig. 10
# Attribute of a 1x1 convolution in its block to the norm before it, and to the norm and convolution after it. Only
# pairs with nothing but a ReLU between them.
_INPUT_NORMS = {"conv1": "norm1", "conv": "norm", "conv3": "bn2", "project_conv": "bn1"}
_NEXT_LAYERS = {"conv1": (("norm2", "conv2"), ("bn1", "conv2"))}


@dataclass(frozen=True)
class FilterLayer:
    """A 1x1 convolution with the layers before and after it.

    Attributes:
        name: Name of the convolution, such as `features.denseblock1.denselayer6.conv1`.
        convolution: The convolution, whose weights are the filters.
        input_norm: The norm whose ReLU is its input, or None.
        next_layers: The norm and the convolution that follow, with a ReLU between them, or None.
    """

    name: str
    convolution: nn.Conv2d
    input_norm: nn.BatchNorm2d | None
    next_layers: tuple[nn.BatchNorm2d, nn.Conv2d] | None

    @property
    def is_dense(self) -> bool:
        """Whether the convolution belongs to a dense layer, as in Fig. 10."""
        return ".denselayer" in self.name

    @property
    def filters(self) -> Filters:
        """The weights, float64; a row is w_1,k to w_Cin,k of Eq. (14)."""
        return _array(self.convolution.weight[:, :, 0, 0])

    def gain(self, *, spread: bool = False) -> Float[np.ndarray, " input"] | None:
        """Return the gain of the norm before the filters, per channel.

        The result is None without a norm. The input of a filter is the ReLU of the norm. Where the ReLU is open, a rise
        of one standard deviation before the norm changes the output by weight times gamma.

        Args:
            spread: Also divide by the standard deviation: the effect of a rise of one.
        """
        if self.input_norm is None or self.input_norm.running_var is None:
            return None
        gamma = _array(self.input_norm.weight)
        if not spread:
            return gamma
        return np.asarray(gamma / np.sqrt(_array(self.input_norm.running_var) + self.input_norm.eps))

    def folded(self, *, spread: bool = False) -> Filters | None:
        """Return the filters times the `gain` of the norm; None without a norm.

        Args:
            spread: As in `gain`.
        """
        gain = self.gain(spread=spread)
        return None if gain is None else np.asarray(self.filters * gain)


def filter_layers(model: PerturbationClassifier) -> list[FilterLayer]:
    """Return all 1x1 convolutions of a network, from input to output."""
    return list(_find_layers(model))


def choose_layers(model: PerturbationClassifier, names: Sequence[str] | None = None) -> list[FilterLayer]:
    """Return the named layers, or two default layers.

    Args:
        model: The network.
        names: Names as in `filter_layers`, with or without the prefix `backbone.`, or the block of a convolution. None:
            the layers of Fig. 10 if the network has them, else the last dense layer of the first block and the second
            one of the second block, else the first and the last 1x1 convolution.

    Raises:
        ExplanationError: The network has no such 1x1 convolution; the message names similar ones.
    """
    layers = {layer.name: layer for layer in filter_layers(model)}
    if names is None:
        return [layers[name] for name in _defaults(list(layers))]
    selected = []
    for name in names:
        wanted = name.removeprefix("backbone.")
        inside = [layer for layer in layers if layer == wanted or layer.rpartition(".")[0] == wanted]
        if not inside:
            problem = "is no 1x1 convolution" if wanted in layer_names(model) else "is no layer"
            raise ExplanationError(f"{name!r} {problem} of {model.config.backbone}. {did_you_mean(wanted, layers)}")
        selected.append(layers[inside[0]])
    return list(dict.fromkeys(selected))


def _defaults(names: Sequence[str]) -> list[str]:
    if set(PRINTED) <= set(names):
        return list(PRINTED)
    first = [name for name in names if name.startswith("features.denseblock1.")]
    second = [name for name in names if name.startswith("features.denseblock2.")]
    if first and len(second) > 1:
        return [first[-1], second[1]]
    return list(dict.fromkeys([names[0], names[-1]]))


def _find_layers(model: PerturbationClassifier) -> Iterator[FilterLayer]:
    for name in layer_names(model):
        module = model.backbone.get_submodule(name)
        if not isinstance(module, nn.Conv2d) or module.kernel_size != (1, 1) or module.groups != 1:
            continue
        block = model.backbone.get_submodule(name.rpartition(".")[0])
        attribute = name.rpartition(".")[2]
        input_norm = getattr(block, _INPUT_NORMS.get(attribute, ""), None)
        next_layers = None
        for norm, convolution in _NEXT_LAYERS.get(attribute, ()):
            pair = (getattr(block, norm, None), getattr(block, convolution, None))
            if isinstance(pair[0], nn.BatchNorm2d) and isinstance(pair[1], nn.Conv2d):
                next_layers = (pair[0], pair[1])
        fits = isinstance(input_norm, nn.BatchNorm2d) and input_norm.num_features == module.in_channels
        yield FilterLayer(
            name=name, convolution=module, input_norm=input_norm if fits else None, next_layers=next_layers
        )


def _array(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().to("cpu", torch.float64).numpy())
