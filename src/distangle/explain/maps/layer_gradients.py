"""Compute activations of a layer and the gradient of the explained output there."""

from dataclasses import dataclass
from typing import get_args, overload

import torch
from torch import Tensor, nn

from distangle.axes import FeatureMaps
from distangle.errors import ExplanationError, did_you_mean
from distangle.explain.maps.attribution_map import Head
from distangle.explain.sites import SiteBatch, check_targets, freeze
from distangle.model import Outputs, PerturbationClassifier, find_layer


@dataclass(frozen=True, kw_only=True)
class LayerGradients:
    """Activations of a layer, and the gradient of the explained output there.

    Attributes:
        activations: Activations A; for a per-channel backbone the maps of all channels are concatenated.
        gradient: Gradient dy / dA, of the same shape.
        outputs: Outputs of the network.
    """

    activations: FeatureMaps
    gradient: FeatureMaps
    outputs: Outputs


def gradients_at_layer(model: PerturbationClassifier, sites: SiteBatch, *, layer: str, head: Head) -> LayerGradients:
    """Differentiate the explained output with respect to a named layer.

    Raises:
        ExplanationError: Unknown layer, head or perturbation; a layer without feature maps, passed several times, or
            without influence.
    """
    check_head(model, sites.targets, head)
    module = find_layer(model, layer)
    leaves: list[Tensor] = []

    def keep_activations(_module: nn.Module, _inputs: object, activations: object) -> Tensor:
        if not isinstance(activations, Tensor) or activations.dim() != 4:
            raise ExplanationError(
                f"Layer {layer!r} gives no feature maps [site, feature, height, width]. Choose another layer."
            )
        leaf = activations.detach().requires_grad_()
        leaves.append(leaf)
        # The network continues with a copy, so in-place operations cannot change the leaf.
        return leaf.clone()

    with freeze(model), sites.plate_statistics(model), torch.inference_mode(mode=False), torch.enable_grad():
        hook = module.register_forward_hook(keep_activations)
        try:
            outputs = model(
                without_inference_mode(sites.images),
                without_inference_mode(sites.cell_types),
                without_inference_mode(sites.references),
            )
        finally:
            hook.remove()
        if len(leaves) != 1:
            raise ExplanationError(
                f"Layer {layer!r} runs {len(leaves)} times in one forward pass, so it has no single map. "
                "Use the layer that contains it."
            )
        activations = leaves[0]
        (gradient,) = torch.autograd.grad(
            sum_of_explained_outputs(outputs, sites.targets, head), activations, allow_unused=True
        )
    if gradient is None:
        raise ExplanationError(
            f"The {head} output does not depend on layer {layer!r}. Choose a layer between the images and the output."
        )
    return LayerGradients(
        activations=join_channels(activations.detach(), len(sites)).float(),
        gradient=join_channels(gradient, len(sites)).float(),
        outputs=outputs,
    )


def gradients_at_pool(model: PerturbationClassifier, sites: SiteBatch, *, head: Head) -> LayerGradients:
    """Differentiate the explained output with respect to the maps before the pooling.

    The mean over positions gives each position an equal part of the gradient at the pooled features.

    Raises:
        ExplanationError: Unknown head or perturbation.
    """
    check_head(model, sites.targets, head)
    with freeze(model), sites.plate_statistics(model), torch.inference_mode(mode=False):
        with torch.no_grad():
            maps = model.feature_maps(sites.images)
            pooled = model.pool(maps)
        outputs, pooled_slope = pooled_gradient(model, pooled, sites, head=head)
    n_positions = maps.shape[2] * maps.shape[3]
    return LayerGradients(
        activations=maps.float(),
        gradient=(pooled_slope / n_positions)[:, :, None, None].expand(maps.shape),
        outputs=outputs,
    )


def pooled_gradient(
    model: PerturbationClassifier, pooled: Tensor, sites: SiteBatch, *, head: Head
) -> tuple[Outputs, Tensor]:
    """Return the outputs for pooled features, and their gradient."""
    with torch.enable_grad():
        pooled = pooled.detach().requires_grad_()
        outputs = model.classify(
            pooled, without_inference_mode(sites.cell_types), without_inference_mode(sites.references)
        )
        (gradient,) = torch.autograd.grad(sum_of_explained_outputs(outputs, sites.targets, head), pooled)
    return outputs, gradient.float()


def sum_of_explained_outputs(outputs: Outputs, targets: Tensor, head: Head) -> Tensor:
    """Return the sum of the explained outputs y^c over sites.

    Sites are independent, so the gradient of the sum contains the gradient of each site.
    """
    values = outputs.logits if head == "softmax" else outputs.cosines
    return values.gather(1, without_inference_mode(targets).long()[:, None]).sum()


@overload
def without_inference_mode(tensor: Tensor) -> Tensor: ...


@overload
def without_inference_mode(tensor: Tensor | None) -> Tensor | None: ...


def without_inference_mode(tensor: Tensor | None) -> Tensor | None:
    """Copy an inference-mode tensor, which cannot take part in a gradient."""
    return tensor.clone() if tensor is not None and tensor.is_inference() else tensor


def join_channels(maps: Tensor, n_sites: int) -> Tensor:
    """Concatenate the maps of the channels of a site for a per-channel backbone."""
    return maps.reshape(n_sites, -1, *maps.shape[2:])


def check_head(model: PerturbationClassifier, targets: Tensor, head: str) -> None:
    """Refuse a head or a perturbation that the network does not have.

    Raises:
        ExplanationError: The head is unknown, or a target is not an output.
    """
    if head not in get_args(Head):
        raise ExplanationError(f"Unknown head {head!r}. {did_you_mean(head, get_args(Head))}")
    check_targets(model, targets)
