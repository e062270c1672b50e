"""Attribution at the pixels with captum: integrated gradients and occlusion."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from distangle.errors import ExplanationError
from distangle.explain.maps.attribution_map import Head
from distangle.explain.maps.layer_gradients import check_head, without_inference_mode
from distangle.explain.sites import SiteBatch, freeze
from distangle.model import Outputs, PerturbationClassifier

Baseline = Float[Tensor, "baseline _ _ _"]
SignedMaps = Float[Tensor, "site _ _"]
WINDOWS_PER_SIDE = 8


@dataclass(frozen=True, kw_only=True)
class PixelAttributionSettings:
    """Settings of integrated gradients and occlusion.

    Attributes:
        baseline: Standardized images without the effect, one per site or one for all: start of the integration, or
            content of the window; None: the mean of every channel (0).
        steps: Number of integration points between baseline and image.
        window: Side of the occlusion window, in pixels; None for an eighth of the shorter side of the image.
        stride: Step between windows, in pixels; None for half of the window.
        max_batch_size: Maximum number of images in one forward pass; bounds the memory.
    """

    baseline: Baseline | None = None
    steps: int = 32
    window: int | None = None
    stride: int | None = None
    max_batch_size: int = 64


class SignedAttribution(NamedTuple):
    """Signed maps at the size of the images, and the outputs for the images."""

    maps: SignedMaps
    outputs: Outputs


def integrated_gradients(
    model: PerturbationClassifier,
    sites: SiteBatch,
    *,
    head: Head = "softmax",
    settings: PixelAttributionSettings | None = None,
) -> SignedAttribution:
    r"""Integrate gradients from a baseline to the image, summed over channels.

    $$ \sum_i (x_i - x'_i) \int_0^1 \frac{\partial y^c}{\partial x_i}\big(x' + a(x - x')\big)\, da $$

    The sum over all positions is the difference of the outputs for image and baseline, up to the error of
    Gauss-Legendre quadrature with `steps` points.

    Source: Sundararajan, Taly and Yan 2017, Axiomatic attribution for deep networks (arXiv:1703.01365), Eq. 1;
        computed by captum.

    Args:
        model: The network; its mode, gradient flags and hooks are restored.
        sites: Sites to explain.
        head: `softmax` explains the logit, `arc` the cosine.
        settings: None for the defaults; window and stride are not used.

    Raises:
        ExplanationError: captum is not installed; unknown head or perturbation; wrong shape of the baseline.
    """
    method = captum_method("IntegratedGradients")
    settings = settings or PixelAttributionSettings()
    check_head(model, sites.targets, head)
    _check_positive(steps=settings.steps, max_batch_size=settings.max_batch_size)
    with freeze(model), sites.plate_statistics(model), torch.inference_mode(mode=False):
        images, inputs = (
            without_inference_mode(sites.images),
            (without_inference_mode(sites.cell_types), without_inference_mode(sites.references)),
        )
        start = _baseline(images, settings.baseline)
        with torch.no_grad():
            outputs = model(images, *inputs)
        with torch.enable_grad():
            signed = method(_output_function(model, head)).attribute(
                images,
                baselines=start,
                target=without_inference_mode(sites.targets).long(),
                additional_forward_args=inputs,
                n_steps=settings.steps,
                internal_batch_size=max(settings.max_batch_size, len(images)),
            )
    return SignedAttribution(signed.detach().sum(1).float(), outputs)


def occlusion(
    model: PerturbationClassifier,
    sites: SiteBatch,
    *,
    head: Head = "softmax",
    settings: PixelAttributionSettings | None = None,
) -> SignedAttribution:
    """Move an occlusion window over all channels and measure the fall of the output.

    The value of a position is the mean fall over the windows that cover it.

    Source: Zeiler and Fergus 2013, Visualizing and understanding convolutional networks (arXiv:1311.2901), Sec. 4.2;
        computed by captum.

    The arguments are those of `integrated_gradients`; `steps` is not used.

    Raises:
        ExplanationError: captum is not installed; unknown head or perturbation; wrong size of the baseline or
            window.
    """
    method = captum_method("Occlusion")
    settings = settings or PixelAttributionSettings()
    check_head(model, sites.targets, head)
    _check_positive(window=settings.window, stride=settings.stride, max_batch_size=settings.max_batch_size)
    images, inputs = sites.images, (sites.cell_types, sites.references)
    channels, *size = images.shape[1:]
    window = settings.window or max(1, min(size) // WINDOWS_PER_SIDE)
    stride = settings.stride or max(1, window // 2)
    if window > min(size) or stride > window:
        raise ExplanationError(
            f"A window of {window} px moved by {stride} px does not cover images of {size[0]} x {size[1]} px. "
            "Give a window no larger than the image and a stride no larger than the window."
        )
    with freeze(model), sites.plate_statistics(model), torch.no_grad():
        outputs = model(images, *inputs)
        signed = method(_output_function(model, head)).attribute(
            images,
            sliding_window_shapes=(channels, window, window),
            strides=(channels, stride, stride),
            baselines=_baseline(images, settings.baseline),
            target=without_inference_mode(sites.targets).long(),
            additional_forward_args=inputs,
            perturbations_per_eval=max(1, settings.max_batch_size // len(images)),
        )
    # The window covers all channels at once, so all channels have the same value.
    return SignedAttribution(signed[:, 0].float(), outputs)


def captum_method(name: str) -> Any:
    """Return a method of captum.

    Raises:
        ExplanationError: captum is not installed.
    """
    try:
        from captum import attr
    except ImportError:
        raise ExplanationError(
            f"{name} is computed by captum, which is not installed: pip install '.[explain]'."
        ) from None
    return getattr(attr, name)


def _output_function(model: PerturbationClassifier, head: Head) -> Any:
    def explained_output(images: Tensor, cell_types: Tensor | None, references: Tensor | None) -> Tensor:
        outputs = model(images, cell_types, references)
        values: Tensor = outputs.logits if head == "softmax" else outputs.cosines
        return values

    return explained_output


def _baseline(images: Tensor, baseline: Tensor | None) -> Tensor:
    if baseline is None:
        return torch.zeros_like(images)
    if baseline.shape[1:] != images.shape[1:] or len(baseline) not in (1, len(images)):
        raise ExplanationError(
            f"A baseline of shape {tuple(baseline.shape)} does not fit images of shape {tuple(images.shape)}. Give one "
            "image per site, or one for all, with the same channels, height and width."
        )
    return baseline.to(images).expand_as(images).clone()


def _check_positive(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise ExplanationError(f"{name} is {value}; expected at least 1.")
