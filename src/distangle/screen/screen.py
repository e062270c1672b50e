"""Read and write a screen: its sites, problems and metadata, in three files."""

import functools
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from distangle.core.io import atomic_write, sha256_of, write_json, write_text
from distangle.core.remote import AnyPath, RemotePath, download
from distangle.core.result_files import read_parquet
from distangle.core.untrusted_files import links_out, read_json, read_regular_file
from distangle.errors import ScreenError
from distangle.screen.origin import allow_source
from distangle.screen.roles import Channel, ordered_classes_sha256

SITES = "sites.parquet"
CHECKS = "checks"
CHECK_FILES = ("checks.json", "findings.csv", "planes.parquet")  # in `CHECKS`
METADATA = "screen.json"
PROBLEMS = "problems.csv"

PLATE_COLUMNS = ("experiment", "plate")
WELL_COLUMNS = (*PLATE_COLUMNS, "well")
KEY_COLUMNS = (*WELL_COLUMNS, "site")
SITE_COLUMNS = (
    *WELL_COLUMNS,
    *("row", "column", "site"),
    *("cell_type", "perturbation", "role", "split"),
)
PROBLEM_COLUMNS = (
    *("severity", "kind", "file", "row", "experiment", "plate", "well", "site", "channel"),
    *("found", "expected", "fix", "count"),
)
_REINDEX = "Index the source again: `distangle index SOURCE --out SCREEN`."
_FORMULA_STARTS = tuple("=+-@\t\r'")


