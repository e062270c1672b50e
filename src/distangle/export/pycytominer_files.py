"""Write profiles as Parquet tables in the layout of pycytominer."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from distangle.errors import ProfileError
from distangle.results.profiles import PLATE, Profiles

ASSEMBLED = "assembled.parquet"
PLATES_FOLDER = "plates"
_METADATA = "Metadata_"
_MAX_NAME = 100  # characters of a file name without its ending


def write_plates(profiles: Profiles, folder: Path) -> list[Path]:
    """Write one table per plate and one table of all plates.

    The plates lie in `plates/`, the table of all rows is `assembled.parquet`. Columns that start with `Metadata_` come
    first, then the features. Plates of two experiments never share a file, also if they have one name.

    Args:
        profiles: Profiles of sites or wells.
        folder: The folder; it is made when absent.

    Returns:
        The files, that of all plates last.

    Raises:
        ProfileError: The rows have no plate, or two columns have one name.
    """
    profiles = _with_metadata_names(profiles)
    absent = [name for name in PLATE if name not in profiles.table]
    if profiles.level == "perturbation" or absent:
        raise ProfileError(
            f"The profiles are those of a {profiles.level}"
            f"{' without the column ' + ' and '.join(absent) if absent else ''}. Expected profiles of sites or wells "
            f"with the columns {' and '.join(PLATE)}. Export the wells."
        )
    codes = profiles.codes(PLATE)
    groups = [np.flatnonzero(codes == code) for code in range(int(codes.max(initial=-1)) + 1)]
    keys = [tuple(str(profiles.table[name].iat[rows[0]]) for name in PLATE) for rows in groups]
    paths = [
        profiles.select(rows).write(folder / PLATES_FOLDER / f"{name}.parquet")
        for rows, name in zip(groups, file_names(keys), strict=True)
    ]
    return [*paths, profiles.write(folder / ASSEMBLED)]


def file_names(keys: list[tuple[str, ...]]) -> list[str]:
    """Return a safe and unique file name, without its ending, of every plate.

    Other characters than letters, digits, `.`, `-` and `_` become `_`. A name that would not be unique, also where
    file names have no case, gets the start of a hash of the plate.

    Args:
        keys: Experiment and plate of every plate, each pair once.
    """
    stems = [_safe("_".join(part for part in key if part)) for key in keys]
    counts = Counter(stem.casefold() for stem in stems)
    names = []
    for key, stem in zip(keys, stems, strict=True):
        is_exact = stem == "_".join(part for part in key if part)
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]
        names.append(stem if is_exact and counts[stem.casefold()] == 1 else f"{stem}-{digest}")
    return names


def _safe(name: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_MAX_NAME].strip(". ")
    return safe or "plate"


def _with_metadata_names(profiles: Profiles) -> Profiles:
    """Return profiles whose metadata columns all start with `Metadata_`."""
    names = [str(name) if str(name).startswith(_METADATA) else f"{_METADATA}{name}" for name in profiles.table]
    repeated = [name for name, count in Counter([*names, *profiles.feature_names]).items() if count > 1]
    if repeated:
        raise ProfileError(
            f"The profiles have two columns that would be called {repeated[0]!r} in the file. Expected every name "
            "once. Rename one of them."
        )
    return replace(profiles, table=profiles.table.set_axis(names, axis=1))
