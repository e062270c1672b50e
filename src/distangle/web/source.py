"""Open a run, a screen or a folder of profiles for viewing."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import pandas as pd

from distangle.core.lock import lock_holder
from distangle.errors import ConfigError, DistangleError
from distangle.results.run import RunFolder
from distangle.results.run_screen import own_metadata, own_screen
from distangle.results.verify import refuse_altered
from distangle.screen import Screen, allowed_sources, read_screen, smallest_plate, with_images
from distangle.screen.plates import split_well
from distangle.screen.screen import KEY_COLUMNS
from distangle.web.explanations import ExplanationFiles
from distangle.web.predictions import PredictionFiles
from distangle.web.profiles import ProfileFiles

Part = TypeVar("Part")
Kind = Literal["run", "screen", "profiles"]
LARGEST_HASH = 64 * 2**20  # bytes of a file whose hash is compared at the start
RESULT_FILES = (
    *("predictions/sites.parquet", "predictions/wells.parquet", "profiles/profile.json", "profile.json"),
    *("explanations/explanation.json", "sites.parquet"),
)
INTERNAL = re.compile(r"path_\d+|page_\d+|size|mtime|sha256")


@dataclass(frozen=True)
class Notice:
    """Something that a user of the page must know.

    Attributes:
        text: What is absent or damaged.
        next_step: What to do.
    """

    text: str
    next_step: str = ""


def notice_of(error: DistangleError) -> Notice:
    """Return the message of an error, its last sentence as the next step."""
    head, _, tail = str(error).rpartition(". ")
    return Notice(f"{head}.", tail) if head else Notice(str(error))


@dataclass(kw_only=True)
class ViewSource:
    """The content of a folder, as far as it is there.

    Attributes:
        kind: What the folder is.
        root: The folder.
        sites: One row per site: `experiment`, `plate`, `well`, `row`, `column` (from 0), `site`, `cell_type`,
            `perturbation`, `role`, then other columns of the screen; sorted, so that the sites of a well are together.
        plate_shape: Rows and columns of a plate.
        screen: The screen; None without one.
        run: The run; None without one.
        predictions: Predictions of the run; None without them.
        profiles: Profiles; None without them.
        explanation: Explanations of the run; None without them.
        has_scores: Whether the run has a score table.
        channels: `name`, `stain`, `organelle` and `color` of every channel.
        notices: What is absent or damaged.
        times: From `file_times`, when the folder was opened.
    """

    kind: Kind
    root: Path
    sites: pd.DataFrame
    plate_shape: tuple[int, int]
    screen: Screen | None = None
    run: RunFolder | None = None
    predictions: PredictionFiles | None = None
    profiles: ProfileFiles | None = None
    explanation: ExplanationFiles | None = None
    has_scores: bool = False
    channels: list[dict[str, str]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    times: dict[str, int] = field(default_factory=dict)

    def has_changed(self) -> bool:
        """Return whether results were added or replaced since the folder was opened."""
        return file_times(self.root) != self.times

    @property
    def has_images(self) -> bool:
        """Whether the sites have images."""
        return self.screen is not None and not self.screen.metadata.tables_only and bool(self.screen.metadata.channels)

    def state(self) -> str:
        """Return `finished`, `training`, or "" for a run that stopped or no run."""
        if self.run is None:
            return ""
        try:
            if self.run.describe().get("finished"):
                return "finished"
            return "training" if lock_holder(self.run.root) is not None else ""
        except DistangleError:
            return ""

    def target(self) -> str:
        """Return the column that a run predicts; "perturbation" without a run."""
        try:
            return str(self.run.describe().get("target", "perturbation")) if self.run else "perturbation"
        except DistangleError:
            return "perturbation"

    def without_folders(self, text: str) -> str:
        """Return a message without folders of this machine."""
        roots = [self.root.resolve(), self.root]
        if self.screen is not None:
            source = self.screen.source
            folder = self.screen.folder
            roots += [source] if isinstance(source, Path) else []
            roots += [folder.resolve(), folder] if folder else []
        for root in sorted({str(root) for root in roots if str(root) not in (".", "/")}, key=len, reverse=True):
            text = text.replace(f"{root}/", "").replace(root, self.kind.upper())
        return re.sub(r"(?<![\w.])(?:/[^\s/'`:,;()]+){2,}", lambda match: match[0].rpartition("/")[2], text)


def open_source(folder: Path, *, screen: Path | None = None, images: Path | None = None) -> ViewSource:
    """Open a folder for viewing.

    Args:
        folder: A run, a screen, or a folder of profiles.
        screen: Folder of the screen of a run, if it was moved.
        images: Folder of the images, if they were moved.

    Raises:
        ConfigError: The folder is none of these.
        DistangleError: The folder itself is damaged. A damaged part of it gives a notice.
    """
    times = file_times(folder)
    source = None
    if (folder / "run.json").is_file():
        source = _open_run(RunFolder.open(folder), screen, images)
    elif (folder / "screen.json").is_file():
        source = _open_screen(folder, images)
    elif (folder / "profile.json").is_file():
        source = _open_profiles(folder)
    if source is not None:
        source.times = times
        return source
    raise ConfigError(
        f"{folder} cannot be viewed: {'it has none of' if folder.is_dir() else 'there is no folder with'} run.json, "
        "screen.json or profile.json. Name the folder of a run, a screen or profiles: `distangle view FOLDER`."
    )


def file_times(folder: Path) -> dict[str, int]:
    """Return when the results in a folder were written, nanoseconds since 1970."""
    paths = [folder / name for name in RESULT_FILES]
    return {path.as_posix(): path.stat().st_mtime_ns for path in paths if path.is_file()}


def _open_screen(folder: Path, images: Path | None) -> ViewSource:
    screen = read_screen(folder)
    notices: list[Notice] = []
    screen = _with_allowed_images(screen, images, notices)
    source = _of_screen("screen", folder, screen)
    source.notices += [
        Notice(source.without_folders(notice.text), source.without_folders(notice.next_step)) for notice in notices
    ]
    return source


def _with_allowed_images(screen: Screen, images: Path | None, notices: list[Notice]) -> Screen:
    """Return a screen that may read its images; else one without images."""
    try:
        return allowed_sources(screen) if images is None else with_images(screen, images)
    except DistangleError as error:
        notices.append(notice_of(error))
        metadata = screen.metadata.model_copy(update={"tables_only": True})
        return Screen(metadata=metadata, sites=screen.sites, problems=screen.problems, folder=screen.folder)


def _of_screen(kind: Kind, folder: Path, screen: Screen) -> ViewSource:
    names = [name for name in screen.sites if not INTERNAL.fullmatch(str(name))]
    shape = screen.metadata.plate_rows, screen.metadata.plate_columns
    channels = [channel.model_dump() for channel in screen.metadata.channels]
    return ViewSource(
        kind=kind, root=folder, sites=screen.sites[names], plate_shape=shape, screen=screen, channels=channels
    )


def _open_run(run: RunFolder, screen_folder: Path | None, images: Path | None) -> ViewSource:
    notices: list[Notice] = []
    screen = _attempt(lambda: own_screen(run, screen_folder, images=images), notices)
    predictions = _attempt(lambda: _predictions(run), notices)
    profiles = _attempt(lambda: _profiles(run), notices)
    if screen is not None:
        source = _of_screen("run", run.root, screen)
    else:
        table = predictions.sites if predictions is not None else _folds(run, notices)
        source = ViewSource(kind="run", root=run.root, sites=_sites_of(table), plate_shape=(0, 0), run=run)
        source.plate_shape = _plate_shape(source.sites)
        metadata = _attempt(lambda: own_metadata(run), notices)
        source.channels = [dict(channel) for channel in (metadata or {}).get("channels", [])]
    if predictions is None and run.folds.exists() and "fold" not in source.sites:
        folds = _folds(run, notices)
        source.sites = source.sites.merge(folds[[*KEY_COLUMNS, "fold"]], on=list(KEY_COLUMNS), how="left")
        source.sites["fold"] = source.sites["fold"].fillna("")
    source.run, source.predictions, source.profiles = run, predictions, profiles
    source.explanation = _attempt(lambda: _explanation(run), notices)
    source.has_scores = predictions is not None and run.scores.exists()
    if predictions is None and not notices and source.state() != "training":
        notices.append(Notice("The run has no predictions yet.", "Make them: `distangle predict RUN`."))
    if source.state() == "":
        notices.append(Notice("The training of this run did not finish.", "Resume it: `distangle train --resume RUN`."))
    source.notices += [
        Notice(source.without_folders(notice.text), source.without_folders(notice.next_step)) for notice in notices
    ]
    return source


def _open_profiles(folder: Path) -> ViewSource:
    profiles = ProfileFiles.open(folder)
    sites = _sites_of(profiles.wells)
    return ViewSource(kind="profiles", root=folder, sites=sites, plate_shape=_plate_shape(sites), profiles=profiles)


def _attempt(read: Callable[[], Part], notices: list[Notice]) -> Part | None:
    """Read a part of a run; a part that is damaged gives a notice."""
    try:
        return read()
    except DistangleError as error:
        notices.append(notice_of(error))
        return None


def _check(run: RunFolder, prefix: str) -> None:
    """Compare the files of a part with the manifest, large ones by size only.

    Raises:
        RunError: A file was changed or is absent.
    """
    refuse_altered(run, prefix, largest_hash=LARGEST_HASH)


def _predictions(run: RunFolder) -> PredictionFiles | None:
    _check(run, "predictions/")
    return PredictionFiles.open(run.predictions) if (run.predictions / "sites.parquet").exists() else None


def _profiles(run: RunFolder) -> ProfileFiles | None:
    _check(run, "profiles/")
    return ProfileFiles.open(run.profiles) if (run.profiles / "profile.json").exists() else None


def _explanation(run: RunFolder) -> ExplanationFiles | None:
    _check(run, "explanations/")
    return ExplanationFiles.open(run.explanations) if (run.explanations / "explanation.json").exists() else None


def _folds(run: RunFolder, notices: list[Notice]) -> pd.DataFrame:
    from distangle.core.result_files import read_table

    names = [*KEY_COLUMNS, "fold"]
    table = _attempt(lambda: read_table(run.folds, fix="Restore it from a copy.", columns=names), notices)
    if table is None:
        return pd.DataFrame({name: pd.Series([], dtype="int64" if name == "site" else "str") for name in names})
    return table.drop_duplicates(list(KEY_COLUMNS))


def _sites_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of predictions, profiles or folds as a table of sites."""
    names = {name: str(name).removeprefix("Metadata_").lower() for name in table}
    sites = table.rename(columns=names)
    sites = sites.loc[:, ~sites.columns.duplicated()].copy()
    for name in ("experiment", "plate", "well", "cell_type", "role", "perturbation"):
        sites[name] = sites[name].fillna("").astype("str") if name in sites else ""
    if "site" not in sites:
        sites["site"] = sites.groupby(["experiment", "plate", "well"]).cumcount() + 1
    positions = {well: split_well(well) or (-1, -1) for well in sites["well"].unique()}
    sites["row"] = [positions[well][0] for well in sites["well"]]
    sites["column"] = [positions[well][1] for well in sites["well"]]
    sites["role"] = sites["role"].replace("", "unknown")
    first = ["experiment", "plate", "well", "row", "column", "site", "cell_type", "perturbation", "role"]
    sites = sites[[*first, *(name for name in sites if name not in first)]]
    return sites.sort_values(["experiment", "plate", "row", "column", "well", "site"], kind="stable", ignore_index=True)


def _plate_shape(sites: pd.DataFrame) -> tuple[int, int]:
    if not len(sites) or sites["row"].max() < 0:
        return 0, 0
    return smallest_plate(int(sites["row"].max()) + 1, int(sites["column"].max()) + 1)
