"""Export the network of a run to torch.export or ONNX, and measure the parity."""

import contextlib
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from distangle.core.io import atomic_write, write_json
from distangle.errors import ConfigError, WeightsError
from distangle.export.network_card import network_card
from distangle.inference import open_model
from distangle.model import ModelCard, PerturbationClassifier
from distangle.results.run import RunFolder

Format = Literal["torch", "onnx"]
SUFFIXES: Mapping[Format, str] = {"torch": ".pt2", "onnx": ".onnx"}
OUTPUTS = ("logits", "embedding")
TOLERANCE = 1e-3
"""Largest difference that is accepted; logits are of the order of 1 to 100, in float32."""
_BATCHES = (2, 1, 5)  # the sizes that are compared: the example of the trace, and two others
_MAX_BATCH = 65_536


@dataclass(frozen=True, kw_only=True)
class NetworkExport:
    """A network in a file, and how far it is from the original.

    Attributes:
        path: The file of the network.
        card: JSON file with the classes, channels and preprocessing.
        embedding_difference: Largest absolute difference of the embedding, over random inputs.
        logit_difference: Largest absolute difference of the logits, over random inputs.
    """

    path: Path
    card: Path
    embedding_difference: float
    logit_difference: float


class OutputPair(nn.Module):
    """A network that returns logits and embedding as a pair of tensors.

    Args:
        network: The network.
    """

    def __init__(self, network: PerturbationClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, images: Tensor, cell_types: Tensor | None = None, references: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits [site, class] and embedding [site, dimension].

        Args:
            images: Standardized intensities, float32 [site, channel, height, width].
            cell_types: One-hot, float32 [site, cell_type]; None for a network without cell types.
            references: float32 [site, reference]; None for a network without a correction.
        """
        outputs = self.network(images, cell_types, references)
        return outputs.logits, outputs.embedding


def check_packages(format: Format) -> None:
    """Check that the packages of a format are installed.

    Raises:
        ConfigError: One is absent.
    """
    names = ("onnx", "onnxscript", "openvino") if format == "onnx" else ()
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(
            f"The format {format} needs the packages {', '.join(names)}; {', '.join(absent)} is not installed. "
            f"Install them: `pip install '.[{format}]'`, or use the format torch."
        )


def export_network(
    run: RunFolder, path: Path, *, format: Format, size: int | None = None, tolerance: float = TOLERANCE
) -> NetworkExport:
    """Write the network of a run to a file that other programs run.

    A JSON file of the same name describes inputs, outputs, and the preprocessing that the caller must do. The file is
    read back and compared with the original network on random inputs of several batch sizes; that of ONNX is run by
    OpenVINO. Batch norm uses the running statistics of the training.

    Args:
        run: A finished run.
        path: The file; its ending is that of `SUFFIXES`.
        format: `torch` for `torch.export.load`, or `onnx`.
        size: Height and width of the input after binning, in pixels; None: of the images of the screen.
        tolerance: Largest absolute difference of logits and embedding that is accepted.

    Raises:
        RunError: The training has not finished.
        ConfigError: A package is absent, the ending is another, or the size of the images is not known.
        WeightsError: The network in the file differs from the original; no file is left.
    """
    check_packages(format)
    if path.suffix != SUFFIXES[format]:
        raise ConfigError(f"{path.name} does not end in {SUFFIXES[format]}, as a file of the format {format} does.")
    model, card = open_model(run)
    height, width = _input_size(card, size)
    network = OutputPair(model).eval()
    with _quiet(), torch.no_grad(), atomic_write(path) as temporary:
        program = _trace(network, _random_inputs(model, height=height, width=width, n=_BATCHES[0]))
        if format == "torch":
            with temporary.open("wb") as file:
                torch.export.save(program, file)
        else:
            torch.onnx.export(
                program,
                (),
                temporary,
                dynamo=True,
                external_data=False,
                input_names=list(_random_inputs(model, height=height, width=width, n=1)),
                output_names=list(OUTPUTS),
                verbose=False,
            )
        batches = [_random_inputs(model, height=height, width=width, n=n) for n in _BATCHES]
        results = _run_torch(temporary, batches) if format == "torch" else _run_openvino(temporary, batches)
        logits, embedding = _differences([network(**inputs) for inputs in batches], results)
        if not max(logits, embedding) <= tolerance:
            raise WeightsError(
                f"The exported network differs from that of {run.root}: logits by {logits:.2g}, embedding by "
                f"{embedding:.2g}, expected at most {tolerance:g}. Nothing was written. Use the other format, or "
                "`distangle predict`."
            )
    values = network_card(model, card, inputs=batches[0], file=path.name, format=format)
    parity = {"logits": logits, "embedding": embedding, "tolerance": tolerance, "batch_sizes": list(_BATCHES)}
    write_json(path.with_suffix(".json"), {**values, "largest_difference": parity})
    return NetworkExport(
        path=path, card=path.with_suffix(".json"), embedding_difference=embedding, logit_difference=logits
    )


def _input_size(card: ModelCard, size: int | None) -> tuple[int, int]:
    if size is not None:
        if size < 1:
            raise ConfigError(f"The size of the input is {size} pixels. Expected at least 1.")
        return size, size
    if card.shape is None:
        raise ConfigError(
            "The images of the screen differ in size, and a network in a file has one size. Name it, in pixels after "
            "binning: `--size 256`."
        )
    binning = max(1, card.preprocessing.binning)
    return card.shape[0] // binning, card.shape[1] // binning


def _random_inputs(model: PerturbationClassifier, *, height: int, width: int, n: int) -> dict[str, Tensor]:
    """Return random values of every input that the network has."""
    generator = torch.Generator().manual_seed(n)
    config = model.config
    inputs = {"images": torch.randn(n, config.n_channels, height, width, generator=generator)}
    if config.n_cell_types:
        inputs["cell_types"] = torch.eye(config.n_cell_types)[torch.arange(n) % config.n_cell_types]
    if model.n_references:
        inputs["references"] = 0.1 * torch.randn(n, model.n_references, generator=generator)
    return inputs


def _trace(network: OutputPair, inputs: Mapping[str, Tensor]) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
    return torch.export.export(
        network, (), kwargs=dict(inputs), dynamic_shapes={name: {0: batch} for name in inputs}, strict=False
    )


def _run_torch(path: Path, batches: list[dict[str, Tensor]]) -> list[tuple[np.ndarray, ...]]:
    with path.open("rb") as file:
        network = torch.export.load(file).module()
    return [tuple(output.numpy() for output in network(**inputs)) for inputs in batches]


def _run_openvino(path: Path, batches: list[dict[str, Tensor]]) -> list[tuple[np.ndarray, ...]]:
    onnx, openvino = importlib.import_module("onnx"), importlib.import_module("openvino")
    onnx.checker.check_model(str(path))
    # Some processors would compute in bfloat16 by default.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    core = openvino.Core()
    # As bytes: OpenVINO would take the format of a temporary file from its ending.
    network = core.compile_model(core.read_model(path.read_bytes()), "CPU", settings)
    results = []
    for inputs in batches:
        outputs: Any = network({name: tensor.numpy() for name, tensor in inputs.items()})
        results.append(tuple(np.array(outputs[name]) for name in OUTPUTS))
    return results


def _differences(expected: list[tuple[Tensor, ...]], outputs: list[tuple[np.ndarray, ...]]) -> tuple[float, float]:
    """Return the largest differences of logits and embedding; inf for other shapes."""
    largest = [0.0, 0.0]
    for pair, other in zip(expected, outputs, strict=True):
        for k, (tensor, array) in enumerate(zip(pair, other, strict=True)):
            is_same = tuple(tensor.shape) == array.shape
            difference = np.abs(tensor.numpy() - array).max() if is_same else np.inf
            largest[k] = float(np.fmax(largest[k], np.inf if np.isnan(difference) else difference))
    return largest[0], largest[1]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the exporters say about their own code and optional packages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
