"""Summary of all explained sites, with intervals and nulls."""

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
MOST_NAMED = 5  # wells in a warning


def summarize(
    table: pd.DataFrame,
    found: Mapping[str, np.ndarray],
    *,
    channels: Sequence[str],
    rng: np.random.Generator,
    n_draws: int,
) -> dict[str, Any]:
    """Return means per channel with intervals and nulls.

    They are over all rows and per explained perturbation.

    Args:
        table: Of the explanation, with `explained`.
        found: `shapley`, `eq15`, `correlation` [site, channel]; `eq15_null`, `correlation_null`
            [site, draw, channel]. Where there are: `ablation`, `eq15_inverse`, `eq15_inverse_null` likewise,
            `shapley_by_target` and `ablation_by_target` [site, channel, target], `target` [site], `interactions`
            [site, channel, channel].
        channels: Names of the channels.
        rng: Of shuffles.
        n_draws: How many.

    Returns:
        Ready for JSON. `shapley`, `eq15`, `correlation`: `mean` [channel], `interval` [channel][low, high] (95 % over
        `interval_over`; None for too few groups, whose means are then in `by_group`), `null` [channel][low, high]
        (central 95 %), `p` [channel], against random maps or, for `shapley` and `ablation`, against stains shuffled by
        well and by explained perturbation, whichever gives the larger p; `p_family`: against the largest channel, to be
        given beside the channel that came out on top; `p_labels` against labels permuted within experiments, None where
        all are the same. The same of `ablation` and `eq15_inverse`. `interactions`: `mean` [channel][channel] and
        `interval` likewise. `top_channel` has the largest mean Shapley value, `top_channel_share` is the share of sites
        that agree. `eq15_top_channel` counts sites by their largest Eq. (15), beside what random maps on the same
        images give on average. `perturbations`: `sites` and `shapley` (`p_family`: with the stains of its wells
        shuffled) by `explained`. `cell_types`: `sites`, `wells`, `top_channel`, and mean and interval of every score,
        by cell type. `warnings`: sentences about what was explained.
    """
    unit, groups = groups_of(table)
    wells = wells_of(table)
    said: dict[str, Any] = {"sites": len(table), "interval_over": unit, "groups": len(set(groups))}
    for name in ("shapley", "ablation"):
        if name in found:
            means = means_over(found[name], groups)
            said[name] = means | _against_shuffles(name, found, table, rng=rng, n_draws=n_draws)
    for name in ("eq15", "eq15_inverse", "correlation"):
        if name in found:
            null = mean_over_sites(found[f"{name}_null"], rng=rng, groups=wells)
            mean = found[name].mean(axis=0, dtype=np.float64)
            said[name] = {
                **means_over(found[name], groups),
                "null": _range(null),
                "p": p_values(mean[None], null[None])[0].tolist(),
                "p_family": family_p(mean, null).tolist(),
            }
    if "interactions" in found:
        said["interactions"] = _interactions(found["interactions"], groups)
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
            "shapley": {
                **means_over(found["shapley"][rows], [groups[row] for row in rows]),
                "p_family": _of_wells(found["shapley"][rows], [wells[row] for row in rows], rng=rng, n_draws=n_draws),
            },
        }
        for name, rows in sorted(table.groupby("explained").indices.items())
    }
    said["cell_types"] = _cell_types(table, found, groups, channels=channels)
    said["warnings"] = _warnings(table)
    return said


def _of_wells(values: np.ndarray, wells: Sequence[str], *, rng: np.random.Generator, n_draws: int) -> list[float]:
    found = shapley_null(values.astype(np.float64), rng=rng, groups=wells, n_draws=n_draws)
    return [float(p) for p in found.p_family]


def wells_of(table: pd.DataFrame) -> list[str]:
    """Return a name for the well of each row that no other well of the screen has."""
    return [str(name) for name in table[EXPERIMENT + PLATE + WELL].astype(str).agg("\x1f".join, axis=1)]


def groups_of(table: pd.DataFrame) -> tuple[str, list[str]]:
    """Return the unit of intervals and its value per row.

    It is the experiment, or the plate of a single experiment.
    """
    experiments = table[EXPERIMENT[0]].astype(str)
    if experiments.nunique() > 1:
        return "experiment", experiments.tolist()
    return "plate", (experiments + " plate " + table[PLATE[0]].astype(str)).tolist()


