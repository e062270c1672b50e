"""Compare two runs well by well, perturbation by perturbation and score by score."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from distangle.errors import ConfigError
from distangle.screen import HELD_OUT
from distangle.screen.screen import WELL_COLUMNS
from distangle.web.answers import AnswerError, cell, columnar
from distangle.web.index import ViewIndex, match_rows
from distangle.web.source import ViewSource
from distangle.web.tables import has_table, read_rows
from distangle.web.wells import well_attribution, well_predictions

SCORE_KEYS = ["level", "wells", "subset", "metric", "layout", "views", "transductive"]
_ACTIVITY = {"activity": "mean_average_precision", "q": "q"}
_MOST_EXAMPLES = 5


@dataclass(frozen=True)
class RunPair:
    """Two runs whose wells are matched by experiment, plate and well.

    Attributes:
        first: The run whose numbers the page uses.
        second: The other run.
    """

    first: ViewIndex
    second: ViewIndex

    @cached_property
    def wells(self) -> np.ndarray:
        """Well of the second run of every well of the first, int64; -1 without one."""
        names = list(WELL_COLUMNS)
        return match_rows(self.first.wells, names, self.second.wells, names)

    @cached_property
    def sites(self) -> np.ndarray:
        """Site of the second run of every site of the first, int64; -1 without one."""
        names = [*WELL_COLUMNS, "site"]
        return match_rows(self.first.source.sites, names, self.second.source.sites, names)

    @property
    def titles(self) -> tuple[str, str]:
        """Names of the folders; with more where they are equal."""
        roots = [index.source.root.resolve() for index in (self.first, self.second)]
        for names in ([root.name for root in roots], [f"{root.parent.name}/{root.name}" for root in roots]):
            if names[0] != names[1]:
                return names[0], names[1]
        return f"{roots[0].name} (first)", f"{roots[1].name} (second)"


def check_pair(first: ViewSource, second: ViewSource) -> None:
    """Check that two folders can be compared.

    Raises:
        ConfigError: One is no run, both are the same, or they share no well.
    """
    for source in (first, second):
        if source.kind != "run":
            raise ConfigError(
                f"{source.root} is a folder of kind {source.kind}: only two runs can be compared. Name two runs: "
                "`distangle view RUN OTHER_RUN`."
            )
    if first.root.resolve() == second.root.resolve():
        raise ConfigError(f"{first.root} was named twice. Name another run, or leave the second out.")
    names = list(WELL_COLUMNS)
    tables = [source.sites[names].drop_duplicates() for source in (first, second)]
    if not (match_rows(tables[0], names, tables[1], names) >= 0).any():
        raise ConfigError(
            f"{first.root} and {second.root} share no well (experiment, plate and well): they are of different "
            "screens. Name two runs of one screen."
        )


def describe_pair(pair: RunPair) -> dict[str, Any]:
    """Return what two runs share, and their perturbations and scores side by side.

    Raises:
        AnswerError: The scores of a run are damaged.
    """
    usable, notes = _usable_wells(pair)
    scores = _scores(pair)
    if scores is None:
        notes.append("Scores are shown where both runs have them: `distangle predict RUN` makes them.")
    if any(index.source.profiles is None for index in (pair.first, pair.second)):
        notes.append("Activity is shown for a run with profiles: `distangle profile RUN` makes them.")
    return {
        "titles": list(pair.titles),
        "n_compared": int(usable.sum()),
        "shared": _shared(pair),
        "notes": notes,
        "perturbations": columnar(_perturbations(pair, usable)),
        "scores": None if scores is None else columnar(scores),
    }


def describe_pair_well(pair: RunPair, well: int) -> dict[str, Any]:
    """Return what the second run says of a well of the first.

    Raises:
        AnswerError: The second run lacks the well.
    """
    other = int(pair.wells[well])
    if other < 0:
        name = _well_name(pair.first.wells.iloc[well])
        raise AnswerError(404, f"{pair.titles[1]} lacks the well {name}.", "Choose another well.")
    sites = [site for site in pair.first.sites_of(well) if int(pair.sites[site]) in pair.second.explained_sites]
    columns = pair.second.columns
    facts = [
        [name, cell(columns[name].iat[other])]
        for name in ("fold", "predicted", "confidence", "correct")
        if name in columns
    ]
    return {
        "facts": facts,
        "perturbation": str(pair.second.wells["perturbation"].iat[other]),
        "predictions": well_predictions(pair.second, other),
        "attribution": well_attribution(pair.second, other),
        "channels": [str(channel["name"]) for channel in pair.second.source.channels],
        "explained": sites,
    }


def pair_map(pair: RunPair, site: int) -> np.ndarray:
    """Return the second run's map of a site of the first, float32 [height, width].

    Raises:
        AnswerError: The second run does not explain the site.
        RunError: The file of the maps is absent or damaged.
    """
    explanation, other = pair.second.source.explanation, int(pair.sites[site])
    row = pair.second.explained_sites.get(other)
    if explanation is None or row is None:
        raise AnswerError(
            404, f"{pair.titles[1]} does not explain this site.", "`distangle explain RUN` explains more."
        )
    return explanation.read_map(row)


def _usable_wells(pair: RunPair) -> tuple[np.ndarray, list[str]]:
    """Return the wells to compare, bool [well of the first], and notes on others."""
    first, second = pair.titles
    usable = pair.wells >= 0
    targets = [index.source.target() for index in (pair.first, pair.second)]
    if targets[0] != targets[1]:
        text = f"{first} predicts {targets[0]} and {second} predicts {targets[1]}: their recalls cannot be compared."
        return np.zeros(len(usable), dtype=bool), [text]
    if any(index.source.predictions is None for index in (pair.first, pair.second)):
        return np.zeros(len(usable), dtype=bool), ["Recall needs predictions of both: `distangle predict RUN`."]
    notes = []
    names = [index.wells["perturbation"].to_numpy(dtype=object) for index in (pair.first, pair.second)]
    differ = usable & (names[0] != names[1][pair.wells])
    if differ.any():
        example = _well_name(pair.first.wells.iloc[int(differ.argmax())])
        notes.append(f"{int(differ.sum())} wells have another perturbation in {second}, such as {example}: left out.")
    for index, wells in ((pair.first, np.arange(len(usable))), (pair.second, pair.wells)):
        usable &= _is_held_out(index)[wells] & np.isfinite(index.columns["correct"].to_numpy()[wells])
    usable &= ~differ
    notes.insert(0, f"Recall: over the {int(usable.sum()):,} wells that both runs held out and predicted.")
    return usable, notes


def _is_held_out(index: ViewIndex) -> np.ndarray:
    """Return whether a well was not trained on, bool [well]; all where no fold is known."""
    fold = index.columns["fold"].to_numpy(dtype=object) if "fold" in index.columns else np.array([], dtype=object)
    return np.asarray(fold == HELD_OUT) if (fold != "").any() else np.ones(len(index.first_site), dtype=bool)


def _perturbations(pair: RunPair, usable: np.ndarray) -> pd.DataFrame:
    """Return recall and activity of every perturbation in both runs."""
    names = list(dict.fromkeys([*pair.first.perturbations, *pair.second.perturbations]))
    table = pd.DataFrame({"perturbation": names})
    name = table["perturbation"]
    table["perturbation_id"] = name.map(pair.first.perturbation_ids).fillna(-1).astype("int64")
    wells = np.flatnonzero(usable)
    labels = pair.first.wells["perturbation"].to_numpy(dtype=object)[wells]
    table["wells_compared"] = name.map(pd.Series(labels).value_counts()).fillna(0).astype("int64")
    values: dict[str, dict[str, pd.Series]] = {"wells": {}, "recall": {}, "activity": {}, "q": {}}
    for word, index, rows in (("first", pair.first, wells), ("second", pair.second, pair.wells[wells])):
        numbers = index.perturbation_of_well
        counts = np.bincount(numbers[numbers >= 0], minlength=len(index.perturbations))
        values["wells"][word] = name.map(dict(zip(index.perturbations, counts, strict=True))).fillna(0).astype("int64")
        correct = index.columns["correct"].to_numpy()[rows] if len(rows) else np.zeros(0)
        values["recall"][word] = name.map(pd.Series(correct).groupby(labels).mean()).astype("float64")
        profiles = index.source.profiles
        for short, column in _ACTIVITY.items():
            values[short][word] = pd.Series(np.nan, index=table.index)
            if profiles is not None:
                hits = profiles.hits[~profiles.hits["perturbation"].duplicated()].set_index("perturbation")
                values[short][word] = name.map(hits[column]).astype("float64")
    for kind, of_runs in values.items():
        for word, series in of_runs.items():
            table[f"{kind}_{word}"] = series
        if kind in ("recall", "activity"):
            table[f"{kind}_difference"] = of_runs["second"] - of_runs["first"]
    return table


def _scores(pair: RunPair) -> pd.DataFrame | None:
    """Return the scores of both runs, a row per score of either; None if one has none."""
    if not all(has_table(index, "scores") for index in (pair.first, pair.second)):
        return None
    tables = []
    for word, index in (("first", pair.first), ("second", pair.second)):
        part = read_rows(index, "scores")[0].drop_duplicates(SCORE_KEYS)
        tables.append(
            part[[*SCORE_KEYS, "value", "low", "high", "n"]].rename(
                columns={name: f"{name}_{word}" for name in ("value", "low", "high", "n")}
            )
        )
    table = tables[0].merge(tables[1], on=SCORE_KEYS, how="outer", sort=False)
    table["difference"] = table["value_second"] - table["value_first"]
    names = [f"{name}_{word}" for name in ("low", "high", "n") for word in ("first", "second")]
    return table[[*SCORE_KEYS, "value_first", "value_second", "difference", *names]]


def _shared(pair: RunPair) -> list[dict[str, Any]]:
    """Return what both runs have and what only one, a row per kind of thing."""
    wells = [[tuple(row) for row in index.wells[list(WELL_COLUMNS)].astype(str).to_numpy()] for index in _both(pair)]
    rows = [_row("experiments", *([experiment for experiment, _, _ in part] for part in wells))]
    rows.append(_row("wells", *([" ".join(row) for row in part] for part in wells)))
    rows.append(_row("perturbations", *(index.perturbations for index in _both(pair))))
    held_out, explained = [], []
    for index, part in zip(_both(pair), wells, strict=True):
        held_out.append([" ".join(part[well]) for well in np.flatnonzero(_is_held_out(index))])
        explained.append([" ".join(part[well]) for well in index.explained_wells])
    rows += [_row("held-out wells", *held_out), _row("explained wells", *explained)]
    rows.append(
        _row("channels", *([str(channel["name"]) for channel in index.source.channels] for index in _both(pair)))
    )
    return rows


def _both(pair: RunPair) -> tuple[ViewIndex, ViewIndex]:
    return pair.first, pair.second


def _row(what: str, first: Sequence[str], second: Sequence[str]) -> dict[str, Any]:
    own, other = dict.fromkeys(first), dict.fromkeys(second)
    alone = [[name for name in one if name not in two] for one, two in ((own, other), (other, own))]
    return {
        "what": what,
        "both": len(own) - len(alone[0]),
        "only_first": len(alone[0]),
        "only_second": len(alone[1]),
        "examples_first": alone[0][:_MOST_EXAMPLES],
        "examples_second": alone[1][:_MOST_EXAMPLES],
    }


def _well_name(row: pd.Series) -> str:
    return " ".join(str(row[name]) for name in WELL_COLUMNS)
