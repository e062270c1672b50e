"""Predict labels without cells: from well position, plate or intensity."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from distangle.inference.discriminant import fit_discriminant
from distangle.results import Predictions, ScoreRow
from distangle.screen.checks.leaks import predict_from_position

MARGIN = 0.02  # of a score: a network must beat a baseline by more than this


def predict_without_cells(
    predictions: Predictions, sites: Predictions, statistics: np.ndarray
) -> Mapping[str, np.ndarray]:
    """Predict every row by baselines that see no cell, fitted to the training rows.

    `position` and `plate`: the most frequent label there (see `predict_from_position`). `intensity`: a linear
    discriminant on mean and standard deviation of every channel, centered by plate to remove batch effects; a plate on
    both sides of the split is centered on each side.

    Args:
        predictions: Sites or wells.
        sites: The sites, in the order of `statistics`.
        statistics: float32 [site, 2, channel], mean and standard deviation; NaN for unreadable sites.

    Returns:
        Labels [row] by baseline; empty without training rows, and no `intensity` with fewer than two classes.
    """
    table = predictions.table
    positions = pd.DataFrame({name: table[f"Metadata_{name.title()}"] for name in ("experiment", "plate", "well")})
    labels = table["perturbation"].to_numpy(dtype=object)
    training = (table["Metadata_Fold"] == "train").to_numpy() & (labels != "") & (table["reason"] == "").to_numpy()
    labels_by_rule = predict_from_position(positions, labels, training)
    intensities = _row_statistics(predictions, sites, statistics.reshape(len(statistics), -1))
    in_training = (table["Metadata_Fold"] == "train").to_numpy()
    intensity_labels = _predict_from_intensity(_center_plates(intensities, positions, in_training), labels, training)
    return labels_by_rule if intensity_labels is None else {**labels_by_rule, "intensity": intensity_labels}


def beats_no_baseline(rows: Sequence[ScoreRow]) -> Iterator[str]:
    """Yield a warning for each overall score that a baseline reaches within a margin."""
    for level in ("site", "well"):
        candidates = [
            row for row in rows if row.level == level and row.subset == "all" and row.metric == "balanced accuracy"
        ]
        for row in [
            row
            for row in candidates
            if row.baselines and row.wells == "treatments" and row.views == max(other.views for other in candidates)
        ]:
            rule, value = max(row.baselines.items(), key=lambda item: item[1])
            if row.value <= value + MARGIN:
                yield (
                    f"By {level} the network's balanced accuracy of treatments is {row.value:.3f}, and {rule} alone, "
                    f"without any cell, gives {value:.3f}: the score does not show that the network learned from cells."
                )


def _row_statistics(predictions: Predictions, sites: Predictions, statistics: np.ndarray) -> np.ndarray:
    """Return the statistics of sites, or their means over the sites of wells."""
    if predictions.level == "site":
        return statistics
    keys = ["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]
    means = pd.DataFrame(statistics).groupby([sites.table[key].to_numpy() for key in keys], sort=False).mean()
    return means.loc[pd.MultiIndex.from_frame(predictions.table[keys])].to_numpy()


def _center_plates(intensities: np.ndarray, positions: pd.DataFrame, in_training: np.ndarray) -> np.ndarray:
    """Subtract the mean of each plate, separately on each side of the split."""
    logs = pd.DataFrame(np.log1p(np.maximum(intensities, 0)))
    keys = [pd.factorize(positions[name])[0] for name in ("experiment", "plate")]
    return np.asarray(logs - logs.groupby([*keys, in_training]).transform("mean"))


def _predict_from_intensity(intensities: np.ndarray, labels: np.ndarray, training: np.ndarray) -> np.ndarray | None:
    readable = np.isfinite(intensities).all(axis=1)
    usable = training & readable
    if len(pd.unique(labels[usable])) < 2 or intensities[usable].std() == 0:
        return None
    std = intensities[usable].std(axis=0)
    scaled = intensities[:, std > 0] / std[std > 0]
    classifier = fit_discriminant(scaled[usable], labels[usable])
    predicted = np.full(len(labels), "", dtype=object)
    predicted[readable] = classifier.predict(scaled[readable])
    return predicted
