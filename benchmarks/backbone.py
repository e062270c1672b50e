"""The backbone of preset `small` against its convolutions alone, and what order of axes and allocator are worth.

64 images of three stains of 68 x 68 pixels, as the crops of docs/real-runs.md. Limits: the forward pass in evaluation
mode without gradients at most 2 times its convolutions alone (the same shapes, channels last, one after the other on
inputs that are there already; in pieces or all at once, whichever is less); the measurements beside it at most a third
of it; values within 1e-5 of those of the layers called one by one.

The allocator is compared in two fresh processes, one of which keeps freed memory as `distangle train` does: forward
pass and gradients of the images, layer by layer, as explanations ask for them.
"""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch
from torch import nn
from torch.nn import functional

import measure
from distangle.core.allocator import keep_freed_memory
from distangle.model import ModelConfig, build_classifier
from distangle.model.backbones.efficientnet import AT_ONCE_PX, Stem
from distangle.model.classifier import PerturbationClassifier

SITES, CHANNELS, SIZE = 64, 3, 68
ROUNDS = 9


def network(*, channels_last: bool) -> PerturbationClassifier:
    config = ModelConfig(
        backbone="efficientnet_lite0",
        n_channels=CHANNELS,
        n_perturbations=13,
        freeze_backbone=True,
        handcrafted_features=True,
    )
    model = build_classifier(config, seed=1).eval()
    return model.to(memory_format=torch.channels_last) if channels_last else model


def sites(*, channels_last: bool) -> torch.Tensor:
    images = torch.randn(SITES, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def look_at(model: PerturbationClassifier) -> None:
    """Hang a hook on one layer: then all are called one by one, as they were written."""
    model.backbone.features.relu.register_forward_hook(lambda *call: None)


def prepare(variant: str, *, channels_last: bool = True) -> Callable[[], torch.Tensor]:
    model, images = network(channels_last=channels_last), sites(channels_last=channels_last)
    if variant == "one by one":
        look_at(model)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return model.backbone(images)

    def measurements() -> torch.Tensor:
        with torch.no_grad():
            return model.measurements.features(model.measurements.maps(images, size=(4, 4)).mean((2, 3)))

    return measurements if variant == "measurements" else forward


def convolutions(n_at_once: int) -> Callable[[], None]:
    """All convolutions of the network on `n_at_once` gray images, as often as the whole batch needs."""
    model = network(channels_last=True)
    inputs_of_layers: list[tuple[torch.Tensor, nn.Conv2d]] = []

    def keep(layer: nn.Conv2d, inputs: tuple[torch.Tensor]) -> None:
        maps = functional.pad(inputs[0], (0, 1, 0, 1)) if isinstance(layer, Stem) else inputs[0]
        inputs_of_layers.append((maps.contiguous(memory_format=torch.channels_last), layer))

    for layer in model.backbone.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(keep)
    images = sites(channels_last=True)
    with torch.no_grad():
        for pass_images in images.split(-(-n_at_once // CHANNELS))[:1]:
            model.backbone(pass_images)
    inputs = [(maps[:n_at_once].clone(memory_format=torch.channels_last), layer) for maps, layer in inputs_of_layers]

    def run() -> None:
        with torch.no_grad():
            for first in range(0, SITES * CHANNELS, n_at_once):
                n = min(n_at_once, SITES * CHANNELS - first)
                for maps, layer in inputs:
                    functional.conv2d(maps[:n], layer.weight, None, layer.stride, groups=layer.groups)

    return run


def against_convolutions(verdicts: list[bool]) -> None:
    piece = AT_ONCE_PX // SIZE**2
    variants = {
        f"convolutions alone, {piece} at once": convolutions(piece),
        "convolutions alone, all at once": convolutions(SITES * CHANNELS),
        "forward": prepare("forward"),
        "forward, NCHW": prepare("forward", channels_last=False),
        "measurements": prepare("measurements"),
        "one by one": prepare("one by one"),
        "one by one, NCHW": prepare("one by one", channels_last=False),
    }
    expected = variants["one by one"]()
    difference = max((variants[name]() - expected).abs().max() for name in ("forward", "forward, NCHW"))
    relative = 1e6 * float(difference / expected.abs().max())
    verdicts.append(measure.verdict("difference from one by one, in 1e-6", relative, at_most=10))
    times = measure.time_variants(variants, rounds=ROUNDS)
    measure.show_times(times)
    convolution_time = min(timing.median for name, timing in times.items() if name.startswith("convolutions"))
    for name in ("forward", "forward, NCHW"):
        verdicts.append(
            measure.verdict(f"time, {name} / convolutions alone", times[name].median / convolution_time, at_most=2.0)
        )
    for name in ("one by one", "one by one, NCHW"):
        measure.verdict(f"time, {name} / convolutions alone", times[name].median / convolution_time)
    share = times["measurements"].median / times["forward"].median
    verdicts.append(measure.verdict("time, measurements / forward", share, at_most=1 / 3))


gradients: Callable[[], object]  # of a child process


def begin(keep: bool) -> None:  # noqa: FBT001 - an executor gives positional arguments
    if keep and not keep_freed_memory():
        raise SystemExit("The allocator was left alone: not glibc, or MALLOC_... or GLIBC_TUNABLES is set.")
    measure.hold_one_thread()
    model, images = network(channels_last=True), sites(channels_last=True).requires_grad_()

    def pass_and_gradients() -> torch.Tensor:
        return torch.autograd.grad(model.backbone(images).square().sum(), images)[0]

    global gradients
    gradients = pass_and_gradients


def seconds() -> tuple[float, float]:
    """Return the CPU seconds of one call, in all and of the system."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    gradients()
    after = resource.getrusage(resource.RUSAGE_SELF)
    system = after.ru_stime - before.ru_stime
    return after.ru_utime - before.ru_utime + system, system


def of_the_allocator(verdicts: list[bool]) -> None:
    fresh = multiprocessing.get_context("spawn")
    pools = {
        name: ProcessPoolExecutor(1, mp_context=fresh, initializer=begin, initargs=(name == "kept",))
        for name in ("given back", "kept")
    }
    timings: dict[str, list[tuple[float, float]]] = {name: [] for name in pools}
    for call in range(1 + ROUNDS):
        for name, pool in pools.items():
            timing_pair = pool.submit(seconds).result()
            timings[name] += [timing_pair] if call else []  # the first call warms up
    for pool in pools.values():
        pool.shutdown()
    totals = {
        name: measure.Timing(tuple(timing_pair[0] for timing_pair in timings_of_one))
        for name, timings_of_one in timings.items()
    }
    systems = {
        name: measure.Timing(tuple(timing_pair[1] for timing_pair in timings_of_one))
        for name, timings_of_one in timings.items()
    }
    measure.show_times({f"gradients, freed memory {name}": timing for name, timing in totals.items()})
    measure.show_times({f"of it system, freed memory {name}": timing for name, timing in systems.items()})
    ratio = totals["kept"].median / totals["given back"].median
    verdicts.append(measure.verdict("time of gradients, freed memory kept / given back", ratio, at_most=1.0))


def main() -> int:
    verdicts: list[bool] = []
    against_convolutions(verdicts)
    of_the_allocator(verdicts)
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
