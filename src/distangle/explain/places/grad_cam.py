"""Grad-CAM: where a network looked; Eqs. (10) and (11), without a backward pass where algebra replaces it."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from distangle.axes import CellTypes, Images, Labels, Maps, References
from distangle.errors import ExplanationError, nearest
from distangle.explain.frozen import check_targets, frozen
from distangle.model import Outputs, PerturbationClassifier, find_layer

Head = Literal["softmax", "arc"]
FLAT = 1e-6  # a map whose range is below this share of its maximum is constant up to rounding


@dataclass(frozen=True, kw_only=True)
class ActivationMaps:
    """Where the network looked, one map per site.

    Attributes:
        maps: In [0, 1], 1 at the maximum of each map, at the size asked for; all 0 for a site whose image or map is
            constant or whose map has no positive part: there is no place to point at.
        raw: sum_k alpha_k A_k at the layer's own size, before the ReLU; negative where the place speaks against the
            perturbation.
        outputs: What the network said of the sites.
        layer: Name of the layer whose activations were weighted.
        head: Whose output was differentiated.
    """

    maps: Maps
    raw: Float[Tensor, "site _ _"]
    outputs: Outputs
    layer: str
    head: Head


def activation_maps(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    targets: Labels,
    *,
    references: References | None = None,
    layer: str | None = None,
    head: Head = "softmax",
    size: tuple[int, int] | None = None,
) -> ActivationMaps:
    r"""Weight the activations of a layer by the mean gradient of the target's output and keep the positive part.

    $$ \alpha_k^c = \frac1Z \sum_{ij} \frac{\partial y^c}{\partial A_{ij}^k} \qquad
       L^c = \mathrm{ReLU}\Big(\sum_k \alpha_k^c A^k\Big) $$

    Source: Eq. (10)
    Source: Eq. (11)
    Departs: the map is enlarged to the image (bilinear) and divided by its maximum; the paper states neither.

    The network is held in evaluation mode, and only the part from the layer to the output is differentiated; for the
    last layers `closed_form_maps` gives the same without any backward pass through the backbone.

    Args:
        model: Left as it was found: mode, gradients and hooks.
        images: Standardised intensities.
        cell_types: As the model takes them.
        targets: Index of the perturbation to explain, per site.
        references: As the model takes them.
        layer: A name of `model.layer_names`; None for the maps that are pooled.
        head: `softmax` explains the logit, `arc` the cosine.
        size: Height and width of the maps, in pixels; None for those of the images.

    Raises:
        ExplanationError: Unknown layer, head or perturbation; a layer without feature maps, passed several times, or
            without influence; activations that are not finite.
    """
    if layer is None or _before_pooling(model, layer) is not None:
        return closed_form_maps(
            model, images, cell_types, targets, references=references, layer=layer, head=head, size=size
        )
    _check(model, targets, head)
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
            outputs = model(images, cell_types, references)
        finally:
            hook.remove()
        if len(kept) != 1:
            message = (
                f"Layer {layer!r} is passed {len(kept)} times in one forward pass, so it has no single map. "
                "Name the layer around it."
            )
            raise ExplanationError(message)
        activations = kept[0]
        (gradient,) = torch.autograd.grad(_chosen(outputs, targets, head), activations, allow_unused=True)
    if gradient is None:
        message = f"The {head} output does not depend on layer {layer!r}. Name a layer on the way to the output."
        raise ExplanationError(message)
    activations, gradient = _of_sites(activations, len(images)), _of_sites(gradient, len(images))
    weights = gradient.float().mean((2, 3))
    return _finish(activations, weights, outputs, images, layer=layer, head=head, size=size)


def closed_form_maps(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    targets: Labels,
    *,
    references: References | None = None,
    layer: str | None = None,
    head: Head = "softmax",
    size: tuple[int, int] | None = None,
) -> ActivationMaps:
    r"""Give Grad-CAM of the last layers from one forward pass without gradients: Eq. (10) solved on paper.

    The backbone ends in a mean over places, so with w_k the gradient of the output with respect to the pooled feature
    k (which needs the head only) and Z = height x width:
    the pooled maps have alpha_k = w_k / Z; the maps before the final ReLU have w_k / Z times the share of places where
    the ReLU lets through; the maps before the last norm also times gamma_k / sqrt(var_k + eps).

    Args:
        model: Left as it was found.
        images: Standardised intensities.
        cell_types: As the model takes them.
        targets: Index of the perturbation to explain, per site.
        references: As the model takes them.
        layer: None for the maps that are pooled; or the name of the backbone's last layer, or of the layer before its
            last norm (`features.denseblock4` of DenseNet-161).
        head: `softmax` explains the logit, `arc` the cosine.
        size: Height and width of the maps, in pixels; None for those of the images.

    Raises:
        ExplanationError: As `activation_maps`, and for a layer that has no closed form.
    """
    _check(model, targets, head)
    if layer is None:
        before = None
    else:
        find_layer(model, layer)
        before = _before_pooling(model, layer)
        if before is None:
            known = list(_closed_form_layers(model))
            message = (
                f"Layer {layer!r} has no closed form: more than a norm lies between it and the mean. "
                f"Use `activation_maps`, or one of {known}."
            )
            raise ExplanationError(message)
    kept: list[Tensor] = []
    with frozen(model), torch.inference_mode(mode=False):
        hook = None if before is None else before.module.register_forward_hook(lambda *call: kept.append(call[2]))
        try:
            with torch.no_grad():
                pooled_maps = model.feature_maps(images)
                pooled = model.pool(pooled_maps)
        finally:
            if hook is not None:
                hook.remove()
        with torch.enable_grad():
            pooled = pooled.detach().requires_grad_()
            outputs = model.classify(pooled, cell_types, references)
            (gradient,) = torch.autograd.grad(_chosen(outputs, targets, head), pooled)
        places = pooled_maps.shape[2] * pooled_maps.shape[3]
        weights = gradient.float() / places
        activations = pooled_maps
        if before is not None:
            activations = _of_sites(kept[0], len(images))
            seen = activations.shape[1]  # maps of measurements lie behind the backbone's
            weights, pooled_maps = weights[:, :seen], pooled_maps[:, :seen]
            if model.config.final_relu:
                weights = weights * (pooled_maps > 0).float().mean((2, 3))
            if before.norm is not None:
                weights = weights * _slope(before.norm).float()
    return _finish(activations, weights, outputs, images, layer=layer or _pooled_name(model), head=head, size=size)


def _of_sites(maps: Tensor, n_sites: int) -> Tensor:
    """Put the maps of a site's stains one behind the other, where the backbone sees each stain by itself."""
    return maps.reshape(n_sites, -1, *maps.shape[2:])


