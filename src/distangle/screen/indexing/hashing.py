"""Size, time and hash of what a path stores: a file or a Zarr array folder."""

import hashlib
import os
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from distangle.core.io import sha256_of


def stored_files(path: Path) -> list[Path]:
    """Return the file itself, or every file below a folder, sorted by name.

    Raises:
        OSError: The path does not exist.
    """
    if not path.is_dir():
        path.stat()
        return [path]
    return sorted(Path(folder) / name for folder, _, names in os.walk(path) for name in names)


def sha256_of_stored(path: Path) -> str:
    """Return the SHA-256 of a file, or of names and digests below a folder.

    Raises:
        OSError: It cannot be read.
    """
    if not path.is_dir():
        return sha256_of(path)
    lines = [f"{sha256_of(file)} {file.relative_to(path).as_posix()}\n" for file in stored_files(path)]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def is_array(path: Path) -> bool:
    """Return whether a folder is a Zarr array of format 2 or 3."""
    return (path / ".zarray").is_file() or (path / "zarr.json").is_file()


def size_and_mtime(path: Path) -> tuple[int, float]:
    """Return total bytes and newest modification time of a file or folder.

    Raises:
        OSError: It cannot be read.
    """
    stats = [file.stat() for file in stored_files(path)]
    return sum(status.st_size for status in stats), max((status.st_mtime for status in stats), default=0.0)


def site_sha256(files: Sequence[str], pages: Sequence[int]) -> str:
    """Return the hash of a site from the digests of its files by channel.

    Args:
        files: SHA-256 of the file of each channel.
        pages: Page of each channel; a page other than -1 is hashed too, so that two sites in one file differ.
    """
    text = "".join(digest if page < 0 else f"{digest}:{page}" for digest, page in zip(files, pages, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_site(
    paths: Sequence[Path], pages: Sequence[int | None], *, digests: MutableMapping[Path, str] | None = None
) -> str:
    """Hash a site's current files; see `site_sha256`.

    Args:
        paths: The file of each channel.
        pages: Page of each channel; None for a file of one plane.
        digests: Cache of file hashes, extended here: a file may hold many sites.

    Raises:
        OSError: A file cannot be read.
    """
    cache = {} if digests is None else digests
    for path in paths:
        if path not in cache:
            cache[path] = sha256_of_stored(path)
    return site_sha256([cache[path] for path in paths], [-1 if page is None else page for page in pages])
