"""Summarize the explained sites: mean scores with intervals and nulls."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distangle.core.stats import mean_intervals
from distangle.explain.channels.nulls import family_p, labels_null, mean_over_sites, p_values, shapley_null
from distangle.screen import NEGATIVE

EXPERIMENT, PLATE, WELL = (["Metadata_Experiment"], ["Metadata_Plate"], ["Metadata_Well"])
CELL_TYPE, ROLE = "Metadata_Cell_Type", "Metadata_Role"
SCORES = ("shapley", "ablation", "eq15", "eq15_inverse", "correlation")
MAX_NAMED = 5  # wells in a warning


def summarize(
    table: pd.DataFrame,
    scores: Mapping[str, np.ndarray],
    *,
    channels: Sequence[str],
    rng: np.random.Generator,
    n_draws: int,
) -> dict[str, Any]:
    """Return means per channel with intervals and nulls.

    The means are over all rows, and over the rows of each explained perturbation.

    Args:
        table: Table of the explanation, with `explained`.
        scores: `shapley`, `eq15`, `correlation` [site, channel]; `eq15_null`, `correlation_null`
            [site, draw, channel]. Optional: `ablation`, `eq15_inverse`, `eq15_inverse_null` likewise,
            `shapley_by_target` and `ablation_by_target` [site, channel, target], `target` [site], `interactions`
            [site, channel, channel].
        channels: Names of the channels.
        rng: Random generator for shuffles.
        n_draws: Number of shuffles.

    Returns:
        Ready for JSON. `shapley`, `eq15`, `correlation`: `mean` [channel], `interval` [channel][low, high] (95 % over
        `interval_over`; None for too few groups, whose means are then in `by_group`), `null` [channel][low, high]
        (central 95 %), `p` [channel], against random maps or, for `shapley` and `ablation`, against channels shuffled
        by well and by explained perturbation, whichever gives the larger p; `p_family`: against the largest channel, to
        be reported for the top channel; `p_labels` against labels permuted within experiments, None
        where all are the same. The same of `ablation` and `eq15_inverse`. `interactions`: `mean` [channel][channel] and
        `interval` likewise. `top_channel` has the largest mean Shapley value, `top_channel_share` is the share of sites
        that agree. `eq15_top_channel` counts sites by their largest Eq. (15), and
        `eq15_top_channel_of_random_maps` has the mean counts for random maps on the same images. `perturbations`:
        `sites` and `shapley` (`p_family`: with the channels of its wells shuffled) by `explained`. `cell_types`:
        `sites`, `wells`, `top_channel`, and mean and interval of every score, by cell type. `warnings`: sentences about
        what was explained.
    """
    unit, groups = groups_of(table)
    wells = wells_of(table)
    summary: dict[str, Any] = {"sites": len(table), "interval_over": unit, "groups": len(set(groups))}
    for name in ("shapley", "ablation"):
        if name in scores:
            means = means_over(scores[name], groups)
            summary[name] = means | _shuffle_nulls(name, scores, table, rng=rng, n_draws=n_draws)
    for name in ("eq15", "eq15_inverse", "correlation"):
        if name in scores:
            null = mean_over_sites(scores[f"{name}_null"], rng=rng, groups=wells)
            mean = scores[name].mean(axis=0, dtype=np.float64)
            summary[name] = {
                **means_over(scores[name], groups),
                "null": _central_range(null),
                "p": p_values(mean[None], null[None])[0].tolist(),
                "p_family": family_p(mean, null).tolist(),
            }
    if "interactions" in scores:
        summary["interactions"] = _interactions(scores["interactions"], groups)
    tops = scores["shapley"].argmax(axis=1)
    top = int(np.argmax(summary["shapley"]["mean"]))
    summary |= {
        "top_channel": channels[top],
        "top_channel_share": float((tops == top).mean()),
        "shapley_top_channel": _count_tops(tops, channels),
        "eq15_top_channel": _count_tops(scores["eq15"].argmax(axis=1), channels),
        "eq15_top_channel_of_random_maps": {
            name: share * len(table)
            for name, share in _share_tops(scores["eq15_null"].argmax(axis=2), channels).items()
        },
    }
    summary["perturbations"] = {
        str(name): {
            "sites": len(rows),
            "shapley": {
                **means_over(scores["shapley"][rows], [groups[row] for row in rows]),
                "p_family": _family_p_by_well(
                    scores["shapley"][rows], [wells[row] for row in rows], rng=rng, n_draws=n_draws
                ),
            },
        }
        for name, rows in sorted(table.groupby("explained").indices.items())
    }
    summary["cell_types"] = _cell_types(table, scores, groups, channels=channels)
    summary["warnings"] = _warnings(table)
    return summary


def wells_of(table: pd.DataFrame) -> list[str]:
    """Return the well of each row, unique in the screen."""
    return [str(name) for name in table[EXPERIMENT + PLATE + WELL].astype(str).agg("\x1f".join, axis=1)]


def groups_of(table: pd.DataFrame) -> tuple[str, list[str]]:
    """Return the unit of intervals and its value per row.

    The unit is the experiment, or the plate if there is one experiment.
    """
    experiments = table[EXPERIMENT[0]].astype(str)
    if experiments.nunique() > 1:
        return "experiment", experiments.tolist()
    return "plate", (experiments + " plate " + table[PLATE[0]].astype(str)).tolist()


def means_over(values: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Return column means and their 95 % intervals over groups of rows.

    Returns:
        `mean` [column] and `interval` [column][low, high]; for too few groups (`mean_intervals`) the interval is None,
        and `by_group` has the mean [column] of each group by name.
    """
    names = np.asarray(groups)
    means = {"mean": values.mean(axis=0, dtype=np.float64).tolist()}
    intervals = mean_intervals(values.astype(np.float64), names)
    if intervals is not None:
        return means | {"interval": intervals.tolist()}
    group_means = {
        str(name): values[names == name].mean(axis=0, dtype=np.float64).tolist() for name in dict.fromkeys(groups)
    }
    return means | {"interval": None, "by_group": group_means if len(group_means) > 1 else {}}


