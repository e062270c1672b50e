"""Read everything of a run that the report shows, once."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from distangle.core import plain_yaml
from distangle.core.io import MissingResultError
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
from distangle.screen import NO_HOLD_OUT, Screen

_EXPLAINED = ("explanation.json", "maps.npz", "sites.parquet", "wells.parquet", "perturbations.parquet")
_EXAMINED = ("faithfulness.", "benchmark.json", "templates.", "embeddings.parquet", "filters.")
# Beginnings of the names of all files of a run that a page or a figure shows.
SHOWN = (
    *("run.json", "config.yaml", "screen.json", "metrics.csv", "timing.csv", "correction.json"),
    *("predictions/scores.json", "predictions/wells."),
    *(f"explanations/{name}" for name in (*_EXPLAINED, *_EXAMINED)),
)
MOST_CSV = 64 * 2**20  # bytes: a million epochs

Noun = TypeVar("Noun", Benchmark, Explanation, Faithfulness, TemplateComparison, FilterAnalysis)


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """What a report is made of.

    Attributes:
        run: The folder of the run.
        screen: The screen that was predicted.
        described: `run.json`.
        config: The resolved training configuration; empty when absent.
        correction: Which batch correction was chosen, and beside which; None where none was.
        corrections_of_folds: The same of each fold of a cross-validation that has chosen.
        metrics: One row per epoch; None before training has finished one.
        scores: None before prediction.
        wells: Predictions per well; None before prediction.
        explanation: None before explaining.
        faithfulness: None before the maps were examined.
        benchmark: None before the methods were marked against a planted truth.
        templates: None before they were compared.
        filters: None before they were examined.
        truth: What was planted into a synthetic screen; None on a real one.
        hashes: SHA-256 of the files in the manifest, by name.
    """

    run: RunFolder
    screen: Screen
    described: Mapping[str, Any]
    config: Mapping[str, Any]
    correction: Mapping[str, Any] | None
    corrections_of_folds: tuple[Mapping[str, Any], ...]
    metrics: pd.DataFrame | None
    scores: Scores | None
    wells: Predictions | None
    explanation: Explanation | None
    faithfulness: Faithfulness | None
    benchmark: Benchmark | None
    templates: TemplateComparison | None
    filters: FilterAnalysis | None
    truth: Mapping[str, Any] | None
    hashes: Mapping[str, str]

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.run.root.resolve().name

    @property
    def typed(self) -> str:
        """The folder of the run as the user can type it in a command line.

        Relative to the working folder if inside it, else as it was given.
        """
        root, here = self.run.root.resolve(), Path.cwd()
        return shlex.quote((root.relative_to(here) if root.is_relative_to(here) else self.run.root).as_posix())

    @property
    def stamp(self) -> str:
        """What stands on every figure of a run whose split was forced; "" otherwise."""
        return "forced split" if self.scores is not None and self.scores.forced else ""

    @property
    def crossed(self) -> Mapping[str, Any] | None:
        """The plan of the cross-validation; None of a run without one."""
        return self.described.get("cross_validation")

    @property
    def holds_nothing_out(self) -> bool:
        """Whether the run was trained on everything, without cross-validation."""
        return bool(self.described.get("held_out") == NO_HOLD_OUT)

    @property
    def main_row(self) -> ScoreRow | None:
        """The score that stands at the top; None before prediction."""
        return None if self.scores is None else main_row(self.scores)


def load(run: RunFolder, screen: Screen, *, truth: Mapping[str, Any] | None = None) -> ReportData:
    """Read a run.

    Raises:
        RunError: A file of the run is there and cannot be read.
    """
    return ReportData(
        run=run,
        screen=screen,
        described=run.describe() if run.run.exists() else {},
        config=_config(run.config),
        correction=_correction(run.correction),
        corrections_of_folds=tuple(
            told for path in sorted(run.cross_validation.glob("fold-*/correction.json")) if (told := _correction(path))
        ),
        metrics=_metrics(run.metrics, run.timing),
        scores=Scores.read(run.scores) if run.scores.exists() else None,
        wells=_wells(run.predictions),
        explanation=_written(Explanation, run.explanations),
        faithfulness=_written(Faithfulness, run.explanations),
        benchmark=_written(Benchmark, run.explanations),
        templates=_written(TemplateComparison, run.explanations),
        filters=_written(FilterAnalysis, run.explanations),
        truth=truth,
        hashes=_hashes(run),
    )


def main_row(scores: Scores) -> ScoreRow | None:
    """Return the main score: wells, treatments, all held out, not transductive.

    A property that no row has gives way to the next one.
    """
    if not scores.rows:
        return None
    return min(
        scores.rows,
        key=lambda row: (
            row.subset != "all",
            row.transductive,
            row.level != "well",
            row.wells != "treatments",
            row.metric != "accuracy",
            row.views,
        ),
    )


def _config(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    with read_regular_file(path, fix=_RESTORE):
        return dict(check_type(plain_yaml.load(path.read_text(encoding="utf-8")), dict, name="the settings"))


def _correction(path: Path) -> Mapping[str, Any] | None:
    if not path.exists():
        return None
    return read_json(path, fix="Restore it from a copy, or train the run again.")


def _metrics(path: Path, timing: Path) -> pd.DataFrame | None:
    if not path.exists() or path.stat().st_size == 0:
        return None
    metrics = _numbers(path)
    if not len(metrics):
        return None
    if timing.exists():
        # A stopped epoch has several stretches, of which each took its time.
        taken = _numbers(timing)
        with read_regular_file(timing, fix=_RESTORE):
            metrics["seconds"] = metrics["epoch"].map(taken.groupby("epoch")["seconds"].sum())
    return metrics


_RESTORE = "Restore it from a copy; `distangle verify` names what else is damaged."


def _numbers(path: Path) -> pd.DataFrame:
    """Return a CSV of numbers with a column `epoch`."""
    with read_regular_file(path, fix=_RESTORE):
        if path.stat().st_size > MOST_CSV:
            raise UnexpectedContent(f"it has {path.stat().st_size} bytes, at most {MOST_CSV} are read")
        table = pd.read_csv(path, encoding="utf-8")
        table["epoch"]
        for column in table.columns:
            if table[column].dtype.kind not in "fi":
                raise UnexpectedContent(f"column {str(column)[:40]!r} holds something else than numbers")
    return table


def _wells(folder: Path) -> Predictions | None:
    try:
        return Predictions.read(folder, level="well")
    except MissingResultError:
        return None


def _written(noun: type[Noun], folder: Path) -> Noun | None:
    try:
        return noun.read(folder)
    except MissingResultError:
        return None


def _hashes(run: RunFolder) -> Mapping[str, str]:
    return {
        name: str(entry["sha256"]) for name, entry in run.manifest_entries().items() if not name.startswith("report/")
    }
