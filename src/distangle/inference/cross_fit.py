"""Calibrate confidences by temperatures that were fitted on other groups."""

from collections.abc import Set

import numpy as np
import pandas as pd
from scipy.special import softmax

from distangle.errors import ProfileError
from distangle.inference.calibration import Reliability, bin_reliability, check_finite, fit_temperature
from distangle.inference.confusion import is_scored
from distangle.inference.control_checks import was_trained
from distangle.results import Calibration, Predictions, ReliabilityBin
from distangle.screen import CONTROLS

BLOCK_ROWS = 4096  # whose probabilities are computed together
N_BINS = 10
MAX_ROWS = 2000  # of a fit of one number


def cross_fit(predictions: Predictions, trained: Set[str]) -> tuple[Calibration, np.ndarray]:
    """Calibrate each held-out group by a temperature fitted on the others.

    Groups are experiments, or plates if there is one experiment. No well has a part in its own temperature, and no
    well shares one with the wells of its experiment. Only treatments with a trained label are fitted and measured.

    Args:
        predictions: Sites or wells, with labels.
        trained: Classes with a training site.

    Returns:
        The calibration, and the calibrated confidence of every row that was not used in training, float [row]; NaN for
        the others. With fewer than two groups, or if no temperature fits, the calibration has the reason instead of
        numbers, and every confidence is NaN.
    """
    table = predictions.table
    is_readable = (table["reason"] == "").to_numpy()
    scored = (is_scored(table, trained) & ~table["Metadata_Role"].isin(CONTROLS)).to_numpy()
    unit, groups = _groups(table, scored)
    confidence = np.full(len(table), np.nan)
    names = list(dict.fromkeys(groups[scored].tolist()))
    empty = Calibration(level=predictions.level, views=predictions.views, groups_over=unit, n=int(scored.sum()))
    if len(names) < 2:
        groups_text = f"{len(names)} held-out {unit} has scored wells" if names else "no held-out well is scored"
        reason = f"No temperature: {groups_text}, and a temperature is fitted on other {unit}s than it is applied to."
        return empty.model_copy(update={"reason": reason}), confidence
    index = {name: k for k, name in enumerate(predictions.perturbations)}
    labels = table["perturbation"].map(index).fillna(0).to_numpy(dtype=np.int64)
    temperatures: dict[str, float] = {}
    usable = is_readable & ~was_trained(table)
    for name in dict.fromkeys(groups[usable].tolist()):
        others = np.flatnonzero(scored & (groups != name))
        others = others[np.unique(np.linspace(0, len(others) - 1, min(len(others), MAX_ROWS)).astype(np.int64))]
        try:
            temperature = fit_temperature(predictions.logits[others], labels[others])
        except ProfileError as error:
            reason = f"No temperature for {unit} {name}, fitted on the others: {error}"
            return empty.model_copy(update={"reason": reason}), np.full(len(table), np.nan)
        members = np.flatnonzero(usable & (groups == name))
        confidence[members] = _most_probable(predictions.logits, members, temperature=temperature)[0]
        if name in names:
            temperatures[str(name)] = temperature
    rows = np.flatnonzero(scored)
    own_confidence, predicted = _most_probable(predictions.logits, rows)
    is_correct = predicted == labels[rows]  # a temperature keeps the order of the classes
    before = bin_reliability(own_confidence, is_correct, n_bins=N_BINS)
    after = bin_reliability(confidence[rows], is_correct, n_bins=N_BINS)
    calibration = empty.model_copy(
        update={
            "temperatures": temperatures,
            "ece_before": before.ece,
            "ece_after": after.ece,
            "before": _bins(before),
            "after": _bins(after),
        }
    )
    return calibration, confidence


def _most_probable(logits: np.ndarray, rows: np.ndarray, *, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return probability and number of the most probable class of some rows.

    Args:
        logits: float32 [row, class].
        rows: Positions.
        temperature: Divides the logits.
    """
    confidence, predicted = np.empty(len(rows), dtype=np.float32), np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        probabilities = softmax(logits[rows[block]] / np.float32(temperature), axis=1)
        check_finite(probabilities, name="probabilities", fix="Leave out unreadable rows.")
        confidence[block], predicted[block] = probabilities.max(axis=1), probabilities.argmax(axis=1)
    return confidence, predicted


def _groups(table: pd.DataFrame, scored: np.ndarray) -> tuple[str, np.ndarray]:
    """Return the kind of group, and the group of every row."""
    experiments = table["Metadata_Experiment"].astype(str)
    if experiments[scored].nunique() > 1:
        return "experiment", experiments.to_numpy(dtype=object)
    return "plate", (experiments + " plate " + table["Metadata_Plate"].astype(str)).to_numpy(dtype=object)


def _bins(measured: Reliability) -> tuple[ReliabilityBin, ...]:
    return tuple(
        ReliabilityBin(
            low=float(row["low"]),
            high=float(row["high"]),
            n=int(row["n_rows"]),
            confidence=float(row["confidence"]) if row["n_rows"] else None,
            accuracy=float(row["accuracy"]) if row["n_rows"] else None,
        )
        for row in measured.table.to_dict("records")
    )
