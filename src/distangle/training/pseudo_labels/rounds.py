"""Assign pseudo labels once, by one of two strategies, and add them to an epoch."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from distangle.core.stats import positions_by_value
from distangle.training.config import PseudoLabels, TrainingConfig
from distangle.training.pseudo_labels.constraints import MIN_LOG_PROBABILITY, PlateLayoutConstraint
from distangle.training.schedule import epoch_order


@dataclass(frozen=True)
class Assignment:
    """The pseudo labels of an epoch.

    Attributes:
        positions: int64 [accepted], positions in the training sites, ascending.
        columns: int64 [accepted, k], classes of each label, the most probable first; k = 1 for hard labels.
        shares: float32 [accepted, k], share of each class in the label; rows sum to 1.
    """

    positions: np.ndarray
    columns: np.ndarray
    shares: np.ndarray

    def label_rows(self, positions: np.ndarray, *, n_classes: int) -> np.ndarray:
        """Return the labels of accepted sites, float32 [site, class].

        Args:
            positions: int [site], each of them among `self.positions`.
            n_classes: Length of a row.

        Raises:
            ValueError: A position has no pseudo label.
        """
        indices = np.searchsorted(self.positions, positions).clip(max=len(self.positions) - 1)
        if (missing := positions[self.positions[indices] != positions]).size:
            raise ValueError(f"The site at position {missing[0]} has no pseudo label.")
        rows = np.zeros((len(positions), n_classes), dtype=np.float32)
        np.add.at(rows, (np.arange(len(positions))[:, None], self.columns[indices]), self.shares[indices])
        return rows


def interleave(
    order: np.ndarray, assignment: Assignment, *, batch_size: int, config: TrainingConfig, epoch: int
) -> np.ndarray:
    """Return the order of an epoch with pseudo-labelled sites ending every batch.

    A batch has as many of them as if they were appended to the fold, but leaves room for the minimum share of labelled
    images. The epoch keeps its number of steps and images.

    Args:
        order: int [position], labelled sites, from `epoch_order`.
        assignment: The pseudo labels.
        batch_size: Images of a batch.
        config: Minimum share of labelled images in a batch, and class balance; the class of a pseudo label is its most
            probable one.
        epoch: Number of the epoch.
    """
    n = len(assignment.positions)
    max_pseudo = int(batch_size * (1 - config.pseudo_labels.labelled_share) + 1e-9)  # 0.9 x 10 must not become 8
    n_pseudo = min(round(batch_size * n / (n + len(order))), max_pseudo)
    if n_pseudo == 0:
        return order
    # The seed differs from that of the labelled order, so the two are shuffled differently.
    visits = epoch_order(assignment.columns[:, 0], balance=config.class_balance, seed=~config.seed, epoch=epoch)
    mixed, n_used = order.copy(), 0
    for end in range(batch_size, len(order) + 1, batch_size):
        batch_visits = visits[np.arange(n_used, n_used + n_pseudo) % n]
        mixed[end - n_pseudo : end] = assignment.positions[batch_visits]
        n_used += n_pseudo
    return mixed


def shuffle_within_source(rng: np.random.Generator, sources: np.ndarray) -> np.ndarray:
    """Return a random partner of the same label source for every image.

    So a label is never mixed with a pseudo label.

    Args:
        rng: Source of randomness; draws one permutation for any sources.
        sources: int [image].
    """
    permutation = rng.permutation(len(sources))
    if (sources == sources[0]).all():
        return permutation
    partners = np.empty_like(permutation)
    for source in np.unique(sources):
        members = np.flatnonzero(sources == source)
        partners[members] = permutation[sources[permutation] == source]
    return partners


MAX_SOFT_CLASSES = 16  # classes of a soft label; the others have no share


@dataclass(frozen=True)
class UnlabelledWells:
    """The wells that get pseudo labels.

    Attributes:
        well_of_site: int64 [site], index of the well of each unlabelled site.
        first_position: Position of the first unlabelled site among the training sites.
        plates: Experiment and plate of each well.
        names: Name of each well on its plate.
        possible: bool [well, class], classes that the well may have.
        truth: int64 [well], true class, -1 if unknown; for counts only.
        labelled_classes: int64 [well], classes of the labelled wells.
        control_classes: int64 [site], classes of the control sites on the hidden plates, which follow the unlabelled
            sites.
    """

    well_of_site: np.ndarray
    first_position: int
    plates: tuple[tuple[str, str], ...]
    names: tuple[str, ...]
    possible: np.ndarray
    truth: np.ndarray
    labelled_classes: np.ndarray
    control_classes: np.ndarray


@dataclass(frozen=True)
class PseudoLabelRound:
    """Decisions of one assignment.

    Attributes:
        labels: int64 [well], the assigned class.
        accepted: bool [well], whether the label is used.
        confidence: float64 [well], probability of the assigned class.
        choices: int64 [well], the most probable possible class, without the plate layout.
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
    logits: np.ndarray, wells: UnlabelledWells, constraint: PlateLayoutConstraint, settings: PseudoLabels
) -> tuple[PseudoLabelRound, list[str]]:
    """Assign the most probable class to every well, and accept confident labels.

    The assignment does not depend on earlier ones.

    Source: Sec. 3.3, the definition of y^PL
    Departs: the paper takes every argmax; here a label below `confidence` is not used, sites of a well share one
        label, and the plan of the plates may overrule the argmax. `soft` keeps the probabilities as the label.

    Args:
        logits: float64 [well, class].
        wells: The unlabelled wells.
        constraint: Rules of the plate layout.
        settings: Confidence, and soft or hard labels.

    Returns:
        The round, and notes on rules that do not apply.
    """
    allowed = _allowed_classes(logits, wells, constraint)
    labels, remarks = constraint.assign(logits, wells.plates, allowed)
    probabilities = np.exp(_masked_log_probabilities(logits, allowed))
    confidence = probabilities[np.arange(len(labels)), labels]
    columns, shares = labels[:, None], np.ones((len(labels), 1), dtype=np.float32)
    if settings.soft:
        k = min(MAX_SOFT_CLASSES, logits.shape[1])
        columns = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        shares = np.take_along_axis(probabilities, columns, axis=1)
        shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    accepted = confidence >= settings.confidence
    choices = _masked_log_probabilities(logits, wells.possible).argmax(axis=1)
    return PseudoLabelRound(labels, accepted, confidence, choices, columns, shares), remarks


