"""Choose which visits of an epoch stand in one batch.

Any visits, those of one plate, or those of one experiment.
"""

from collections.abc import Sequence

import numpy as np

from distangle.core.random import rng_for
from distangle.errors import ConfigError
from distangle.training.config import TrainingConfig


def check_composition(config: TrainingConfig) -> None:
    """Check that the batches asked for can be made.

    Raises:
        ConfigError: Pure batches are asked for together with pseudo labels, or controls beside batches that are not
            pure.
    """
    if config.batch_norm.n_controls and config.batches.pure == "none":
        raise ConfigError(
            f"batch_norm.n_controls={config.batch_norm.n_controls} needs batches of one plate or experiment, whose "
            f"they are. Set batches.pure=plate, or batch_norm.n_controls=0."
        )
    if config.batches.pure != "none" and config.pseudo_labels.strategy != "none":
        raise ConfigError(
            f"batches.pure={config.batches.pure} does not go with pseudo_labels.strategy="
            f"{config.pseudo_labels.strategy}: a batch would hold labelled and pseudo-labelled images, and those lie "
            f"on other plates. Set one of the two to none."
        )


def whole_batches(order: np.ndarray, *, batch_size: int) -> list[np.ndarray]:
    """Cut an order into batches of one size; leave out what fills no batch.

    Args:
        order: int [position].
        batch_size: Visits of a batch.
    """
    return [order[start : start + batch_size] for start in range(0, len(order) - batch_size + 1, batch_size)]


def pure_batches(
    order: np.ndarray, places: np.ndarray, *, by: str, batch_size: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Put visits of one plate, or of one experiment, together.

    No visit is left out and none is added, so that balance stays what it was. A group is cut into the least number
    of batches that hold it, all of about one size, hence none smaller than half of `batch_size`. Plates with fewer
    visits than that share batches with each other, and where even these are too few, with the smallest other plate
    of their experiment: pure of the experiment at least. An experiment with fewer visits in all is one small
    batch; a single visit, which no norm can use, is left out. Loss and gradient are means over a batch, so an image
    of a small batch weighs up to twice as much.

    Args:
        order: int [visit], positions of sites, from `epoch_order`.
        places: int [site, 2], experiment and plate of every site; plates are numbered over all experiments.
        by: `plate` or `experiment`.
        batch_size: Most visits of a batch.
        seed: Of the training.
        epoch: Which epoch; with the seed it decides the order of the batches.
    """
    least = -(-batch_size // 2)
    batches: list[np.ndarray] = []
    for experiment in np.unique(places[:, 0]):
        visits = order[places[order, 0] == experiment]
        groups = [visits]
        if by == "plate":
            of_plate = places[visits, 1]
            groups = _joined([visits[of_plate == plate] for plate in np.unique(of_plate)], visits, least=least)
        for group in groups:
            if len(group) > 1:
                batches += np.array_split(group, -(-len(group) // batch_size))
    turns = rng_for(seed, epoch, "order of pure batches").permutation(len(batches))
    return [batches[turn] for turn in turns]


def _joined(groups: Sequence[np.ndarray], visits: np.ndarray, *, least: int) -> list[np.ndarray]:
    """Join plates with fewer visits than `least`, in the order of the epoch's visits."""
    whole = sorted((group for group in groups if len(group) >= least), key=len, reverse=True)
    small = [group for group in groups if len(group) < least]
    if whole and small and sum(map(len, small)) < least:
        small.append(whole.pop())
    if not small:
        return whole
    rest = visits[np.isin(visits, np.concatenate(small))]
    return [*whole, rest]
