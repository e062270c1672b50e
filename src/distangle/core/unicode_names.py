"""Normalise Unicode names, and find files whose names differ in form only."""

import os
import unicodedata
from functools import lru_cache
from pathlib import Path

_ALIKE = str.maketrans(
    {
        "\u00b5": "\u03bc",  # micro sign, Greek mu
        **dict.fromkeys("\u00a0\u2007\u202f", " "),  # blanks that break no line
        **dict.fromkeys("\u2010\u2011", "-"),
        **dict.fromkeys("\u200b\u2060\ufeff\u00ad", None),  # nothing that is seen
    }
)


@lru_cache(maxsize=65536)
def normalize_name(text: str) -> str:
    """Return a name composed (NFC) and without surrounding blanks.

    The micro sign becomes the Greek letter, no-break blanks and hyphens become plain ones, what has no width goes.

    Args:
        text: A name, as a table, a file or a person writes it.
    """
    if text.isascii():
        return text.strip()
    return unicodedata.normalize("NFC", text).translate(_ALIKE).strip()


def path_on_disk(source: Path, path: str) -> str:
    """Return a path as the folders spell it, else as it is.

    Args:
        source: The folder that the path starts from.
        path: Relative, `/` between; nothing needs to be there.
    """
    if path.isascii() or os.path.lexists(source / path):
        return path
    found = ""
    for part in path.split("/"):
        here = f"{found}/{part}".lstrip("/")
        if not os.path.lexists(source / here):
            alike = _names(source / found).get(normalize_name(part), ())
            if len(alike) != 1:
                return path  # no such file, or which of two is meant cannot be known
            here = f"{found}/{alike[0]}".lstrip("/")
        found = here
    return found


@lru_cache(maxsize=256)
def _names_at(folder: str, mtime: int) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names alone are wanted
        if not name.isascii():
            key = normalize_name(name)
            names[key] = (*names.get(key, ()), name)
    return names


def _names(folder: Path) -> dict[str, tuple[str, ...]]:
    try:
        return _names_at(str(folder), folder.stat().st_mtime_ns)
    except OSError:
        return {}
