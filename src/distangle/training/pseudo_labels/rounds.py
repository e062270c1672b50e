"""Assign pseudo labels once, by one of two strategies."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from distangle.training.config import PseudoLabels
from distangle.training.pseudo_labels.plate_structure import IMPOSSIBLE, PlateStructure, positions_by_value

LARGEST_K = 16  # classes of a soft label; what lies behind them has no share


@dataclass(frozen=True)
class UnlabelledWells:
    """The wells that get pseudo labels.

    Attributes:
        well_of_site: int64 [site], the well of each unlabelled site.
        first_position: Position of the first unlabelled site among the training sites.
        places: Experiment and plate of each well.
        wells: Its name on the plate.
        open: bool [well, class], classes that the well may have at all.
        truth: int64 [well], the true class, -1 where nobody knows it; for counting only.
        labelled: int64 [well], classes of the labelled wells.
        controls: int64 [site], classes of the control sites on the hidden plates; they lie behind the unlabelled sites.
    """

    well_of_site: np.ndarray
    first_position: int
    places: tuple[tuple[str, str], ...]
    wells: tuple[str, ...]
    open: np.ndarray
    truth: np.ndarray
    labelled: np.ndarray
    controls: np.ndarray


@dataclass(frozen=True)
class Round:
    """What one assignment decided, well by well.

    Attributes:
        labels: int64 [well], the class given.
        accepted: bool [well], whether the label is used.
        confidence: float64 [well], probability of the given class.
        choices: int64 [well], the likeliest open class, before any plan of plates.
        columns: int64 [well, k], classes of the label.
        shares: float32 [well, k], their shares.
    """

    labels: np.ndarray
    accepted: np.ndarray
    confidence: np.ndarray
    choices: np.ndarray
    columns: np.ndarray
    shares: np.ndarray


def ramp_round(
    logits: np.ndarray, wells: UnlabelledWells, structure: PlateStructure, settings: PseudoLabels
) -> tuple[Round, list[str]]:
    """Give every well its likeliest class, and accept confident labels.

    Nothing is remembered.

    Source: Sec. 3.3, the definition of y^PL
    Departs: the paper takes every argmax; here a label below `confidence` is not used, sites of a well share one
        label, and the plan of the plates may overrule the argmax. `soft` keeps the probabilities as the label.

    Args:
        logits: float64 [well, class].
        wells: Who they belong to.
        structure: What the plates' plan says.
        settings: Confidence, soft or hard.

    Returns:
        The round, and sentences on what does not apply.
    """
    allowed = _allowed(logits, wells, structure)
    labels, remarks = structure.choose(logits, wells.places, allowed)
    probabilities = np.exp(_masked(logits, allowed))
    confidence = probabilities[np.arange(len(labels)), labels]
    columns, shares = labels[:, None], np.ones((len(labels), 1), dtype=np.float32)
    if settings.soft:
        k = min(LARGEST_K, logits.shape[1])
        columns = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        shares = np.take_along_axis(probabilities, columns, axis=1)
        shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    accepted = confidence >= settings.confidence
    choices = _masked(logits, wells.open).argmax(axis=1)
    return Round(labels, accepted, confidence, choices, columns, shares), remarks


def progressive_round(
    logits: np.ndarray,
    wells: UnlabelledWells,
    structure: PlateStructure,
    *,
    share: float,
    earlier: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[Round, list[str]]:
    """Accept the surest wells until their share is reached.

    What is accepted stays, with its label.

    Source: Sec. 3.3, as the code the paper grew from does it (maciej-sypetkowski/kaggle-rcic-1st)
    Departs: there, of two wells of a plate that claim one class the surer keeps it; here the assignment of a whole
        plate is one-to-one at once. There, groups of plates are known beforehand and validation wells join in.

    Args:
        logits: float64 [well, class].
        wells: Who they belong to.
        structure: What the plates' plan says.
        share: Of all wells, to be accepted after this round.
        earlier: Labels and acceptance of the round before; None for the first.

    Returns:
        The round, and sentences on what does not apply.
    """
    allowed = _allowed(logits, wells, structure)
    old, kept = earlier or (np.zeros(len(logits), dtype=np.int64), np.zeros(len(logits), dtype=bool))
    if structure.once:
        wells_of_plate = positions_by_value(wells.places)
        for well in np.flatnonzero(kept):
            allowed[wells_of_plate[wells.places[well]], old[well]] = False
    allowed[kept] = np.eye(logits.shape[1], dtype=bool)[old[kept]]
    none = ~allowed.any(axis=1)
    allowed[none] = wells.open[none]
    labels, remarks = structure.choose(logits, wells.places, allowed)
    labels[kept] = old[kept]
    said = np.maximum(_masked(logits, _allowed(logits, wells, structure)), IMPOSSIBLE)
    given = said[np.arange(len(labels)), labels]
    others = said.copy()
    others[np.arange(len(labels)), labels] = IMPOSSIBLE
    margin = given - others.max(axis=1)  # negative where the plan of the plate overruled the network
    open_wells = np.flatnonzero(~kept)
    n_new = max(0, int(np.floor(share * len(labels) + 1e-9)) - int(kept.sum()))
    accepted = kept.copy()
    accepted[open_wells[np.argsort(-margin[open_wells], kind="stable")[:n_new]]] = True
    choices = _masked(logits, wells.open).argmax(axis=1)
    hard = np.ones((len(labels), 1), dtype=np.float32)
    return Round(labels, accepted, np.exp(given), choices, labels[:, None], hard), remarks


def accepted_share(epoch: int, *, settings: PseudoLabels, epochs: int) -> float:
    """Return the share of the wells accepted after the round before an epoch.

    It rises from 40 % to 98.5 % in 40 epochs.

    Args:
        epoch: Epochs done.
        settings: T1 and the share of a round 0.
        epochs: Of the whole training.
    """
    x = (epoch - settings.from_epoch + 1) / (epochs - settings.from_epoch + 1)
    return settings.first_share + (1 - settings.first_share) * x


def well_means(site_logits: np.ndarray, well_of_site: np.ndarray, *, n_wells: int) -> np.ndarray:
    """Return the mean logits over the sites of each well, float64 [well, class]."""
    sums: np.ndarray = np.zeros((n_wells, site_logits.shape[1]))
    np.add.at(sums, well_of_site, site_logits.astype(np.float64))
    sums /= np.bincount(well_of_site, minlength=n_wells)[:, None]
    return sums


def _allowed(logits: np.ndarray, wells: UnlabelledWells, structure: PlateStructure) -> np.ndarray:
    """Open classes of the group of the plate; a well whose group leaves it none keeps its open ones."""
    allowed: np.ndarray = wells.open & structure.allowed(np.where(wells.open, logits, logits.min() - 20), wells.places)
    none = ~allowed.any(axis=1)
    allowed[none] = wells.open[none]
    return allowed


def _masked(logits: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    return np.asarray(log_softmax(np.where(allowed, logits, -np.inf), axis=1))
