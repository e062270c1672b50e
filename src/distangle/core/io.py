"""Write files atomically: temporary file, fsync, replace, fsync of the folder.

How the nouns of this room lie on disk: a JSON that says what there is, and arrays beside it.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError

from distangle.core.untrusted_files import UnexpectedContent, check_fields, read_json, read_regular_file
from distangle.errors import RunError, StorageError

# `.metrics.csv.tmp-4711`, of process 4711; `.tmpDx1uif` is what safetensors writes before it becomes ours.
TEMPORARY = re.compile(r"\..+\.tmp-\d+|\.tmp[A-Za-z0-9]{6}")
# What a storage says of itself, as against what a program did wrong.
STORAGE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EMFILE, errno.ENFILE),
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        StorageError: A file stands there, or the storage is not to be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(_words(folder, error.errno or 0, needed=0, exact=False)) from error


@contextlib.contextmanager
def atomic_write(path: Path, *, size: int | None = None) -> Iterator[Path]:
    """Give a temporary path to write to, which becomes `path` on success.

    On failure `path` is untouched.
    A reader sees the old file or the new one, never a part of one.

    Args:
        path: The file to write; its folder is made when absent.
        size: Bytes that will be written, when it is known; only for the words of an error.

    Raises:
        StorageError: The storage is full, gone, or not to be written to.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _open_to_others(temporary)
        _sync(temporary)
        os.replace(temporary, path)  # noqa: PTH105 - every step that a crash may follow is a call of `os`
        _sync(path.parent)
    except StorageError:
        raise
    except (OSError, SafetensorError) as error:
        reason = _number(error)
        about = getattr(error, "filename", None)
        if reason not in STORAGE or not (about is None or Path(about) in (temporary, path, *path.parents)):
            raise
        written = temporary.stat().st_size if temporary.exists() else 0
        raise StorageError(_words(path, reason, needed=size or written, exact=size is not None)) from error
    finally:
        with contextlib.suppress(OSError):  # on a storage that is gone there is nothing to remove
            os.unlink(temporary)  # noqa: PTH108


def write_bytes(path: Path, content: bytes) -> str:
    """Write bytes under the commit protocol, read back before they take their name.

    Args:
        path: The file to write.
        content: All of it.

    Returns:
        Its SHA-256.

    Raises:
        StorageError: The storage refuses them, or gives back others than it was given.
    """
    expected = hashlib.sha256(content).hexdigest()
    with atomic_write(path, size=len(content)) as temporary:
        opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(opened, left) :]
        finally:
            os.close(opened)
        if sha256_of(temporary) != expected:
            raise StorageError(
                f"{path} was not written: the storage gave back other bytes than it was given. Check the disk."
            )
    return expected


def write_text(path: Path, text: str) -> str:
    """Write UTF-8 text under the commit protocol; return the SHA-256 of its bytes."""
    return write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> str:
    """Write JSON atomically and return its SHA-256.

    Keys keep their order; NaN is refused; the indent is two spaces.
    """
    return write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def remove_stale_temporaries(folder: Path) -> list[Path]:
    """Remove temporary files that killed processes left in a folder, not below.

    Args:
        folder: One that no other process writes to.

    Returns:
        What was removed.
    """
    left = [path for path in folder.iterdir() if TEMPORARY.fullmatch(path.name)] if folder.is_dir() else []
    for path in left:
        path.unlink(missing_ok=True)
    return left


def check_room(folder: Path, *, needed: int, what: str) -> None:
    """Check that a storage has room for what will be written.

    Args:
        folder: On that storage.
        needed: Bytes.
        what: Of what, for the message.

    Raises:
        StorageError: There is less.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"{folder} has no room for {what}: about {in_bytes(needed)} are needed, {in_bytes(free)} are free. "
            f"Make room, or name a folder on another disk."
        )


def in_bytes(count: int) -> str:
    """Return a number of bytes in words, such as `1.2 GB`."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


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
            raise ValueError(f"the header of {path} has {length} bytes, which {len(text)} do not fit into")
        opened.seek(8)
        opened.write(text.ljust(length))  # the format pads with blanks


