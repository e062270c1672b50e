"""Read folders behind URLs (S3, Google Cloud, Azure, HTTP) like paths.

What is decoded is fetched once into a local folder, `$DISTANGLE_CACHE` or `~/.cache/distangle`: decoders get
files, and an epoch costs no traffic.
"""

import functools
import os
import posixpath
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from distangle.core.io import atomic_write
from distangle.errors import RemoteError

SCHEMES = ("s3", "gs", "gcs", "http", "https", "abfs", "az", "memory")
_PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "abfs": "adlfs",
    "az": "adlfs",
}
_WEB = ("http", "https")
_LOCKS = tuple(threading.Lock() for _ in range(64))


class RemotePath:
    """A file or folder behind a URL, with the part of `pathlib.Path` to read it.

    Args:
        url: `s3://bucket/folder`, `https://host/folder`, ...

    Raises:
        RemoteError: Its scheme is none of ours, or a part of it is `..`.
    """

    __slots__ = ("_rest", "scheme")

    def __init__(self, url: str) -> None:
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in SCHEMES:
            raise RemoteError(
                f"{url} is no address that can be read. Expected a path, or a URL of {', '.join(SCHEMES)}."
            )
        if ".." in rest.split("/"):
            raise RemoteError(f"{url} goes up with '..'. Write the folder that is meant.")
        self.scheme = scheme
        self._rest = rest.strip("/") if scheme != "memory" else "/" + rest.strip("/")

    def __str__(self) -> str:
        return f"{self.scheme}://{self._rest}"

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(other) == str(self)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> "RemotePath":
        parts = [part for part in name.split("/") if part not in ("", ".")]
        return RemotePath("/".join([str(self).rstrip("/"), *parts]))

    @property
    def name(self) -> str:
        """The last part."""
        return posixpath.basename(self._rest)

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return posixpath.splitext(self.name)[1]

    @property
    def parent(self) -> "RemotePath":
        """The folder above."""
        return RemotePath(f"{self.scheme}://{posixpath.dirname(self._rest)}")

    def as_posix(self) -> str:
        """Return the URL."""
        return str(self)

    def resolve(self) -> "RemotePath":
        """Return itself: a URL is whole."""
        return self

    def absolute(self) -> "RemotePath":
        """Return itself: a URL is whole."""
        return self

    def exists(self) -> bool:
        """Tell whether there is anything."""
        return bool(self._ask("exists"))

    def is_dir(self) -> bool:
        """Tell whether it is a folder."""
        return bool(self._ask("isdir"))

    def is_file(self) -> bool:
        """Tell whether it is a file."""
        # Over HTTP a folder is a page with links, which is a file as well.
        return bool(self._ask("isfile")) and not (self.scheme in _WEB and self.is_dir())

    def listing(self) -> list[tuple[str, bool]]:
        """Return the names in a folder, sorted, and which of them are folders."""
        found: dict[str, bool] = {}
        for item in self._ask("ls", detail=True):
            inside = self._below(str(item["name"]))
            if inside and "/" not in inside:
                found[inside] = item["type"] == "directory"
        return sorted(found.items())

    def iterdir(self) -> Iterator["RemotePath"]:
        """Give what lies in a folder."""
        for name, _ in self.listing():
            yield self / name

    def read_bytes(self) -> bytes:
        """Return all bytes of a file."""
        content = self._ask("cat_file")
        return content if isinstance(content, bytes) else bytes(content)

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return all of a file as text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb") -> Any:
        """Open a file for reading its bytes, as the file system's own kind of file."""
        return self._ask("open", mode=mode)

    def size(self) -> int:
        """Return the bytes of a file, 0 where the server does not tell."""
        return int(self._ask("info").get("size") or 0)

    def mtime(self) -> float:
        """Return when a file was changed, in s since 1970; 0 if the server omits it."""
        for key in ("mtime", "LastModified", "last_modified", "created", "updated"):
            value = self._ask("info").get(key)
            if value is not None and hasattr(value, "timestamp"):
                return float(value.timestamp())
        return 0.0

    def files(self) -> list[str]:
        """Return every file below a folder, relative to it, sorted."""
        return sorted(inside for name in self._ask("find") if (inside := self._below(str(name))))

    def local_copy(self, *, fresh: bool = False) -> Path:
        """Return a local copy of a file or whole folder; fetch what is missing.

        Args:
            fresh: Fetch it again unless size and time are those of the remote one.

        Raises:
            RemoteError: It cannot be fetched, or came with another size than the server tells.
        """
        copy = cache_folder() / self.scheme / self._rest.strip("/")
        if not fresh and copy.exists():
            return copy
        if not self.is_dir():
            return self._fetch(copy)
        for name in self.files():
            (self / name)._fetch(copy / name)
        return copy

    def _fetch(self, copy: Path) -> Path:
        size, mtime = self.size(), self.mtime()
        with _LOCKS[hash(copy) % len(_LOCKS)]:
            if copy.is_file() and mtime and (copy.stat().st_size, copy.stat().st_mtime) == (size, mtime):
                return copy
            with atomic_write(copy, size=size or None) as temporary:
                self._ask("get_file", str(temporary))
                arrived = temporary.stat().st_size
                if size and arrived != size:
                    raise RemoteError(f"{self} came with {arrived} bytes; the server tells of {size}. Try again.")
                if mtime:
                    os.utime(temporary, (mtime, mtime))
        return copy

    def _below(self, name: str) -> str:
        """Return a name of the file system relative to this folder; "" if not below."""
        if self.scheme in _WEB:
            name = "" if "?" in name else unquote(name)
        root = f"{self._inner.rstrip('/')}/"
        return name.removeprefix(root).rstrip("/") if name.startswith(root) else ""

    @property
    def _inner(self) -> str:
        return str(self) if self.scheme in _WEB else self._rest

    def _ask(self, verb: str, *more: Any, **named: Any) -> Any:
        """Ask the file system one thing; its errors come as ours, with the URL."""
        filesystem, reason = _opened(self.scheme, urlsplit(str(self)).netloc)
        if reason:
            raise RemoteError(f"{self} cannot be read: {reason}.")
        try:
            return getattr(filesystem, verb)(self._inner, *more, **named)
        except FileNotFoundError as error:
            raise FileNotFoundError(2, f"{self} is not there", str(self)) from error
        except Exception as error:  # noqa: BLE001 - every backend raises kinds of its own
            said = f"{type(error).__name__}: {error}".rstrip(": ")
            message = f"{self} cannot be read ({said}). Check the address and the access to it"
            message += _CREDENTIALS.get(self.scheme, "") + "."
            raise RemoteError(message) from error


