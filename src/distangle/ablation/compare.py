"""Compare the conditions of an ablation: means, differences and intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from distangle.ablation.components import BASELINE
from distangle.ablation.plan import AblationPlan
from distangle.ablation.run import run_folder
from distangle.core.io import sha256_of
from distangle.core.stats import Interval, LeaveOneGroupOut, crossed_intervals, leave_one_group_out
from distangle.errors import RunError
from distangle.results import Predictions, RunFolder, Scores
from distangle.screen import CONTROLS

LEVELS: tuple[tuple[Literal["site", "well"], int], ...] = (("well", 8), ("site", 1))
Metric = Literal["accuracy", "balanced accuracy"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One condition by one measure.

    Attributes:
        condition: Its name.
        level: Sites, or wells as the mean over their sites.
        views: 1 or 8.
        metric: Accuracy, or the mean recall of the classes.
        value: Mean over the seeds.
        interval: 95 %, over groups and seeds; None for too few groups.
        difference: To the baseline, over the seeds that both have; None for the baseline itself, or without one.
        difference_interval: Likewise, with the same groups and seeds on both sides.
        by_seed: Value of every seed.
        n: Held-out sites or wells of one run.
    """

    condition: str
    level: Literal["site", "well"]
    views: int
    metric: Metric
    value: float
    interval: Interval | None
    difference: float | None
    difference_interval: Interval | None
    by_seed: Mapping[int, float]
    n: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The table of an ablation.

    Attributes:
        rows: By level, metric, and condition in the order of the plan.
        wells: Which are scored: `treatments`, or `all` where there are only controls.
        unit: What the groups are: `experiment`, or `plate` when a single experiment is held out.
        groups: The held-out ones.
        seeds: Of any finished run.
        chance: Of guessing, one over the number of trained classes.
        curves: Accuracy of held-out sites by condition: [epoch, seed], NaN where a run has not come so far.
        unchanged: Conditions whose every run predicts, to the last bit, what the baseline does.
    """

    rows: tuple[Row, ...]
    wells: Literal["treatments", "all"]
    unit: Literal["experiment", "plate"]
    groups: tuple[str, ...]
    seeds: tuple[int, ...]
    chance: float
    curves: Mapping[str, np.ndarray]
    unchanged: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `comparison.json` holds."""
        return {
            "wells": self.wells,
            "unit": self.unit,
            "groups": list(self.groups),
            "seeds": list(self.seeds),
            "chance": self.chance,
            "unchanged": list(self.unchanged),
            "rows": [asdict(row) for row in self.rows],
        }


@dataclass(frozen=True)
class HitCounts:
    """Hits and scored rows of one run, float [group, class], and their wells."""

    right: np.ndarray
    n: np.ndarray
    n_wells: int


def compare(plan: AblationPlan) -> Comparison:
    """Compare the finished runs of an ablation.

    An interval adds the variance over held-out groups and that over seeds: it says how far the value would move with
    other experiments and other seeds. The runs of all conditions share folds and seeds, so a difference is taken
    within groups and seeds before its variance is.

    Args:
        plan: The ablation; runs that are not finished are left out.

    Raises:
        RunError: No run is finished.
    """
    runs = {
        (condition.name, seed): RunFolder(run_folder(plan, condition, seed))
        for condition in plan.conditions
        for seed in plan.seeds
    }
    runs = {key: run for key, run in runs.items() if run.scores.exists()}
    if not runs:
        raise RunError(f"No run of {plan.root} is finished. `distangle ablate --out {plan.root}` goes on.")
    names = [condition.name for condition in plan.conditions if any(name == condition.name for name, _ in runs)]
    rows: list[Row] = []
    for level, views in LEVELS:
        wells, unit, scored = _groups([_scored(run, level=level, views=views) for run in runs.values()])
        tables = dict(zip(runs, scored, strict=True))
        groups = sorted(set().union(*(set(table["group"]) for table in scored)))
        classes = sorted(set().union(*(set(table["perturbation"]) for table in tables.values())))
        counts = {key: _counted(table, groups, classes) for key, table in tables.items()}
        for metric in ("accuracy", "balanced accuracy"):
            rows += [_row(name, counts, level=level, views=views, metric=metric) for name in names]
    first = next(iter(runs.values()))
    return Comparison(
        rows=tuple(rows),
        wells=wells,
        unit=unit,
        groups=tuple(groups),
        seeds=tuple(sorted({seed for _, seed in runs})),
        chance=Scores.read(first.scores).rows[0].chance,
        curves={name: _curves([run for (one, _), run in runs.items() if one == name]) for name in names},
        unchanged=tuple(name for name in names if name != BASELINE and _is_unchanged(name, runs)),
    )


