"""List the sites of the training fold, with their classes and statistics.

The negative controls that stand beside training batches to steady their norms.

What an image of a batch is for.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pandas as pd

from distangle.core.random import rng_for
from distangle.errors import ConfigError, FoldError, did_you_mean
from distangle.images import ImageCache, fit_normalization
from distangle.model.features import Features, site_names
from distangle.screen import TRAIN, Folds, Screen, natural_sort_key
from distangle.screen.folds.coverage import count_well_labels, target_columns
from distangle.screen.plate_groups import control_rows, plates_of
from distangle.training.config import TrainingConfig


@dataclass(frozen=True)
class TrainingSites:
    """Readable sites of a fold.

    Attributes:
        rows: int [site], positions in the screen.
        names: One per site, from its experiment, plate, well and site: the key of its random numbers.
        labels: int [site], class index; -1 for a site whose label is not to be known.
        cell_types: int [site], index in the screen's cell types; None when they are not used.
        statistics: float32 [site, 2, channel]; None when every view is standardised by its own.
    """

    rows: np.ndarray
    names: tuple[str, ...]
    labels: np.ndarray
    cell_types: np.ndarray | None
    statistics: np.ndarray | None


def class_names(screen: Screen, target: str) -> tuple[str, ...]:
    """Return the classes of a target column in natural order.

    For `perturbation` they are the class list of the screen.

    Raises:
        FoldError: The screen has no such column, or it names fewer than two classes.
    """
    if target == "perturbation":
        names = screen.card.perturbations
    else:
        known = target_columns(screen)
        if target not in known:
            raise FoldError(f"The screen has no column {target!r} to learn. {did_you_mean(target, known)}")
        names = tuple(sorted({str(value) for value in screen.sites[target]} - {""}, key=natural_sort_key))
    if len(names) < 2:
        raise FoldError(
            f"Column {target!r} names {len(names)} class(es) ({', '.join(names) or 'none'}); a network needs two to "
            f"tell apart. Learn another column: `--target cell_type`."
        )
    return names


def output_names(screen: Screen, config: TrainingConfig) -> tuple[str, ...]:
    """Name the outputs of the network: the classes, then `unused 1` and so on.

    The latter are `network.extra_outputs`: no site has them, so no label, pseudo label or score ever counts them.

    Raises:
        FoldError: As `class_names` does.
        ConfigError: A class already has such a name.
    """
    classes = class_names(screen, config.target)
    junk = tuple(f"unused {k + 1}" for k in range(config.network.extra_outputs))
    taken = set(screen.sites[config.target].astype(str)).union(classes) & set(junk)
    if taken:
        raise ConfigError(
            f"network.extra_outputs={len(junk)} would name an output {min(taken)!r}, and the screen has a "
            f"{config.target} of that name. Rename it in the tables, or set network.extra_outputs=0."
        )
    return (*classes, *junk)


def uses_cell_type(screen: Screen, config: TrainingConfig) -> bool:
    """Tell whether the cell type joins the network.

    The screen must name it, the settings ask for it, and the target be another column.
    """
    return bool(screen.card.cell_types) and config.network.cell_type and config.target != "cell_type"


def cell_types_of(screen: Screen, rows: np.ndarray, config: TrainingConfig) -> np.ndarray | None:
    """Return the index of the cell type of each row, int64 [row].

    None where the network does not use it.
    """
    if not uses_cell_type(screen, config):
        return None
    types = {name: k for k, name in enumerate(screen.card.cell_types)}
    return np.array(screen.sites["cell_type"].iloc[rows].map(types), dtype=np.int64)


def labelled_sites(
    store: ImageCache,
    rows: np.ndarray,
    classes: Sequence[str],
    config: TrainingConfig,
    features: Features | None = None,
) -> tuple[TrainingSites, int]:
    """Find the readable sites of a fold with a label; count those without one.

    Args:
        store: The images.
        rows: Positions in the screen.
        classes: In the order of the network's outputs.
        config: Target and cell types.
        features: Of a frozen backbone: then no image is read.

    Raises:
        FoldError: None is left, or only one class.
    """
    screen = store.screen
    index = {name: k for k, name in enumerate(classes)}
    named = screen.sites[config.target].iloc[rows].map(lambda name: index.get(str(name), -1)).to_numpy(dtype=int)
    wanted = rows[named >= 0].tolist()
    if features is None:
        readable, statistics = fit_normalization(store, wanted)
    else:
        readable, statistics = features.readable(wanted), np.empty(0, dtype=np.float32)
    kept = np.asarray(readable, dtype=int)
    labels = np.array(screen.sites[config.target].iloc[kept].map(index), dtype=np.int64)
    if len(np.unique(labels)) < 2:
        raise FoldError(
            f"The fold has {len(kept)} readable sites with a known {config.target} in {len(np.unique(labels))} "
            f"class(es); at least two classes are needed. {_next_step(wanted, readable, store, features)}"
        )
    own = store.preparation.standardize == "image" or features is not None
    sites = TrainingSites(
        rows=kept,
        names=site_names(screen, readable),
        labels=labels,
        cell_types=cell_types_of(screen, kept, config),
        statistics=None if own else statistics[kept],
    )
    return sites, int((named < 0).sum())


def _next_step(wanted: Sequence[int], readable: Sequence[int], store: ImageCache, features: Features | None) -> str:
    """Say what to do about a fold with too few classes: its images cannot be read, or it is too small."""
    if len(readable) == len(wanted):
        return "Hold out less, or check problems.csv of the screen."
    reasons = store.reasons if features is None else features.reasons
    unread = sorted(set(wanted) - set(readable))
    return f"{len(unread)} of {len(wanted)} cannot be read; the first: {reasons[unread[0]]}"


def shuffle_labels(sites: TrainingSites, table: pd.DataFrame, *, seed: int) -> TrainingSites:
    """Return the sites with the labels of each plate dealt out anew over its wells.

    What a network learns from them is of single wells and plates, nothing of perturbations: the null of a training.
    Where the labels of any well differ, they are of single sites, and are dealt out over the sites of each plate.

    Args:
        sites: Of the training fold.
        table: All sites of the screen.
        seed: Equal seeds deal alike.
    """
    labels = sites.labels.copy()
    of_rows = table.iloc[sites.rows]
    single = count_well_labels(of_rows[["experiment", "plate", "well"]], labels).single
    plates = of_rows["experiment"].astype(str) + "\x1f" + of_rows["plate"].astype(str)
    for plate, members in plates.groupby(plates).indices.items():
        wells = of_rows["well"].iloc[members].astype(str) if single else np.arange(len(members))
        _, first, well = np.unique(wells, return_index=True, return_inverse=True)
        dealt = rng_for(seed, "shuffle", str(plate)).permutation(labels[members][first])
        labels[members] = dealt[well]
    return dataclasses.replace(sites, labels=labels)


def join_sites(first: TrainingSites, second: TrainingSites) -> TrainingSites:
    """Return the sites of both, the second behind the first."""

    def both(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
        return None if a is None or b is None else np.concatenate([a, b])

    return dataclasses.replace(
        first,
        rows=np.concatenate([first.rows, second.rows]),
        names=(*first.names, *second.names),
        labels=np.concatenate([first.labels, second.labels]),
        cell_types=both(first.cell_types, second.cell_types),
        statistics=both(first.statistics, second.statistics),
    )


def control_sites(
    store: ImageCache, folds: Folds, config: TrainingConfig, *, say: Callable[[str], None]
) -> TrainingSites | None:
    """Find the readable negative controls of the training fold, without labels.

    Args:
        store: The images.
        folds: Which sites are for training.
        config: How many stand beside a batch.
        say: Told of plates with fewer controls than that.

    Raises:
        FoldError: The training fold has none.
    """
    n = config.batch_norm.n_controls
    if n == 0:
        return None
    screen = store.screen
    fold = folds.of(screen)
    rows = [row for row in control_rows(screen) if fold[row] == TRAIN]
    readable, statistics = fit_normalization(store, rows)
    if not readable:
        raise FoldError(
            f"batch_norm.n_controls={n}, but none of the training sites is a readable negative control. Name the "
            f"controls when indexing, or set batch_norm.n_controls=0."
        )
    kept = np.asarray(readable, dtype=int)
    trained = set(plates_of(screen, np.flatnonzero(fold == TRAIN).tolist()))
    found = {plate: 0 for plate in sorted(trained)}
    for plate in plates_of(screen, readable):
        found[plate] += 1
    few = [f"{' '.join(plate)} ({count})" for plate, count in found.items() if count < n]
    if few:
        more = f" and {len(few) - 4} more" if len(few) > 4 else ""
        say(
            f"batch_norm.n_controls={n}: {len(few)} of {len(found)} training plates have fewer readable controls "
            f"({', '.join(few[:4])}{more}); others of their experiment fill up, as far as there are any."
        )
    return TrainingSites(
        rows=kept,
        names=tuple(f"{name} beside" for name in site_names(screen, readable)),
        labels=np.full(len(kept), -1, dtype=np.int64),
        cell_types=cell_types_of(screen, kept, config),
        statistics=None if store.preparation.standardize == "image" else statistics[kept],
    )


class LabelSource(IntEnum):
    """Whose label an image of a batch carries."""

    LABELLED = 0
    PSEUDO_LABELLED = 1
    NORM_ONLY = 2  # steadies the norms, has no loss
