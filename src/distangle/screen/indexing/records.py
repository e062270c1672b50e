"""Types shared by readers and index: site records, options, reader results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from distangle.core.remote import AnyPath
from distangle.screen.problems import Problem
from distangle.screen.roles import Channel, Role


@dataclass(kw_only=True, slots=True)
class SiteRecord:
    """A site with its images, or a table row without images.

    Attributes:
        experiment: As written in the table.
        plate: As written in the table.
        well: As written in the table; not validated.
        site: Number of the field of view; 0 also if images are not indexed.
        cell_type: "" if unknown.
        perturbation: "" if unknown.
        role: Role of the well.
        split: `train`, `test` or another value of the table; "" if none.
        paths: One per channel, relative to the source, with `/`; empty if images are not indexed.
        pages: One per channel; -1 for a file of one plane.
        numbering: What `pages` counts: pages of the file, channels by its metadata, or frames of a `load_data` table.
        series: One per channel, where `numbering` is frames: the image of the file that holds the frame.
        table: Name of the table; "" if none.
        line: Line of the table; the header is line 1.
        extra: Values of the extra columns.
        fields: The whole row as read; rows with equal fields are duplicates.
    """

    experiment: str
    plate: str
    well: str
    site: int
    cell_type: str = ""
    perturbation: str = ""
    role: Role = Role.UNKNOWN
    split: str = ""
    paths: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()
    numbering: Literal["pages", "channels", "frames"] = "pages"
    series: tuple[int, ...] = ()
    table: str = ""
    line: int = 0
    extra: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    def problem(self, kind: str, *, found: str, expected: str = "", fix: str = "", channel: str = "") -> Problem:
        """Return the row of `problems.csv` that refuses this record."""
        return Problem(
            kind=kind,
            file=self.table or (self.paths[0] if self.paths else ""),
            row=str(self.line) if self.line else "",
            experiment=self.experiment,
            plate=self.plate,
            well=self.well,
            site=str(self.site) if self.site or self.paths else "",
            channel=channel,
            found=found,
            expected=expected,
            fix=fix,
        )

    def missing_paths_problem(self, missing: Sequence[str], channels: Sequence[str]) -> Problem:
        """Return the problem of a table row without a path for every channel.

        Args:
            missing: Names of the channels without a path.
            channels: Names of all channels.
        """
        return self.problem(
            "no image" if len(missing) == len(channels) else "missing channel",
            channel=", ".join(missing),
            found="no path",
            expected=f"a path for each of {', '.join(channels)}",
            fix="Fill in the paths, or remove the row.",
        )


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """Options of `distangle index`.

    Attributes:
        source: Folder of the images, or the table itself.
        tables: Folder or file of the tables, if not in the source.
        mapping: Column of distangle to column of the table.
        channels: `NAME` or `NAME=COLUMN`.
        pages: Column with one file for all channels.
        pattern: Pattern of image paths with fields in braces, or the name of a predefined pattern.
        controls: Role to names of perturbations.
        tables_only: Do not look for images.
        plate: Rows and columns of the plates; None to infer them from the wells.
        well_base: `0` or `1`, the first row and column number; `images=0,tables=1` sets each.
        well_order: `rows` if well 2 is A02, `columns` if it is B01; None to infer it from the source.
        missing: Table values that mean a missing value.
        planes: `PLANE` for all channels, `CHANNEL=PLANE` for one.
        time: The time to use if there are several; "" if not given.
        cycle: The cycle or round to use; "" if not given.
        acquisition: The acquisition to use; "" if not given.
    """

    source: AnyPath
    tables: AnyPath | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    channels: Sequence[str] = ()
    pages: str | None = None
    pattern: str | None = None
    controls: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tables_only: bool = False
    plate: tuple[int, int] | None = None
    well_base: str | None = None
    well_order: str | None = None
    missing: Sequence[str] = ()
    planes: Sequence[str] = ()
    time: str = ""
    cycle: str = ""
    acquisition: str = ""

    @property
    def selected_axes(self) -> dict[str, str]:
        """Time, cycle and acquisition, as far as given."""
        selected = {"time": self.time, "cycle": self.cycle, "acquisition": self.acquisition}
        return {axis: value for axis, value in selected.items() if value}


@dataclass(kw_only=True)
class ReaderResult:
    """Result of a reader.

    Attributes:
        source: Base folder of the image paths.
        channels: The channels.
        entries: Records that may become rows of the screen.
        problems: Refusals and warnings of the reader.
        n_found: Number of entries found, counted independently of `entries` and `problems`.
        key_columns: Those of `experiment` and `plate` that the entries have without a table of wells.
        extra_columns: Column names of `SiteRecord.extra`.
        tables: The tables that were read.
        duplicate_fix: The next step for two rows of one site.
        provenance: Entries for the provenance of the screen.
        pixel_size_um: Pixel size in micrometers from the instrument's metadata; None if unknown.
    """

    source: AnyPath
    channels: tuple[Channel, ...] = ()
    entries: list[SiteRecord] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    n_found: int = 0
    key_columns: frozenset[str] = frozenset()
    extra_columns: tuple[str, ...] = ()
    tables: tuple[AnyPath, ...] = ()
    duplicate_fix: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    pixel_size_um: float | None = None

    @property
    def refusals(self) -> list[Problem]:
        """The problems that refuse a record."""
        return [problem for problem in self.problems if problem.severity == "refused"]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader of one kind of source folder.

    To add one: one module, one test, one line in `readers/__init__.py`.

    Attributes:
        name: The value of `--layout`.
        read: Reads every entry of a source; raises `ScreenError` if the source cannot be read as this layout.
            `ReaderResult.n_found` must equal the number of `entries` plus the refused ones.
        detect: Returns what in a folder is specific to this layout, such as `train.csv`; "" if nothing. It lists a
            few folders and opens no image.
        options: The supported fields of `IndexOptions`; others are refused before `read` is called.
    """

    name: str
    read: Callable[[IndexOptions], ReaderResult]
    detect: Callable[[AnyPath], str]
    options: frozenset[str] = frozenset()
