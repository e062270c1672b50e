"""Restrict where the images of a screen may be read from."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from distangle.core.io import make_folder
from distangle.core.remote import address_of, cache_folder
from distangle.errors import RemoteError, ScreenError

if TYPE_CHECKING:
    from distangle.screen.screen import Screen

ALLOWED_FOLDER = "screens"  # in the cache: one empty file per allowed screen


def allow_source(screen: "Screen") -> None:
    """Record that the user allows reading the images of this screen.

    Nothing is recorded if the images lie in the folder that contains the screen.

    Args:
        screen: A screen that was written to a folder.
    """
    if _is_in_parent_folder(screen) and not screen.metadata.provenance.get("links_out"):
        return
    permission = _permission_file(screen)
    if not permission.exists():
        make_folder(permission.parent)
        permission.touch()


def allowed_sources(screen: "Screen", *, allow_command: str = "") -> "Screen":
    """Return a screen that may read its images; restrict it if not allowed.

    Args:
        screen: As read from its folder; its source is not trusted.
        allow_command: The command that allows it; `distangle trust SCREEN` by default.

    Returns:
        The screen; without permission, images behind a link out of its source are refused.

    Raises:
        ScreenError: Its images are remote or lie elsewhere, and it was not allowed on this machine.
    """
    try:
        is_allowed = _permission_file(screen).exists()
    except RemoteError as error:
        raise ScreenError(
            f"{screen.folder}/screen.json: {error} Index the source again: `distangle index SOURCE --out SCREEN`."
        ) from error
    if is_allowed:
        return screen
    if not _is_in_parent_folder(screen):
        raise ScreenError(
            f"{screen.folder}/screen.json says that its images lie at {screen.source}, outside its parent folder, "
            f"and the screen was not indexed on this machine. Nothing was read or downloaded from there. If you trust "
            f"the origin of the screen, allow it: `{allow_command or f'distangle trust {screen.folder}'}`."
        )
    return replace(screen, confined=True)


def links_leading_out(source: Path, names: Iterable[str]) -> list[str]:
    """Return the files that lie behind a link out of the source.

    Args:
        source: Base folder of the names.
        names: Names of files, with `/`.
    """
    root = os.path.realpath(source)
    is_inside: dict[str, bool] = {}
    has_links: dict[str, bool] = {}
    outside = []
    for name in names:
        folder = name[: name.rfind("/") + 1]  # pathlib and os.path are slower, a million times
        if folder not in is_inside:
            path = os.path.join(source, folder)  # noqa: PTH118
            is_inside[folder] = _is_in(os.path.realpath(path), root)
            has_links[folder] = _may_have_links(path)
        if not is_inside[folder] or (has_links[folder] and _leads_out(os.path.join(source, name), root)):  # noqa: PTH118
            outside.append(name)
    return list(dict.fromkeys(outside))


def _may_have_links(folder: str) -> bool:
    # One list of the folder is faster than a question for every file. Names are not compared: a file system may
    # ignore their case.
    try:
        with os.scandir(folder) as entries:
            return any(entry.is_symlink() for entry in entries)
    except OSError:
        return True  # it cannot be listed: ask for every file


def _leads_out(path: str, root: str) -> bool:
    return os.path.islink(path) and not _is_in(os.path.realpath(path), root)  # noqa: PTH114


def _is_in_parent_folder(screen: "Screen") -> bool:
    source = screen.source
    if screen.folder is None:
        return False
    if not isinstance(source, Path):
        address = address_of(screen.folder)  # of a screen that was fetched itself
        return address is not None and _is_below(str(source), str(address.parent))
    return _is_in(os.path.realpath(source), os.path.realpath(screen.folder.resolve().parent))


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip(os.sep)}{os.sep}")


def _is_below(url: str, folder: str) -> bool:
    return folder.rpartition("/")[2] != "" and url.startswith(f"{folder}/")


def _permission_file(screen: "Screen") -> Path:
    identity = f"{screen.source}\n{screen.metadata.sites_sha256}"
    return cache_folder() / ALLOWED_FOLDER / hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
