"""Score how unlike the training wells a well is."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from distangle.inference.control_checks import UNSEEN, was_trained
from distangle.results import Predictions
from distangle.screen import CONTROLS

UNLIKE = "unlike_training"
MIN_REFERENCES = 20  # wells; with fewer, steps of the score are larger than 0.05
_CHUNK = 4096  # rows of one product


@dataclass(frozen=True, kw_only=True)
class ClassCenters:
    """Sums of unit embeddings by class.

    Attributes:
        names: Of the classes.
        sums: float [class, embedding].
        counts: Wells of each class, [class].
    """

    names: tuple[str, ...]
    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def fit(cls, embedding: np.ndarray, labels: np.ndarray) -> "ClassCenters":
        """Sum the unit embeddings of each class.

        Args:
            embedding: float [well, embedding].
            labels: Names [well].
        """
        names, number = np.unique(labels.astype(str), return_inverse=True)
        sums = np.zeros((len(names), embedding.shape[1]))
        np.add.at(sums, number, _unit(embedding))
        return cls(names=tuple(names.tolist()), sums=sums, counts=np.bincount(number))

    def distances(self, embedding: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Return the cosine distance of each well to the nearest class mean, in [0, 2].

        Args:
            embedding: float [well, embedding].
            labels: Names [well] of wells that the means contain: each is measured to the mean of its class without
                itself, and a class of one well is left out for it. None for other wells.
        """
        units, means = _unit(embedding), _unit(self.sums)
        index = {name: k for k, name in enumerate(self.names)}
        nearest = np.empty(len(units))
        for start in range(0, len(units), _CHUNK):
            part = units[start : start + _CHUNK]
            cosines = part @ means.T
            if labels is not None:
                own = np.array([index[str(name)] for name in labels[start : start + _CHUNK]])
                rows = np.arange(len(part))
                cosines[rows, own] = (_unit(self.sums[own] - part) * part).sum(axis=1)
                cosines[rows[self.counts[own] < 2], own[self.counts[own] < 2]] = -np.inf
            nearest[start : start + _CHUNK] = 1 - cosines.max(axis=1)
        return nearest


