"""Steps of a whole training: how long the network waits for images, what torch.compile gains, images a second.

    python benchmarks/steps.py                    # processor: stall of the step, and eager against compiled
    python benchmarks/steps.py --steps 30         # more of them
    python benchmarks/steps.py --compile          # also torch.compile on this machine (needs a C++ compiler)

With a GPU and torchvision also: DenseNet-161, 6 x 512 x 512, bfloat16, channels_last, against torchvision's
memory_efficient model in float16, NCHW, same batch, in one run; without, it says what is missing. Wall time, since
waiting is what is measured: use a machine that does nothing else. Ends with 1 when a limit is broken.
"""

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

import measure
from distangle.images import probe_image
from distangle.model import ModelConfig, build_classifier
from distangle.screen import Folds, Screen, hold_out, index, read_screen, write_screen
from distangle.synthetic import SimulationConfig, simulate
from distangle.training import dry_run, resolve_config

LARGEST_STALL = 0.05
BANDWIDTH_BOUND = 677  # images a second, eager, of an H200: 4.8 TB/s over the activations of DenseNet-161
RXRX1_SITES = 73_030  # the labelled sites of RxRx1: 36,515 wells, two sites each
N_CLASSES = 1139
BATCH = 24


def a_screen(folder: Path) -> tuple[Screen, Folds]:
    """Return a synthetic screen of 256 x 256 pixels as files, and its last experiment held out."""
    config = SimulationConfig(seed=0, experiments_per_cell_type=2, n_treatments=10, wells_per_treatment=2)
    simulate(folder / "plates", config, workers=2)
    write_screen(index(folder / "plates", layout="rxrx1", probe=probe_image), folder / "screen")
    screen = read_screen(folder / "screen")
    last = sorted(set(screen.sites["experiment"]))[-1]
    return screen, hold_out(screen, column="experiment", values=[last])


def stall(n_steps: int) -> bool:
    """Rehearse the small preset and compare its waiting with the limit."""
    with tempfile.TemporaryDirectory() as temporary:
        screen, folds = a_screen(Path(temporary))
        config = resolve_config("scratch", ["batch_size=16"])
        result = dry_run(screen, folds, config, limit=n_steps)
    for sentence in result.sentences():
        print(sentence)
    return measure.verdict("waiting for images, share of the step", result.stall, at_most=LARGEST_STALL)


def one_step(backbone: str, size: int, *, compiled: bool) -> Callable[[], None]:
    model = build_classifier(ModelConfig(backbone=backbone, n_channels=6, n_perturbations=50), seed=0)
    model = model.to(memory_format=torch.channels_last)
    if compiled:
        model.compile()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images = torch.randn(8, 6, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(8)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(model(images, None).logits, labels).backward()
        optimiser.step()

    return step


def compare_compile(backbone: str, size: int) -> None:
    """Print what torch.compile costs and gains on this processor; no limit, it is off unless asked for."""
    eager, compiled = (one_step(backbone, size, compiled=flag) for flag in (False, True))
    start = time.perf_counter()
    compiled()
    first = time.perf_counter() - start
    times = measure.time_variants({f"{backbone} {size}, eager": eager, f"{backbone} {size}, compiled": compiled})
    measure.show_times(times)
    before, after = (timing.median for timing in times.values())
    gained = before - after
    print(
        f"compiling took {first:.0f} s; it is earned back after {first / gained:.0f} steps" if gained > 0 else "never"
    )


def gpu_step(model: torch.nn.Module, forward: Callable[..., torch.Tensor], dtype: torch.dtype, *, last: bool):
    """Return one whole step on the GPU: forward, loss, backward, Adam."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1.5e-4)
    scaler = torch.amp.GradScaler("cuda", enabled=dtype == torch.float16)
    images = torch.randn(BATCH, 6, 512, 512, device="cuda")
    if last:
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH, device="cuda")

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype):
            loss = functional.cross_entropy(forward(model, images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        torch.cuda.synchronize()

    return step


def ours(*, compiled: bool) -> Callable[[], None]:
    config = ModelConfig(n_channels=6, n_perturbations=N_CLASSES)
    model = build_classifier(config, seed=0).cuda().to(memory_format=torch.channels_last)
    if compiled:
        model.compile()
    return gpu_step(model, lambda model, images: model(images, None).logits, torch.bfloat16, last=True)


def torchvisions() -> Callable[[], None]:
    from torchvision.models import densenet161

    model = densenet161(weights=None, memory_efficient=True, num_classes=N_CLASSES)
    model.features.conv0 = torch.nn.Conv2d(6, 96, 7, stride=2, padding=3, bias=False)
    return gpu_step(model.cuda(), lambda model, images: model(images), torch.float16, last=False)


def on_gpu(*, compiled: bool) -> list[bool]:
    """Compare with torchvision on a GPU, or say what is missing."""
    missing = [] if torch.cuda.is_available() else ["a GPU"]
    missing += [] if importlib.util.find_spec("torchvision") else ["torchvision"]
    if missing:
        print(f"skipped: DenseNet-161 against torchvision's memory_efficient model ({' and '.join(missing)} missing)")
        return []
    torch.backends.cudnn.benchmark = True
    variants = {
        "torchvision, memory_efficient, fp16, NCHW": torchvisions(),
        "ours, bf16, channels_last": ours(compiled=False),
    }
    if compiled:
        variants["ours, compiled"] = ours(compiled=True)
    times = measure.time_variants(variants, rounds=10, warmups=3, clock=time.perf_counter)
    measure.show_times(times)
    theirs, own_time = (timing.median for timing in list(times.values())[:2])
    rate = BATCH / own_time
    epochs = resolve_config("seed").epochs
    print(f"{torch.cuda.get_device_name()}: {rate:.0f} images/s, {rate / BANDWIDTH_BOUND:.0%} of {BANDWIDTH_BOUND}/s")
    print(f"{epochs} epochs of {RXRX1_SITES} sites: {epochs * RXRX1_SITES / rate / 3600:.1f} h of steps")
    return [measure.verdict("images a second, ours / torchvision's", theirs / own_time, at_least=1.8)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    measure.hold_one_thread()
    verdicts = [stall(arguments.steps)]
    if arguments.compile:
        compare_compile("resnet_small", 128)
        compare_compile("densenet_small", 128)
    verdicts += on_gpu(compiled=arguments.compile)
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
