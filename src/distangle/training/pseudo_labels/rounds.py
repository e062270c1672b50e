"""Bring pseudo labels into the batches of an epoch.

Which sites, which labels, and how many to a batch.

Assign pseudo labels once, by one of two strategies.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from distangle.training.config import PseudoLabels, TrainingConfig
from distangle.training.pseudo_labels.constraints import IMPOSSIBLE, PlateLayoutConstraint, positions_by_value
from distangle.training.schedule import epoch_order


@dataclass(frozen=True)
class Assignment:
    """The pseudo labels of an epoch.

    Attributes:
        positions: int64 [accepted], positions in the training sites, ascending.
        columns: int64 [accepted, k], classes of each; the likeliest first, k = 1 for hard labels; shares of one add up.
        shares: float32 [accepted, k], what each of them has of the label; rows sum to 1.
    """

    positions: np.ndarray
    columns: np.ndarray
    shares: np.ndarray

    def label_rows(self, positions: np.ndarray, *, n_classes: int) -> np.ndarray:
        """Return the label of accepted sites, float32 [site, class].

        Args:
            positions: int [site], each of them among `self.positions`.
            n_classes: Length of a row.

        Raises:
            ValueError: One of them is not.
        """
        found = np.searchsorted(self.positions, positions).clip(max=len(self.positions) - 1)
        if (wrong := positions[self.positions[found] != positions]).size:
            raise ValueError(f"The site at position {wrong[0]} has no pseudo label.")
        rows = np.zeros((len(positions), n_classes), dtype=np.float32)
        np.add.at(rows, (np.arange(len(positions))[:, None], self.columns[found]), self.shares[found])
        return rows


def interleave(
    order: np.ndarray, assignment: Assignment, *, batch_size: int, config: TrainingConfig, epoch: int
) -> np.ndarray:
    """Return the order of an epoch with pseudo-labelled sites ending every batch.

    As many to a batch as if they were appended to the fold, but never more than the least share of labelled
    images leaves. The epoch keeps its length: the same number of steps and of images as without pseudo labels.

    Args:
        order: int [position], labelled sites, from `epoch_order`.
        assignment: The pseudo labels.
        batch_size: Images of a batch.
        config: Least share of labelled images in every batch; balance, by the likeliest class of a pseudo label.
        epoch: Which epoch.
    """
    n = len(assignment.positions)
    room = int(batch_size * (1 - config.pseudo_labels.labelled_share) + 1e-9)  # 0.9 x 10 must not become 8
    n_pseudo = min(round(batch_size * n / (n + len(order))), room)
    if n_pseudo == 0:
        return order
    # Another seed than that of the labelled order, or both would be shuffled alike.
    visits = epoch_order(assignment.columns[:, 0], balance=config.class_balance, seed=~config.seed, epoch=epoch)
    mixed, taken = order.copy(), 0
    for end in range(batch_size, len(order) + 1, batch_size):
        chosen = visits[np.arange(taken, taken + n_pseudo) % n]
        mixed[end - n_pseudo : end] = assignment.positions[chosen]
        taken += n_pseudo
    return mixed


def shuffle_within_source(rng: np.random.Generator, kinds: np.ndarray) -> np.ndarray:
    """Return a random partner of the same kind for every image.

    So a label is never mixed with a pseudo label.

    Args:
        rng: Draws one permutation, whatever the kinds.
        kinds: int [image].
    """
    drawn = rng.permutation(len(kinds))
    if (kinds == kinds[0]).all():
        return drawn
    partners = np.empty_like(drawn)
    for kind in np.unique(kinds):
        members = np.flatnonzero(kinds == kind)
        partners[members] = drawn[kinds[drawn] == kind]
    return partners


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
class PseudoLabelRound:
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
    logits: np.ndarray, wells: UnlabelledWells, structure: PlateLayoutConstraint, settings: PseudoLabels
) -> tuple[PseudoLabelRound, list[str]]:
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
    return PseudoLabelRound(labels, accepted, confidence, choices, columns, shares), remarks


def progressive_round(
    logits: np.ndarray,
    wells: UnlabelledWells,
    structure: PlateLayoutConstraint,
    *,
    share: float,
    earlier: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[PseudoLabelRound, list[str]]:
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
    return PseudoLabelRound(labels, accepted, np.exp(given), choices, labels[:, None], hard), remarks


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


def _allowed(logits: np.ndarray, wells: UnlabelledWells, structure: PlateLayoutConstraint) -> np.ndarray:
    """Open classes of the group of the plate; a well whose group leaves it none keeps its open ones."""
    allowed: np.ndarray = wells.open & structure.allowed(np.where(wells.open, logits, logits.min() - 20), wells.places)
    none = ~allowed.any(axis=1)
    allowed[none] = wells.open[none]
    return allowed


def _masked(logits: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    return np.asarray(log_softmax(np.where(allowed, logits, -np.inf), axis=1))