def progressive_round(
    logits: np.ndarray,
    wells: UnlabelledWells,
    constraint: PlateLayoutConstraint,
    *,
    share: float,
    previous: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[PseudoLabelRound, list[str]]:
    """Accept the wells with the largest margins until their share is reached.

    An accepted well keeps its label.

    Source: Sec. 3.3, as the code the paper grew from does it (maciej-sypetkowski/kaggle-rcic-1st)
    Departs: there, of two wells of a plate that claim one class the surer keeps it; here the assignment of a whole
        plate is one-to-one at once. There, groups of plates are known beforehand and validation wells join in.

    Args:
        logits: float64 [well, class].
        wells: The unlabelled wells.
        constraint: Rules of the plate layout.
        share: Share of the wells that are accepted after this round.
        previous: Labels and acceptance of the previous round; None for the first.

    Returns:
        The round, and notes on rules that do not apply.
    """
    allowed = _allowed_classes(logits, wells, constraint)
    previous_labels, was_accepted = previous or (
        np.zeros(len(logits), dtype=np.int64),
        np.zeros(len(logits), dtype=bool),
    )
    if constraint.unique_per_plate:
        wells_of_plate = positions_by_value(wells.plates)
        for well in np.flatnonzero(was_accepted):
            allowed[wells_of_plate[wells.plates[well]], previous_labels[well]] = False
    allowed[was_accepted] = np.eye(logits.shape[1], dtype=bool)[previous_labels[was_accepted]]
    without_class = ~allowed.any(axis=1)
    allowed[without_class] = wells.possible[without_class]
    labels, remarks = constraint.assign(logits, wells.plates, allowed)
    labels[was_accepted] = previous_labels[was_accepted]
    log_probabilities = np.maximum(
        _masked_log_probabilities(logits, _allowed_classes(logits, wells, constraint)), MIN_LOG_PROBABILITY
    )
    assigned = log_probabilities[np.arange(len(labels)), labels]
    alternatives = log_probabilities.copy()
    alternatives[np.arange(len(labels)), labels] = MIN_LOG_PROBABILITY
    margin = assigned - alternatives.max(axis=1)  # negative where the plate layout overruled the network
    candidates = np.flatnonzero(~was_accepted)
    n_new = max(0, int(np.floor(share * len(labels) + 1e-9)) - int(was_accepted.sum()))
    accepted = was_accepted.copy()
    accepted[candidates[np.argsort(-margin[candidates], kind="stable")[:n_new]]] = True
    choices = _masked_log_probabilities(logits, wells.possible).argmax(axis=1)
    shares = np.ones((len(labels), 1), dtype=np.float32)
    return PseudoLabelRound(labels, accepted, np.exp(assigned), choices, labels[:, None], shares), remarks


def accepted_share(epoch: int, *, settings: PseudoLabels, epochs: int) -> float:
    """Return the share of the wells that is accepted in the round before an epoch.

    With the default settings it rises from 40 % to 98.5 % in 40 epochs.

    Args:
        epoch: Epochs done.
        settings: T1 and the share of a round 0.
        epochs: Epochs of the training.
    """
    x = (epoch - settings.from_epoch + 1) / (epochs - settings.from_epoch + 1)
    return settings.first_share + (1 - settings.first_share) * x


def well_means(site_logits: np.ndarray, well_of_site: np.ndarray, *, n_wells: int) -> np.ndarray:
    """Return the mean logits over the sites of each well, float64 [well, class]."""
    sums: np.ndarray = np.zeros((n_wells, site_logits.shape[1]))
    np.add.at(sums, well_of_site, site_logits.astype(np.float64))
    sums /= np.bincount(well_of_site, minlength=n_wells)[:, None]
    return sums


def _allowed_classes(logits: np.ndarray, wells: UnlabelledWells, constraint: PlateLayoutConstraint) -> np.ndarray:
    """Return possible classes of the plate's group; if none, all possible ones."""
    allowed: np.ndarray = wells.possible & constraint.allowed_classes(
        np.where(wells.possible, logits, logits.min() - 20), wells.plates
    )
    without_class = ~allowed.any(axis=1)
    allowed[without_class] = wells.possible[without_class]
    return allowed


def _masked_log_probabilities(logits: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    return np.asarray(log_softmax(np.where(allowed, logits, -np.inf), axis=1))
