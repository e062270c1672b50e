"""Exact Shapley values of six stains: ours against forward passes of the same images and against captum.

Limits, per image of a batch: DenseNet-161 at most 60 forward passes in float32 and at most 30 under bfloat16, values
within 0.02; a backbone that looks at each stain by itself at most 3; faster than captum's ShapleyValues at equal values
(1e-5). There are 64 coalitions: the first convolution is linear in the stains, so it is run once for all of them, and
where the stand-in is the same for all sites, so is the answer to it alone.

captum adds the stains in all 720 orders, 4,321 forward passes an image: one image of 64 x 64, measured once.
"""

import sys
from collections.abc import Callable

import torch
from captum.attr import ShapleyValues

import measure
from distangle.explain import ShapleySettings, SiteBatch, channel_shapley
from distangle.model import ModelConfig, build_classifier

CHANNELS = 6


def prepare(
    variant: str, *, backbone: str = "densenet161", sites: int = 2, size: int = 128
) -> Callable[[], torch.Tensor]:
    config = ModelConfig(backbone=backbone, n_channels=CHANNELS, n_perturbations=1139, n_cell_types=4)
    model = build_classifier(config, seed=1).eval()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(sites, CHANNELS, size, size, generator=generator)
    images -= images.mean((2, 3), keepdim=True)  # as standardised image by image
    cell_types = torch.eye(4)[torch.arange(sites) % 4]
    targets = torch.randint(0, 1139, (sites,), generator=generator)

    sites_batch = SiteBatch(images=images, cell_types=cell_types, targets=targets)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return model(images, cell_types).logits

    def ours(*, bf16: bool = False) -> torch.Tensor:
        return channel_shapley(model, sites_batch, ShapleySettings(bf16=bf16)).values

    def captum() -> torch.Tensor:
        explainer = ShapleyValues(lambda batch, kinds: model(batch, kinds).logits.log_softmax(1))
        with torch.no_grad():
            values = explainer.attribute(
                images,
                baselines=images.mean((2, 3), keepdim=True).expand_as(images),
                target=targets,
                additional_forward_args=cell_types,
                feature_mask=torch.arange(CHANNELS)[None, :, None, None],
                perturbations_per_eval=24,
            )
        return values[:, :, 0, 0]

    return {"forward": forward, "ours": ours, "ours, bf16": lambda: ours(bf16=True), "captum": captum}[variant]


def against_forward(verdicts: list[bool]) -> None:
    variants = {name: prepare(name) for name in ("forward", "ours", "ours, bf16")}
    difference = (variants["ours"]() - variants["ours, bf16"]()).abs().max().item()
    verdicts.append(measure.verdict("DenseNet-161, difference of values under bf16", difference, at_most=2e-2))
    times = measure.time_variants(variants, rounds=5, warmups=1)
    measure.show_times(times)
    forward = times["forward"].median
    for name, limit in (("ours", 60.0), ("ours, bf16", 30.0)):
        verdicts.append(measure.verdict(f"DenseNet-161, {name} / forward", times[name].median / forward, at_most=limit))


def against_forward_of_stains(verdicts: list[bool]) -> None:
    variants = {name: prepare(name, backbone="efficientnet_lite0") for name in ("forward", "ours")}
    times = measure.time_variants(variants, rounds=5, warmups=1)
    measure.show_times(times)
    ratio = times["ours"].median / times["forward"].median
    verdicts.append(measure.verdict("EfficientNet-Lite0 for each stain, ours / forward", ratio, at_most=3))


def against_captum(verdicts: list[bool]) -> None:
    variants = {name: prepare(name, sites=1, size=64) for name in ("ours", "captum")}
    values: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[[], None]:
        return lambda: values.update({name: variants[name]()})

    times = measure.time_variants({name: keep(name) for name in variants}, rounds=1, warmups=0)
    measure.show_times(times)
    difference = 1e6 * (values["ours"] - values["captum"]).abs().max().item()
    verdicts.append(measure.verdict("difference of values from captum's, in 1e-6", difference, at_most=10))
    verdicts.append(measure.verdict("time, ours / captum", times["ours"].median / times["captum"].median, at_most=1.0))


def main() -> int:
    verdicts: list[bool] = []
    against_forward(verdicts)
    against_forward_of_stains(verdicts)
    against_captum(verdicts)
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
