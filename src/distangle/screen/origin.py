"""Decide where a screen's images may be read from: beside it, or as allowed."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from distangle.core.io import make_folder
from distangle.core.remote import cache_folder
from distangle.errors import RemoteError, ScreenError

if TYPE_CHECKING:
    from distangle.screen.screen import Screen

KEPT = "screens"  # in the cache: one empty file per screen that was named


def allow_source(screen: "Screen") -> None:
    """Record that a person here allows the images of this screen.

    Only of a screen whose images lie elsewhere than beside it; of others nothing need be remembered.

    Args:
        screen: One that lies in a folder.
    """
    if _lies_beside(screen) and not screen.card.provenance.get("links_out"):
        return
    mark = _mark(screen)
    if not mark.exists():
        make_folder(mark.parent)
        mark.touch()


def allowed_sources(screen: "Screen", *, allow_command: str = "") -> "Screen":
    """Return a screen confined to its folder unless a person here allowed more.

    Args:
        screen: As read; its source may say anything.
        allow_command: What a person types to allow it; `distangle trust SCREEN` when left out.

    Returns:
        The screen; images that a link out of its source leads to are refused, unless it was allowed.

    Raises:
        ScreenError: Its images are behind a URL or lie elsewhere, and nobody has allowed it on this machine.
    """
    try:
        known = _mark(screen).exists()
    except RemoteError as error:
        raise ScreenError(
            f"{screen.folder}/screen.json: {error} Index the source again: `distangle index SOURCE --out SCREEN`."
        ) from error
    if known:
        return screen
    if not _lies_beside(screen):
        raise ScreenError(
            f"{screen.folder}/screen.json says that its images lie at {screen.source}, which is not beside it, and "
            f"the screen was not indexed on this machine. Nothing was read or fetched from there. If you know where "
            f"the screen comes from, allow it: `{allow_command or f'distangle trust {screen.folder}'}`."
        )
    return replace(screen, confined=True)


def links_leading_out(source: Path, names: Iterable[str]) -> list[str]:
    """Return those names that reach their file over a link out of the source.

    Args:
        source: The folder that the names start from.
        names: Of files, `/` between.
    """
    inside = os.path.realpath(source)
    folders: dict[Path, bool] = {}
    found = []
    for name in dict.fromkeys(names):
        path = source / name
        if path.parent not in folders:
            folders[path.parent] = _is_in(os.path.realpath(path.parent), inside)
        if not folders[path.parent] or (path.is_symlink() and not _is_in(os.path.realpath(path), inside)):
            found.append(name)
    return found


def _lies_beside(screen: "Screen") -> bool:
    source = screen.source
    if not isinstance(source, Path) or screen.folder is None:
        return False
    return _is_in(os.path.realpath(source), os.path.realpath(screen.folder.resolve().parent))


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip(os.sep)}{os.sep}")


def _mark(screen: "Screen") -> Path:
    said = f"{screen.source}\n{screen.card.sites_sha256}"
    return cache_folder() / KEPT / hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()
