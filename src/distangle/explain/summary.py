"""What all explained sites say together, with intervals over whole experiments and the nulls beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distangle.explain.stains.nulls import p_values, shapley_null

EXPERIMENT, PLATE, WELL = (["Metadata_Experiment"], ["Metadata_Plate"], ["Metadata_Well"])


def summarise(
    table: pd.DataFrame,
    found: Mapping[str, np.ndarray],
    *,
    channels: Sequence[str],
    rng: np.random.Generator,
    n_draws: int,
) -> dict[str, Any]:
    """Return the means per channel with intervals and nulls, over all rows and per explained perturbation.

    Args:
        table: Of the explanation, with `explained`.
        found: `shapley`, `eq15`, `correlation` [site, channel]; `eq15_null`, `correlation_null`
            [site, draw, channel].
        channels: Names of the channels.
        rng: Of shuffles and bootstrap draws.
        n_draws: Of each.

    Returns:
        Ready for JSON. `shapley`, `eq15`, `correlation`: `mean` [channel], `interval` [channel][low, high] (95 %
        bootstrap over `interval_over`, None for fewer than two groups), `null` [channel][low, high] (central 95 %),
        `p` (for `shapley` and `correlation`). `top_channel` has the largest mean Shapley value, `top_channel_share` is
        the share of sites that agree. `eq15_top_channel` counts sites by their largest Eq. (15), beside what random
        maps on the same images give on average. `perturbations`: `sites` and `shapley` by `explained`.
    """
    unit, groups = groups_of(table)
    wells = table[EXPERIMENT + PLATE + WELL].astype(str).agg("\x1f".join, axis=1).tolist()
    stains = shapley_null(found["shapley"].astype(np.float64), rng=rng, groups=wells, n_draws=n_draws)
    said: dict[str, Any] = {"sites": len(table), "interval_over": unit, "groups": len(set(groups))}
    said["shapley"] = {
        **means_over(found["shapley"], groups, rng=rng, n_draws=n_draws),
        "null": _range(stains.null),
        "p": stains.p.tolist(),
        "p_family": stains.p_family.tolist(),
    }
    for name in ("eq15", "correlation"):
        null = _mean_over_sites(found[f"{name}_null"], rng=rng)
        said[name] = {**means_over(found[name], groups, rng=rng, n_draws=n_draws), "null": _range(null)}
        if name == "correlation":
            mean = found[name].mean(axis=0)
            said[name]["p"] = p_values(mean[None], null[None])[0].tolist()
    tops = found["shapley"].argmax(axis=1)
    top = int(np.argmax(said["shapley"]["mean"]))
    said |= {
        "top_channel": channels[top],
        "top_channel_share": float((tops == top).mean()),
        "shapley_top_channel": _counts(tops, channels),
        "eq15_top_channel": _counts(found["eq15"].argmax(axis=1), channels),
        "eq15_top_channel_of_random_maps": {
            name: share * len(table) for name, share in _shares(found["eq15_null"].argmax(axis=2), channels).items()
        },
    }
    said["perturbations"] = {
        str(name): {
            "sites": len(rows),
            "shapley": means_over(found["shapley"][rows], [groups[row] for row in rows], rng=rng, n_draws=n_draws),
        }
        for name, rows in sorted(table.groupby("explained").indices.items())
    }
    return said


def groups_of(table: pd.DataFrame) -> tuple[str, list[str]]:
    """Return what an interval is taken over and each row's: experiments, or plates of a single experiment."""
    experiments = table[EXPERIMENT[0]].astype(str)
    if experiments.nunique() > 1:
        return "experiment", experiments.tolist()
    return "plate", (experiments + "\x1f" + table[PLATE[0]].astype(str)).tolist()


def means_over(values: np.ndarray, groups: Sequence[str], *, rng: np.random.Generator, n_draws: int) -> dict[str, Any]:
    """Return the mean of each column of [row, column] and its 95 % bootstrap interval over groups of rows.

    Returns:
        `mean` [column] and `interval` [column][low, high], None for fewer than two groups.
    """
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = int(labels.max()) + 1
    mean = values.mean(axis=0, dtype=np.float64).tolist()
    if n_groups < 2:
        return {"mean": mean, "interval": None}
    sums, sizes = np.zeros((n_groups, values.shape[1])), np.bincount(labels)
    np.add.at(sums, labels, values.astype(np.float64))
    drawn = rng.integers(n_groups, size=(n_draws, n_groups))
    return {"mean": mean, "interval": _range(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)[:, None])}


def _range(draws: np.ndarray) -> list[list[float]]:
    """The central 95 % of each channel."""
    return [[float(low), float(high)] for low, high in np.percentile(draws, [2.5, 97.5], axis=0).T]


def _mean_over_sites(null: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Mean over sites of each draw, every site with a random map of its own: shared maps would vary together."""
    total = np.zeros(null.shape[1:])
    for site in null:
        total += site[rng.permutation(len(site))]
    return total / len(null)


def _counts(tops: np.ndarray, channels: Sequence[str]) -> dict[str, int]:
    return {name: int((tops == k).sum()) for k, name in enumerate(channels)}


def _shares(tops: np.ndarray, channels: Sequence[str]) -> dict[str, float]:
    return {name: float((tops == k).mean()) for k, name in enumerate(channels)}
