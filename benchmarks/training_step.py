"""One training step of DenseNet-161, six channels: torch's plain way against ours, in time and memory.

    python benchmarks/training_step.py                # the printed 512 x 512 pixels: about three minutes
    python benchmarks/training_step.py --size 128     # a quick look; gradients and Adam then fill the memory

Base: float32, every activation kept, transitions as printed (Table 2). Ours: bfloat16 autocast, channels_last,
recomputation, 2x2 mean-pool before the 1x1 convolution. Also, alone: the transition swap, and that the recomputing
step leaves every buffer and gradient of the plain step, bit for bit. Ends with 1 when a limit is broken.
"""

import argparse
import sys
from collections.abc import Callable

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import measure
from distangle.model import ModelConfig, PerturbationClassifier, build_classifier
from distangle.model.backbones.densenet import Transition

VARIANTS = ("base", "swap", "ours")
N_PERTURBATIONS = 1139
# Eq. (12): the share of the arc head. The loss of this benchmark has no margin: it is 0.1 % of the step.
MARGIN_SHARE, SCALE = 0.2, 30.0


def network(variant: str) -> PerturbationClassifier:
    config = ModelConfig(
        n_channels=6, n_perturbations=N_PERTURBATIONS, n_cell_types=4, activation_checkpointing=variant == "ours"
    )
    model = build_classifier(config, seed=0)
    for part in model.modules():
        if isinstance(part, Transition):
            part.pool_first = variant != "base"
    return model.to(memory_format=torch.channels_last) if variant == "ours" else model


def minibatch(n_sites: int, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    randomness = torch.Generator().manual_seed(0)
    images = torch.randn(n_sites, 6, size, size, generator=randomness)
    labels = torch.randint(N_PERTURBATIONS, (n_sites,), generator=randomness)
    return images, functional.one_hot(torch.arange(n_sites) % 4, 4).float(), labels


def loss_of(model: PerturbationClassifier, images: torch.Tensor, cell_types: torch.Tensor, labels: torch.Tensor):
    outputs = model(images, cell_types)
    softmax = functional.cross_entropy(outputs.logits, labels)
    arc = functional.cross_entropy(SCALE * outputs.cosines, labels)
    return (1 - MARGIN_SHARE) * softmax + MARGIN_SHARE * arc


def prepare(variant: str, n_sites: int, size: int) -> Callable[[], object]:
    model = network(variant)
    images, cell_types, labels = minibatch(n_sites, size)
    if variant == "ours":
        images = images.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), lr=1.5e-4)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=variant == "ours"):
            loss = loss_of(model, images, cell_types, labels)
        loss.backward()
        optimiser.step()

    return step


def operations(variant: str, size: int) -> int:
    """Count the floating-point operations of one image, forward: exact, whatever the machine's load."""
    images = torch.zeros(1, 6, size, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(variant).eval().feature_maps(images)
    return counter.get_total_flops()


def recomputing_is_exact(n_sites: int, size: int) -> bool:
    """Compare buffers and gradients after one float32 step, with and without recomputation."""
    states = []
    for recompute in (False, True):
        model = network("swap")
        for part in model.modules():
            if hasattr(part, "recompute"):
                part.recompute = recompute
        loss_of(model, *minibatch(n_sites, size)).backward()
        gradients = {f"gradient of {name}": value.grad for name, value in model.named_parameters()}
        states.append({**dict(model.named_buffers()), **gradients})
    plain, ours = states
    differing = [name for name in plain if not torch.equal(plain[name], ours[name])]
    print(f"{len(plain)} buffers and gradients, {len(differing)} differ after a recomputing step {differing[:3]}")
    return not differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="height and width in pixels")
    parser.add_argument("--sites", type=int, default=2, help="images of a minibatch")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    measure.hold_one_thread()
    print(
        f"DenseNet-161, {arguments.sites} x 6 x {arguments.size} x {arguments.size}, torch {torch.__version__}, "
        "one thread"
    )
    memories = {variant: measure.peak_memory(prepare, variant, arguments.sites, arguments.size) for variant in VARIANTS}
    measure.show_memory(memories)
    steps = {variant: prepare(variant, arguments.sites, arguments.size) for variant in VARIANTS}
    times = measure.time_variants(steps, rounds=arguments.rounds)
    measure.show_times(times)
    base = times["base"].median
    verdicts = [
        measure.verdict("time, ours / base", times["ours"].median / base, at_most=0.55),
        measure.verdict(
            "operations, swap alone / base",
            operations("swap", arguments.size) / operations("base", arguments.size),
            at_most=0.92,
        ),
        measure.verdict("time, base / swap alone", base / times["swap"].median, at_least=1.03),
        measure.verdict("added memory, ours / base", memories["ours"].added / memories["base"].added, at_most=0.40),
        recomputing_is_exact(arguments.sites, min(arguments.size, 128)),
    ]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
