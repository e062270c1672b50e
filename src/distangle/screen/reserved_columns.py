"""Rename table columns that collide with names of distangle."""

import re
import unicodedata
from collections.abc import Sequence

from distangle.screen.problems import Problem
from distangle.screen.screen import SITE_COLUMNS

PREFIX = "table_"

_SITE_NAMES = frozenset({*(name.replace("_", "") for name in SITE_COLUMNS), "size", "mtime", "sha256"})
_FILE_NAMES = re.compile(r"(path|page)[0-9]+")
# Names with the prefix `Metadata_` in the predictions.
_PREDICTION_NAMES = frozenset(
    {"experiment", "plate", "well", "site", "celltype", "role", "perturbation", "fold", "crossvalidation"}
)


def is_reserved(name: str) -> bool:
    """Return whether distangle uses a column name, ignoring case and separators.

    Names in the predictions are reserved with the prefix `Metadata_` too.

    Args:
        name: Name of a column, such as `Plate`, `Cell Type` or `Metadata_Fold`.
    """
    plain = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())
    if plain in _SITE_NAMES or _FILE_NAMES.fullmatch(plain):
        return True
    while plain.startswith("metadata"):
        plain = plain.removeprefix("metadata")
    return plain in _PREDICTION_NAMES


def rename_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return unique names; reserved or repeated names get the prefix `table_`.

    Args:
        names: Names of the further columns of a table.
    """
    renamed: list[str] = []
    for k, name in enumerate(names):
        new = name
        while is_reserved(new) or new in renamed or new in names[k + 1 :]:
            new = f"{PREFIX}{new}"
        renamed.append(new)
    return tuple(renamed)


def reserved_name_problems(names: Sequence[str], *, table: str = "") -> list[Problem]:
    """Return the warning about columns that `rename_columns` renames, if any.

    Args:
        names: Names of the columns in the table.
        table: Name of the table.
    """
    pairs = [(old, new) for old, new in zip(names, rename_columns(names), strict=True) if old != new]
    if not pairs:
        return []
    renamed = ", ".join(f"{old!r} as {new!r}" for old, new in pairs)
    return [
        Problem(
            severity="warning",
            kind="reserved column name",
            file=table,
            found=", ".join(repr(old) for old, _ in pairs),
            expected="names that distangle does not use itself",
            fix=f"Nothing, if these are other columns (--map assigns columns): renamed {renamed}.",
            count=len(pairs),
        )
    ]