class ScreenMetadata(BaseModel):
    """Metadata of a screen: the content of `screen.json`.

    Attributes:
        layout: Layout of the source folder: `rxrx1`, `table`, ...
        source: Base folder of the image paths: relative to the folder of a written screen, absolute before; or a
            URL.
        channels: The channels, in the order of the images.
        dtype: Pixel type as stored, `uint8` or `uint16`; None if no header was read.
        shape: Height and width in px; None if no header was read.
        pixel_size_um: Pixel size in micrometers, for scale bars; None if the instrument metadata lack it or plates
            differ.
        plate_rows: Rows of a plate.
        plate_columns: Columns of a plate.
        perturbations: The class list in natural order: position k is class k.
        perturbations_sha256: Hash of the class list; a network trained on another list is refused.
        cell_types: The known cell types, sorted.
        extra_columns: Further columns of the table, stored as text.
        found: Number of entries found: sites with images, and table rows without images.
        indexed: Number of entries in `sites.parquet`.
        refused: Number of entries in `problems.csv`.
        tables_only: Whether the screen was indexed without images.
        provenance: Names and hashes of the tables, options and version of the index.
        sites_sha256: Hash of `sites.parquet`; "" before it is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: str
    source: str
    channels: tuple[Channel, ...]
    dtype: str | None = None
    shape: tuple[int, int] | None = None
    pixel_size_um: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    plate_rows: Annotated[int, Field(ge=1)]
    plate_columns: Annotated[int, Field(ge=1)]
    perturbations: tuple[str, ...]
    perturbations_sha256: str
    cell_types: tuple[str, ...]
    extra_columns: tuple[str, ...]
    found: int
    indexed: int
    refused: int
    tables_only: bool = False
    provenance: Mapping[str, Any] = Field(default_factory=dict)
    sites_sha256: str = ""


@dataclass(frozen=True)
class Screen:
    """A screen: metadata, table of sites and table of problems.

    Attributes:
        metadata: Metadata of the whole screen.
        sites: `SITE_COLUMNS`, then per channel k (1-based) `path_k` (relative to the source, `/` between)
            and `page_k` (-1: the file is one plane), `size` (bytes), `mtime` (s since 1970), `sha256`,
            then the extra columns. Sorted by experiment, plate, row, column, site; indexed 0, 1, ...
        problems: `PROBLEM_COLUMNS`; `count` is the number of entries of a row.
        folder: Folder of the three files; None before writing.
        confined: Refuse images behind a link out of the source, because the screen was not allowed on this machine.
    """

    metadata: ScreenMetadata
    sites: pd.DataFrame
    problems: pd.DataFrame
    folder: Path | None = None
    confined: bool = False

    @functools.cached_property
    def source(self) -> AnyPath:
        """Absolute base folder of the image paths, or its URL."""
        if "://" in self.metadata.source:
            return RemotePath(self.metadata.source)
        return ((self.folder or Path()).resolve() / self.metadata.source).resolve()

    # To take a column out of a table costs more than to read a cell of it.
    @functools.cached_property
    def _path_columns(self) -> list[Any]:
        return [self.sites[f"path_{k}"].array for k in range(1, len(self.metadata.channels) + 1)]

    @functools.cached_property
    def _page_columns(self) -> list[Any]:
        return [self.sites[f"page_{k}"].to_numpy() for k in range(1, len(self.metadata.channels) + 1)]

    def image_paths(self, row: int) -> list[Path]:
        """Return the absolute image files of a site; download remote ones.

        Args:
            row: Position in `sites`.

        Raises:
            ScreenError: The screen was indexed without images.
            RemoteError: A file cannot be downloaded.
        """
        names = [str(column[row]) for column in self._path_columns]
        if "" in names or not names:
            location = ", ".join(f"{column} {self.sites[column].iat[row]!s}" for column in KEY_COLUMNS)
            raise ScreenError(
                f"No image of {location}: the screen was indexed with --tables-only. Index it again without."
            )
        source = self.source
        if self.confined and isinstance(source, Path):
            self._refuse_links(source, names)
        files = {name: download(source / name) for name in dict.fromkeys(names)}
        return [files[name] for name in names]

    def _refuse_links(self, source: Path, names: list[str]) -> None:
        root = os.path.realpath(source)
        for name in names:
            if not os.path.realpath(source / name).startswith(f"{root}{os.sep}"):
                raise ScreenError(
                    f"{source / name} lies behind a link out of the screen's source. It was not read. If you trust the "
                    f"origin of the screen, allow it: `distangle trust {self.folder}`."
                )

    def pages(self, row: int) -> list[int | None]:
        """Return the page of each channel in its file; None for a file of one plane."""
        pages = [int(column[row]) for column in self._page_columns]
        return [None if page < 0 else page for page in pages]


def path_columns(n_channels: int) -> list[str]:
    """Return the names of the path and page columns, in order of channels."""
    return [f"{kind}_{k}" for k in range(1, n_channels + 1) for kind in ("path", "page")]


def write_screen(screen: Screen, folder: Path) -> None:
    """Write `sites.parquet`, `problems.csv` and, last, `screen.json`.

    Results of `distangle check` for another screen in this folder are removed.
    """
    old_hash = sha256_of(folder / SITES) if (folder / SITES).is_file() else ""
    with atomic_write(folder / SITES) as temporary:
        screen.sites.to_parquet(temporary, index=False)
    escaped = screen.problems.astype({"count": str}).map(escape_formula)
    write_text(folder / PROBLEMS, escaped.to_csv(index=False, lineterminator="\n"))
    source = screen.source
    if isinstance(source, Path):
        relative_source = Path(os.path.relpath(source, folder.resolve())).as_posix()
    else:
        relative_source = str(source)
    metadata = screen.metadata.model_copy(update={"source": relative_source, "sites_sha256": sha256_of(folder / SITES)})
    if sha256_of(folder / SITES) != old_hash:
        for name in CHECK_FILES:
            (folder / CHECKS / name).unlink(missing_ok=True)
    write_json(folder / METADATA, metadata.model_dump(mode="json"))
    allow_source(replace(screen, metadata=metadata, folder=folder))


def read_screen(folder: Path) -> Screen:
    """Read a screen, and check that its files match.

    Raises:
        ScreenError: A file is missing, was changed or belongs to another screen, or a column is missing.
    """
    missing = [name for name in (METADATA, SITES, PROBLEMS) if not (folder / name).is_file()]
    if missing:
        raise ScreenError(
            f"{folder} is not a screen: it lacks {', '.join(missing)}. Create one: `distangle index SOURCE`."
        )
    refuse_links_out(folder, (METADATA, SITES, PROBLEMS, CHECKS))
    metadata = _read_metadata(folder / METADATA)
    if ordered_classes_sha256(metadata.perturbations) != metadata.perturbations_sha256:
        raise ScreenError(
            f"{folder / METADATA}: the class list of {len(metadata.perturbations)} perturbations does not match its "
            f"hash {metadata.perturbations_sha256[:12]}. It was edited: index the source again."
        )
    blob = (folder / SITES).read_bytes()
    if hashlib.sha256(blob).hexdigest() != metadata.sites_sha256:
        raise ScreenError(
            f"{folder / SITES} is not the table that {METADATA} was written with (SHA-256 differs). "
            "It was changed, or an index was interrupted: index the source again."
        )
    with read_regular_file(folder / SITES, fix=_REINDEX, error=ScreenError):
        sites = read_parquet(blob)
    with read_regular_file(folder / PROBLEMS, fix=_REINDEX, error=ScreenError):
        problems = pd.read_csv(folder / PROBLEMS, dtype=str, keep_default_na=False, encoding="utf-8").map(
            _unescape_formula
        )
    expected = [
        *SITE_COLUMNS,
        *path_columns(len(metadata.channels)),
        "size",
        "mtime",
        "sha256",
        *metadata.extra_columns,
    ]
    _require_columns(folder / SITES, sites, expected)
    _require_columns(folder / PROBLEMS, problems, PROBLEM_COLUMNS)
    with read_regular_file(folder / PROBLEMS, fix=_REINDEX, error=ScreenError):
        problems["count"] = problems["count"].astype("int64")
    with read_regular_file(folder / SITES, fix=_REINDEX, error=ScreenError):
        sites = sites.astype(_column_types(sites.columns))
    _check_paths(folder / SITES, sites, len(metadata.channels))
    refused = int(problems.loc[problems["severity"] == "refused", "count"].sum())
    if (len(sites), refused) != (
        metadata.indexed,
        metadata.refused,
    ) or metadata.found != metadata.indexed + metadata.refused:
        raise ScreenError(
            f"{folder}: {METADATA} says found {metadata.found} = indexed {metadata.indexed} + refused "
            f"{metadata.refused}, but the tables hold {len(sites)} and {refused}. Index the source again."
        )
    return Screen(metadata=metadata, sites=sites, problems=problems, folder=folder)


def _read_metadata(path: Path) -> ScreenMetadata:
    values = read_json(path, fix=_REINDEX, error=ScreenError)
    with read_regular_file(path, fix=_REINDEX, error=ScreenError):
        return ScreenMetadata.model_validate(values)


def refuse_links_out(folder: Path, names: Iterable[str]) -> None:
    """Refuse a screen whose files are links out of its folder.

    Raises:
        ScreenError: A file is a link that leads out of the folder.
    """
    if links := links_out(folder, names):
        raise ScreenError(
            f"{links[0]} is a link that leads out of the screen. Nothing was read or written through it. If it is "
            f"yours, replace it by its target; else remove it and index the source again."
        )


def _column_types(columns: Iterable[str]) -> dict[str, str]:
    """Return the data types of the standard columns."""
    whole_numbers = re.compile(r"row|column|site|size|page_\d+")
    texts = re.compile(r"experiment|plate|well|cell_type|perturbation|role|split|sha256|path_\d+")
    kinds = {name: "int64" for name in columns if whole_numbers.fullmatch(name)} | {"mtime": "float64"}
    return kinds | {name: "str" for name in columns if texts.fullmatch(name)}


def _require_columns(path: Path, table: pd.DataFrame, columns: list[str] | tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ScreenError(f"{path} lacks the columns {', '.join(missing)}. Index the source again.")


def _check_paths(path: Path, sites: pd.DataFrame, n_channels: int) -> None:
    # A screen may come from another person: its paths must stay in the source folder.
    for k in range(1, n_channels + 1):
        names = sites[f"path_{k}"]
        if names.isna().any():
            row = int(names.isna().to_numpy().argmax())
            raise ScreenError(f"{path}: row {row} has no path_{k}: expected a path or an empty text. {_REINDEX}")
        # Only a path with one of these can leave the folder, and there are few: the exact test is slow.
        is_suspect = names.str.startswith("/") | names.str.contains("..", regex=False)
        for name in names[is_suspect]:
            parts = PurePosixPath(name)
            if parts.is_absolute() or ".." in parts.parts:
                raise ScreenError(f"{path}: path_{k} {name!r} leaves the source folder. Index the source again.")


def escape_formula(cell: str) -> str:
    """Return a cell safe for spreadsheets: a quote precedes a formula."""
    return f"'{cell}" if cell[:1] in _FORMULA_STARTS else cell


def _unescape_formula(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] in _FORMULA_STARTS else cell