AnyPath = Path | RemotePath


def as_path(address: str | Path | RemotePath) -> AnyPath:
    """Return a path, or what stands behind a URL.

    Raises:
        RemoteError: A URL of a scheme that is none of ours.
    """
    if not isinstance(address, str):
        return address
    return RemotePath(address) if "://" in address else Path(address)


def download(path: AnyPath) -> Path:
    """Return a file or folder on this machine: itself, or a fetched copy.

    Raises:
        RemoteError: It cannot be fetched.
    """
    return path if isinstance(path, Path) else path.local_copy()


def cache_folder() -> Path:
    """Return where fetched copies lie: `$DISTANGLE_CACHE`, or `~/.cache/distangle`."""
    named = os.environ.get("DISTANGLE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "distangle"


@functools.lru_cache(maxsize=64)
def _opened(scheme: str, netloc: str) -> tuple[Any, str]:
    """Return a file system and "", or None and why there is none."""
    try:
        import fsspec

        return fsspec.core.url_to_fs(f"{scheme}://{netloc}/")[0], ""
    except ImportError:
        package = _PACKAGES.get(scheme, "fsspec")
        return None, f"the package {package} is not installed: pip install 'distangle[cloud]'"


_CREDENTIALS = {
    "s3": "; a public bucket needs no name: export FSSPEC_S3='{\"anon\": true}'",
    "gs": '; a public bucket needs no name: export FSSPEC_GS=\'{"token": "anon"}\'',
    "gcs": '; a public bucket needs no name: export FSSPEC_GCS=\'{"token": "anon"}\'',
}
