"""Compute attribution maps by one of five methods."""

from typing import get_args

from distangle.errors import ExplanationError, did_you_mean
from distangle.explain.maps.attribution_map import AttributionMaps, Head, Method, to_attribution_map
from distangle.explain.maps.grad_cam import grad_cam_maps, hires_product, layer_product, pooled_name
from distangle.explain.maps.layer_gradients import gradients_at_layer, gradients_at_pool
from distangle.explain.maps.pixel_attribution import PixelAttributionSettings, integrated_gradients, occlusion
from distangle.explain.sites import SiteBatch
from distangle.model import PerturbationClassifier

MAP_METHODS: tuple[Method, ...] = get_args(Method)
PIXEL_METHODS = ("integrated_gradients", "occlusion")


def attribution_map(
    model: PerturbationClassifier,
    sites: SiteBatch,
    *,
    method: Method = "grad_cam",
    layer: str | None = None,
    head: Head = "softmax",
    size: tuple[int, int] | None = None,
    pixels: PixelAttributionSettings | None = None,
) -> AttributionMaps:
    """Compute attribution maps by one of `MAP_METHODS`.

    `raw` is a signed map, positive where a position supports the perturbation. `maps` is its positive part, enlarged to
    the image and divided by its maximum. Grad-CAM, HiResCAM and LayerCAM use a layer. Integrated gradients and
    occlusion use the pixels and sum over the channels first, so opposite effects of two channels cancel.

    Args:
        model: The network; its mode, gradient flags and hooks are restored.
        sites: Sites to explain.
        method: A name of `MAP_METHODS`.
        layer: A name of `model.layer_names` for a method at a layer; None for the maps before the pooling.
        head: `softmax` explains the logit, `arc` the cosine.
        size: Height and width of the maps, in pixels; None for those of the images.
        pixels: Settings of the methods at the pixels; None for the defaults.

    Raises:
        ExplanationError: Unknown method, layer, head or perturbation; a layer for a method that looks at the pixels;
            captum is not installed; or the method refuses the sites.
    """
    if method not in MAP_METHODS:
        raise ExplanationError(f"Unknown map method {method!r}. {did_you_mean(method, MAP_METHODS)}")
    if method in PIXEL_METHODS:
        if layer is not None:
            raise ExplanationError(
                f"{method} works at the pixels and takes no layer, but the layer is {layer!r}. Leave the layer out."
            )
        attribute = occlusion if method == "occlusion" else integrated_gradients
        signed, outputs = attribute(model, sites, head=head, settings=pixels)
        return to_attribution_map(signed, outputs, sites.images, layer="image", head=head, size=size, method=method)
    if method == "grad_cam":
        return grad_cam_maps(model, sites, layer=layer, head=head, size=size)
    at_layer = (
        gradients_at_pool(model, sites, head=head)
        if layer is None
        else gradients_at_layer(model, sites, layer=layer, head=head)
    )
    product = hires_product if method == "hires_cam" else layer_product
    return to_attribution_map(
        product(at_layer.activations, at_layer.gradient),
        at_layer.outputs,
        sites.images,
        layer=layer or pooled_name(model),
        head=head,
        size=size,
        method=method,
    )
