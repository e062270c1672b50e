"""What a layout hands over: the entries it found, before anything is checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from distangle.core.remote import AnyPath
from distangle.screen.problems import Problem
from distangle.screen.roles import Channel, Role


@dataclass(kw_only=True, slots=True)
class SiteRecord:
    """A site with its images, or a table row that has none.

    Attributes:
        experiment: As the table has it.
        plate: As the table has it.
        well: As the table has it; not checked yet.
        site: Number of the field of view; 0 also when no image was looked for.
        cell_type: "" if unknown.
        perturbation: "" if unknown.
        role: The part the well plays.
        split: `train`, `test` or whatever the table says; "" if nothing.
        paths: One per channel, relative to the source, `/` between; empty when none was looked for.
        pages: One per channel; -1 when the file is one plane.
        numbering: What `pages` counts: pages of the file, its channels (which page is which, the file tells), or
            frames as a `load_data` table counts them.
        series: One per channel, where `numbering` is frames: which image of the file the frame is of.
        table: Name of the table, "" if none.
        line: Line of the table, the header being line 1.
        extra: Values of the extra columns.
        fields: The whole row as read: two rows are the same when these are.
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
        """Return the row of `problems.csv` that refuses this entry."""
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

    def without_paths(self, missing: Sequence[str], channels: Sequence[str]) -> Problem:
        """Return the refusal of a table row that names no file.

        Args:
            missing: Names of the channels that have no path.
            channels: Names of all.
        """
        return self.problem(
            "no image" if len(missing) == len(channels) else "missing channel",
            channel=", ".join(missing),
            found="no path",
            expected=f"a path for each of {', '.join(channels)}",
            fix="Fill in the paths, or take the row out.",
        )


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """What `index` was asked for.

    Attributes:
        source: The folder of the images, or the table itself.
        tables: Folder or file of the tables when they lie elsewhere.
        mapping: Our column name to the table's.
        channels: `NAME` or `NAME=COLUMN`.
        pages: Column with one file for all channels.
        pattern: How paths of images are built of names in braces, or the name of a known pattern.
        controls: Role to names of perturbations.
        tables_only: Look for no image.
        plate: Rows and columns of the plates; None where the wells tell.
        well_base: `0` or `1`, what rows and columns in figures count from; `images=0,tables=1` for each apart.
        well_order: `rows` where well 2 is A02, `columns` where it is B01; None where the source tells.
        missing: Words of tables that stand for a missing value.
        planes: `PLANE` for all channels, `CHANNEL=PLANE` for one.
        time: Which time is wanted where there are several; "" where none was named.
        cycle: Which cycle or round; likewise.
        acquisition: Which acquisition; likewise.
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
    def axis_values(self) -> dict[str, str]:
        """Time, cycle and acquisition, as far as they were named."""
        named = {"time": self.time, "cycle": self.cycle, "acquisition": self.acquisition}
        return {axis: value for axis, value in named.items() if value}


@dataclass(kw_only=True)
class ReaderResult:
    """Result of a reader; helpers add their entries and problems to it.

    Attributes:
        source: The folder that the entries' paths start from.
        channels: The stains.
        entries: What may become a row of the screen.
        problems: What the layout refuses or remarks by itself.
        found: How many entries there are, counted apart from `entries` and `problems`.
        keys: Which of `experiment` and `plate` the entries name by themselves, without a table of wells.
        extra_columns: Names for `Entry.extra`.
        tables: The tables that were read.
        site_hint: What to do about two rows of one site.
        notes: For the provenance.
        pixel_size_um: Side of a pixel in micrometres, as the instrument tells it; None where it does not.
    """

    source: AnyPath
    channels: tuple[Channel, ...] = ()
    entries: list[SiteRecord] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    found: int = 0
    keys: frozenset[str] = frozenset()
    extra_columns: tuple[str, ...] = ()
    tables: tuple[AnyPath, ...] = ()
    site_hint: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    pixel_size_um: float | None = None

    @property
    def refusals(self) -> list[Problem]:
        """The problems that refuse an entry."""
        return [problem for problem in self.problems if problem.severity == "refused"]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader of one kind of source folder.

    To add one: one module, one test, one line in `layouts/__init__.py`.

    Attributes:
        name: As typed behind `--layout`.
        find: Finds every entry of a source; raises `ScreenError` when the source as a whole cannot be understood.
            What it counts in `Found.found` must be `Found.entries` and its own refusals together.
        detect: Says what a folder has that only this layout has, such as `train.csv`; "" if nothing. It lists a few
            folders and opens no image.
        options: The options of a `Request` that it understands; the others are refused before `find` is asked.
    """

    name: str
    find: Callable[[IndexOptions], ReaderResult]
    detect: Callable[[AnyPath], str]
    options: frozenset[str] = frozenset()
