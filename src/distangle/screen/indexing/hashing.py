"""Size, time and hash of what a path stores: a file or a Zarr array folder."""

import hashlib
import os
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from distangle.core.io import sha256_of


def stored_files(path: Path) -> list[Path]:
    """Return the file itself, or every file below a folder, sorted by name.

    Raises:
        OSError: There is neither.
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
    """Tell whether a folder holds an array of Zarr, of either format."""
    return (path / ".zarray").is_file() or (path / "zarr.json").is_file()


def size_and_mtime(path: Path) -> tuple[int, float]:
    """Return total bytes and newest modification time of a file or folder.

    Raises:
        OSError: It cannot be read.
    """
    stats = [file.stat() for file in stored_files(path)]
    return sum(found.st_size for found in stats), max((found.st_mtime for found in stats), default=0.0)


def site_sha256(files: Sequence[str], pages: Sequence[int]) -> str:
    """Return the hash of a site: of its files' digests in order of channels.

    Args:
        files: SHA-256 of the file of each channel.
        pages: Page of each channel; where it is not -1 it follows the digest, so that two sites in one file
            of many pages differ.
    """
    said = "".join(digest if page < 0 else f"{digest}:{page}" for digest, page in zip(files, pages, strict=True))
    return hashlib.sha256(said.encode()).hexdigest()


def sha256_of_site(
    paths: Sequence[Path], pages: Sequence[int | None], *, digests: MutableMapping[Path, str] | None = None
) -> str:
    """Return the hash of a site's files as they are now, like `site_sha256`.

    Args:
        paths: The file of each channel.
        pages: Page of each channel; None where its file is one plane.
        digests: Files hashed before, added to: for many sites in one file.

    Raises:
        OSError: A file cannot be read.
    """
    known = {} if digests is None else digests
    for path in paths:
        if path not in known:
            known[path] = sha256_of_stored(path)
    return site_sha256([known[path] for path in paths], [-1 if page is None else page for page in pages])
