"""Names of plates from the folders that their images lie in."""

import re
from collections import Counter
from collections.abc import Iterable

_WORDS = frozenset({"images", "image", "orig", "original", "raw", "tif", "tiff", "tiffs", "png"})
_MEASUREMENT = re.compile(r"(.+?)__[0-9]{4}-[0-9]{2}-[0-9]{2}.*", re.DOTALL)  # BR00117006__2020-11-08T18_18_43-...


def plates_of(folders: Iterable[str], *, root: str) -> dict[str, str]:
    """Return the plate that each folder is of: its own name, or that of the first folder above with a name.

    `images`, `orig` and the like are no names; the date that a microscope adds behind `__` is left out. Folders that
    would have one plate between them have their whole path for a name.

    Args:
        folders: Relative to the source, "" for the source itself.
        root: Name of the source.
    """
    named = {folder: _name(folder, root) for folder in folders}
    counts = Counter(named.values())
    return {folder: name if counts[name] == 1 else folder or root for folder, name in named.items()}


def _name(folder: str, root: str) -> str:
    parts = [part for part in folder.split("/") if part and part.lower() not in _WORDS]
    last = parts[-1] if parts else root
    match = _MEASUREMENT.fullmatch(last)
    return match[1] if match else last