def _open_to_others(path: Path) -> None:
    """Give a file the mode of any new file; some writers set the owner's alone."""
    if path.stat().st_mode & 0o077:
        return
    beside = path.with_name(f".mode{path.name}")  # a name that is swept
    made = os.open(beside, os.O_CREAT | os.O_NOFOLLOW | os.O_WRONLY, 0o666)
    try:
        mode = os.fstat(made).st_mode & 0o777
    finally:
        os.close(made)
        os.unlink(beside)  # noqa: PTH108
    os.chmod(path, mode)  # noqa: PTH101


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _number(error: Exception) -> int | None:
    """Return the errno; writers in other languages say it in their text only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"(?:os error|[Ee]rrno) (\d+)", str(error))
    return int(found[1]) if found else None


def _words(path: Path, reason: int, *, needed: int, exact: bool) -> str:
    said = f"{path} was not written: {os.strerror(reason).lower()}."
    if reason in FULL:
        there = next(folder for folder in path.parents if folder.exists())
        said += f" Needed: {'' if exact else 'more than '}{in_bytes(needed)}; free: {in_bytes(_free(there))}."
        if reason != errno.ENOSPC:
            said += " A quota or a limit (`quota`, `ulimit -f`) may allow less than is free."
        return f"{said} What was there before is untouched; make room and try again."
    if reason in (errno.EMFILE, errno.ENFILE):
        return f"{said} The limit is {_most_files()} (`ulimit -n`); raise it and try again."
    if reason in (errno.EEXIST, errno.ENOTDIR):
        return f"{said} A file stands where a folder is expected; name another folder."
    if reason == errno.EISDIR:
        return f"{said} A folder stands where a file is expected; name a file."
    return f"{said} What was there before is untouched; make {path.parent} writable, or name another folder."


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _most_files() -> str:
    import resource

    return f"{resource.getrlimit(resource.RLIMIT_NOFILE)[0]} open files"


Kinds = Mapping[str, type | tuple[type, ...]]  # of what a JSON object says, by name


class NotMade(RunError):
    """What is asked for has not been made yet."""


def read_result_json(path: Path, *, what: str, flags: str = "", kinds: Kinds | None = None) -> dict[str, Any]:
    """Read the JSON of something that was explained.

    Args:
        path: Where it should lie.
        what: Its name in the message.
        flags: Of `distangle explain RUN`, which makes it.
        kinds: What it must say, and as what; None for anything.

    Raises:
        NotMade: It has not been made yet.
        RunError: It is damaged.
    """
    if not path.exists():
        raise NotMade(f"No {what} at {path}. Run `distangle explain RUN{flags}` first.")
    fix = rebuild_hint(path.parent, flags=flags)
    said = read_json(path, fix=fix)
    with read_regular_file(path, fix=fix):
        for name, kind in (kinds or {}).items():
            check_fields(said[name], kind, name=name)
        for name in said.keys() - (kinds or said).keys():
            raise UnexpectedContent(f"it has {name!r} too")
    return said


def rebuild_hint(folder: Path, *, verb: str = "explain", flags: str = "") -> str:
    """Return the sentence with the command that makes the files of a folder again.

    Args:
        folder: `explanations/` or `predictions/` of a run.
        verb: Which makes them.
        flags: Beside it.
    """
    run = folder.parent if (folder.parent / "run.json").exists() else "RUN"
    return f"Make it again: `distangle {verb} {run}{flags}`."


def read_table(path: Path, *, fix: str, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a Parquet table.

    Args:
        path: The file.
        fix: A sentence with the next step, for the error.
        columns: What it must have.

    Raises:
        RunError: It is absent or damaged.
    """
    with read_regular_file(path, fix=fix):
        table = pd.read_parquet(path)
        for column in columns:
            table[column]
    return table


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays, compressed."""
    with atomic_write(path) as temporary, temporary.open("wb") as opened:
        np.savez_compressed(opened, **arrays)  # type: ignore[arg-type] # the stubs take the names for options


def read_arrays(path: Path, *, fix: str, numbers: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote; nothing in it is executed.

    Args:
        path: The file.
        fix: A sentence with the next step, for the error.
        numbers: How many rows those must have that are there.

    Raises:
        RunError: It is absent or damaged.
    """
    with read_regular_file(path, fix=fix), path.open("rb") as file, np.load(file, allow_pickle=False) as opened:
        arrays = {name: np.asarray(opened[name]) for name in opened.files}
        for name, rows in (numbers or {}).items():
            if name in arrays and arrays[name].shape[:1] != (rows,):
                raise UnexpectedContent(f"{name!r} has the shape {arrays[name].shape}, expected {rows} rows")
        for name, array in arrays.items():
            if array.dtype.kind not in "fiub":
                raise UnexpectedContent(f"{name!r} holds no numbers")
    return arrays
