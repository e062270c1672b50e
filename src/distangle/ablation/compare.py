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
    """One condition with one metric.

    Attributes:
        condition: Name of the condition.
        level: `site`, or `well` for the mean over its sites.
        views: 1 or 8.
        metric: Accuracy, or the mean recall of the classes.
        value: Mean over the seeds.
        interval: 95 % interval over groups and seeds; None with too few groups.
        difference: Difference to the baseline over the seeds of both; None for the baseline itself, or without one.
        difference_interval: 95 % interval of the difference, with the same groups and seeds on both sides.
        by_seed: Value of every seed.
        n: Number of held-out sites or wells of one run.
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
        rows: Rows by level, metric, and condition in the order of the plan.
        wells: Scored wells: `treatments`, or `all` if there are only controls.
        unit: Kind of the groups: `experiment`, or `plate` if a single experiment is held out.
        groups: Names of the held-out groups.
        seeds: Seeds of all finished runs.
        chance: Accuracy by chance, one over the number of trained classes.
        curves: Accuracy of held-out sites by condition: [epoch, seed], NaN where a run has fewer epochs.
        unchanged: Conditions whose every run predicts bit for bit the same as the baseline.
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
        """Return the content of `comparison.json`."""
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
    """Correct and scored rows of one run, float [group, class], and its wells."""

    n_correct: np.ndarray
    n_scored: np.ndarray
    n_wells: int


def compare(plan: AblationPlan) -> Comparison:
    """Compare the finished runs of an ablation.

    An interval adds the variance over held-out groups and that over seeds: it estimates how far the value would move
    with other experiments and other seeds. The runs of all conditions share folds and seeds, so a difference is taken
    within groups and seeds before its variance is computed.

    Args:
        plan: The ablation; unfinished runs are left out.

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
        raise RunError(f"No run of {plan.root} is finished. `distangle ablate --out {plan.root}` continues.")
    names = [condition.name for condition in plan.conditions if any(name == condition.name for name, _ in runs)]
    rows: list[Row] = []
    for level, views in LEVELS:
        wells, unit, tables_of_runs = _assign_groups(
            [_scored_rows(run, level=level, views=views) for run in runs.values()]
        )
        tables = dict(zip(runs, tables_of_runs, strict=True))
        groups = sorted(set().union(*(set(table["group"]) for table in tables_of_runs)))
        classes = sorted(set().union(*(set(table["perturbation"]) for table in tables.values())))
        counts = {key: _count_hits(table, groups, classes) for key, table in tables.items()}
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
        curves={name: _curves([run for (condition, _), run in runs.items() if condition == name]) for name in names},
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
    runs = {seed: run for (condition, seed), run in counts.items() if condition == name}
    baseline = {seed: run for (condition, seed), run in counts.items() if condition == BASELINE and seed in runs}
    estimates = {seed: _jackknife(run, metric) for seed, run in runs.items()}
    n_wells = min(run.n_wells for run in runs.values())
    interval, _ = crossed_intervals(list(estimates.values()), n_wells=n_wells)
    difference, difference_interval = None, None
    if baseline and name != BASELINE:
        paired = [estimates[seed] for seed in baseline]
        baseline_estimates = [_jackknife(run, metric) for run in baseline.values()]
        means = [np.mean([estimate.value for estimate in side]) for side in (paired, baseline_estimates)]
        difference = float(means[0] - means[1])
        _, difference_interval = crossed_intervals(paired, baseline_estimates, n_wells=n_wells)
    by_seed = {seed: estimate.value for seed, estimate in estimates.items()}
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
        n=int(next(iter(runs.values())).n_scored.sum()),
    )


def _jackknife(run: HitCounts, metric: Metric) -> LeaveOneGroupOut:
    n_correct, n_scored = run.n_correct, run.n_scored
    if metric == "accuracy":
        n_correct, n_scored = n_correct.sum(axis=1, keepdims=True), n_scored.sum(axis=1, keepdims=True)
    # A class that no group has does not count in the mean.
    has_class = n_scored.sum(axis=0) > 0
    n_scored, n_correct = n_scored[:, has_class], n_correct[:, has_class]
    has_rows = n_scored > 0
    group_index, class_index = np.nonzero(has_rows)
    return leave_one_group_out(n_correct[has_rows], n_scored[has_rows], of_group=group_index, of_class=class_index)


def _scored_rows(run: RunFolder, *, level: Literal["site", "well"], views: int) -> pd.DataFrame:
    table = Predictions.read(run.predictions, level=level, views=views, with_logits=False).table
    never_trained = Scores.read(run.scores).never_trained
    has_known_class = (
        (table["perturbation"] != "") & ~table["perturbation"].isin(never_trained) & (table["reason"] == "")
    )
    return table[(table["Metadata_Fold"] == "held_out") & has_known_class]


def _assign_groups(
    tables: Sequence[pd.DataFrame],
) -> tuple[Literal["treatments", "all"], Literal["experiment", "plate"], list[pd.DataFrame]]:
    """Decide which wells are scored in all runs; add a column `group` to the tables."""
    wells: Literal["treatments", "all"] = "treatments"
    if any(table["Metadata_Role"].isin(CONTROLS).all() for table in tables):
        wells = "all"
    experiments = set().union(*(set(table["Metadata_Experiment"]) for table in tables))
    unit: Literal["experiment", "plate"] = "experiment" if len(experiments) > 1 else "plate"
    grouped = []
    for table in tables:
        rows = table if wells == "all" else table[~table["Metadata_Role"].isin(CONTROLS)]
        group = rows["Metadata_Experiment"].astype(str)
        if unit == "plate":
            group = group + " plate " + rows["Metadata_Plate"].astype(str)
        grouped.append(rows.assign(group=group))
    return wells, unit, grouped


def _count_hits(table: pd.DataFrame, groups: list[str], classes: list[str]) -> HitCounts:
    group_index = pd.Categorical(table["group"], categories=groups).codes
    class_index = pd.Categorical(table["perturbation"], categories=classes).codes
    n_correct, n_scored = np.zeros((len(groups), len(classes))), np.zeros((len(groups), len(classes)))
    np.add.at(n_scored, (group_index, class_index), 1)
    np.add.at(
        n_correct, (group_index, class_index), (table["perturbation"] == table["predicted"]).to_numpy(dtype=float)
    )
    n_wells = len(table[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]].drop_duplicates())
    return HitCounts(n_correct=n_correct, n_scored=n_scored, n_wells=n_wells)


def _is_unchanged(name: str, runs: Mapping[tuple[str, int], RunFolder]) -> bool:
    def digest(run: RunFolder) -> str:
        return sha256_of(run.predictions / "sites.safetensors")

    pairs = [(run, runs.get((BASELINE, seed))) for (condition, seed), run in runs.items() if condition == name]
    return all(baseline is not None and digest(run) == digest(baseline) for run, baseline in pairs)


def _curves(runs: list[RunFolder]) -> np.ndarray:
    tables = [pd.read_csv(run.metrics) for run in runs]
    columns = [table["held_out_accuracy"].to_numpy(float) for table in tables if "held_out_accuracy" in table]
    curves = np.full((max((len(column) for column in columns), default=0), len(columns)), np.nan)
    for k, column in enumerate(columns):
        curves[: len(column), k] = column
    return curves