def _row(
    name: str,
    counts: Mapping[tuple[str, int], HitCounts],
    *,
    level: Literal["site", "well"],
    views: int,
    metric: Metric,
) -> Row:
    own = {seed: run for (one, seed), run in counts.items() if one == name}
    base = {seed: run for (one, seed), run in counts.items() if one == BASELINE and seed in own}
    found = {seed: _left_out(run, metric) for seed, run in own.items()}
    n_wells = min(run.n_wells for run in own.values())
    interval, _ = crossed_intervals(list(found.values()), n_wells=n_wells)
    difference, difference_interval = None, None
    if base and name != BASELINE:
        both, before = [found[seed] for seed in base], [_left_out(run, metric) for run in base.values()]
        difference = float(np.mean([one.value for one in both]) - np.mean([one.value for one in before]))
        _, difference_interval = crossed_intervals(both, before, n_wells=n_wells)
    by_seed = {seed: one.value for seed, one in found.items()}
    return Row(
        condition=name,
        level=level,
        views=views,
        metric=metric,
        value=float(np.mean(list(by_seed.values()))),
        interval=interval,
        difference=difference,
        difference_interval=difference_interval,
        by_seed=by_seed,
        n=int(next(iter(own.values())).n.sum()),
    )


def _left_out(run: HitCounts, metric: Metric) -> LeaveOneGroupOut:
    right, n = run.right, run.n
    if metric == "accuracy":
        right, n = right.sum(axis=1, keepdims=True), n.sum(axis=1, keepdims=True)
    # A class that no group has is not in the mean.
    there = n[:, n.sum(axis=0) > 0] > 0
    of_group, of_kind = np.nonzero(there)
    kept = n[:, n.sum(axis=0) > 0], right[:, n.sum(axis=0) > 0]
    return leave_one_group_out(kept[1][there], kept[0][there], of_group=of_group, of_class=of_kind)


def _scored(run: RunFolder, *, level: Literal["site", "well"], views: int) -> pd.DataFrame:
    table = Predictions.read(run.predictions, level=level, views=views).table
    never = Scores.read(run.scores).never_trained
    known = (table["perturbation"] != "") & ~table["perturbation"].isin(never) & (table["reason"] == "")
    return table[(table["Metadata_Fold"] == "held_out") & known]


def _groups(
    tables: Sequence[pd.DataFrame],
) -> tuple[Literal["treatments", "all"], Literal["experiment", "plate"], list[pd.DataFrame]]:
    """Decide once for all runs which wells are scored and what the groups are; the tables get a column `group`."""
    wells: Literal["treatments", "all"] = "treatments"
    if any(table["Metadata_Role"].isin(CONTROLS).all() for table in tables):
        wells = "all"
    experiments = set().union(*(set(table["Metadata_Experiment"]) for table in tables))
    unit: Literal["experiment", "plate"] = "experiment" if len(experiments) > 1 else "plate"
    found = []
    for table in tables:
        chosen = table if wells == "all" else table[~table["Metadata_Role"].isin(CONTROLS)]
        group = chosen["Metadata_Experiment"].astype(str)
        if unit == "plate":
            group = group + " plate " + chosen["Metadata_Plate"].astype(str)
        found.append(chosen.assign(group=group))
    return wells, unit, found


def _counted(table: pd.DataFrame, groups: list[str], classes: list[str]) -> HitCounts:
    group = pd.Categorical(table["group"], categories=groups).codes
    truth = pd.Categorical(table["perturbation"], categories=classes).codes
    right, n = np.zeros((len(groups), len(classes))), np.zeros((len(groups), len(classes)))
    np.add.at(n, (group, truth), 1)
    np.add.at(right, (group, truth), (table["perturbation"] == table["predicted"]).to_numpy(dtype=float))
    n_wells = len(table[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]].drop_duplicates())
    return HitCounts(right=right, n=n, n_wells=n_wells)


def _is_unchanged(name: str, runs: Mapping[tuple[str, int], RunFolder]) -> bool:
    def said(run: RunFolder) -> str:
        return sha256_of(run.predictions / "sites.safetensors")

    pairs = [(run, runs.get((BASELINE, seed))) for (one, seed), run in runs.items() if one == name]
    return all(base is not None and said(run) == said(base) for run, base in pairs)


def _curves(runs: list[RunFolder]) -> np.ndarray:
    read = [pd.read_csv(run.metrics) for run in runs]
    lines = [table["held_out_accuracy"].to_numpy(float) for table in read if "held_out_accuracy" in table]
    found = np.full((max((len(line) for line in lines), default=0), len(lines)), np.nan)
    for k, line in enumerate(lines):
        found[: len(line), k] = line
    return found
