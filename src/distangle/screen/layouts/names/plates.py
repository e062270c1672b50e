"""What folders say of the images in them: the plate, and where a microscope makes folders of them, plane and time."""

import re
from collections import Counter
from collections.abc import Iterable

NO_NAMES = frozenset({"images", "image", "orig", "original", "raw", "tif", "tiff", "tiffs", "png"})
"""Folders that say nothing of what lies in them."""

_MEASUREMENT = re.compile(r"(.+?)__[0-9]{4}-[0-9]{2}-[0-9]{2}.*", re.DOTALL)  # BR00117006__2020-11-08T18_18_43-...
_INSIDE = re.compile(r"(slide|chamber|field)--[A-Z].*", re.IGNORECASE)  # Leica Matrix Screener: folders in a plate
_MOMENT = re.compile(r"(timepoint|zstep)_?([0-9]+)", re.IGNORECASE)


def plates_of(folders: Iterable[str], *, root: str) -> dict[str, str]:
    """Return the plate that each folder is of: its own name, or that of the first folder above with a name.

    `images`, `orig` and the like are no names, nor are ImageXpress's `TimePoint_1` and `ZStep_1`; the date that a
    microscope adds behind `__` is left out. Folders that would have one plate between them have their whole path for
    a name.

    Args:
        folders: Relative to the source, "" for the source itself.
        root: Name of the source.
    """
    above = {
        folder: "/".join(p for p in folder.split("/") if not (_MOMENT.fullmatch(p) or _INSIDE.fullmatch(p)))
        for folder in folders
    }
    named = {base: _name(base, root) for base in above.values()}
    counts = Counter(named.values())
    return {folder: named[base] if counts[named[base]] == 1 else base or root for folder, base in above.items()}


def moment_of(folder: str) -> dict[str, str]:
    """Return the `time` and the `plane` that the folders above an image say, as ImageXpress's `TimePoint_2/ZStep_3`."""
    found = [match for part in folder.split("/") if (match := _MOMENT.fullmatch(part))]
    return {"time" if match[1].lower() == "timepoint" else "plane": match[2] for match in found}


def _name(folder: str, root: str) -> str:
    parts = [part for part in folder.split("/") if part and part.lower() not in NO_NAMES]
    last = parts[-1] if parts else root
    match = _MEASUREMENT.fullmatch(last)
    return match[1] if match else last
