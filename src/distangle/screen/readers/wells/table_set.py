"""Read a folder of well tables; report those that are none."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from distangle.core.remote import AnyPath
from distangle.core.unicode_names import normalize_name
from distangle.errors import ScreenError
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.scan import folders_below, scan
from distangle.screen.readers.wells.join_metadata import WellMetadata, read_metadata
from distangle.screen.roles import natural_sort_key
from distangle.screen.screen import CARD
from distangle.screen.source_tables import is_table

_NOT_READ = "table not read"
_DEEPEST = 2  # folders below the source in which tables are looked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetadataTables:
    """Tables with a row per well that are not one yet.

    Attributes:
        parts: What each says.
        unread: Remarks on those that are no tables of wells.
    """

    parts: Sequence[WellMetadata]
    unread: Sequence[Problem] = ()

    @property
    def named_plates(self) -> set[str]:
        """The plates that their rows name."""
        return {row.plate for part in self.parts for row in part.rows} - {""}

    def together(self, plates: Collection[str]) -> WellMetadata:
        """Return the rows of all tables as one.

        Of several tables, one without a column of plates is of the plate in its name.

        Args:
            plates: Those with images.

        Raises:
            ScreenError: Which plate one is of cannot be told.
        """
        parts = self.parts
        if len(parts) > 1:
            parts = [part if "plate" in part.keys else _of_named_plate(part, plates) for part in parts]
        return parts[0] if len(parts) == 1 and not self.unread else _together(parts, self.unread)


def read_tables(place: AnyPath, mapping: Mapping[str, str], *, missing: Collection[str] = ()) -> MetadataTables:
    """Read a table with a row per well, or every one in a folder.

    Args:
        place: The table, or the folder.
        mapping: Our column name to the tables'.
        missing: Words that stand for a missing value.

    Raises:
        ScreenError: None of them is a table of wells.
    """
    if not place.is_dir():
        return MetadataTables(parts=[read_metadata(place, mapping, missing=missing)])
    paths = [place / name for name, is_folder in scan(place, "", []) if not is_folder and is_table(name)]
    if not paths:
        raise ScreenError(f"{place} holds no .csv, .tsv or .parquet. Name the table of the wells: --tables FILE.")
    parts: list[WellMetadata] = []
    unread: list[Problem] = []
    first: ScreenError | None = None
    for path in paths:
        try:
            parts.append(read_metadata(path, mapping, missing=missing))
        except ScreenError as error:
            first = first or error
            unread.append(_no_wells(path, str(error)))
    if not parts:
        raise first or ScreenError(str(place))
    return MetadataTables(parts=parts, unread=unread)


def read_all_metadata(
    place: AnyPath, mapping: Mapping[str, str], *, plates: Collection[str], missing: Collection[str] = ()
) -> WellMetadata:
    """Read a table with a row per well, or every one in a folder, as one.

    Args:
        place: The table, or the folder.
        mapping: Our column name to the tables'.
        plates: Those with images.
        missing: Words that stand for a missing value.

    Raises:
        ScreenError: None of them is a table of wells, or which plate one is of cannot be told.
    """
    return read_tables(place, mapping, missing=missing).together(plates)


def sibling_tables(source: AnyPath) -> list[Problem]:
    """Return a remark on tables among the images, where no table was named."""
    if not isinstance(source, Path):
        return []
    there: list[str] = []
    for folder, names in folders_below(source, [], deepest=_DEEPEST):
        if CARD not in names:
            there += [f"{folder}/{name}".lstrip("/") for name in names if is_table(name)]
    if not there:
        return []
    return [
        Problem(
            severity="warning",
            kind=_NOT_READ,
            file=".",
            found=", ".join(there[:5]) + (", ..." if len(there) > 5 else ""),
            expected="--tables with the table of the wells, or with a folder of such tables",
            fix=f"Nothing, if they say nothing of these wells; else name them, such as --tables {source / there[0]}.",
            count=len(there),
        )
    ]


def _no_wells(path: AnyPath, reason: str) -> Problem:
    return Problem(
        severity="warning",
        kind=_NOT_READ,
        file=path.name,
        found=reason.removeprefix(f"{path} "),
        expected="a table of wells",
        fix="Nothing, if it says nothing of wells; else mend it, or take it out of the folder of tables.",
    )


def _of_named_plate(labels: WellMetadata, plates: Collection[str]) -> WellMetadata:
    (path,) = labels.tables
    stem = normalize_name(path.name.split(".")[0])
    told = [plate for plate in plates if re.search(rf"(?<![^\W_]){re.escape(plate)}(?![^\W_])", stem, re.IGNORECASE)]
    longest = max(map(len, told), default=0)
    named = [plate for plate in told if len(plate) == longest]
    if len(named) != 1:
        listed = ", ".join(sorted(plates, key=natural_sort_key)[:5])
        raise ScreenError(
            f"{path} has no column of plates, and of several tables each must tell its own: add a column 'plate', or "
            f"put the name of one plate with images ({listed}) into the name of the file."
        )
    rows = [dataclasses.replace(row, plate=named[0]) for row in labels.rows]
    problems = [dataclasses.replace(problem, plate=problem.plate or named[0]) for problem in labels.problems]
    return dataclasses.replace(labels, rows=rows, problems=problems, keys=labels.keys | {"plate"})


def _together(parts: Sequence[WellMetadata], unread: Sequence[Problem]) -> WellMetadata:
    extra = tuple(dict.fromkeys(name for part in parts for name in part.extra_columns))
    rows: list[SiteRecord] = []
    for part in parts:
        at = {name: k for k, name in enumerate(part.extra_columns)}
        places = [at.get(name, -1) for name in extra]
        rows += [
            dataclasses.replace(row, extra=tuple("" if k < 0 else row.extra[k] for k in places)) for row in part.rows
        ]
    return WellMetadata(
        rows=rows,
        problems=[*(problem for part in parts for problem in part.problems), *unread],
        n_rows=sum(part.n_rows for part in parts),
        keys=frozenset.intersection(*(part.keys for part in parts)),
        extra_columns=extra,
        tables=tuple(path for part in parts for path in part.tables),
        columns=parts[0].columns,
    )