@dataclass(frozen=True)
class _BeforePooling:
    """A layer with nothing but `norm` (or nothing) and the final ReLU between it and the mean."""

    module: nn.Module
    norm: nn.BatchNorm2d | None


def _closed_form_layers(model: PerturbationClassifier) -> dict[str, _BeforePooling]:
    children = list(model.backbone.features.named_children())
    name, last = children[-1]
    layers = {f"features.{name}": _BeforePooling(last, None)}
    if isinstance(last, nn.BatchNorm2d) and last.running_var is not None:
        name, before = children[-2]
        layers[f"features.{name}"] = _BeforePooling(before, last)
    return layers


def _before_pooling(model: PerturbationClassifier, layer: str) -> _BeforePooling | None:
    return _closed_form_layers(model).get(layer.removeprefix("backbone."))


def _pooled_name(model: PerturbationClassifier) -> str:
    name = next(iter(_closed_form_layers(model)))
    name = f"{name}, after the final ReLU" if model.config.final_relu else name
    return f"{name}, with the measurements" if model.config.measurements else name


def _slope(norm: nn.BatchNorm2d) -> Tensor:
    """Derivative of each feature of the norm with respect to its input, in evaluation mode."""
    if norm.running_var is None:
        message = "This norm keeps no running variance."
        raise ExplanationError(message)
    slope = (norm.running_var + norm.eps).rsqrt()
    return slope if norm.weight is None else slope * norm.weight.detach()


def _check(model: PerturbationClassifier, targets: Tensor, head: str) -> None:
    if head not in get_args(Head):
        message = f"No head is called {head!r}. {nearest(head, get_args(Head))}"
        raise ExplanationError(message)
    check_targets(model, targets)


def _chosen(outputs: Outputs, targets: Tensor, head: Head) -> Tensor:
    """The sum over sites of y^c: sites do not touch each other, so its gradient is that of each."""
    values = outputs.logits if head == "softmax" else outputs.cosines
    return values.gather(1, targets.long()[:, None]).sum()


def _finish(
    activations: Tensor,
    weights: Tensor,
    outputs: Outputs,
    images: Tensor,
    *,
    layer: str,
    head: Head,
    size: tuple[int, int] | None,
) -> ActivationMaps:
    raw = torch.einsum("skhw,sk->shw", activations.detach().float(), weights)
    finite = raw.isfinite().flatten(1).all(1)
    if not finite.all():
        row = int((~finite).nonzero()[0])
        message = (
            f"The activations of row {row} at layer {layer!r} are not finite. Check that its image has no NaN and "
            "that training did not diverge."
        )
        raise ExplanationError(message)
    height, width = size or (images.shape[2], images.shape[3])
    maps = normalised_maps(enlarge(raw.clamp(min=0), (height, width)))
    flat = (images.flatten(2).amax(2) == images.flatten(2).amin(2)).all(1)
    maps = torch.where(flat[:, None, None], torch.zeros_like(maps), maps)
    said = Outputs(
        logits=outputs.logits.detach(), cosines=outputs.cosines.detach(), embedding=outputs.embedding.detach()
    )
    return ActivationMaps(maps=maps, raw=raw, outputs=said, layer=layer, head=head)


def enlarge(maps: Maps, size: tuple[int, int]) -> Float[Tensor, "site _ _"]:
    """Enlarge maps to `size` (height, width), bilinear between the centres of the pixels."""
    return functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def normalised_maps(maps: Maps) -> Maps:
    """Divide each non-negative map by its maximum; a constant one, zero included, becomes zero."""
    top, low = maps.amax((1, 2), keepdim=True), maps.amin((1, 2), keepdim=True)
    pointing = top - low > FLAT * top
    return torch.where(pointing, maps / torch.where(pointing, top, torch.ones_like(top)), torch.zeros_like(maps))
