"""List the unlabelled sites of a run, and the classes that each may have."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from distangle.errors import ConfigError, FoldError
from distangle.images import ImageCache, fit_normalization
from distangle.model.features import Features, site_names
from distangle.screen import CONTROLS, TRAIN, UNLABELLED, Folds, Screen, refuse_reported
from distangle.training.config import TrainingConfig
from distangle.training.data.sites import TrainingSites, cell_types_of, join_sites
from distangle.training.loop import use_averaged_weights
from distangle.training.pseudo_labels.constraints import PlateLayoutConstraint, learn_constraint, no_constraint
from distangle.training.pseudo_labels.labeller import PseudoLabeller
from distangle.training.pseudo_labels.rounds import UnlabelledWells
from distangle.training.state import TrainingState
from distangle.training.validate import SiteEvaluation, site_logits

WELL = ["experiment", "plate", "well"]


def check_pseudo_labels(screen: Screen, folds: Folds, config: TrainingConfig, classes: Sequence[str]) -> None:
    """Check that pseudo labels have sites to go to and an epoch to begin.

    This is done before a run is begun.

    Raises:
        ConfigError: They would begin after the last epoch, or the ramp ends before it begins.
        FoldError: No site of the screen is without a label, outside the held-out fold.
    """
    settings = config.pseudo_labels
    if settings.strategy == "none":
        return
    if settings.from_epoch >= config.epochs:
        raise ConfigError(
            f"pseudo_labels.from_epoch={settings.from_epoch}, but the training has {config.epochs} epochs: no pseudo "
            f"label would ever be used. Begin earlier, or train for longer."
        )
    if settings.strategy == "alpha_ramp" and settings.full_epoch < settings.from_epoch:
        raise ConfigError(
            f"pseudo_labels.full_epoch={settings.full_epoch} lies before from_epoch={settings.from_epoch}: the ramp "
            f"of alpha(t) would end before it begins."
        )
    if not len(candidate_rows(screen, folds, config, classes)):
        raise FoldError(
            f"pseudo_labels.strategy={settings.strategy}, but every site outside the held-out fold has a known "
            f"{config.target}. Hide the labels of some experiments: `--unlabelled experiment=NAME`."
        )


def candidate_rows(screen: Screen, folds: Folds, config: TrainingConfig, classes: Sequence[str]) -> np.ndarray:
    """Return the sites that may get a pseudo label, positions in the screen.

    Those of the unlabelled fold, and those of the training fold without a known label. Where perturbations are
    learnt, wells that the plate plan calls controls are none: what is in them is known.

    Raises:
        FoldError: A held-out site would be among them.
    """
    fold = folds.of(screen)
    unknown = ~screen.sites[config.target].astype(str).isin(classes).to_numpy()
    chosen = (fold == UNLABELLED) | ((fold == TRAIN) & unknown)
    if config.target == "perturbation":
        chosen &= ~screen.sites["role"].isin(CONTROLS).to_numpy()
    rows = np.flatnonzero(chosen)
    refuse_reported(screen, folds, rows.tolist())
    return rows


@dataclass(frozen=True)
class PoolLogits:
    """Gives the logits of unlabelled sites under the averaged weights.

    Attributes:
        sites: The unlabelled sites.
        statistics: float32 [site of the screen, 2, channel].
        how: Images and batch-norm statistics.
    """

    sites: TrainingSites
    statistics: np.ndarray
    how: SiteEvaluation

    def __call__(self, state: TrainingState) -> np.ndarray:
        """Compute the logits that the state of a training gives, float32 [site, class]."""
        with use_averaged_weights(state.model, state.average):
            return site_logits(state.classifier, self.sites, self.statistics, self.how)


def join_unlabelled(
    folds: Folds,
    labelled: TrainingSites,
    classes: Sequence[str],
    config: TrainingConfig,
    how: SiteEvaluation,
    *,
    say: Callable[[str], None],
) -> tuple[TrainingSites, PseudoLabeller]:
    """Join the unlabelled sites behind the labelled ones, with their labeller.

    Args:
        folds: Which labels are hidden.
        labelled: The training fold.
        classes: In the order of the network's outputs.
        config: Strategy and its bounds.
        how: How the network is evaluated on the unlabelled sites.
        say: Called with sentences that a person should see.

    Raises:
        FoldError: No candidate can be read, or one is held out.
    """
    store, features, screen = how.store, how.features, how.store.screen
    rows = candidate_rows(screen, folds, config, classes)
    readable, statistics = _readable(store, rows, features)
    if not readable:
        raise FoldError(f"None of the {len(rows)} unlabelled sites can be read: no pseudo label can be given.")
    kept = np.asarray(readable, dtype=int)
    own = labelled.statistics is None
    pool = _without_labels(screen, kept, config, None if own else statistics)
    controls, known, control_statistics = _hidden_controls(store, folds, labelled, classes, config, features=features)
    beside = _without_labels(screen, controls, config, None if own else control_statistics)
    structure = no_constraint(len(classes))
    if config.pseudo_labels.plate_structure:
        structure = _structure(screen, labelled, config, n_classes=len(classes))
    wells = dataclasses.replace(unlabelled_wells(screen, labelled, pool, classes, config), controls=known)
    n_known = int((wells.truth >= 0).sum())
    say(
        f"pseudo labels: {len(wells.wells)} wells of {len({place[0] for place in wells.places})} experiments have no "
        f"label in training; of {n_known} it is known all the same, and only counted. {len(controls)} control sites of "
        f"hidden plates join with the label that the plan gives them."
    )
    labeller = PseudoLabeller(wells, structure, config, site_logits=PoolLogits(pool, statistics, how), say=say)
    everybody = join_sites(labelled, pool)
    return (join_sites(everybody, beside) if len(controls) else everybody), labeller


def unlabelled_wells(
    screen: Screen, labelled: TrainingSites, pool: TrainingSites, classes: Sequence[str], config: TrainingConfig
) -> UnlabelledWells:
    """Gather unlabelled sites to wells, with the classes that each may have.

    Args:
        screen: The screen.
        labelled: The training fold: only its classes are given.
        pool: The unlabelled sites.
        classes: In the order of the network's outputs.
        config: The target.
    """
    keys = _wells_of(screen, pool.rows)
    first_of: dict[tuple[str, str, str], int] = {}
    for position, key in enumerate(keys):
        first_of.setdefault(key, position)
    names, first = list(first_of), np.array(list(first_of.values()))
    number = {name: k for k, name in enumerate(names)}
    index = {name: k for k, name in enumerate(classes)}
    truth = screen.sites[config.target].astype(str).iloc[pool.rows[first]].map(lambda name: index.get(name, -1))
    trained = np.bincount(labelled.labels, minlength=len(classes)) > 0
    if config.target == "perturbation":
        control = screen.sites["role"].iloc[labelled.rows].isin(CONTROLS).to_numpy()
        trained &= np.bincount(labelled.labels[~control], minlength=len(classes)) > 0
    return UnlabelledWells(
        well_of_site=np.array([number[key] for key in keys], dtype=np.int64),
        first_position=len(labelled.rows),
        places=tuple((name[0], name[1]) for name in names),
        wells=tuple(name[2] for name in names),
        open=np.tile(trained, (len(names), 1)),
        truth=truth.to_numpy(dtype=np.int64),
        labelled=_treated(screen, labelled, config)[1],
        controls=np.empty(0, dtype=np.int64),
    )


def _hidden_controls(
    store: ImageCache,
    folds: Folds,
    labelled: TrainingSites,
    classes: Sequence[str],
    config: TrainingConfig,
    *,
    features: Features | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the readable control sites of the unlabelled fold, their classes, and statistics by site of the screen.

    Without them only treatments would come from new plates, and the network would call their controls treatments.
    """
    screen = store.screen
    named = screen.sites[config.target].astype(str).map({name: k for k, name in enumerate(classes)})
    chosen = (folds.of(screen) == UNLABELLED) & screen.sites["role"].isin(CONTROLS).to_numpy()
    chosen &= named.isin(np.unique(labelled.labels)).to_numpy()
    if config.target != "perturbation" or not config.pseudo_labels.controls or not chosen.any():
        return np.empty(0, dtype=int), np.empty(0, dtype=np.int64), np.empty((0, 2, 0), dtype=np.float32)
    readable, statistics = _readable(store, np.flatnonzero(chosen), features)
    rows = np.asarray(readable, dtype=int)
    return rows, named.iloc[rows].to_numpy(dtype=np.int64), statistics


