"""Write files atomically, with SHA-256, and say in words what the storage lacks."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from distangle.errors import StorageError

# `.metrics.csv.tmp-4711` of process 4711; `.tmpDx1uif` is a temporary file of safetensors.
TEMPORARY = re.compile(r"\..+\.tmp-\d+|\.tmp[A-Za-z0-9]{6}")
# Errors of the storage, as opposed to errors of the program.
STORAGE_ERRNOS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EMFILE, errno.ENFILE),
)
FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents.

    Raises:
        StorageError: A file has that name, or the storage is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(_storage_message(folder, error.errno or 0, needed=0, exact=False)) from error


@contextlib.contextmanager
def atomic_write(path: Path, *, size: int | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to, which becomes `path` on success.

    On failure `path` is untouched: a reader sees the old file or the new one, never a part of one.

    Args:
        path: The file to write; its folder is made when absent.
        size: Bytes that will be written, if known; used in error messages only.

    Raises:
        StorageError: The storage is full, unmounted or not writable.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _set_default_mode(temporary)
        _sync(temporary)
        os.replace(temporary, path)  # noqa: PTH105 - every step that a crash may follow is a call of `os`
        _sync(path.parent)
    except StorageError:
        raise
    except (OSError, SafetensorError) as error:
        number = _errno_of(error)
        failed_path = getattr(error, "filename", None)
        if number not in STORAGE_ERRNOS or not (
            failed_path is None or Path(failed_path) in (temporary, path, *path.parents)
        ):
            raise
        written = temporary.stat().st_size if temporary.exists() else 0
        raise StorageError(_storage_message(path, number, needed=size or written, exact=size is not None)) from error
    finally:
        with contextlib.suppress(OSError):  # an unmounted storage has nothing to remove
            os.unlink(temporary)  # noqa: PTH108


def write_bytes(path: Path, content: bytes) -> str:
    """Write bytes atomically, and read them back before they take their name.

    Args:
        path: The file to write.
        content: All bytes of the file.

    Returns:
        The SHA-256 of the bytes.

    Raises:
        StorageError: The write fails, or the bytes read back differ.
    """
    expected = hashlib.sha256(content).hexdigest()
    with atomic_write(path, size=len(content)) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)
        if sha256_of(temporary) != expected:
            raise StorageError(
                f"{path} was not written: the bytes read back differ from the bytes written. Check the disk."
            )
    return expected


def write_text(path: Path, text: str) -> str:
    """Write UTF-8 text atomically; return the SHA-256 of its bytes."""
    return write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> str:
    """Write JSON atomically and return its SHA-256.

    Keys keep their order; NaN is refused; the indent is two spaces.
    """
    return write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


CHUNK_BYTES = 2**18  # that a file is read in for its hash
_thread = threading.local()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    # Not `hashlib.file_digest`: its buffer of 256 KiB takes longer to clear than a small file takes to hash.
    buffer = _hash_buffer()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib is slower, a million times
        while n_bytes := file.readinto(buffer):
            digest.update(buffer[:n_bytes])
    return digest.hexdigest()


def _hash_buffer() -> memoryview:
    """Return the buffer of this thread: memory that the system need not clear for every file."""
    if not hasattr(_thread, "buffer"):
        _thread.buffer = memoryview(bytearray(CHUNK_BYTES))
    buffer: memoryview = _thread.buffer
    return buffer


def remove_stale_temporaries(folder: Path) -> list[Path]:
    """Remove temporary files of killed processes from a folder, not from below it.

    Args:
        folder: A folder that no other process writes to.

    Returns:
        The removed paths.
    """
    stale = [path for path in folder.iterdir() if TEMPORARY.fullmatch(path.name)] if folder.is_dir() else []
    for path in stale:
        path.unlink(missing_ok=True)
    return stale


def check_free_space(folder: Path, *, needed: int, content: str) -> None:
    """Check that a storage has room for what will be written.

    Args:
        folder: A folder on that storage.
        needed: Bytes.
        content: Name of the content, for error messages.

    Raises:
        StorageError: Less is free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"{folder} has no room for {content}: about {format_bytes(needed)} are needed, "
            f"{format_bytes(free)} are free. Make room, or name a folder on another disk."
        )


def format_bytes(count: int) -> str:
    """Return a number of bytes as text, such as `1.2 GB`."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def sort_header(path: Path) -> None:
    """Sort the metadata of a safetensors file by name.

    The writer of safetensors orders them at random, so the same content would have another SHA-256 each time.

    Args:
        path: A file just written, still under its temporary name.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > length:
            raise ValueError(f"the header of {path} has {length} bytes, and {len(text)} do not fit")
        file.seek(8)
        file.write(text.ljust(length))  # the format pads with blanks


def _set_default_mode(path: Path) -> None:
    """Give a file the default mode; some writers give access to the owner only."""
    if path.stat().st_mode & 0o077:
        return
    probe = path.with_name(f".mode{path.name}")  # matches TEMPORARY
    descriptor = os.open(probe, os.O_CREAT | os.O_NOFOLLOW | os.O_WRONLY, 0o666)
    try:
        mode = os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)
        os.unlink(probe)  # noqa: PTH108
    os.chmod(path, mode)  # noqa: PTH101


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _errno_of(error: Exception) -> int | None:
    """Return the errno; writers in other languages give it in their message only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = re.search(r"(?:os error|[Ee]rrno) (\d+)", str(error))
    return int(match[1]) if match else None


def _storage_message(path: Path, number: int, *, needed: int, exact: bool) -> str:
    message = f"{path} was not written: {os.strerror(number).lower()}."
    if number in FULL_ERRNOS:
        existing = next(folder for folder in path.parents if folder.exists())
        free = format_bytes(shutil.disk_usage(existing).free)
        message += f" Needed: {'' if exact else 'more than '}{format_bytes(needed)}; free: {free}."
        if number != errno.ENOSPC:
            message += " A quota or a limit (`quota`, `ulimit -f`) may allow less than is free."
        return f"{message} The earlier file is untouched; free some space and try again."
    if number in (errno.EMFILE, errno.ENFILE):
        return f"{message} The limit is {_open_files_limit()} (`ulimit -n`); raise it and try again."
    if number in (errno.EEXIST, errno.ENOTDIR):
        return f"{message} A file stands where a folder is expected; name another folder."
    if number == errno.EISDIR:
        return f"{message} A folder stands where a file is expected; name a file."
    return f"{message} The earlier file is untouched; make {path.parent} writable, or name another folder."


def _open_files_limit() -> str:
    import resource

    return f"{resource.getrlimit(resource.RLIMIT_NOFILE)[0]} open files"
