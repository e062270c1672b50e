"""Find plates whose channels are named or ordered unlike the other plates."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from distangle.images.quality.checks import finding
from distangle.screen.problems import Problem

FEWEST_SITES = 3  # of a plate, before it is judged
FEWEST_EXPERIMENTS = 3  # of a cell type, before one of them can be called unlike the others
NEARER = 2.7  # times nearer a channel must be to another one than to its own, in squared robust distance, ...
NEARER_APART = 5.0  # ... or where the plates were not acquired together
_FITS = 6.0  # squared robust distance within which a channel is like the one it stands for
_FLOOR = 0.1  # of a logarithm: what any two plates differ by
_CLEARLY = 1.3  # times
_NOISE = 0.5  # squared robust distance below which two fits are alike

Place = tuple[str, str]
"""Experiment and plate; plate "" for all of an experiment."""


@dataclass(frozen=True)
class _Measured:
    """Medians of a plate's features, float64 [channel, feature], and cell type."""

    cell_type: str
    features: np.ndarray


def check_channel_swaps(planes: pd.DataFrame) -> Iterator[Problem]:
    """Find plates, and whole experiments, on which channels have changed places.

    Judged by the shape of the histogram and the fineness of a channel's planes, which neither gain nor offset change.
    A plate is compared with the others of its experiment, an experiment with the others of its cell type. Channels are
    exchanged only where each is far from its own elsewhere and like another, and all of them together change places: a
    stain that failed, or a plate that is brighter in all, has no such partner.

    Args:
        planes: From `survey`, those that could be read.
    """
    channels = list(dict.fromkeys(planes["channel"].astype(str)))
    if len(channels) < 2:
        return
    plates = _by_plate(planes, channels)
    by_experiment: dict[str, dict[Place, _Measured]] = defaultdict(dict)
    for place, measured in plates.items():
        by_experiment[place[0]][place] = measured
    nearer = NEARER if len(by_experiment) > 1 else NEARER_APART
    groups = [group for group in by_experiment.values() if len(group) > 1]
    for (ours, theirs), places in _changed(groups, plates, nearer).items():
        yield _exchange(planes, [channels[k] for k in ours], [channels[k] for k in theirs], places)
    whole: dict[str, dict[Place, _Measured]] = defaultdict(dict)
    for experiment, group in by_experiment.items():
        cell_type = next(iter(group.values())).cell_type
        medians = np.median([one.features for one in group.values()], axis=0)
        whole[cell_type][experiment, ""] = _Measured(cell_type, medians)
    likely = [group for group in whole.values() if len(group) >= FEWEST_EXPERIMENTS]
    for (ours, theirs), places in _changed(likely, {}, NEARER_APART).items():
        yield _exchange(planes, [channels[k] for k in ours], [channels[k] for k in theirs], places)


def _changed(
    groups: Sequence[Mapping[Place, _Measured]], everywhere: Mapping[Place, _Measured], nearer: float
) -> dict[tuple[tuple[int, ...], tuple[int, ...]], list[Place]]:
    """Return which channels stand for which others, and where.

    Args:
        groups: Plates that should be alike.
        everywhere: All plates: they tell which of two is the odd one.
        nearer: Times that a channel must be nearer to another than to its own.
    """
    differences = {place: _difference(place, group) for group in groups for place in group}
    if not differences:
        return {}
    own = np.concatenate([np.diagonal(one).T for one in differences.values()])
    scale = np.maximum(1.4826 * np.median(np.abs(own), axis=0), _FLOOR)
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], list[Place]] = defaultdict(list)
    for group in groups:
        moved = {place: _moved(((differences[place] / scale) ** 2).mean(axis=2), nearer) for place in group}
        odd = [place for place, changed in moved.items() if changed]
        if 2 * len(odd) >= len(group):
            odd = _odd_ones(odd, moved, {k: one for k, one in everywhere.items() if k not in group}, group)
        for place in odd:
            found[tuple(moved[place]), tuple(moved[place].values())].append(place)
    return found


def _difference(place: Place, group: Mapping[Place, _Measured]) -> np.ndarray:
    """Return differences to the others' channels, [channel, theirs, feature]."""
    usual = np.median([one.features for key, one in group.items() if key != place], axis=0)
    here = group[place].features
    shift = np.median(here - usual, axis=0)  # what a plate does to all its channels tells nothing of their order
    difference: np.ndarray = (here - shift)[:, None] - usual[None]
    return difference


