"""Activations of a layer and the gradient of the explained output there, by one hook."""

from dataclasses import dataclass
from typing import get_args, overload

import torch
from torch import Tensor, nn

from distangle.axes import CellTypes, FeatureMaps, Images, Labels, References
from distangle.errors import ExplanationError, nearest
from distangle.explain.frozen import check_targets, frozen
from distangle.explain.places.activation_map import Head
from distangle.model import Outputs, PerturbationClassifier, find_layer


@dataclass(frozen=True, kw_only=True)
class AtLayer:
    """What a layer says of each site, and how the explained output answers to it.

    Attributes:
        activations: A; a site's stains one behind the other where the backbone sees each stain by itself.
        gradient: dy / dA, of the same shape.
        outputs: What the network said.
    """

    activations: FeatureMaps
    gradient: FeatureMaps
    outputs: Outputs


def at_layer(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    targets: Labels,
    *,
    references: References | None,
    layer: str,
    head: Head,
) -> AtLayer:
    """Differentiate from a named layer to the output, and no further.

    Raises:
        ExplanationError: Unknown layer, head or perturbation; a layer without feature maps, passed several times, or
            without influence.
    """
    check_asked(model, targets, head)
    module = find_layer(model, layer)
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, activations: object) -> Tensor:
        if not isinstance(activations, Tensor) or activations.dim() != 4:
            message = f"Layer {layer!r} gives no feature maps [site, feature, height, width]. Name another layer."
            raise ExplanationError(message)
        leaf = activations.detach().requires_grad_()
        kept.append(leaf)
        # A copy goes on, so that a step in place cannot change what is explained.
        return leaf.clone()

    with frozen(model), torch.inference_mode(mode=False), torch.enable_grad():
        hook = module.register_forward_hook(keep)
        try:
            outputs = model(ordinary(images), ordinary(cell_types), ordinary(references))
        finally:
            hook.remove()
        if len(kept) != 1:
            message = (
                f"Layer {layer!r} is passed {len(kept)} times in one forward pass, so it has no single map. "
                "Name the layer around it."
            )
            raise ExplanationError(message)
        activations = kept[0]
        (gradient,) = torch.autograd.grad(explained(outputs, targets, head), activations, allow_unused=True)
    if gradient is None:
        message = f"The {head} output does not depend on layer {layer!r}. Name a layer on the way to the output."
        raise ExplanationError(message)
    return AtLayer(
        activations=of_sites(activations.detach(), len(images)).float(),
        gradient=of_sites(gradient, len(images)).float(),
        outputs=outputs,
    )


def at_pool(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    targets: Labels,
    *,
    references: References | None,
    head: Head,
) -> AtLayer:
    """Give the same for the maps that are pooled: the mean hands each place an equal part of the head's gradient.

    Raises:
        ExplanationError: Unknown head or perturbation.
    """
    check_asked(model, targets, head)
    with frozen(model), torch.inference_mode(mode=False):
        with torch.no_grad():
            maps = model.feature_maps(images)
            pooled = model.pool(maps)
        outputs, slope = pooled_gradient(model, pooled, cell_types, targets, references=references, head=head)
    places = maps.shape[2] * maps.shape[3]
    return AtLayer(
        activations=maps.float(), gradient=(slope / places)[:, :, None, None].expand(maps.shape), outputs=outputs
    )


def pooled_gradient(
    model: PerturbationClassifier,
    pooled: Tensor,
    cell_types: CellTypes | None,
    targets: Labels,
    *,
    references: References | None,
    head: Head,
) -> tuple[Outputs, Tensor]:
    """Return what the network says of pooled features, and the gradient of the explained output there."""
    with torch.enable_grad():
        pooled = pooled.detach().requires_grad_()
        outputs = model.classify(pooled, ordinary(cell_types), ordinary(references))
        (gradient,) = torch.autograd.grad(explained(outputs, targets, head), pooled)
    return outputs, gradient.float()


def explained(outputs: Outputs, targets: Tensor, head: Head) -> Tensor:
    """The sum over sites of y^c: sites do not touch each other, so its gradient is that of each."""
    values = outputs.logits if head == "softmax" else outputs.cosines
    return values.gather(1, ordinary(targets).long()[:, None]).sum()


@overload
def ordinary(tensor: Tensor) -> Tensor: ...
@overload
def ordinary(tensor: Tensor | None) -> Tensor | None: ...
def ordinary(tensor: Tensor | None) -> Tensor | None:
    """Return a copy of a tensor that was made in inference mode: those cannot take part in a gradient."""
    return tensor.clone() if tensor is not None and tensor.is_inference() else tensor


def of_sites(maps: Tensor, n_sites: int) -> Tensor:
    """Put the maps of a site's stains one behind the other, where the backbone sees each stain by itself."""
    return maps.reshape(n_sites, -1, *maps.shape[2:])


def check_asked(model: PerturbationClassifier, targets: Tensor, head: str) -> None:
    """Refuse a head or a perturbation that the network does not have.

    Raises:
        ExplanationError: Names it and what is near.
    """
    if head not in get_args(Head):
        message = f"No head is called {head!r}. {nearest(head, get_args(Head))}"
        raise ExplanationError(message)
    check_targets(model, targets)
