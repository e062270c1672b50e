"""One door for "where": five methods, one kind of answer."""

from functools import partial
from typing import get_args

from distangle.axes import CellTypes, Images, Labels, References
from distangle.errors import ExplanationError, nearest
from distangle.explain.places.activation_map import ActivationMaps, Head, Method, finished
from distangle.explain.places.at_image import Baseline, integrated_gradients, occlusion
from distangle.explain.places.at_layer import at_layer, at_pool
from distangle.explain.places.grad_cam import activation_maps, pooled_name
from distangle.explain.places.layer_products import hires_product, layer_product
from distangle.model import PerturbationClassifier

PLACE_METHODS: tuple[Method, ...] = get_args(Method)
AT_IMAGE = ("integrated_gradients", "occlusion")


def place_maps(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    targets: Labels,
    *,
    method: Method = "grad_cam",
    references: References | None = None,
    layer: str | None = None,
    head: Head = "softmax",
    size: tuple[int, int] | None = None,
    baseline: Baseline | None = None,
    steps: int = 32,
    window: int | None = None,
    stride: int | None = None,
    most_at_once: int = 64,
) -> ActivationMaps:
    """Say where the network looked, by any of `PLACE_METHODS`.

    All give a signed map in `raw`, positive where the place speaks for the perturbation, and its positive part,
    enlarged to the image and divided by its maximum, in `maps`. Grad-CAM, HiResCAM and LayerCAM look at a layer;
    integrated gradients and occlusion at the pixels, summed over the stains before the sign is looked at: a place
    where one stain speaks for and another as much against the perturbation counts as silent.

    Args:
        model: Left as it was found: mode, gradients and hooks.
        images: Standardised intensities.
        cell_types: As the model takes them.
        targets: Index of the perturbation to explain, per site.
        method: A name of `PLACE_METHODS`.
        references: As the model takes them.
        layer: A name of `model.layer_names` for a method that looks at a layer; None for the maps that are pooled.
        head: `softmax` explains the logit, `arc` the cosine.
        size: Height and width of the maps, in pixels; None for those of the images.
        baseline: Of the methods at the pixels: standardised images without the effect, one per site or one for all;
            None for every stain's mean.
        steps: Of integrated gradients.
        window: Of occlusion, in pixels; None for an eighth of the image's side.
        stride: Of occlusion, in pixels; None for half of the window.
        most_at_once: Images in one pass of the methods at the pixels.

    Raises:
        ExplanationError: Unknown method, layer, head or perturbation; a layer for a method that looks at the pixels;
            captum is not installed; whatever the method refuses.
    """
    if method not in PLACE_METHODS:
        message = f"No method of place is called {method!r}. {nearest(method, PLACE_METHODS)}"
        raise ExplanationError(message)
    if method in AT_IMAGE and layer is not None:
        message = f"{method} looks at the pixels and takes no layer, but {layer!r} was given. Leave the layer out."
        raise ExplanationError(message)
    if method == "grad_cam":
        return activation_maps(
            model, images, cell_types, targets, references=references, layer=layer, head=head, size=size
        )
    if method in AT_IMAGE:
        at_image = partial(integrated_gradients, steps=steps)
        if method == "occlusion":
            at_image = partial(occlusion, window=window, stride=stride)
        raw, outputs = at_image(
            model,
            images,
            cell_types,
            targets,
            references=references,
            head=head,
            baseline=baseline,
            most_at_once=most_at_once,
        )
        return finished(raw, outputs, images, layer="image", head=head, size=size, method=method)
    if layer is None:
        here = at_pool(model, images, cell_types, targets, references=references, head=head)
    else:
        here = at_layer(model, images, cell_types, targets, references=references, layer=layer, head=head)
    product = hires_product if method == "hires_cam" else layer_product
    return finished(
        product(here.activations, here.gradient),
        here.outputs,
        images,
        layer=layer or pooled_name(model),
        head=head,
        size=size,
        method=method,
    )
