"""Bring pseudo labels into the batches of an epoch.

Which sites, which labels, and how many to a batch.
"""

from dataclasses import dataclass

import numpy as np

from distangle.training.config import TrainingConfig
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


def mixed_order(
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
    visits = epoch_order(assignment.columns[:, 0], balance=config.balance, seed=~config.seed, epoch=epoch)
    mixed, taken = order.copy(), 0
    for end in range(batch_size, len(order) + 1, batch_size):
        chosen = visits[np.arange(taken, taken + n_pseudo) % n]
        mixed[end - n_pseudo : end] = assignment.positions[chosen]
        taken += n_pseudo
    return mixed


def within_kinds(rng: np.random.Generator, kinds: np.ndarray) -> np.ndarray:
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
