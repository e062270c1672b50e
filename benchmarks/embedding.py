"""DenseNet-161 on a CPU with folded norms and bfloat16, against eager float32, with OpenVINO beside it.

Eight images of six channels, 224 x 224 pixels, from pixels to embeddings. The norms have the statistics of a few
batches and random scales, so that folding them is not trivial. Limits: eager float32 takes at least 2.2 times the CPU
time of `precision=bf16`, with images in either memory format, and the cosine of every embedding with that in float32
is at least 0.999; folding alone, in float32, moves no embedding by more than 1e-4 of the largest value. The parts are
timed beside it.
"""

import copy
import importlib.util
import sys
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

import measure
from distangle.model import ModelConfig, build_classifier
from distangle.model.classifier import PerturbationClassifier
from distangle.model.cpu_inference import Bf16Backbone, fold_norms, prepare_bf16
from distangle.model.device import multiplies_bf16

SITES, CHANNELS, SIZE = 8, 6, 224
ROUNDS = 3

Embed = Callable[[], Tensor]


def network() -> PerturbationClassifier:
    """DenseNet-161 with random weights, scales and shifts, and the running statistics of four batches."""
    model = build_classifier(ModelConfig(backbone="densenet161", n_channels=CHANNELS, n_perturbations=1139), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in model.train().modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.normal_(0, 0.2, generator=generator)
                layer.momentum = 0.5
        for seed in range(4):
            model(sites(seed, size=SIZE // 2))
    return model.eval()


def sites(seed: int, *, size: int = SIZE) -> Tensor:
    """Blobs of several sizes and strengths with noise, standardized by image and channel."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(SITES, CHANNELS, size, size, generator=generator)
    for cells in (8, 16, 32):
        strength = 3 * torch.rand(SITES, CHANNELS, 1, 1, generator=generator)
        blobs = torch.randn(SITES, CHANNELS, cells, cells, generator=generator).exp()
        images += strength * nn.functional.interpolate(blobs, size=(size, size), mode="bilinear")
    std, mean = torch.std_mean(images, (2, 3), keepdim=True)
    return (images - mean) / std


def embed(model: nn.Module, images: Tensor) -> Embed:
    def call() -> Tensor:
        with torch.inference_mode():
            embedding: Tensor = model(images).embedding
            return embedding

    return call


def in_channels_last(model: PerturbationClassifier) -> PerturbationClassifier:
    """A copy in channels-last format."""
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


def autocast(model: PerturbationClassifier) -> PerturbationClassifier:
    """A network under bfloat16 autocast, its weights in float32."""
    model.add_module("backbone", Bf16Backbone(model.backbone))
    return model


def openvino(model: PerturbationClassifier, images: Tensor) -> dict[str, Embed]:
    """The same network in OpenVINO with one thread, by precision."""
    import openvino

    class Embedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: Tensor) -> Tensor:
            embedding: Tensor = self.model(pixels).embedding
            return embedding

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer, about checks of shapes
        converted = openvino.convert_model(Embedding().eval(), example_input=images, input=[tuple(images.shape)])
    pixels = images.numpy()

    def call(precision: str) -> Embed:
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
        compiled = openvino.Core().compile_model(converted, "CPU", settings)
        return lambda: torch.from_numpy(next(iter(compiled(pixels).values())).copy())

    return {f"OpenVINO, {precision}": call(precision) for precision in ("f32", "bf16")}


def cosine(one: Tensor, other: Tensor) -> float:
    """The least cosine of two embeddings of one site."""
    return float(torch.cosine_similarity(one.double(), other.double()).min())


def main() -> int:
    measure.hold_one_thread()
    if not multiplies_bf16(torch.device("cpu")):
        print("This CPU does not multiply in bfloat16: `precision=bf16` computes in float32 here, and has no limit.")
        return 0
    model, images = network(), sites(10)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    variants = {
        "eager fp32": embed(model, images),
        "eager fp32, channels last": embed(in_channels_last(model), channels_last),
        "fp32, norms folded": embed(fold_norms(model), channels_last),
        "bf16 autocast, channels last": embed(autocast(in_channels_last(model)), channels_last),
        "precision=bf16": embed(prepare_bf16(model), channels_last),
    }
    if importlib.util.find_spec("openvino") is None:
        print("OpenVINO is absent: no time of a peer (pip install openvino)")
    else:
        variants |= openvino(model, images)
    outputs = {name: call() for name, call in variants.items()}
    expected = outputs["eager fp32"]
    cosines = {name: cosine(embedding, expected) for name, embedding in outputs.items()}
    for name, value in {**cosines, "another site": cosine(expected, expected.roll(1, 0))}.items():
        print(f"{name:40s} cosine with eager fp32, least of {SITES} sites: {value:.6f}")
    difference = (outputs["fp32, norms folded"] - expected).abs().max() / expected.abs().max()
    verdicts = [
        measure.verdict("difference of folding, in 1e-6", 1e6 * float(difference), at_most=100),
        measure.verdict("1 - cosine of precision=bf16, in 1e-6", 1e6 * (1 - cosines["precision=bf16"]), at_most=1000),
    ]
    times = measure.time_variants(variants, rounds=ROUNDS, warmups=0)
    measure.show_times(times)
    ours = times["precision=bf16"].median
    for name in ("eager fp32", "eager fp32, channels last"):
        verdicts.append(measure.verdict(f"time, {name} / precision=bf16", times[name].median / ours, at_least=2.2))
    for name in times:
        if name.startswith("OpenVINO"):
            measure.verdict(f"time, {name} / precision=bf16", times[name].median / ours)
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