def _moved(distance: np.ndarray, nearer: float) -> dict[int, int]:
    """Return which channels stand for which; none where any of these is in doubt.

    Args:
        distance: Squared robust distance of every channel to every channel of the others.
        nearer: As in `_changed`.
    """
    _, best = linear_sum_assignment(distance)
    moved = {k: int(other) for k, other in enumerate(best) if other != k}
    is_clear = all(
        distance[k, k] + _NOISE > nearer * (distance[k, other] + _NOISE) and distance[k, other] < _FITS
        for k, other in moved.items()
    )
    return moved if is_clear else {}


def _odd_ones(
    odd: Sequence[Place],
    moved: Mapping[Place, dict[int, int]],
    others: Mapping[Place, _Measured],
    group: Mapping[Place, _Measured],
) -> list[Place]:
    """Return plates of a group whose channel order differs from plates elsewhere.

    All of them, where no other plate can tell.
    """
    kept = []
    for place in odd if others else []:
        difference = np.abs(_difference(place, {**others, place: group[place]})).mean(axis=2)
        changed = moved[place]
        own, other = (
            sum(difference[k, at] for k, at in pairs) for pairs in (zip(changed, changed, strict=True), changed.items())
        )
        # Neither fits where the experiments differ more than the channels do.
        if own > _CLEARLY * other:
            kept.append(place)
        elif other <= _CLEARLY * own:
            return list(odd)
    return kept or list(odd)


def _exchange(planes: pd.DataFrame, ours: Sequence[str], theirs: Sequence[str], places: Sequence[Place]) -> Problem:
    experiment, plate = places[0]
    here = (planes["experiment"] == experiment) & (planes["channel"] == ours[0])
    here &= (planes["plate"] == plate) | (plate == "")
    row = {**planes[here].iloc[0].to_dict(), "plate": plate, "well": "", "site": "", "channel": ", ".join(ours)}
    named = ", ".join(f"{one} plate {other}" if other else f"all of {one}" for one, other in places[:5])
    named += ", ..." if len(places) > 5 else ""
    pairs = ", ".join(f"{one} looks like {other}" for one, other in zip(ours, theirs, strict=True))
    what = f"{named}: {pairs} of the others"
    fix = "Compare the order of the channels with the instrument's own metadata, and index these plates with a "
    fix += "--channels of their own. Nothing, if the stains were changed on purpose."
    return finding(row, "warning", "channels exchanged", what, fix, count=len(places))


def _by_plate(planes: pd.DataFrame, channels: Sequence[str]) -> dict[Place, _Measured]:
    """Return the medians of every plate that has enough sites."""
    columns = _features(planes)
    columns["channel"] = planes["channel"].astype(str)
    found: dict[Place, _Measured] = {}
    for key, rows in planes.groupby(["experiment", "plate"], sort=False).indices.items():
        experiment, plate = (str(name) for name in np.asarray(key, dtype=object))
        by_channel = columns.iloc[rows].groupby("channel")
        sizes = by_channel.size().reindex(list(channels), fill_value=0)
        if sizes.min() >= FEWEST_SITES:
            medians = by_channel.median().loc[list(channels)].to_numpy(dtype=float)
            found[experiment, plate] = _Measured(str(planes["cell_type"].iloc[rows[0]]), medians)
    return found


def _features(planes: pd.DataFrame) -> pd.DataFrame:
    """Return what tells stains apart whatever gain and offset, as logarithms."""
    number = planes[["mean", "std", "p1", "median", "p99_9", "sharpness"]].astype(float)
    spread = np.maximum(number["std"], 0.25)
    columns = {
        "bright": np.log(np.maximum(number["p99_9"] - number["median"], 0.25) / spread),
        "dark": np.log(np.maximum(number["median"] - number["p1"], 0.25) / spread),
        "skew": np.log(np.maximum(number["mean"] - number["p1"], 0.25) / spread),
        "fine": np.log(np.maximum(number["sharpness"], 1e-4)),
    }
    return pd.DataFrame(columns, index=planes.index)
