"""Normalize Unicode names, and find files whose names differ in form only."""

import os
import unicodedata
from functools import lru_cache
from pathlib import Path

_EQUIVALENTS = str.maketrans(
    {
        "\u00b5": "\u03bc",  # micro sign, Greek mu
        **dict.fromkeys("\u00a0\u2007\u202f", " "),  # no-break spaces
        **dict.fromkeys("\u2010\u2011", "-"),
        **dict.fromkeys("\u200b\u2060\ufeff\u00ad", None),  # invisible characters
    }
)


@lru_cache(maxsize=65536)
def normalize_name(text: str) -> str:
    """Return a name in composed form (NFC) without surrounding spaces.

    The micro sign becomes the Greek letter, no-break spaces and hyphens become plain ones, zero-width characters
    vanish.

    Args:
        text: A name from a table, a file or the command line.
    """
    if text.isascii():
        return text.strip()
    return unicodedata.normalize("NFC", text).translate(_EQUIVALENTS).strip()


def path_on_disk(source: Path, path: str) -> str:
    """Return a path as spelled on disk; unchanged if no spelling matches.

    Args:
        source: The folder that the path starts from.
        path: Relative path with `/` separators; it need not exist.
    """
    if path.isascii() or os.path.lexists(source / path):
        return path
    spelled = ""
    for part in path.split("/"):
        candidate = f"{spelled}/{part}".lstrip("/")
        if not os.path.lexists(source / candidate):
            matches = _non_ascii_names(source / spelled).get(normalize_name(part), ())
            if len(matches) != 1:
                return path  # no match, or several
            candidate = f"{spelled}/{matches[0]}".lstrip("/")
        spelled = candidate
    return spelled


@lru_cache(maxsize=256)
def _names_in(folder: str, mtime: int) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - only names are needed
        if not name.isascii():
            key = normalize_name(name)
            names[key] = (*names.get(key, ()), name)
    return names


def _non_ascii_names(folder: Path) -> dict[str, tuple[str, ...]]:
    try:
        return _names_in(str(folder), folder.stat().st_mtime_ns)
    except OSError:
        return {}
