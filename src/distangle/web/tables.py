"""Tables of hits, scores, checks and epochs, for the page and as CSV."""

from typing import Any, Literal

import numpy as np
import pandas as pd

from distangle.core.untrusted_files import read_regular_file
from distangle.errors import DistangleError
from distangle.results.run import RunFolder
from distangle.screen.problems import FINDING_COLUMNS, findings_table, index_findings
from distangle.screen.screen import CHECKS, escape_formula
from distangle.web.answers import AnswerError, columnar
from distangle.web.index import ViewIndex
from distangle.web.source import ViewSource

Name = Literal["hits", "scores", "checks"]
NAMES: tuple[Name, ...] = ("hits", "scores", "checks")
_TITLES = {"hits": "Hits", "scores": "Scores", "checks": "Findings of the checks"}
_COMMANDS = {"hits": "distangle profile RUN", "scores": "distangle predict RUN", "checks": "distangle check SCREEN"}


def has_table(index: ViewIndex, name: Name) -> bool:
    """Return whether there is a table of this name."""
    source = index.source
    if name == "hits":
        return source.profiles is not None
    return source.has_scores if name == "scores" else source.screen is not None


def read_rows(index: ViewIndex, name: Name) -> tuple[pd.DataFrame, str]:
    """Return a table and the file that it comes from.

    Args:
        index: The source.
        name: Name of the table.

    Raises:
        AnswerError: There is no such table, or its file is damaged.
    """
    if not has_table(index, name):
        raise AnswerError(404, f"There is no table of {name}.", f"Make it: `{_COMMANDS[name]}`.")
    source = index.source
    if name == "hits" and source.profiles is not None:
        hits = source.profiles.hits
        ids = [index.perturbation_ids.get(str(label), -1) for label in hits["perturbation"]]
        return hits.assign(perturbation_id=ids), "hits.csv" if source.kind == "profiles" else "profiles/hits.csv"
    if name == "scores" and source.run is not None:
        return _scores(source, source.run), "predictions/scores.json"
    return _findings(index)


def describe_table(index: ViewIndex, name: Name) -> dict[str, Any]:
    """Return a table for the page, with its title and the name of its file.

    Raises:
        AnswerError: There is no such table, or its file is damaged.
    """
    table, file = read_rows(index, name)
    return {**columnar(table), "title": _TITLES[name], "source": file}


def to_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV; no cell is a formula of a spreadsheet."""
    plain = table.copy()
    for name in table:
        if not pd.api.types.is_numeric_dtype(table[name]):
            plain[name] = [escape_formula(value) if isinstance(value, str) else value for value in table[name]]
    plain = plain.rename(columns=lambda name: escape_formula(str(name)))
    return plain.to_csv(index=False, float_format="%.8g", lineterminator="\n")


def scores_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the score table, the interval and the baselines in columns."""
    flat = []
    for row in rows:
        low, high = row["interval"] or (np.nan, np.nan)
        flat.append(
            {
                **{name: row[name] for name in ("level", "wells", "subset", "metric", "layout", "views", "value")},
                "low": low,
                "high": high,
                "chance": row["chance"],
                **{f"baseline_{name}": value for name, value in row["baselines"].items()},
                **{name: row[name] for name in ("interval_over", "n", "n_groups", "transductive")},
            }
        )
    return pd.DataFrame(flat)


def training_metrics(source: ViewSource) -> dict[str, Any]:
    """Return the rows of `metrics.csv`, as far as the training got.

    Raises:
        AnswerError: The folder is no run, or the file is damaged.
    """
    if source.run is None:
        raise AnswerError(404, "Only a run has a training.")
    path = source.run.metrics
    metrics = pd.DataFrame({"epoch": []})
    if path.exists() and path.stat().st_size:
        try:
            with read_regular_file(path, fix="Restore it from a copy."):
                metrics = pd.read_csv(path)
                metrics = metrics.apply(pd.to_numeric, errors="coerce")
        except DistangleError as error:
            raise AnswerError(410, source.without_folders(str(error))) from error
    return {"finished": source.state() == "finished", "state": source.state(), "metrics": columnar(metrics)}


def _scores(source: ViewSource, run: RunFolder) -> pd.DataFrame:
    from distangle.results.scores import Scores  # loads SciPy, which takes a second

    try:
        rows = Scores.read(run.scores).rows
    except DistangleError as error:
        raise AnswerError(410, source.without_folders(str(error))) from error
    return scores_table([row.model_dump(mode="json") for row in rows])


def _findings(index: ViewIndex) -> tuple[pd.DataFrame, str]:
    """Return the findings of `distangle check`; before it, those of the index."""
    screen = index.source.screen
    if screen is None or screen.folder is None:
        raise AnswerError(404, "There is no screen.")
    path, file = screen.folder / CHECKS / "findings.csv", f"{CHECKS}/findings.csv"
    if path.is_file():
        try:
            with read_regular_file(path, fix="Make it again: `distangle check SCREEN`."):
                table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
                table = table[list(FINDING_COLUMNS)].map(_plain_text)
        except DistangleError as error:
            raise AnswerError(410, index.source.without_folders(str(error))) from error
    else:
        table, file = findings_table(index_findings(screen)).map(_plain_text), "problems.csv"
    table = table.assign(count=pd.to_numeric(table["count"], errors="coerce"))
    return table.assign(site_number=table["site"], site=_sites_of_findings(index, table)), file


def _sites_of_findings(index: ViewIndex, table: pd.DataFrame) -> list[int]:
    """Return the first site of each finding; -1 for a finding about no well."""
    columns = [table[name].astype(str) for name in ("experiment", "plate", "well", "site")]
    sites: list[int] = []
    for experiment, plate, wells, numbers in zip(*columns, strict=True):
        well = index.well_ids.get((experiment, plate, wells.partition(",")[0].strip()), -1)
        own = list(index.sites_of(well)) if well >= 0 else []
        wanted = numbers.partition(",")[0].strip()
        named = [site for site in own if str(index.source.sites["site"].iat[site]) == wanted]
        sites.append((named or own or [-1])[0])
    return sites


def _plain_text(text: str) -> str:
    """Return a cell without the quote that `escape_formula` put before it."""
    return text[1:] if text[:1] == "'" and escape_formula(text[1:]) != text[1:] else text