def means_over(values: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Return column means and their 95 % intervals over groups of rows.

    Returns:
        `mean` [column] and `interval` [column][low, high]; for too few groups (`mean_intervals`) this is None, and
        `by_group` has the mean of each, [column] by name.
    """
    names = np.asarray(groups)
    said = {"mean": values.mean(axis=0, dtype=np.float64).tolist()}
    found = mean_intervals(values.astype(np.float64), names)
    if found is not None:
        return said | {"interval": found.tolist()}
    apart = {str(name): values[names == name].mean(axis=0, dtype=np.float64).tolist() for name in dict.fromkeys(groups)}
    return said | {"interval": None, "by_group": apart if len(apart) > 1 else {}}


def _against_shuffles(
    name: str, found: Mapping[str, np.ndarray], table: pd.DataFrame, *, rng: np.random.Generator, n_draws: int
) -> dict[str, Any]:
    wells, perturbations = wells_of(table), table["explained"].astype(str).tolist()
    values = found[name].astype(np.float64)
    nulls = [shapley_null(values, rng=rng, groups=wells, n_draws=n_draws)]
    if len(set(perturbations)) > 1:
        # Wells of one perturbation share its stain: by wells alone, a common perturbation would stand for all.
        nulls.append(shapley_null(values, rng=rng, groups=perturbations, n_draws=n_draws))
    ranges = np.array([_range(one.null) for one in nulls])
    said: dict[str, Any] = {
        "null": np.stack([ranges[..., 0].min(axis=0), ranges[..., 1].max(axis=0)], axis=1).tolist(),
        "p": np.max([one.p for one in nulls], axis=0).tolist(),
        "p_family": np.max([one.p_family for one in nulls], axis=0).tolist(),
    }
    if f"{name}_by_target" in found:
        labels = labels_null(
            found[f"{name}_by_target"],
            found["target"],
            rng=rng,
            groups=wells,
            within=table[EXPERIMENT[0]].astype(str).tolist(),
            n_draws=n_draws,
        )
        said["p_labels"] = None if labels is None else labels.p.tolist()
    return said


def _interactions(values: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    channels = values.shape[1]
    said = means_over(values.reshape(len(values), -1), groups)
    interval = said["interval"]
    return {
        "mean": np.reshape(said["mean"], (channels, channels)).tolist(),
        "interval": None if interval is None else np.reshape(interval, (channels, channels, 2)).tolist(),
    }


def _cell_types(
    table: pd.DataFrame,
    found: Mapping[str, np.ndarray],
    groups: Sequence[str],
    *,
    channels: Sequence[str],
) -> dict[str, Any]:
    if CELL_TYPE not in table.columns:
        return {}
    wells, said = np.array(wells_of(table)), {}
    for cell_type, rows in sorted(table.groupby(table[CELL_TYPE].astype(str)).indices.items()):
        units = [groups[row] for row in rows]
        scores = {name: found[name][rows] for name in SCORES if name in found}
        said[str(cell_type)] = {
            "sites": len(rows),
            "wells": len(set(wells[rows])),
            "top_channel": channels[int(np.argmax(scores["shapley"].mean(axis=0)))],
            **{name: means_over(values, units) for name, values in scores.items()},
        }
    return said


def _warnings(table: pd.DataFrame) -> list[str]:
    if ROLE not in table.columns:
        return []
    untreated = table[ROLE].isin(NEGATIVE).to_numpy()
    if not untreated.any():
        return []
    names = table.loc[untreated, EXPERIMENT + PLATE + WELL].astype(str).agg(" ".join, axis=1).unique().tolist()
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    many = len(names) > 1
    return [
        f"{len(names)} of the explained wells {'are' if many else 'is'} untreated ({shown}): what is explained there "
        "is what the network takes for a sign of its answer, no effect of a perturbation."
    ]


def _range(draws: np.ndarray) -> list[list[float]]:
    """The central 95 % of each channel."""
    return [[float(low), float(high)] for low, high in np.percentile(draws, [2.5, 97.5], axis=0).T]


def _counts(tops: np.ndarray, channels: Sequence[str]) -> dict[str, int]:
    return {name: int((tops == k).sum()) for k, name in enumerate(channels)}


def _shares(tops: np.ndarray, channels: Sequence[str]) -> dict[str, float]:
    return {name: float((tops == k).mean()) for k, name in enumerate(channels)}
