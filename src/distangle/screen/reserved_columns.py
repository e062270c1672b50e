"""Rename table columns that collide with names of distangle."""

import re
import unicodedata
from collections.abc import Sequence

from distangle.screen.problems import Problem
from distangle.screen.screen import SITE_COLUMNS

PREFIX = "table_"

_OF_SITES = frozenset({*(name.replace("_", "") for name in SITE_COLUMNS), "size", "mtime", "sha256"})
_OF_FILES = re.compile(r"(path|page)[0-9]+")
# Behind `Metadata_` in the predictions.
_OF_PREDICTIONS = frozenset(
    {"experiment", "plate", "well", "site", "celltype", "role", "perturbation", "fold", "crossvalidation"}
)


def is_reserved(name: str) -> bool:
    """Return whether a name is one of ours, whatever its case and separators.

    Those that predictions have are ours with `Metadata_` before them too.

    Args:
        name: Of a column, such as `Plate`, `Cell Type` or `Metadata_Fold`.
    """
    plain = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())
    if plain in _OF_SITES or _OF_FILES.fullmatch(plain):
        return True
    while plain.startswith("metadata"):
        plain = plain.removeprefix("metadata")
    return plain in _OF_PREDICTIONS


def rename_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return unique names unlike ours: `table_` goes before those that collide.

    Args:
        names: Of the columns that a table has beyond ours.
    """
    renamed: list[str] = []
    for k, name in enumerate(names):
        new = name
        while is_reserved(new) or new in renamed or new in names[k + 1 :]:
            new = f"{PREFIX}{new}"
        renamed.append(new)
    return tuple(renamed)


def renaming(names: Sequence[str], *, table: str = "") -> list[Problem]:
    """Return the remark on the columns that `rename_columns` renames, if any.

    Args:
        names: As the table has them.
        table: Name of the table.
    """
    pairs = [(old, new) for old, new in zip(names, rename_columns(names), strict=True) if old != new]
    if not pairs:
        return []
    kept = ", ".join(f"{old!r} as {new!r}" for old, new in pairs)
    return [
        Problem(
            severity="warning",
            kind="reserved column name",
            file=table,
            found=", ".join(repr(old) for old, _ in pairs),
            expected="names that distangle does not use itself",
            fix=f"Nothing, if none of them was meant (--map says which column is which): kept {kept}.",
            count=len(pairs),
        )
    ]
