"""List, write and remove files behind URLs, with errors that name the URL."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distangle.core.remote import SCHEMES, RemotePath
from distangle.errors import RemoteError

VERSION_FIELDS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True)
class RemoteFile:
    """What a server says of a file.

    Attributes:
        size: Bytes; None if the server omits it.
        version: Text that changes with the content, such as an ETag; "" if the server has none.
    """

    size: int | None
    version: str


def list_files(folder: RemotePath) -> dict[str, RemoteFile]:
    """Return every file below a folder by its relative path, as it is now.

    A file has one entry with the name "". The result is empty if nothing is there.

    Args:
        folder: A folder, or a file.

    Raises:
        RemoteError: The folder cannot be listed, or a name would leave it.
    """
    folder.call("invalidate_cache")
    try:
        listing: Mapping[str, Mapping[str, Any]] = folder.call("find", detail=True)
    except FileNotFoundError:
        return {}
    files = {}
    for name, fields in listing.items():
        if str(name).endswith("/") or fields.get("type") == "directory":
            continue  # an object that stands for a folder
        inside = folder.name_of_file(str(name))
        if inside or str(name) == folder.backend_path.rstrip("/"):
            files[inside] = _remote_file(fields)
    return files


def status_of(file: RemotePath) -> RemoteFile:
    """Return size and version of a file as the server has it now.

    Raises:
        FileNotFoundError: It does not exist.
        RemoteError: The server cannot be asked.
    """
    file.call("invalidate_cache")
    return _remote_file(file.call("info"))


def download_file(file: RemotePath, path: Path) -> None:
    """Download a file to a local path, which is replaced."""
    file.call("get_file", str(path))


def upload_file(path: Path, file: RemotePath) -> None:
    """Upload a local file; meanwhile others read the old content.

    Raises:
        FileNotFoundError: The local file does not exist.
        RemoteError: The remote file cannot be written.
    """
    check_writable_scheme(file)
    try:
        file.call("put_file", local=str(path), verb="written")
    except FileNotFoundError as error:
        if not path.exists():
            raise
        raise _no_bucket(file) from error


def write_remote(file: RemotePath, content: bytes) -> None:
    """Write all bytes of a file.

    Raises:
        RemoteError: It cannot be written.
    """
    check_writable_scheme(file)
    try:
        file.call("pipe_file", content, verb="written")
    except FileNotFoundError as error:
        raise _no_bucket(file) from error


def create_remote(file: RemotePath, content: bytes) -> bool:
    """Write a file that does not exist yet; return False if it exists.

    S3 and Google Cloud decide between two writers. Where a storage does not, both may succeed.

    Raises:
        RemoteError: It cannot be written.
    """
    check_writable_scheme(file)
    try:
        file.call("pipe_file", content, mode="create", verb="written")
        return True
    except FileNotFoundError as error:
        raise _no_bucket(file) from error
    except RemoteError as error:
        if isinstance(error.__cause__, FileExistsError):
            return False
        if isinstance(error.__cause__, PermissionError):
            raise
        # Perhaps a storage, or a version of its package, that does not know the condition.
        try:
            file.call("invalidate_cache")
            is_absent = not file.exists()
        except RemoteError:
            raise error from error.__cause__
    if is_absent:
        write_remote(file, content)
    return is_absent


def remove_remote(file: RemotePath) -> None:
    """Remove a file; do nothing if it does not exist.

    Raises:
        RemoteError: It cannot be removed.
    """
    try:
        file.call("rm_file", verb="removed")
    except FileNotFoundError:
        return


def check_writable_scheme(file: RemotePath) -> None:
    """Check that a URL is not one of a web server.

    Raises:
        RemoteError: It is.
    """
    if file.is_read_only:
        schemes = [f"{scheme}://" for scheme in SCHEMES if scheme not in ("http", "https", "memory")]
        raise RemoteError(
            f"{file} cannot be written: web servers are only read. Name a local folder, or a URL of "
            f"{', '.join(schemes)}."
        )


def _no_bucket(file: RemotePath) -> RemoteError:
    return RemoteError(
        f"{file} cannot be written: the bucket or container {file.bucket!r} does not exist. Create it, or name another "
        "one."
    )


def _remote_file(fields: Mapping[str, Any]) -> RemoteFile:
    size = fields.get("size")
    version = next((fields[name] for name in VERSION_FIELDS if fields.get(name) is not None), "")
    version = version.timestamp() if hasattr(version, "timestamp") else version
    return RemoteFile(size=None if size is None else int(size), version=str(version).strip('"'))
