"""Group the visits of an epoch into batches.

A batch may be pure: of one plate or one experiment.
"""

from collections.abc import Sequence

import numpy as np

from distangle.core.random import rng_for
from distangle.errors import ConfigError
from distangle.training.config import TrainingConfig


def check_composition(config: TrainingConfig) -> None:
    """Check that the configured batches can be made.

    Raises:
        ConfigError: Pure batches are combined with pseudo labels, or controls with batches that are not pure.
    """
    if config.batch_norm.n_controls and config.batches.pure == "none":
        raise ConfigError(
            f"batch_norm.n_controls={config.batch_norm.n_controls} needs batches of one plate or experiment. "
            f"Set batches.pure=plate, or batch_norm.n_controls=0."
        )
    if config.batches.pure != "none" and config.pseudo_labels.strategy != "none":
        raise ConfigError(
            f"batches.pure={config.batches.pure} does not go with pseudo_labels.strategy="
            f"{config.pseudo_labels.strategy}: a batch would mix labelled and pseudo-labelled images, which lie on "
            f"different plates. Set one of the two to none."
        )


def whole_batches(order: np.ndarray, *, batch_size: int) -> list[np.ndarray]:
    """Split an order into full batches; drop the rest.

    Args:
        order: int [position].
        batch_size: Visits of a batch.
    """
    return [order[start : start + batch_size] for start in range(0, len(order) - batch_size + 1, batch_size)]


def pure_batches(
    order: np.ndarray, group_codes: np.ndarray, *, by: str, batch_size: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Group visits of one plate, or of one experiment, into batches.

    Every visit stays in the epoch and none is added, so the class balance does not change. A group is split into the
    smallest number of batches of about equal size, so none is smaller than half of `batch_size`. Plates with fewer
    visits share batches; if they are still too few, the smallest other plate of their experiment joins them, so the
    batch is pure by experiment. An experiment with fewer visits in all is one small batch; a single visit, which no
    norm can use, is dropped. Loss and gradient are means over a batch, so an image of a small batch weighs up to twice
    as much.

    Args:
        order: int [visit], positions of sites, from `epoch_order`.
        group_codes: int [site, 2], experiment and plate of every site; plates are numbered over all experiments.
        by: `plate` or `experiment`.
        batch_size: Maximum number of visits of a batch.
        seed: Seed of the training.
        epoch: Number of the epoch; with the seed it decides the order of the batches.
    """
    min_size = -(-batch_size // 2)
    batches: list[np.ndarray] = []
    for experiment in np.unique(group_codes[:, 0]):
        visits = order[group_codes[order, 0] == experiment]
        plates = [visits]
        if by == "plate":
            plate_of_visit = group_codes[visits, 1]
            plates = _merge_small(
                [visits[plate_of_visit == plate] for plate in np.unique(plate_of_visit)], visits, min_size=min_size
            )
        for group in plates:
            if len(group) > 1:
                batches += np.array_split(group, -(-len(group) // batch_size))
    shuffled = rng_for(seed, epoch, "order of pure batches").permutation(len(batches))
    return [batches[k] for k in shuffled]


def _merge_small(groups: Sequence[np.ndarray], visits: np.ndarray, *, min_size: int) -> list[np.ndarray]:
    """Merge plates with fewer than `min_size` visits, in the order of the epoch."""
    large = sorted((group for group in groups if len(group) >= min_size), key=len, reverse=True)
    small = [group for group in groups if len(group) < min_size]
    if large and small and sum(map(len, small)) < min_size:
        small.append(large.pop())
    if not small:
        return large
    merged = visits[np.isin(visits, np.concatenate(small))]
    return [*large, merged]
