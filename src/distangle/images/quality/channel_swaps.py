"""Find plates whose channels are named or ordered unlike the other plates."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from distangle.images.quality.checks import plane_problem
from distangle.screen.problems import Problem

MIN_SITES = 3  # sites that a plate needs to be compared
MIN_EXPERIMENTS = 3  # experiments that a cell type needs to be compared
MIN_DISTANCE_RATIO = 2.7  # of squared robust distances: to its own channel over to another, within an experiment
MIN_DISTANCE_RATIO_ACROSS = 5.0  # the same between plates that were not acquired together
_MAX_DISTANCE = 6.0  # squared robust distance within which a channel matches another
_MIN_SCALE = 0.1  # of a logarithm: difference of any two plates
_CLEAR_RATIO = 1.3  # ratio of distances that is unambiguous
_NOISE = 0.5  # squared robust distance below which two matches are equal

PlateKey = tuple[str, str]
"""Experiment and plate; plate "" for all of an experiment."""


@dataclass(frozen=True)
class _PlateFeatures:
    """Medians of a plate's features, float64 [channel, feature], and cell type."""

    cell_type: str
    features: np.ndarray


def check_channel_swaps(planes: pd.DataFrame) -> Iterator[Problem]:
    """Find plates, and whole experiments, with swapped channels.

    The features describe the shape of the histogram and the fineness of a channel's planes, independent of gain and
    offset. A plate is compared with the others of its experiment, an experiment with the others of its cell type.
    Channels are swapped only if each is far from its own elsewhere and like another, and together they form a
    permutation. A failed stain, or a plate with brighter channels, has no such permutation.

    Args:
        planes: Readable planes from `measure_planes`.
    """
    channels = list(dict.fromkeys(planes["channel"].astype(str)))
    if len(channels) < 2:
        return
    plates = _plate_features(planes, channels)
    by_experiment: dict[str, dict[PlateKey, _PlateFeatures]] = defaultdict(dict)
    for key, features in plates.items():
        by_experiment[key[0]][key] = features
    min_ratio = MIN_DISTANCE_RATIO if len(by_experiment) > 1 else MIN_DISTANCE_RATIO_ACROSS
    groups = [group for group in by_experiment.values() if len(group) > 1]
    for (channels_here, channels_elsewhere), keys in _find_swaps(groups, plates, min_ratio).items():
        yield _swap_problem(
            planes, [channels[k] for k in channels_here], [channels[k] for k in channels_elsewhere], keys
        )
    by_cell_type: dict[str, dict[PlateKey, _PlateFeatures]] = defaultdict(dict)
    for experiment, group in by_experiment.items():
        cell_type = next(iter(group.values())).cell_type
        medians = np.median([plate.features for plate in group.values()], axis=0)
        by_cell_type[cell_type][experiment, ""] = _PlateFeatures(cell_type, medians)
    comparable = [group for group in by_cell_type.values() if len(group) >= MIN_EXPERIMENTS]
    for (channels_here, channels_elsewhere), keys in _find_swaps(comparable, {}, MIN_DISTANCE_RATIO_ACROSS).items():
        yield _swap_problem(
            planes, [channels[k] for k in channels_here], [channels[k] for k in channels_elsewhere], keys
        )


def _find_swaps(
    groups: Sequence[Mapping[PlateKey, _PlateFeatures]], all_plates: Mapping[PlateKey, _PlateFeatures], min_ratio: float
) -> dict[tuple[tuple[int, ...], tuple[int, ...]], list[PlateKey]]:
    """Return which channels are swapped with which others, and on which plates.

    Args:
        groups: Plates that should be alike.
        all_plates: All plates, to decide which of two is the odd one.
        min_ratio: Required ratio of a channel's distance to its own over its distance to another.
    """
    differences = {key: _difference(key, group) for group in groups for key in group}
    if not differences:
        return {}
    own_differences = np.concatenate([np.diagonal(plate).T for plate in differences.values()])
    scale = np.maximum(1.4826 * np.median(np.abs(own_differences), axis=0), _MIN_SCALE)
    plates_by_swap: dict[tuple[tuple[int, ...], tuple[int, ...]], list[PlateKey]] = defaultdict(list)
    for group in groups:
        swaps = {key: _swapped_channels(((differences[key] / scale) ** 2).mean(axis=2), min_ratio) for key in group}
        odd = [key for key, swap in swaps.items() if swap]
        if 2 * len(odd) >= len(group):
            odd = _odd_plates(odd, swaps, {k: plate for k, plate in all_plates.items() if k not in group}, group)
        for key in odd:
            plates_by_swap[tuple(swaps[key]), tuple(swaps[key].values())].append(key)
    return plates_by_swap