def _readable(store: ImageCache, rows: np.ndarray, features: Features | None) -> tuple[list[int], np.ndarray]:
    if features is None:
        return fit_normalization(store, rows.tolist())
    return features.readable(rows), np.empty(0, dtype=np.float32)


def _without_labels(
    screen: Screen, rows: np.ndarray, config: TrainingConfig, statistics: np.ndarray | None
) -> TrainingSites:
    return TrainingSites(
        rows=rows,
        names=site_names(screen, rows.tolist()),
        labels=np.full(len(rows), -1, dtype=np.int64),
        cell_types=cell_types_of(screen, rows, config),
        statistics=None if statistics is None else statistics[rows],
    )


def _structure(
    screen: Screen, labelled: TrainingSites, config: TrainingConfig, *, n_classes: int
) -> PlateLayoutConstraint:
    places, labels = _treated(screen, labelled, config)
    return learn_constraint(places, labels, n_classes=n_classes)


def _treated(
    screen: Screen, labelled: TrainingSites, config: TrainingConfig
) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Return place and class of each labelled well; of perturbations, without the controls."""
    control = np.zeros(len(labelled.rows), dtype=bool)
    if config.target == "perturbation":
        control = screen.sites["role"].iloc[labelled.rows].isin(CONTROLS).to_numpy()
    keys = _wells_of(screen, labelled.rows)
    found = {key: int(k) for key, k, out in zip(keys, labelled.labels, control, strict=True) if not out}
    return [(key[0], key[1]) for key in found], np.array(list(found.values()), dtype=np.int64)


def _wells_of(screen: Screen, rows: np.ndarray) -> list[tuple[str, str, str]]:
    return list(screen.sites[WELL].iloc[rows].astype(str).itertuples(index=False, name=None))
