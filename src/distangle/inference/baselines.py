"""Score rules that see no cell: position of a well, plate, or brightness alone."""

import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from distangle.results import Predictions, ScoreRow
from distangle.screen.checks.leaks import predict_from_position

MARGIN = 0.02  # of a score: a network that is better by less has shown nothing


def predict_without_cells(found: Predictions, sites: Predictions, statistics: np.ndarray) -> Mapping[str, np.ndarray]:
    """Predict every row by rules that see no cell, learnt from its training rows.

    `position` and `plate`: the most frequent label there (see `guess_by_place`). `intensity`: a linear discriminant on
    mean and spread of every channel, the mean over their plate taken off, as a batch would be; of a plate on both sides
    of the division, that of each side.

    Args:
        found: Sites or wells.
        sites: The sites, in the order of `statistics`.
        statistics: float32 [site, 2, channel], mean and spread; NaN for sites that cannot be read.

    Returns:
        Labels [row] by rule; nothing where no row is for training, no `intensity` with fewer than two classes.
    """
    table = found.table
    places = pd.DataFrame({name: table[f"Metadata_{name.title()}"] for name in ("experiment", "plate", "well")})
    labels = table["perturbation"].to_numpy(dtype=object)
    training = (table["Metadata_Fold"] == "train").to_numpy() & (labels != "") & (table["reason"] == "").to_numpy()
    guesses = predict_from_position(places, labels, training)
    measured = _of_rows(found, sites, statistics.reshape(len(statistics), -1))
    seen = (table["Metadata_Fold"] == "train").to_numpy()
    by_intensity = _discriminate(_centred(measured, places, seen), labels, training)
    return guesses if by_intensity is None else {**guesses, "intensity": by_intensity}


def beats_no_baseline(rows: Sequence[ScoreRow]) -> Iterator[str]:
    """Warn of scores over all that a rule without cells reaches within a margin."""
    for level in ("site", "well"):
        chosen = [r for r in rows if r.level == level and r.subset == "all" and r.metric == "balanced accuracy"]
        for row in [
            r for r in chosen if r.baselines and r.wells == "treatments" and r.views == max(c.views for c in chosen)
        ]:
            rule, value = max(row.baselines.items(), key=lambda item: item[1])
            if row.value <= value + MARGIN:
                yield (
                    f"By {level} the network's balanced accuracy of treatments is {row.value:.3f}, and {rule} alone, "
                    f"without looking at a cell, gives {value:.3f}: it has not shown that it learnt cells."
                )


def _of_rows(found: Predictions, sites: Predictions, statistics: np.ndarray) -> np.ndarray:
    """Return the statistics of sites, or their means over the sites of wells."""
    if found.level == "site":
        return statistics
    keys = ["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]
    means = pd.DataFrame(statistics).groupby([sites.table[key].to_numpy() for key in keys], sort=False).mean()
    return means.loc[pd.MultiIndex.from_frame(found.table[keys])].to_numpy()


def _centred(measured: np.ndarray, places: pd.DataFrame, seen: np.ndarray) -> np.ndarray:
    """Take the mean of each plate off, on each side of the division by itself."""
    logs = pd.DataFrame(np.log1p(np.maximum(measured, 0)))
    by = [places["experiment"].to_numpy(), places["plate"].to_numpy(), seen]
    return np.asarray(logs - logs.groupby(by).transform("mean"))


def _discriminate(measured: np.ndarray, labels: np.ndarray, training: np.ndarray) -> np.ndarray | None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    readable = np.isfinite(measured).all(axis=1)
    known = training & readable
    if len(set(labels[known].tolist())) < 2 or measured[known].std() == 0:
        return None
    spread = measured[known].std(axis=0)
    ready = measured[:, spread > 0] / spread[spread > 0]
    rule = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    with warnings.catch_warnings():
        # A class of one site has no spread of its own; the others' is taken.
        warnings.filterwarnings("ignore", "Only one sample available", UserWarning)
        rule.fit(ready[known], labels[known].astype(str))
    found = np.full(len(labels), "", dtype=object)
    found[readable] = rule.predict(ready[readable])
    return found
