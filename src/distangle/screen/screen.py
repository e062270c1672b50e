"""The checked screen: its sites, problems and metadata, in three files."""

import hashlib
import io
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
from distangle.core.untrusted_files import links_out, read_json, read_regular_file
from distangle.errors import ScreenError
from distangle.screen.origin import allow_source
from distangle.screen.roles import Channel, ordered_classes_sha256

SITES = "sites.parquet"
CHECKS = "checks"
CHECKED = ("checks.json", "findings.csv", "planes.parquet")  # in `CHECKS`
CARD = "screen.json"
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


class ScreenMetadata(BaseModel):
    """What `screen.json` says of the whole screen.

    Attributes:
        layout: How the source folder is laid out: `rxrx1`, `table`, ...
        source: The folder that the paths of the images start from: relative to the screen's own folder once
            it is written, absolute before; or its URL.
        channels: The stains, in the order of the images' channels.
        dtype: Type of a pixel as stored, `uint8` or `uint16`; None when no header was read.
        shape: Height and width in px; None when no header was read.
        pixel_size_um: Side of a pixel in micrometres, for scale bars; None where no instrument tells it, or plates
            differ.
        plate_rows: Rows of a plate.
        plate_columns: Columns of a plate.
        perturbations: The class list in natural order: position k is class k.
        perturbations_sha256: Its hash; a network trained on another list is refused.
        cell_types: The known cell types, sorted.
        extra_columns: Columns of the table beyond ours, kept as text.
        found: Entries seen: sites with images, and table rows without any.
        indexed: Entries in `sites.parquet`.
        refused: Entries in `problems.csv`.
        tables_only: No image was looked for.
        provenance: Which tables, by name and hash, and which version made this.
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
    """A screen that has been checked.

    Attributes:
        card: What holds for the whole screen.
        sites: `SITE_COLUMNS`, then per channel k (1-based) `path_k` (relative to the source, `/` between)
            and `page_k` (-1: the file is one plane), `size` (bytes), `mtime` (s since 1970), `sha256`,
            then the extra columns. Sorted by experiment, plate, row, column, site; indexed 0, 1, ...
        problems: `PROBLEM_COLUMNS`; `count` says how many found entries a row stands for.
        folder: Where the three files lie; None when not written yet.
        confined: Images that are reached over a link out of the source are refused: nobody here has allowed it.
    """

    card: ScreenMetadata
    sites: pd.DataFrame
    problems: pd.DataFrame
    folder: Path | None = None
    confined: bool = False

    @property
    def source(self) -> AnyPath:
        """The folder that the paths of the images start from, absolute."""
        if "://" in self.card.source:
            return RemotePath(self.card.source)
        return ((self.folder or Path()).resolve() / self.card.source).resolve()

    def image_paths(self, row: int) -> list[Path]:
        """Return the absolute files of one site, one per channel; fetch remote ones.

        Args:
            row: Position in `sites`.

        Raises:
            ScreenError: The screen was indexed without looking for images.
            RemoteError: A file cannot be fetched.
        """
        site = self.sites.iloc[row]
        names = [str(site[f"path_{k}"]) for k in range(1, len(self.card.channels) + 1)]
        if "" in names or not names:
            place = ", ".join(f"{column} {site[column]!s}" for column in KEY_COLUMNS)
            raise ScreenError(f"No image of {place}: the screen was indexed with --tables-only. Index it without.")
        source = self.source
        if self.confined and isinstance(source, Path):
            self._refuse_links(source, names)
        fetched = {name: download(source / name) for name in dict.fromkeys(names)}
        return [fetched[name] for name in names]

    def _refuse_links(self, source: Path, names: list[str]) -> None:
        inside = os.path.realpath(source)
        for name in names:
            if not os.path.realpath(source / name).startswith(f"{inside}{os.sep}"):
                raise ScreenError(
                    f"{source / name} is reached over a link out of the screen's source. It was not read. If you know "
                    f"where the screen comes from, allow it: `distangle trust {self.folder}`."
                )

    def pages(self, row: int) -> list[int | None]:
        """Return the page of each channel in its file; None where the file is one plane."""
        site = self.sites.iloc[row]
        pages = [int(site[f"page_{k}"]) for k in range(1, len(self.card.channels) + 1)]
        return [None if page < 0 else page for page in pages]


def path_columns(n_channels: int) -> list[str]:
    """Return the names of the path and page columns, in order of channels."""
    return [f"{kind}_{k}" for k in range(1, n_channels + 1) for kind in ("path", "page")]


def write_screen(screen: Screen, folder: Path) -> None:
    """Write `sites.parquet`, `problems.csv` and, last, `screen.json`.

    What `distangle check` found in another screen of this folder is removed: it says nothing of this one.
    """
    before = sha256_of(folder / SITES) if (folder / SITES).is_file() else ""
    with atomic_write(folder / SITES) as temporary:
        screen.sites.to_parquet(temporary, index=False)
    escaped = screen.problems.astype({"count": str}).map(escape_formula)
    write_text(folder / PROBLEMS, escaped.to_csv(index=False, lineterminator="\n"))
    source = screen.source
    if isinstance(source, Path):
        named = Path(os.path.relpath(source, folder.resolve())).as_posix()
    else:
        named = str(source)
    card = screen.card.model_copy(update={"source": named, "sites_sha256": sha256_of(folder / SITES)})
    if sha256_of(folder / SITES) != before:
        for name in CHECKED:
            (folder / CHECKS / name).unlink(missing_ok=True)
    write_json(folder / CARD, card.model_dump(mode="json"))
    allow_source(replace(screen, card=card, folder=folder))


def read_screen(folder: Path) -> Screen:
    """Read what `write_screen` wrote, and check that it belongs together.

    Raises:
        ScreenError: A file is absent, was changed or belongs to another screen, or a column is missing.
    """
    missing = [name for name in (CARD, SITES, PROBLEMS) if not (folder / name).is_file()]
    if missing:
        raise ScreenError(
            f"{folder} is not a screen: no {', '.join(missing)} in it. `distangle index SOURCE` makes one."
        )
    refuse_links_out(folder, (CARD, SITES, PROBLEMS, CHECKS))
    card = _read_card(folder / CARD)
    if ordered_classes_sha256(card.perturbations) != card.perturbations_sha256:
        raise ScreenError(
            f"{folder / CARD}: the class list of {len(card.perturbations)} perturbations does not match its hash "
            f"{card.perturbations_sha256[:12]}. It was edited: index the source again."
        )
    blob = (folder / SITES).read_bytes()
    if hashlib.sha256(blob).hexdigest() != card.sites_sha256:
        raise ScreenError(
            f"{folder / SITES} is not the table that {CARD} was written with (SHA-256 differs). "
            "It was changed, or an index was cut short: index the source again."
        )
    with read_regular_file(folder / SITES, fix=_AGAIN, error=ScreenError):
        sites = pd.read_parquet(io.BytesIO(blob))
    with read_regular_file(folder / PROBLEMS, fix=_AGAIN, error=ScreenError):
        problems = pd.read_csv(folder / PROBLEMS, dtype=str, keep_default_na=False, encoding="utf-8").map(_unescaped)
    expected = [*SITE_COLUMNS, *path_columns(len(card.channels)), "size", "mtime", "sha256", *card.extra_columns]
    _require(folder / SITES, sites, expected)
    _require(folder / PROBLEMS, problems, PROBLEM_COLUMNS)
    with read_regular_file(folder / PROBLEMS, fix=_AGAIN, error=ScreenError):
        problems["count"] = problems["count"].astype("int64")
    with read_regular_file(folder / SITES, fix=_AGAIN, error=ScreenError):
        sites = sites.astype(_kinds(sites.columns))
    _check_paths(folder / SITES, sites, len(card.channels))
    refused = int(problems.loc[problems["severity"] == "refused", "count"].sum())
    if (len(sites), refused) != (card.indexed, card.refused) or card.found != card.indexed + card.refused:
        raise ScreenError(
            f"{folder}: {CARD} says found {card.found} = indexed {card.indexed} + refused {card.refused}, "
            f"but the tables hold {len(sites)} and {refused}. Index the source again."
        )
    return Screen(card=card, sites=sites, problems=problems, folder=folder)


def _read_card(path: Path) -> ScreenMetadata:
    said = read_json(path, fix=_AGAIN, error=ScreenError)
    with read_regular_file(path, fix=_AGAIN, error=ScreenError):
        return ScreenMetadata.model_validate(said)


def refuse_links_out(folder: Path, names: Iterable[str]) -> None:
    """Check that the files of a screen are its own.

    Raises:
        ScreenError: One is a link that leads out of the folder.
    """
    if out := links_out(folder, names):
        raise ScreenError(
            f"{out[0]} is a link that leads out of the screen. Nothing was read or written through it. If it is yours, "
            f"put what it leads to in its place; else remove it and index the source again."
        )


_AGAIN = "Index the source again: `distangle index SOURCE --out SCREEN`."


def _kinds(columns: Iterable[str]) -> dict[str, str]:
    """Return the types of our own columns: text, or whole numbers."""
    whole_numbers = re.compile(r"row|column|site|size|page_\d+")
    texts = re.compile(r"experiment|plate|well|cell_type|perturbation|role|split|sha256|path_\d+")
    kinds = {name: "int64" for name in columns if whole_numbers.fullmatch(name)} | {"mtime": "float64"}
    return kinds | {name: "str" for name in columns if texts.fullmatch(name)}


def _require(path: Path, table: pd.DataFrame, columns: list[str] | tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ScreenError(f"{path} lacks the columns {', '.join(missing)}. Index the source again.")


def _check_paths(path: Path, sites: pd.DataFrame, n_channels: int) -> None:
    # A screen may come from elsewhere: its table must not reach out of its source folder.
    for k in range(1, n_channels + 1):
        for name in sites[f"path_{k}"]:
            parts = PurePosixPath(name)
            if parts.is_absolute() or ".." in parts.parts:
                raise ScreenError(f"{path}: path_{k} {name!r} leaves the source folder. Index the source again.")


def escape_formula(cell: str) -> str:
    """Return a cell safe for spreadsheets: one like a formula gets a quote."""
    return f"'{cell}" if cell[:1] in _FORMULA else cell


def _unescaped(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] in _FORMULA else cell


_FORMULA = tuple("=+-@\t\r'")
