"""Read all results of a run that the report shows."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from distangle.core import plain_yaml
from distangle.core.remote import address_of
from distangle.core.result_files import MissingResultError
from distangle.core.untrusted_files import UnexpectedContent, check_type, read_json, read_regular_file
from distangle.results import (
    Benchmark,
    Explanation,
    Faithfulness,
    FilterAnalysis,
    Predictions,
    RunFolder,
    ScoreRow,
    Scores,
    TemplateComparison,
)
from distangle.results.profile_result import ProfileResult
from distangle.screen import NO_HOLD_OUT, Screen

_EXPLANATION_FILES = ("explanation.json", "maps.npz", "sites.parquet", "wells.parquet", "perturbations.parquet")
_ANALYSIS_FILES = ("faithfulness.", "benchmark.json", "templates.", "embeddings.parquet", "filters.")
# Prefixes of the files of a run that the report and the figures read.
REPORT_INPUTS = (
    *("run.json", "config.yaml", "screen.json", "metrics.csv", "timing.csv", "correction.json"),
    *("predictions/scores.json", "predictions/wells."),
    *(f"explanations/{name}" for name in (*_EXPLANATION_FILES, *_ANALYSIS_FILES)),
    "profiles/",
)
MAX_CSV_BYTES = 64 * 2**20  # bytes: a million epochs

_RESTORE = "Restore it from a copy; `distangle verify` lists all damaged files."

ResultT = TypeVar("ResultT", Benchmark, Explanation, Faithfulness, TemplateComparison, FilterAnalysis, ProfileResult)


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """The results of a run that the report shows.

    Attributes:
        run: Folder of the run.
        screen: Predicted screen.
        run_info: Contents of `run.json`.
        config: Resolved training configuration; empty if absent.
        correction: Chosen batch correction and the compared ones; None if none was chosen.
        fold_corrections: The same for each fold of a cross-validation that chose one.
        metrics: One row per epoch; None before the end of the first epoch.
        scores: Scores; None before prediction.
        wells: Predictions per well; None before prediction.
        explanation: Explanation of sites; None before `explain`.
        faithfulness: Tests of the attribution maps; None before they were run.
        benchmark: Scores of the attribution methods; None before the benchmark.
        templates: Comparison of class weight vectors; None before it was made.
        filters: Analysis of the 1x1 filters; None before it was made.
        profiles: Hits, neighbors and batch effects of the profiles; None before they were made.
        truth: Planted effects of a synthetic screen; None for a real one.
        hashes: SHA-256 of the files in the manifest, by name.
    """

    run: RunFolder
    screen: Screen
    run_info: Mapping[str, Any]
    config: Mapping[str, Any]
    correction: Mapping[str, Any] | None
    fold_corrections: tuple[Mapping[str, Any], ...]
    metrics: pd.DataFrame | None
    scores: Scores | None
    wells: Predictions | None
    explanation: Explanation | None
    faithfulness: Faithfulness | None
    benchmark: Benchmark | None
    templates: TemplateComparison | None
    filters: FilterAnalysis | None
    profiles: ProfileResult | None
    truth: Mapping[str, Any] | None
    hashes: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.run.root.resolve().name

    @property
    def command_path(self) -> str:
        """The path of the run for a command line.

        It is the URL of a run behind one, the path relative to the working folder for a run inside it, else the path as
        the user gave it.
        """
        if (address := address_of(self.run.root)) is not None:
            return shlex.quote(str(address))
        root, working_folder = self.run.root.resolve(), Path.cwd()
        return shlex.quote(
            (root.relative_to(working_folder) if root.is_relative_to(working_folder) else self.run.root).as_posix()
        )

    @property
    def stamp(self) -> str:
        """The label of every figure of a run with a forced split; "" otherwise."""
        return "forced split" if self.scores is not None and self.scores.forced else ""

    def present(self, names: Iterable[str]) -> list[str]:
        """Return those of the files, or patterns of files, that the run has."""
        return [name for name in names if next(self.run.root.glob(name), None) is not None]

    @property
    def cross_validation(self) -> Mapping[str, Any] | None:
        """The plan of the cross-validation; None without one."""
        return self.run_info.get("cross_validation")

    @property
    def holds_nothing_out(self) -> bool:
        """Whether the run trained on all wells, without cross-validation."""
        return bool(self.run_info.get("held_out") == NO_HOLD_OUT)

    @property
    def main_row(self) -> ScoreRow | None:
        """The score at the top of the page; None before prediction."""
        return None if self.scores is None else main_row(self.scores)


def load(run: RunFolder, screen: Screen, *, truth: Mapping[str, Any] | None = None) -> ReportData:
    """Read the results of a run.

    Raises:
        RunError: A file of the run cannot be read.
    """
    return ReportData(
        run=run,
        screen=screen,
        run_info=run.describe() if run.run.exists() else {},
        config=_read_config(run.config),
        correction=_read_correction(run.correction),
        fold_corrections=tuple(
            correction
            for path in sorted(run.cross_validation.glob("fold-*/correction.json"))
            if (correction := _read_correction(path))
        ),
        metrics=read_metrics(run),
        scores=Scores.read(run.scores) if run.scores.exists() else None,
        wells=_read_wells(run.predictions),
        explanation=_read_if_present(Explanation, run.explanations),
        faithfulness=_read_if_present(Faithfulness, run.explanations),
        benchmark=_read_if_present(Benchmark, run.explanations),
        templates=_read_if_present(TemplateComparison, run.explanations),
        filters=_read_if_present(FilterAnalysis, run.explanations),
        profiles=_read_if_present(ProfileResult, run.profiles),
        truth=truth,
        hashes=_manifest_hashes(run),
    )


def main_row(scores: Scores) -> ScoreRow | None:
    """Return the main score: wells, treatments, all held out, not transductive.

    It does not use the layout of the plate. If no row has all properties, earlier ones count more.
    """
    if not scores.rows:
        return None
    return min(
        scores.rows,
        key=lambda row: (
            row.layout != "",
            row.subset != "all",
            row.transductive,
            row.level != "well",
            row.wells != "treatments",
            row.metric != "accuracy",
            row.views,
        ),
    )


def _read_config(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    with read_regular_file(path, fix=_RESTORE):
        return dict(check_type(plain_yaml.load(path.read_text(encoding="utf-8")), dict, name="the settings"))


def _read_correction(path: Path) -> Mapping[str, Any] | None:
    if not path.exists():
        return None
    return read_json(path, fix="Restore it from a copy, or train the run again.")


def read_metrics(run: RunFolder) -> pd.DataFrame | None:
    """Return one row per epoch, with its `seconds`; None before the first one ended.

    Raises:
        RunError: The file is damaged.
    """
    path, timing = run.metrics, run.timing
    if not path.exists() or path.stat().st_size == 0:
        return None
    metrics = _read_numbers(path)
    if not len(metrics):
        return None
    if timing.exists():
        # A stopped epoch has one row per interval; their times add up.
        durations = _read_numbers(timing)
        with read_regular_file(timing, fix=_RESTORE):
            metrics["seconds"] = metrics["epoch"].map(durations.groupby("epoch")["seconds"].sum())
    return metrics


def _read_numbers(path: Path) -> pd.DataFrame:
    """Read a CSV of numbers that has a column `epoch`."""
    with read_regular_file(path, fix=_RESTORE):
        if path.stat().st_size > MAX_CSV_BYTES:
            raise UnexpectedContent(f"it has {path.stat().st_size} bytes, at most {MAX_CSV_BYTES} are read")
        table = pd.read_csv(path, encoding="utf-8")
        table["epoch"]
        for column in table.columns:
            if table[column].dtype.kind not in "fi":
                raise UnexpectedContent(f"column {str(column)[:40]!r} is not numeric")
    return table


def _read_wells(folder: Path) -> Predictions | None:
    try:
        return Predictions.read(folder, level="well")
    except MissingResultError:
        return None


def _read_if_present(kind: type[ResultT], folder: Path) -> ResultT | None:
    try:
        return kind.read(folder)
    except MissingResultError:
        return None


def _manifest_hashes(run: RunFolder) -> Mapping[str, str]:
    return {
        name: str(entry["sha256"]) for name, entry in run.manifest_entries().items() if not name.startswith("report/")
    }
