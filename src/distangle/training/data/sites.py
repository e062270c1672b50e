"""List the sites of a fold, with their classes and statistics."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pandas as pd

from distangle.core.random import rng_for
from distangle.errors import ConfigError, FoldError, did_you_mean
from distangle.images import ImageCache, fit_normalization
from distangle.model.features import site_names
from distangle.results.backbone_features import Features
from distangle.screen import TRAIN, Folds, Screen, natural_sort_key
from distangle.screen.folds.coverage import count_well_labels, target_columns
from distangle.screen.plate_groups import control_rows, plates_of
from distangle.screen.screen import WELL_COLUMNS
from distangle.training.config import TrainingConfig


@dataclass(frozen=True)
class TrainingSites:
    """Readable sites of a fold.

    Attributes:
        rows: int [site], positions in the screen.
        names: Name of each site, from experiment, plate, well and site; the key of its random numbers.
        labels: int [site], class index; -1 for a site without a label in training.
        cell_types: int [site], index in the screen's cell types; None when they are not used.
        statistics: float32 [site, 2, channel]; None when every augmented image is standardized by its own.
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
        names = screen.metadata.perturbations
    else:
        known = target_columns(screen)
        if target not in known:
            raise FoldError(f"The screen has no column {target!r} to learn. {did_you_mean(target, known)}")
        names = tuple(sorted({str(value) for value in screen.sites[target]} - {""}, key=natural_sort_key))
    if len(names) < 2:
        raise FoldError(
            f"Column {target!r} names {len(names)} class(es) ({', '.join(names) or 'none'}); a network needs two or "
            f"more. Choose another column, such as `--target cell_type`."
        )
    return names


def output_names(screen: Screen, config: TrainingConfig) -> tuple[str, ...]:
    """Return the names of the outputs: the classes, then `unused 1` and so on.

    The number of unused outputs is `network.extra_outputs`. No site has such a class, so no label, pseudo label or
    score counts it.

    Raises:
        FoldError: The target has fewer than two classes, or is no column of the screen.
        ConfigError: A class already has the name of an unused output.
    """
    classes = class_names(screen, config.target)
    unused_names = tuple(f"unused {k + 1}" for k in range(config.network.extra_outputs))
    conflicts = set(screen.sites[config.target].astype(str)).union(classes) & set(unused_names)
    if conflicts:
        raise ConfigError(
            f"network.extra_outputs={len(unused_names)} would name an output {min(conflicts)!r}, and the screen "
            f"already has a {config.target} of that name. Rename it in the tables, or set network.extra_outputs=0."
        )
    return (*classes, *unused_names)


def uses_cell_type(screen: Screen, config: TrainingConfig) -> bool:
    """Return whether the cell type is an input of the network.

    The screen must name it, the settings must enable it, and the target must be another column.
    """
    return bool(screen.metadata.cell_types) and config.network.cell_type and config.target != "cell_type"


def cell_types_of(screen: Screen, rows: np.ndarray, config: TrainingConfig) -> np.ndarray | None:
    """Return the index of the cell type of each row, int64 [row].

    The result is None when the network does not use the cell type.
    """
    if not uses_cell_type(screen, config):
        return None
    types = {name: k for k, name in enumerate(screen.metadata.cell_types)}
    return np.array(screen.sites["cell_type"].iloc[rows].map(types), dtype=np.int64)


