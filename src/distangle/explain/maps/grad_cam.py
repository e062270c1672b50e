"""Compute Grad-CAM, Eqs. (10) and (11), HiResCAM and LayerCAM."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distangle.axes import FeatureMaps
from distangle.errors import ExplanationError
from distangle.explain.maps.attribution_map import AttributionMaps, Head, to_attribution_map
from distangle.explain.maps.layer_gradients import check_head, gradients_at_layer, join_channels, pooled_gradient
from distangle.explain.sites import SiteBatch, freeze
from distangle.model import PerturbationClassifier, find_layer

SignedMaps = Float[Tensor, "site height width"]


@dataclass(frozen=True)
class _BeforePooling:
    """A layer with at most `norm` and the final ReLU between it and the mean."""

    module: nn.Module
    norm: nn.BatchNorm2d | None


def grad_cam_maps(
    model: PerturbationClassifier,
    sites: SiteBatch,
    *,
    layer: str | None = None,
    head: Head = "softmax",
    size: tuple[int, int] | None = None,
) -> AttributionMaps:
    r"""Compute Grad-CAM: activations of a layer weighted by their mean gradients.

    $$ \alpha_k^c = \frac1Z \sum_{ij} \frac{\partial y^c}{\partial A_{ij}^k} \qquad
       L^c = \mathrm{ReLU}\Big(\sum_k \alpha_k^c A^k\Big) $$

    Source: Eq. (10)
    Source: Eq. (11)
    Departs: the map is enlarged to the image (bilinear) and divided by its maximum; the paper states neither.

    The network runs in evaluation mode, and only the part from the layer to the output is differentiated. For the last
    layers `closed_form_maps` gives the same maps without a backward pass through the backbone.

    Args:
        model: The network; its mode, gradient flags and hooks are restored.
        sites: Sites to explain.
        layer: A name of `model.layer_names`; None for the maps before the pooling.
        head: `softmax` explains the logit, `arc` the cosine.
        size: Height and width of the maps, in pixels; None for the size of the images.

    Raises:
        ExplanationError: Unknown layer, head or perturbation; a layer without feature maps, passed several times, or
            without influence; activations that are not finite.
    """
    if layer is None or _before_pooling(model, layer) is not None:
        return closed_form_maps(model, sites, layer=layer, head=head, size=size)
    at_layer = gradients_at_layer(model, sites, layer=layer, head=head)
    raw = _weighted_sum(at_layer.activations, at_layer.gradient.mean((2, 3)))
    return to_attribution_map(raw, at_layer.outputs, sites.images, layer=layer, head=head, size=size)


def closed_form_maps(
    model: PerturbationClassifier,
    sites: SiteBatch,
    *,
    layer: str | None = None,
    head: Head = "softmax",
    size: tuple[int, int] | None = None,
) -> AttributionMaps:
    r"""Compute Grad-CAM of the last layers in closed form: Eq. (10) solved.

    The backbone ends in a mean over positions. Let w_k be the gradient of the output with respect to the pooled feature
    k, which needs the head only, and Z = height x width. The maps before the pooling have alpha_k = w_k / Z. The maps
    before the final ReLU have w_k / Z times the share of positions where the ReLU is open. The maps before the last
    norm have this times gamma_k / sqrt(var_k + eps).

    Args:
        model: The network; its mode, gradient flags and hooks are restored.
        sites: Sites to explain.
        layer: None for the maps before the pooling; or the name of the backbone's last layer, or of the layer before
            its last norm (`features.denseblock4` of DenseNet-161).
        head: `softmax` explains the logit, `arc` the cosine.
        size: Height and width of the maps, in pixels; None for the size of the images.

    Raises:
        ExplanationError: `grad_cam_maps` refuses the sites, or the layer has no closed form.
    """
    check_head(model, sites.targets, head)
    if layer is None:
        last_layer = None
    else:
        find_layer(model, layer)
        last_layer = _before_pooling(model, layer)
        if last_layer is None:
            names = list(_closed_form_layers(model))
            raise ExplanationError(
                f"Layer {layer!r} has no closed form: more than a norm lies between it and the mean. "
                f"Use `grad_cam_maps`, or one of {names}."
            )
    captured: list[Tensor] = []
    with freeze(model), sites.plate_statistics(model), torch.inference_mode(mode=False):
        hook = (
            None
            if last_layer is None
            else last_layer.module.register_forward_hook(lambda *call: captured.append(call[2]))
        )
        try:
            with torch.no_grad():
                pooled_maps = model.feature_maps(sites.images)
                pooled = model.pool(pooled_maps)
        finally:
            if hook is not None:
                hook.remove()
        outputs, pooled_slope = pooled_gradient(model, pooled, sites, head=head)
        n_positions = pooled_maps.shape[2] * pooled_maps.shape[3]
        weights = pooled_slope / n_positions
        activations = pooled_maps
        if last_layer is not None:
            activations = join_channels(captured[0], len(sites))
            n_backbone = activations.shape[1]  # maps of the measurements follow those of the backbone
            weights, pooled_maps = weights[:, :n_backbone], pooled_maps[:, :n_backbone]
            if model.config.final_relu:
                weights = weights * (pooled_maps > 0).float().mean((2, 3))
            if last_layer.norm is not None:
                weights = weights * _norm_slope(last_layer.norm).float()
    raw = _weighted_sum(activations, weights)
    return to_attribution_map(raw, outputs, sites.images, layer=layer or pooled_name(model), head=head, size=size)


def pooled_name(model: PerturbationClassifier) -> str:
    """Return the name of the maps before the pooling."""
    name = next(iter(_closed_form_layers(model)))
    name = f"{name}, after the final ReLU" if model.config.final_relu else name
    return f"{name}, with the measurements" if model.config.handcrafted_features else name


def hires_product(activations: FeatureMaps, gradient: FeatureMaps) -> SignedMaps:
    r"""Multiply activation and gradient at each position and sum over features.

    $$ \sum_k \frac{\partial y^c}{\partial A^k} \odot A^k $$

    A position whose activations have no effect on the output gets 0, unlike in Grad-CAM, which averages the gradient
    over positions. For the maps before the pooling the gradient is equal at all positions, and the result is Grad-CAM.

    Source: Draelos and Carin 2020, Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
        networks (arXiv:2011.08891), which prints no ReLU; `ActivationMaps.maps` keeps the positive part as for all
        methods, `raw` is the printed map.

    Args:
        activations: Activations A of a layer.
        gradient: Gradient dy / dA.
    """
    return torch.einsum("skhw,skhw->shw", activations, gradient)


def layer_product(activations: FeatureMaps, gradient: FeatureMaps) -> SignedMaps:
    r"""Sum activations weighted by the positive part of their gradients.

    $$ M^c = \mathrm{ReLU}\Big(\sum_k \mathrm{ReLU}\big(g^{kc}_{ij}\big) \cdot A^k_{ij}\Big),
       \quad g^{kc}_{ij} = \frac{\partial y^c}{\partial A^k_{ij}} $$

    The result is the sum before the outer ReLU. LayerCAM is also meant for early layers, where gradients of one map
    differ between positions. It ignores features that speak against the perturbation.

    Source: Jiang et al. 2021, LayerCAM: exploring hierarchical class activation maps for localization (IEEE
        Transactions on Image Processing 30, doi:10.1109/TIP.2021.3089943).

    Args:
        activations: Activations A of a layer.
        gradient: Gradient dy / dA.
    """
    return torch.einsum("skhw,skhw->shw", activations, gradient.clamp(min=0))


def _weighted_sum(activations: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("skhw,sk->shw", activations.detach().float(), weights)


def _closed_form_layers(model: PerturbationClassifier) -> dict[str, _BeforePooling]:
    children = list(model.backbone.features.named_children())
    name, last = children[-1]
    layers = {f"features.{name}": _BeforePooling(last, None)}
    if isinstance(last, nn.BatchNorm2d) and last.running_var is not None:
        name, last_layer = children[-2]
        layers[f"features.{name}"] = _BeforePooling(last_layer, last)
    return layers


def _before_pooling(model: PerturbationClassifier, layer: str) -> _BeforePooling | None:
    return _closed_form_layers(model).get(layer.removeprefix("backbone."))


def _norm_slope(norm: nn.BatchNorm2d) -> Tensor:
    """Return the derivative of each feature of the norm with respect to its input."""
    if norm.running_var is None:
        raise ExplanationError("This norm keeps no running variance.")
    pooled_slope = (norm.running_var + norm.eps).rsqrt()
    return pooled_slope if norm.weight is None else pooled_slope * norm.weight.detach()