def share_nearer(distances: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return the share of references below each distance; equal ones count half.

    Args:
        distances: float [well].
        references: float [reference], at least one.
    """
    ranked = np.sort(references)
    below, up_to = np.searchsorted(ranked, distances, "left"), np.searchsorted(ranked, distances, "right")
    return np.asarray((below + up_to) / (2 * len(ranked)))


def add_open_set_score(
    wells: Predictions, source: Predictions | None, *, is_same_screen: bool
) -> tuple[Predictions, str]:
    """Add `unlike_training`: how far a well lies from every trained class.

    The distance of a well is the cosine distance of its embedding to the nearest mean of the training wells of a
    class. The score is the share of reference wells that lie nearer to theirs, in [0, 1]: 1 - score is a conformal
    p-value up to 1 / number of references. A well of a trained class has a uniform score, on average, if its batch is
    like those of the references; a score near 1 says that the well is unlike anything trained on.

    References are labeled treatment wells that were held out, of other experiments than the well (of other plates if
    one experiment is held out). With fewer than `MIN_REFERENCES` of them, they are the training wells, each measured
    without itself. Training wells lie nearer to the means than new wells, because the network was fitted to them: the
    scores of all new wells are then too high, and only their order can be used.

    The score is a distance: it does not find a new perturbation that looks like a known one, and a stained or
    out-of-focus well is unlike the training too.

    Args:
        wells: Predicted wells.
        source: Predicted wells of the training screen, by the same network and number of views; `wells` itself for the
            training screen; None if there are none.
        is_same_screen: Whether equal names of experiments and plates mean the same plates.

    Returns:
        The predictions with the column (NaN for training wells and unreadable wells), and a sentence on the references;
        or the same predictions and the reason.
    """
    if source is None:
        return wells, "No well has a score for unlike wells: the run has no predictions of its own training wells."
    is_labeled = ((source.table["perturbation"] != "") & (source.table["reason"] == "")).to_numpy()
    training = is_labeled & was_trained(source.table)
    is_treatment = ~source.table["Metadata_Role"].isin(CONTROLS).to_numpy()
    if (training & is_treatment).sum() < MIN_REFERENCES:
        return wells, (
            f"No well has a score for unlike wells: {int((training & is_treatment).sum())} training wells of "
            f"treatments are known, and it needs {MIN_REFERENCES}."
        )
    labels = source.table["perturbation"].to_numpy(dtype=object).astype(str)
    centers = ClassCenters.fit(source.embedding[training], labels[training])
    known = np.isin(labels, np.array(centers.names))
    held_out = is_labeled & is_treatment & known & source.table["Metadata_Fold"].isin(UNSEEN).to_numpy()
    of_held_out = centers.distances(source.embedding[held_out])
    inside = np.flatnonzero(training & is_treatment)
    repeated = inside[centers.counts[np.searchsorted(centers.names, labels[inside])] > 1]
    inside = repeated if len(repeated) >= MIN_REFERENCES else inside
    of_training = centers.distances(source.embedding[inside], labels[inside])
    rows = (wells.table["reason"] == "").to_numpy() & ~was_trained(wells.table)
    scores, distances = np.full(len(wells.table), np.nan), np.full(len(wells.table), np.nan)
    distances[rows] = centers.distances(wells.embedding[rows])
    unit, groups, reference_groups = _groups(wells.table, source.table, held_out, is_same=is_same_screen)
    n_from_training = 0
    for name in dict.fromkeys(groups[rows].tolist()):
        members = rows & (groups == name)
        references = of_held_out[reference_groups[held_out] != name]
        if len(references) < MIN_REFERENCES:
            references, n_from_training = of_training, n_from_training + int(members.sum())
        scores[members] = share_nearer(distances[members], references)
    sentence = f"unlike_training is a rank among {len(of_held_out)} held-out wells of other {unit}s."
    if n_from_training:
        sentence = (
            f"unlike_training of {n_from_training} wells is a rank among {len(inside)} training wells, because fewer "
            f"than {MIN_REFERENCES} wells of other {unit}s were held out. Training wells lie nearer to their class "
            "than new wells, so these scores are too high: use their order only."
        )
    return Predictions(
        level=wells.level,
        table=wells.table.assign(**{UNLIKE: scores}),
        logits=wells.logits,
        embedding=wells.embedding,
        perturbations=wells.perturbations,
        views=wells.views,
    ), sentence


def add_out_of_fold_score(wells: Predictions, networks: np.ndarray) -> tuple[Predictions, str]:
    """Add `unlike_training` to the wells that a cross-validation held out.

    The final network was trained on all wells, and embeddings of different networks cannot be compared. So each well is
    judged by the network that held it out: its distance is the negative of the largest logit, and the score is the
    share of reference wells with a smaller distance. References are labeled treatment wells that the same network held
    out, of other experiments than the well (of other plates if it held one experiment out). No well has a part in its
    own network or references.

    Args:
        wells: Predicted wells of the training screen, with the logits of the networks of the folds.
        networks: Number of the network that predicted each well as text, [well]; "" or "0" for the final network.

    Returns:
        The predictions with the column (NaN for other wells, and for those with fewer than `MIN_REFERENCES`
        references), and a sentence on the references; or the same predictions and the reason.

    Source:
        Vaze et al. 2022, "Open-set recognition: a good closed-set classifier is all you need", ICLR (the largest
        logit).
    """
    table = wells.table
    rows = (table["reason"] == "").to_numpy() & ~np.isin(networks, ["", "0"])
    is_reference = rows & ((table["perturbation"] != "") & table["Metadata_Fold"].isin(UNSEEN)).to_numpy()
    is_reference &= ~table["Metadata_Role"].isin(CONTROLS).to_numpy()
    distances = -wells.logits.max(axis=1).astype(np.float64)
    scores, units = np.full(len(table), np.nan), set()
    for network in sorted(set(networks[rows].tolist())):
        own = networks == network
        unit, groups, _ = _groups(table, table, is_reference & own, is_same=True)
        for name in dict.fromkeys(groups[rows & own].tolist()):
            references = distances[is_reference & own & (groups != name)]
            if len(references) < MIN_REFERENCES:
                continue
            members = rows & own & (groups == name)
            scores[members] = share_nearer(distances[members], references)
            units.add(unit)
    n_without = int((rows & np.isnan(scores)).sum())
    if not units:
        return wells, (
            "No well has a score for unlike wells: after a cross-validation, the final network was trained on all "
            f"wells, and the networks of the folds held out fewer than {MIN_REFERENCES} treatment wells of other "
            "experiments or plates."
        )
    kinds = " or ".join(f"{unit}s" for unit in sorted(units))
    sentence = (
        "unlike_training is a rank by the largest logit among wells that the same network of the cross-validation held "
        f"out, of other {kinds}: the final network was trained on all wells."
    )
    if n_without:
        sentence += f" {n_without} wells have no score, because there are fewer than {MIN_REFERENCES} such wells."
    return replace(wells, table=table.assign(**{UNLIKE: scores})), sentence


def _groups(
    table: pd.DataFrame, source: pd.DataFrame, held_out: np.ndarray, *, is_same: bool
) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the kind of group, and the group of each well and of each well of the source."""
    columns = ["Metadata_Experiment"]
    if source["Metadata_Experiment"][held_out].nunique() < 2:
        columns.append("Metadata_Plate")
    names = [part[columns].astype(str).agg(" ".join, axis=1).to_numpy(dtype=object) for part in (table, source)]
    if not is_same:  # wells of another screen are in no group of this one, whatever its plates are called
        names[0] = np.full(len(table), None, dtype=object)
    return "experiment" if len(columns) == 1 else "plate", names[0], names[1]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors of length 1; zeros stay zeros."""
    values = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(lengths > 0, lengths, 1))