def labelled_sites(
    store: ImageCache,
    rows: np.ndarray,
    classes: Sequence[str],
    config: TrainingConfig,
    features: Features | None = None,
) -> tuple[TrainingSites, int]:
    """Return the readable sites with a label, and the number of sites without one.

    Args:
        store: The images.
        rows: Positions in the screen.
        classes: Class names in the order of the network outputs.
        config: Names the target and the use of cell types.
        features: Features of a frozen backbone; with them no image is read.

    Raises:
        FoldError: The sites have fewer than two classes.
    """
    screen = store.screen
    index = {name: k for k, name in enumerate(classes)}
    codes = screen.sites[config.target].iloc[rows].map(lambda name: index.get(str(name), -1)).to_numpy(dtype=int)
    rows_with_label = rows[codes >= 0].tolist()
    if features is None:
        readable, statistics = fit_normalization(store, rows_with_label)
    else:
        readable, statistics = features.readable(rows_with_label), np.empty(0, dtype=np.float32)
    readable_rows = np.asarray(readable, dtype=int)
    labels = np.array(screen.sites[config.target].iloc[readable_rows].map(index), dtype=np.int64)
    if len(np.unique(labels)) < 2:
        advice = _next_step(rows_with_label, readable, store, features)
        raise FoldError(
            f"The fold has {len(readable_rows)} readable sites with a known {config.target} in "
            f"{len(np.unique(labels))} class(es); at least two classes are needed. {advice}"
        )
    uses_own_statistics = store.preprocessing.standardize == "image" or features is not None
    sites = TrainingSites(
        rows=readable_rows,
        names=site_names(screen, readable),
        labels=labels,
        cell_types=cell_types_of(screen, readable_rows, config),
        statistics=None if uses_own_statistics else statistics[readable_rows],
    )
    return sites, int((codes < 0).sum())


def _next_step(rows: Sequence[int], readable: Sequence[int], store: ImageCache, features: Features | None) -> str:
    """Return advice on a fold with too few readable classes."""
    if len(readable) == len(rows):
        return "Hold out fewer groups, or check problems.csv of the screen."
    reasons = store.reasons if features is None else features.reasons
    unreadable = sorted(set(rows) - set(readable))
    return f"{len(unreadable)} of {len(rows)} cannot be read; the first: {reasons[unreadable[0]]}"


def shuffle_labels(sites: TrainingSites, table: pd.DataFrame, *, seed: int) -> TrainingSites:
    """Return the sites with the labels of each plate permuted over its wells.

    A network that learns from them learns about single wells and plates, not about perturbations: the null of a
    training. Where the labels within a well differ, labels are permuted over the sites of each plate.

    Args:
        sites: Sites of the training fold.
        table: All sites of the screen.
        seed: Equal seeds give equal permutations.
    """
    labels = sites.labels.copy()
    selected = table.iloc[sites.rows]
    is_single = count_well_labels(selected[list(WELL_COLUMNS)], labels).single
    plates = selected["experiment"].astype(str) + "\x1f" + selected["plate"].astype(str)
    for plate, members in plates.groupby(plates).indices.items():
        wells = selected["well"].iloc[members].astype(str) if is_single else np.arange(len(members))
        _, first, well_index = np.unique(wells, return_index=True, return_inverse=True)
        shuffled = rng_for(seed, "shuffle", str(plate)).permutation(labels[members][first])
        labels[members] = shuffled[well_index]
    return dataclasses.replace(sites, labels=labels)


def join_sites(first: TrainingSites, second: TrainingSites) -> TrainingSites:
    """Return the sites of both, the second after the first."""

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
    """Return the readable negative controls of the training fold, without labels.

    Args:
        store: The images.
        folds: Names the training sites.
        config: Number of controls per batch.
        say: Called with a note on plates with fewer controls.

    Raises:
        FoldError: The training fold has no readable control.
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
    control_site_rows = np.asarray(readable, dtype=int)
    training_plates = set(plates_of(screen, np.flatnonzero(fold == TRAIN).tolist()))
    n_by_plate = {plate: 0 for plate in sorted(training_plates)}
    for plate in plates_of(screen, readable):
        n_by_plate[plate] += 1
    few = [f"{' '.join(plate)} ({count})" for plate, count in n_by_plate.items() if count < n]
    if few:
        more = f" and {len(few) - 4} more" if len(few) > 4 else ""
        say(
            f"batch_norm.n_controls={n}: {len(few)} of {len(n_by_plate)} training plates have fewer readable controls "
            f"({', '.join(few[:4])}{more}); other controls of their experiment are added where available."
        )
    return TrainingSites(
        rows=control_site_rows,
        names=tuple(f"{name} beside" for name in site_names(screen, readable)),
        labels=np.full(len(control_site_rows), -1, dtype=np.int64),
        cell_types=cell_types_of(screen, control_site_rows, config),
        statistics=None if store.preprocessing.standardize == "image" else statistics[control_site_rows],
    )


class LabelSource(IntEnum):
    """Source of the label of an image in a batch."""

    LABELLED = 0
    PSEUDO_LABELLED = 1
    NORM_ONLY = 2  # a control for the norm statistics; has no loss