def _difference(key: PlateKey, group: Mapping[PlateKey, _PlateFeatures]) -> np.ndarray:
    """Return differences to the others, [channel, channel of others, feature]."""
    median_of_others = np.median([plate.features for other_key, plate in group.items() if other_key != key], axis=0)
    own = group[key].features
    shift = np.median(own - median_of_others, axis=0)  # a common shift of all channels says nothing about their order
    difference: np.ndarray = (own - shift)[:, None] - median_of_others[None]
    return difference


def _swapped_channels(distance: np.ndarray, min_ratio: float) -> dict[int, int]:
    """Return the permutation of channels; empty if any of it is ambiguous.

    Args:
        distance: Squared robust distance of every channel to every channel of the others.
        min_ratio: As in `_find_swaps`.
    """
    _, best = linear_sum_assignment(distance)
    swaps = {k: int(other) for k, other in enumerate(best) if other != k}
    is_clear = all(
        distance[k, k] + _NOISE > min_ratio * (distance[k, other] + _NOISE) and distance[k, other] < _MAX_DISTANCE
        for k, other in swaps.items()
    )
    return swaps if is_clear else {}


def _odd_plates(
    odd: Sequence[PlateKey],
    swaps: Mapping[PlateKey, dict[int, int]],
    others: Mapping[PlateKey, _PlateFeatures],
    group: Mapping[PlateKey, _PlateFeatures],
) -> list[PlateKey]:
    """Return plates of a group whose channel order differs from plates elsewhere.

    Without plates elsewhere, return all.
    """
    result = []
    for key in odd if others else []:
        difference = np.abs(_difference(key, {**others, key: group[key]})).mean(axis=2)
        swap = swaps[key]
        own, other = (
            sum(difference[k, at] for k, at in pairs) for pairs in (zip(swap, swap, strict=True), swap.items())
        )
        # Neither matches if experiments differ more than channels.
        if own > _CLEAR_RATIO * other:
            result.append(key)
        elif other <= _CLEAR_RATIO * own:
            return list(odd)
    return result or list(odd)


def _swap_problem(
    planes: pd.DataFrame, channels_here: Sequence[str], channels_elsewhere: Sequence[str], keys: Sequence[PlateKey]
) -> Problem:
    experiment, plate = keys[0]
    is_here = (planes["experiment"] == experiment) & (planes["channel"] == channels_here[0])
    is_here &= (planes["plate"] == plate) | (plate == "")
    row = {
        **planes[is_here].iloc[0].to_dict(),
        "plate": plate,
        "well": "",
        "site": "",
        "channel": ", ".join(channels_here),
    }
    names = ", ".join(f"{one} plate {other}" if other else f"all of {one}" for one, other in keys[:5])
    names += ", ..." if len(keys) > 5 else ""
    pairs = ", ".join(f"{one} looks like {other}" for one, other in zip(channels_here, channels_elsewhere, strict=True))
    description = f"{names}: {pairs} of the others"
    fix = (
        "Compare the order of the channels with the instrument's metadata, and index these plates with their own "
        "--channels. If the stains were changed on purpose, do nothing."
    )
    return plane_problem(row, "warning", "channels exchanged", description, fix, count=len(keys))


def _plate_features(planes: pd.DataFrame, channels: Sequence[str]) -> dict[PlateKey, _PlateFeatures]:
    """Return the medians of every plate that has enough sites."""
    columns = _features(planes)
    columns["channel"] = planes["channel"].astype(str)
    features: dict[PlateKey, _PlateFeatures] = {}
    for key, rows in planes.groupby(["experiment", "plate"], sort=False).indices.items():
        experiment, plate = (str(name) for name in np.asarray(key, dtype=object))
        by_channel = columns.iloc[rows].groupby("channel")
        sizes = by_channel.size().reindex(list(channels), fill_value=0)
        if sizes.min() >= MIN_SITES:
            medians = by_channel.median().loc[list(channels)].to_numpy(dtype=float)
            features[experiment, plate] = _PlateFeatures(str(planes["cell_type"].iloc[rows[0]]), medians)
    return features


def _features(planes: pd.DataFrame) -> pd.DataFrame:
    """Return logarithmic features of channels that gain and offset do not change."""
    values = planes[["mean", "std", "p1", "median", "p99_9", "sharpness"]].astype(float)
    std = np.maximum(values["std"], 0.25)
    columns = {
        "bright": np.log(np.maximum(values["p99_9"] - values["median"], 0.25) / std),
        "dark": np.log(np.maximum(values["median"] - values["p1"], 0.25) / std),
        "skew": np.log(np.maximum(values["mean"] - values["p1"], 0.25) / std),
        "fine": np.log(np.maximum(values["sharpness"], 1e-4)),
    }
    return pd.DataFrame(columns, index=planes.index)
