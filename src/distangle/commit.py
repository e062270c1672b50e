"""One protocol for every write: temporary file, flush, fsync, replace, fsync of the folder."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def committed(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes `path`, on failure `path` is untouched.

    A reader sees the old file or the new one, never a part of one.

    Args:
        path: The file to write; its folder is made when absent.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def commit_text(path: Path, text: str) -> None:
    """Write UTF-8 text under the commit protocol."""
    with committed(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def commit_json(path: Path, value: Any) -> None:
    """Write JSON under the commit protocol: sorted only as given, no NaN, two-space indent."""
    commit_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def sort_header(path: Path) -> None:
    """Write the metadata of a safetensors file in the order of its names.

    Its writer keeps them in a hash map of random order, so that the same content would have another SHA-256 each time.

    Args:
        path: A file just written, not yet committed.
    """
    with path.open("r+b") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > length:
            message = f"the header of {path} has {length} bytes, which {len(text)} do not fit into"
            raise ValueError(message)
        opened.seek(8)
        opened.write(text.ljust(length))  # the format pads with blanks
