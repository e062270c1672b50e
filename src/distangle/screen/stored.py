"""What is stored under one path: a file, or a folder of files that are read as one (an array of Zarr)."""

import hashlib
import os
from pathlib import Path

from distangle.commit import sha256_of


def stored_files(path: Path) -> list[Path]:
    """Return the file itself, or every file below a folder in the order of their names.

    Raises:
        OSError: There is neither.
    """
    if not path.is_dir():
        path.stat()
        return [path]
    return sorted(Path(folder) / name for folder, _, names in os.walk(path) for name in names)


def sha256_of_stored(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of the names and digests of the files below it.

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
    """Return the bytes of a file, or of all files below a folder, and when the newest was changed.

    Raises:
        OSError: It cannot be read.
    """
    stats = [file.stat() for file in stored_files(path)]
    return sum(found.st_size for found in stats), max((found.st_mtime for found in stats), default=0.0)
