"""What the conditions are worth: means over seeds, differences, and intervals over experiments and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from distangle.ablation.conditions import BASELINE
from distangle.ablation.plan import Plan
from distangle.ablation.run import run_folder
from distangle.commit import sha256_of
from distangle.errors import RunError
from distangle.randomness import generator
from distangle.results import Predictions, RunFolder, Scores
from distangle.screen import CONTROLS

N_DRAWS = 2000
LEVELS: tuple[tuple[Literal["site", "well"], int], ...] = (("well", 8), ("site", 1))
Metric = Literal["accuracy", "balanced accuracy"]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One condition by one measure.

    Attributes:
        condition: Its name.
        level: Sites, or wells as the mean over their sites.
        views: 1 or 8.
        metric: Accuracy, or the mean recall of the classes.
        value: Mean over the seeds.
        interval: 95 %, from drawing groups and seeds with replacement; None when there is one of each.
        difference: To the baseline, over the seeds that both have; None for the baseline itself, or without one.
        difference_interval: Likewise, the same groups and seeds drawn for both.
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
        unit: What is drawn: `experiment`, or `plate` when a single experiment is held out.
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
            "n_draws": N_DRAWS,
            "unchanged": list(self.unchanged),
            "rows": [asdict(row) for row in self.rows],
        }


@dataclass(frozen=True)
class Counts:
    """Of one run: right and scored ones, float [group, class]."""

    right: np.ndarray
    n: np.ndarray


def compare(plan: Plan) -> Comparison:
    """Compare the finished runs of an ablation.

    An interval draws held-out groups and, apart from them, seeds, both with replacement: it says how far the
    value would move with other experiments and other seeds. The runs of all conditions share folds and seeds,
    so a difference is drawn over the same groups and seeds on both sides.

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
        message = f"No run of {plan.root} is finished. `distangle ablate --out {plan.root}` goes on."
        raise RunError(message)
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


def drawn(n: int, size: int, *key: str) -> np.ndarray:
    """Return how often each of `n` is drawn, float [draw, n]: `size` draws with replacement, `N_DRAWS` times."""
    return np.asarray(generator(0, "ablation", *key).multinomial(size, np.full(n, 1 / n), size=N_DRAWS), dtype=float)


def values_drawn(runs: list[Counts], metric: Metric, groups: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the mean over drawn seeds of the value over drawn groups, [draw].

    Args:
        runs: One per seed.
        metric: Which value.
        groups: From `drawn`, [draw, group].
        seeds: From `drawn`, [draw, seed].
    """
    by_seed = np.stack([_value(run, metric, groups) for run in runs], axis=1)
    return np.asarray((by_seed * seeds).sum(axis=1) / seeds.sum(axis=1))


def _value(run: Counts, metric: Metric, groups: np.ndarray) -> np.ndarray:
    right, n = groups @ run.right, groups @ run.n
    if metric == "accuracy":
        return np.asarray(right.sum(axis=1) / n.sum(axis=1))
    # A class that no drawn group has is not in the mean.
    return np.asarray(np.nanmean(np.divide(right, n, out=np.full_like(n, np.nan), where=n > 0), axis=1))


def _row(
    name: str, counts: Mapping[tuple[str, int], Counts], *, level: Literal["site", "well"], views: int, metric: Metric
) -> Row:
    own = {seed: run for (one, seed), run in counts.items() if one == name}
    base = {seed: run for (one, seed), run in counts.items() if one == BASELINE and seed in own}
    n_groups = len(next(iter(own.values())).n)
    everything = np.ones((1, n_groups))
    by_seed = {seed: float(_value(run, metric, everything)[0]) for seed, run in own.items()}
    groups = drawn(n_groups, n_groups, "groups")
    seeds = drawn(len(own), len(own), "seeds")
    values = values_drawn(list(own.values()), metric, groups, seeds)
    difference, difference_interval = None, None
    if base and name != BASELINE:
        both = [own[seed] for seed in base]
        seeds = drawn(len(base), len(base), "seeds")
        apart = values_drawn(both, metric, groups, seeds) - values_drawn(list(base.values()), metric, groups, seeds)
        before = [float(_value(run, metric, everything)[0]) for run in base.values()]
        difference = float(np.mean([by_seed[seed] for seed in base]) - np.mean(before))
        difference_interval = _interval(apart) if n_groups > 1 or len(base) > 1 else None
    return Row(
        condition=name,
        level=level,
        views=views,
        metric=metric,
        value=float(np.mean(list(by_seed.values()))),
        interval=_interval(values) if n_groups > 1 or len(own) > 1 else None,
        difference=difference,
        difference_interval=difference_interval,
        by_seed=by_seed,
        n=int(next(iter(own.values())).n.sum()),
    )


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _scored(run: RunFolder, *, level: Literal["site", "well"], views: int) -> pd.DataFrame:
    table = Predictions.read(run.predictions, level=level, views=views).table
    never = Scores.read(run.scores).never_trained
    known = (table["perturbation"] != "") & ~table["perturbation"].isin(never) & (table["reason"] == "")
    return table[(table["Metadata_Fold"] == "held_out") & known]


def _groups(
    tables: Sequence[pd.DataFrame],
) -> tuple[Literal["treatments", "all"], Literal["experiment", "plate"], list[pd.DataFrame]]:
    """Decide once for all runs which wells are scored and what is drawn; the tables get a column `group`."""
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


def _counted(table: pd.DataFrame, groups: list[str], classes: list[str]) -> Counts:
    group = pd.Categorical(table["group"], categories=groups).codes
    truth = pd.Categorical(table["perturbation"], categories=classes).codes
    right, n = np.zeros((len(groups), len(classes))), np.zeros((len(groups), len(classes)))
    np.add.at(n, (group, truth), 1)
    np.add.at(right, (group, truth), (table["perturbation"] == table["predicted"]).to_numpy(dtype=float))
    return Counts(right=right, n=n)


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
