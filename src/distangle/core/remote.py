"""Read folders behind URLs (S3, Google Cloud, Azure, HTTP) like paths.

Files for decoders are downloaded once into a local folder, `$DISTANGLE_CACHE` or `~/.cache/distangle`, so an epoch
costs no traffic.
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
_CREDENTIALS = {
    "s3": "; a public bucket needs no credentials: export FSSPEC_S3='{\"anon\": true}'",
    "gs": '; a public bucket needs no credentials: export FSSPEC_GS=\'{"token": "anon"}\'',
    "gcs": '; a public bucket needs no credentials: export FSSPEC_GCS=\'{"token": "anon"}\'',
}


class RemotePath:
    """A file or folder behind a URL, with the reading part of `pathlib.Path`.

    Args:
        url: `s3://bucket/folder`, `https://host/folder`, ...

    Raises:
        RemoteError: The scheme is not supported, or a part is `..`.
    """

    __slots__ = ("_rest", "scheme")

    def __init__(self, url: str) -> None:
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in SCHEMES:
            raise RemoteError(f"{url} cannot be read. Expected a path, or a URL of {', '.join(SCHEMES)}.")
        if ".." in rest.split("/"):
            raise RemoteError(f"{url} contains '..'. Write the full address of the folder.")
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
        """Last part of the path."""
        return posixpath.basename(self._rest)

    @property
    def suffix(self) -> str:
        """File extension with its dot."""
        return posixpath.splitext(self.name)[1]

    @property
    def parent(self) -> "RemotePath":
        """Parent folder."""
        return RemotePath(f"{self.scheme}://{posixpath.dirname(self._rest)}")

    def as_posix(self) -> str:
        """Return the URL."""
        return str(self)

    def resolve(self) -> "RemotePath":
        """Return itself: a URL is absolute."""
        return self

    def absolute(self) -> "RemotePath":
        """Return itself: a URL is absolute."""
        return self

    def exists(self) -> bool:
        """Return whether the file or folder exists."""
        return bool(self.call("exists"))

    def is_dir(self) -> bool:
        """Return whether it is a folder."""
        return bool(self.call("isdir"))

    def is_file(self) -> bool:
        """Return whether it is a file."""
        # Over HTTP a folder is a page of links, and so also a file.
        return bool(self.call("isfile")) and not (self.scheme in _WEB and self.is_dir())

    def listing(self) -> list[tuple[str, bool]]:
        """Return the sorted names in a folder, each with whether it is a folder."""
        names: dict[str, bool] = {}
        for item in self.call("ls", detail=True):
            inside = self.relative_name(str(item["name"]))
            if inside and "/" not in inside:
                names[inside] = item["type"] == "directory"
        return sorted(names.items())

    def iterdir(self) -> Iterator["RemotePath"]:
        """Yield the files and folders in a folder."""
        for name, _ in self.listing():
            yield self / name

    def read_bytes(self) -> bytes:
        """Return all bytes of a file."""
        content = self.call("cat_file")
        return content if isinstance(content, bytes) else bytes(content)

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the content of a file as text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb") -> Any:
        """Open a file for reading bytes, as a file object of the file system."""
        return self.call("open", mode=mode)

    def size(self) -> int:
        """Return the size of a file in bytes; 0 if the server omits it."""
        return int(self.call("info").get("size") or 0)

    def mtime(self) -> float:
        """Return when a file was changed, in s since 1970; 0 if the server omits it."""
        for key in ("mtime", "LastModified", "last_modified", "created", "updated"):
            value = self.call("info").get(key)
            if value is not None and hasattr(value, "timestamp"):
                return float(value.timestamp())
        return 0.0

    def files(self) -> list[str]:
        """Return every file below a folder, as sorted relative paths.

        Raises:
            RemoteError: A name would leave the folder.
        """
        return sorted(inside for name in self.call("find") if (inside := self.name_of_file(str(name))))

    @property
    def cache_path(self) -> Path:
        """Path of the local copy, whether it exists or not."""
        return cache_folder() / self.scheme / self._rest.strip("/")

    def local_copy(self, *, fresh: bool = False) -> Path:
        """Return a local copy of a file or whole folder; download what is missing.

        Args:
            fresh: Download again unless size and time equal those of the remote file.

        Raises:
            RemoteError: The download fails, or its size differs from the size that the server reports.
        """
        copy = self.cache_path
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
                self.call("get_file", str(temporary))
                received = temporary.stat().st_size
                if size and received != size:
                    raise RemoteError(
                        f"{self} arrived with {received} bytes, but the server reports {size}. Try again."
                    )
                if mtime:
                    os.utime(temporary, (mtime, mtime))
        return copy

    def relative_name(self, name: str) -> str:
        """Return a name of the file system relative to this folder; "" if not below."""
        if self.scheme in _WEB:
            name = "" if "?" in name else unquote(name)
        root = f"{self.backend_path.rstrip('/')}/"
        return name.removeprefix(root).rstrip("/") if name.startswith(root) else ""

    def name_of_file(self, name: str) -> str:
        """Return the relative name of a file, which is safe below a local folder.

        Raises:
            RemoteError: As a local path it would leave the folder.
        """
        inside = self.relative_name(name)
        if inside and {"", ".", ".."} & {*inside.split("/")}:
            raise RemoteError(f"{self} holds {inside!r}, which is no path of a file below it. Remove or rename it.")
        return inside

    @property
    def backend_path(self) -> str:
        """Path as the file system names it."""
        return str(self) if self.scheme in _WEB else self._rest

    @property
    def bucket(self) -> str:
        """Bucket, container or host."""
        return urlsplit(str(self)).netloc

    @property
    def is_read_only(self) -> bool:
        """Whether the scheme has no way to write."""
        return self.scheme in _WEB

    def call(self, method: str, *args: Any, local: str = "", verb: str = "read", **kwargs: Any) -> Any:
        """Call a method of the file system; raise its errors with the URL.

        Args:
            method: Its name.
            args: Its arguments after the path.
            local: Its argument before the path, if it has one: a local path.
            verb: What fails, for the message: `read` or `written`.
            kwargs: Its options.

        Raises:
            FileNotFoundError: The file does not exist.
            RemoteError: The package is not installed, or the file system fails.
        """
        filesystem, reason = _file_system(self.scheme, self.bucket)
        if reason:
            raise RemoteError(f"{self} cannot be {verb}: {reason}.")
        try:
            return getattr(filesystem, method)(*([local] if local else []), self.backend_path, *args, **kwargs)
        except FileNotFoundError as error:
            raise FileNotFoundError(2, f"{self} does not exist", str(self)) from error
        except Exception as error:  # noqa: BLE001 - every backend raises its own errors
            cause = f"{type(error).__name__}: {error}".rstrip(": ")
            message = f"{self} cannot be {verb} ({cause}). Check the address and the access to it"
            message += (_CREDENTIALS.get(self.scheme, "") if verb == "read" else "") + "."
            raise RemoteError(message) from error


AnyPath = Path | RemotePath


def as_path(address: str | Path | RemotePath) -> AnyPath:
    """Return a path for a local address or a URL.

    Raises:
        RemoteError: The scheme of the URL is not supported.
    """
    if not isinstance(address, str):
        return address
    return RemotePath(address) if "://" in address else Path(address)


def download(path: AnyPath) -> Path:
    """Return a local path of a file or folder: itself, or a downloaded copy.

    Raises:
        RemoteError: The download fails.
    """
    return path if isinstance(path, Path) else path.local_copy()


def local_path(address: str) -> Path:
    """Return a path, or that of the local copy of a URL, which need not exist."""
    scheme, separator, _ = address.partition("://")
    return RemotePath(address).cache_path if separator and scheme in SCHEMES else Path(address)


def address_of(path: Path) -> RemotePath | None:
    """Return the URL of a local copy in the cache; None for another path."""
    parts = Path(os.path.realpath(path)).parts
    root = Path(os.path.realpath(cache_folder())).parts
    inside = parts[len(root) :]
    if parts[: len(root)] != root or len(inside) < 2 or inside[0] not in SCHEMES:
        return None
    return RemotePath(f"{inside[0]}://{'/'.join(inside[1:])}")


def cache_folder() -> Path:
    """Return the folder of downloads: `$DISTANGLE_CACHE`, or `~/.cache/distangle`."""
    folder = os.environ.get("DISTANGLE_CACHE")
    return Path(folder) if folder else Path.home() / ".cache" / "distangle"


@functools.lru_cache(maxsize=64)
def _file_system(scheme: str, netloc: str) -> tuple[Any, str]:
    """Return a file system and "", or None and the reason."""
    try:
        import fsspec

        return fsspec.core.url_to_fs(f"{scheme}://{netloc}/")[0], ""
    except ImportError:
        package = _PACKAGES.get(scheme, "fsspec")
        return None, f"the package {package} is not installed: pip install '.[cloud]'"
