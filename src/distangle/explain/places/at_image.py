"""Integrated gradients and occlusion: what the pixels are worth to the explained output, by captum."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from distangle.axes import CellTypes, Images, Labels, References
from distangle.errors import ExplanationError
from distangle.explain.frozen import frozen
from distangle.explain.places.activation_map import Head
from distangle.explain.places.at_layer import check_asked, ordinary
from distangle.model import Outputs, PerturbationClassifier

Baseline = Float[Tensor, "baseline _ _ _"]
SignedMaps = Float[Tensor, "site _ _"]
WINDOWS_PER_SIDE = 8


def integrated_gradients(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    targets: Labels,
    *,
    references: References | None = None,
    head: Head = "softmax",
    baseline: Baseline | None = None,
    steps: int = 32,
    most_at_once: int = 64,
) -> tuple[SignedMaps, Outputs]:
    r"""Integrate the gradient along the straight way from a baseline image to the image; sum it over the stains.

    $$ \sum_i (x_i - x'_i) \int_0^1 \frac{\partial y^c}{\partial x_i}\big(x' + a(x - x')\big)\, da $$

    The sum over all places is the output for the image less that for the baseline, up to the error of `steps` points
    of Gauss and Legendre.

    Source: Sundararajan, Taly and Yan 2017, Axiomatic attribution for deep networks (arXiv:1703.01365), Eq. 1;
        computed by captum.

    Args:
        model: Left as it was found.
        images: Standardised intensities.
        cell_types: As the model takes them.
        targets: Index of the perturbation to explain, per site.
        references: As the model takes them.
        head: `softmax` explains the logit, `arc` the cosine.
        baseline: Standardised images without the effect, one per site or one for all; None puts every stain's mean
            (0) everywhere.
        steps: Points on the way.
        most_at_once: Images in one pass; bounds the memory.

    Returns:
        Signed maps at the size of the images, and what the network said of the images.

    Raises:
        ExplanationError: captum is not installed; unknown head or perturbation; a baseline that does not fit.
    """
    method = borrowed("IntegratedGradients")
    check_asked(model, targets, head)
    _at_least_1(steps=steps, most_at_once=most_at_once)
    with frozen(model), torch.inference_mode(mode=False):
        images, cell_types, references = ordinary(images), ordinary(cell_types), ordinary(references)
        start = _baseline(images, baseline)
        with torch.no_grad():
            outputs = model(images, cell_types, references)
        with torch.enable_grad():
            signed = method(_answer(model, head)).attribute(
                images,
                baselines=start,
                target=ordinary(targets).long(),
                additional_forward_args=(cell_types, references),
                n_steps=steps,
                internal_batch_size=max(most_at_once, len(images)),
            )
    return signed.detach().sum(1).float(), outputs


def occlusion(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    targets: Labels,
    *,
    references: References | None = None,
    head: Head = "softmax",
    baseline: Baseline | None = None,
    window: int | None = None,
    stride: int | None = None,
    most_at_once: int = 64,
) -> tuple[SignedMaps, Outputs]:
    """Cover one square of all stains after the other and see how far the explained output falls.

    A place's value is the mean fall over the squares that cover it.

    Source: Zeiler and Fergus 2013, Visualizing and understanding convolutional networks (arXiv:1311.2901), Sec. 4.2;
        computed by captum.

    Args:
        model: Left as it was found.
        images: Standardised intensities.
        cell_types: As the model takes them.
        targets: Index of the perturbation to explain, per site.
        references: As the model takes them.
        head: `softmax` explains the logit, `arc` the cosine.
        baseline: What the square shows: standardised images, one per site or one for all; None: every stain's mean.
        window: Side of the square, in pixels; None for an eighth of the shorter side of the image.
        stride: From square to square, in pixels; None for half of the window.
        most_at_once: Images in one pass; bounds the memory.

    Returns:
        Signed maps at the size of the images, and what the network said of the images.

    Raises:
        ExplanationError: captum is not installed; unknown head or perturbation; a baseline or window that does not
            fit.
    """
    method = borrowed("Occlusion")
    check_asked(model, targets, head)
    _at_least_1(window=window, stride=stride, most_at_once=most_at_once)
    channels, *size = images.shape[1:]
    window = window or max(1, min(size) // WINDOWS_PER_SIDE)
    stride = stride or max(1, window // 2)
    if window > min(size) or stride > window:
        message = (
            f"A window of {window} px moved by {stride} px does not cover images of {size[0]} x {size[1]} px. "
            "Give a window no larger than the image and a stride no larger than the window."
        )
        raise ExplanationError(message)
    with frozen(model), torch.no_grad():
        outputs = model(images, cell_types, references)
        signed = method(_answer(model, head)).attribute(
            images,
            sliding_window_shapes=(channels, window, window),
            strides=(channels, stride, stride),
            baselines=_baseline(images, baseline),
            target=ordinary(targets).long(),
            additional_forward_args=(cell_types, references),
            perturbations_per_eval=max(1, most_at_once // len(images)),
        )
    # The square covers all stains at once, so they all carry the same value.
    return signed[:, 0].float(), outputs


def borrowed(name: str) -> Any:
    """Return a method of captum.

    Raises:
        ExplanationError: captum is not installed.
    """
    try:
        from captum import attr
    except ImportError:
        message = f"{name} is computed by captum, which is not installed: pip install 'distangle[explain]'."
        raise ExplanationError(message) from None
    return getattr(attr, name)


def _answer(model: PerturbationClassifier, head: Head) -> Any:
    def answer(images: Tensor, cell_types: Tensor | None, references: Tensor | None) -> Tensor:
        said = model(images, cell_types, references)
        chosen: Tensor = said.logits if head == "softmax" else said.cosines
        return chosen

    return answer


def _baseline(images: Tensor, baseline: Tensor | None) -> Tensor:
    if baseline is None:
        return torch.zeros_like(images)
    if baseline.shape[1:] != images.shape[1:] or len(baseline) not in (1, len(images)):
        message = (
            f"A baseline of shape {tuple(baseline.shape)} does not fit images of shape {tuple(images.shape)}. Give one "
            "image per site, or one for all, with the same channels, height and width."
        )
        raise ExplanationError(message)
    return baseline.to(images).expand_as(images).clone()


def _at_least_1(**given: int | None) -> None:
    for name, value in given.items():
        if value is not None and value < 1:
            message = f"{name}={value} was asked for; give at least 1."
            raise ExplanationError(message)
