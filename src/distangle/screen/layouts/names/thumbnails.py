"""Recognise thumbnails by name; count them and leave them out."""

import re
from collections.abc import Iterable

from distangle.screen.layouts.names.listing import LOOKS
from distangle.screen.problems import Problem

IGNORED = "thumbnails ignored"
"""Kind of the remark."""

_GUID = r"[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}"
_FILE = re.compile(rf"(?:.*[-_. ])?thumb(?:nail)?s?(?:_?{_GUID}|[-_. ].*)?\.[a-z0-9]+", re.IGNORECASE | re.DOTALL)
_FOLDER = re.compile(r"\.?thumb(?:nail)?s?", re.IGNORECASE)


def is_thumbnail(folder: str, name: str) -> bool:
    """Whether a name or folder is a thumbnail's, as `P_A01_s1_w1_thumb.TIF`.

    Args:
        folder: Relative to the source, "" for the source itself.
        name: Of the file.
    """
    return _FILE.fullmatch(name) is not None or any(_FOLDER.fullmatch(part) for part in folder.split("/"))


def without_thumbnails(
    folders: Iterable[tuple[str, list[str]]],
) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Return folders with their files except thumbnails, and the thumbnails."""
    kept: list[tuple[str, list[str]]] = []
    thumbnails: list[str] = []
    for folder, names in folders:
        kept.append((folder, [name for name in names if not is_thumbnail(folder, name)]))
        thumbnails += [f"{folder}/{name}".lstrip("/") for name in names if is_thumbnail(folder, name)]
    return kept, [path for path in thumbnails if LOOKS.fullmatch(path.rsplit("/", 1)[-1])]


def thumbnails_ignored(paths: list[str]) -> Problem:
    """Return the remark on thumbnails, which are no part of what was found.

    Args:
        paths: Of all of them, relative to the source.
    """
    return Problem(
        severity="warning",
        kind=IGNORED,
        file=paths[0],
        found=f"{len(paths)} thumbnail{'s' if len(paths) > 1 else ''} by name",
        expected="images",
        fix="Nothing; rename them if they are images.",
        count=len(paths),
    )