def _family_p_by_well(
    values: np.ndarray, wells: Sequence[str], *, rng: np.random.Generator, n_draws: int
) -> list[float]:
    null = shapley_null(values.astype(np.float64), rng=rng, groups=wells, n_draws=n_draws)
    return [float(p) for p in null.p_family]


def _shuffle_nulls(
    name: str, scores: Mapping[str, np.ndarray], table: pd.DataFrame, *, rng: np.random.Generator, n_draws: int
) -> dict[str, Any]:
    wells, perturbations = wells_of(table), table["explained"].astype(str).tolist()
    values = scores[name].astype(np.float64)
    nulls = [shapley_null(values, rng=rng, groups=wells, n_draws=n_draws)]
    if len(set(perturbations)) > 1:
        # Wells of one perturbation share its channel; with wells alone, a frequent perturbation would dominate.
        nulls.append(shapley_null(values, rng=rng, groups=perturbations, n_draws=n_draws))
    ranges = np.array([_central_range(shuffle.null) for shuffle in nulls])
    result: dict[str, Any] = {
        "null": np.stack([ranges[..., 0].min(axis=0), ranges[..., 1].max(axis=0)], axis=1).tolist(),
        "p": np.max([shuffle.p for shuffle in nulls], axis=0).tolist(),
        "p_family": np.max([shuffle.p_family for shuffle in nulls], axis=0).tolist(),
    }
    if f"{name}_by_target" in scores:
        labels = labels_null(
            scores[f"{name}_by_target"],
            scores["target"],
            rng=rng,
            groups=wells,
            within=table[EXPERIMENT[0]].astype(str).tolist(),
            n_draws=n_draws,
        )
        result["p_labels"] = None if labels is None else labels.p.tolist()
    return result


def _interactions(values: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    channels = values.shape[1]
    means = means_over(values.reshape(len(values), -1), groups)
    interval = means["interval"]
    return {
        "mean": np.reshape(means["mean"], (channels, channels)).tolist(),
        "interval": None if interval is None else np.reshape(interval, (channels, channels, 2)).tolist(),
    }


def _cell_types(
    table: pd.DataFrame,
    scores: Mapping[str, np.ndarray],
    groups: Sequence[str],
    *,
    channels: Sequence[str],
) -> dict[str, Any]:
    if CELL_TYPE not in table.columns:
        return {}
    wells, summary = np.array(wells_of(table)), {}
    for cell_type, rows in sorted(table.groupby(table[CELL_TYPE].astype(str)).indices.items()):
        units = [groups[row] for row in rows]
        group_scores = {name: scores[name][rows] for name in SCORES if name in scores}
        summary[str(cell_type)] = {
            "sites": len(rows),
            "wells": len(set(wells[rows])),
            "top_channel": channels[int(np.argmax(group_scores["shapley"].mean(axis=0)))],
            **{name: means_over(values, units) for name, values in group_scores.items()},
        }
    return summary


def _warnings(table: pd.DataFrame) -> list[str]:
    if ROLE not in table.columns:
        return []
    is_control = table[ROLE].isin(NEGATIVE).to_numpy()
    if not is_control.any():
        return []
    names = table.loc[is_control, EXPERIMENT + PLATE + WELL].astype(str).agg(" ".join, axis=1).unique().tolist()
    listed = ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else "")
    plural = len(names) > 1
    return [
        f"{len(names)} of the explained wells {'are control wells' if plural else 'is a control well'} ({listed}). "
        "Their "
        "explanation shows what the network uses for its prediction, not an effect of a perturbation."
    ]


def _central_range(draws: np.ndarray) -> list[list[float]]:
    """Return the central 95 % of the draws of each channel."""
    return [[float(low), float(high)] for low, high in np.percentile(draws, [2.5, 97.5], axis=0).T]


def _count_tops(tops: np.ndarray, channels: Sequence[str]) -> dict[str, int]:
    return {name: int((tops == k).sum()) for k, name in enumerate(channels)}


def _share_tops(tops: np.ndarray, channels: Sequence[str]) -> dict[str, float]:
    return {name: float((tops == k).mean()) for k, name in enumerate(channels)}
