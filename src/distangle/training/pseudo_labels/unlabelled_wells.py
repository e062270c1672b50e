"""List the unlabelled sites of a run, and the possible classes of each."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from distangle.errors import ConfigError, FoldError
from distangle.images import ImageCache, fit_normalization
from distangle.model.features import site_names
from distangle.results.backbone_features import Features
from distangle.screen import CONTROLS, TRAIN, UNLABELLED, Folds, Screen, refuse_reported
from distangle.screen.screen import WELL_COLUMNS
from distangle.training.config import TrainingConfig
from distangle.training.data.sites import TrainingSites, cell_types_of, join_sites
from distangle.training.loop import use_averaged_weights
from distangle.training.pseudo_labels.constraints import PlateLayoutConstraint, learn_constraint, no_constraint
from distangle.training.pseudo_labels.labeller import PseudoLabeller
from distangle.training.pseudo_labels.rounds import UnlabelledWells
from distangle.training.state import TrainingState
from distangle.training.validate import SiteEvaluation, site_logits


def check_pseudo_labels(screen: Screen, folds: Folds, config: TrainingConfig, classes: Sequence[str]) -> None:
    """Check that pseudo labels have unlabelled sites and a first epoch.

    Call it before the run folder is made.

    Raises:
        ConfigError: Pseudo labels would start after the last epoch, or the ramp ends before it starts.
        FoldError: Every site outside the held-out fold has a label.
    """
    settings = config.pseudo_labels
    if settings.strategy == "none":
        return
    if settings.from_epoch >= config.epochs:
        raise ConfigError(
            f"pseudo_labels.from_epoch={settings.from_epoch}, but the training has {config.epochs} epochs: no pseudo "
            f"label would be used. Start earlier, or train longer."
        )
    if settings.strategy == "alpha_ramp" and settings.full_epoch < settings.from_epoch:
        raise ConfigError(
            f"pseudo_labels.full_epoch={settings.full_epoch} lies before from_epoch={settings.from_epoch}: the ramp "
            f"of alpha(t) would end before it starts. Set a larger full_epoch."
        )
    if not len(candidate_rows(screen, folds, config, classes)):
        raise FoldError(
            f"pseudo_labels.strategy={settings.strategy}, but every site outside the held-out fold has a known "
            f"{config.target}. Hide the labels of some experiments: `--unlabelled experiment=NAME`."
        )


def candidate_rows(screen: Screen, folds: Folds, config: TrainingConfig, classes: Sequence[str]) -> np.ndarray:
    """Return the sites that may get a pseudo label, as positions in the screen.

    These are the sites of the unlabelled fold, and those of the training fold without a known label. If the target is
    the perturbation, control wells are excluded, because the plate map gives their class.

    Raises:
        FoldError: A held-out site is among them.
    """
    fold = folds.of(screen)
    has_no_label = ~screen.sites[config.target].astype(str).isin(classes).to_numpy()
    is_candidate = (fold == UNLABELLED) | ((fold == TRAIN) & has_no_label)
    if config.target == "perturbation":
        is_candidate &= ~screen.sites["role"].isin(CONTROLS).to_numpy()
    rows = np.flatnonzero(is_candidate)
    refuse_reported(screen, folds, rows.tolist())
    return rows


@dataclass(frozen=True)
class PoolLogits:
    """Computes the logits of unlabelled sites with the averaged weights.

    Attributes:
        sites: The unlabelled sites.
        statistics: float32 [site of the screen, 2, channel].
        evaluation: Images and batch-norm statistics.
    """

    sites: TrainingSites
    statistics: np.ndarray
    evaluation: SiteEvaluation

    def __call__(self, state: TrainingState) -> np.ndarray:
        """Return the logits of the unlabelled sites, float32 [site, class]."""
        with use_averaged_weights(state.model, state.ema):
            return site_logits(state.classifier, self.sites, self.statistics, self.evaluation)


def join_unlabelled(
    folds: Folds,
    labelled: TrainingSites,
    classes: Sequence[str],
    config: TrainingConfig,
    evaluation: SiteEvaluation,
    *,
    say: Callable[[str], None],
) -> tuple[TrainingSites, PseudoLabeller]:
    """Append the unlabelled sites to the labelled ones, and return their labeller.

    Args:
        folds: Names the sites with hidden labels.
        labelled: Sites of the training fold.
        classes: Class names in the order of the network outputs.
        config: Strategy and bounds.
        evaluation: How the network is evaluated on the unlabelled sites.
        say: Called with messages for the user.

    Raises:
        FoldError: No candidate can be read, or one is held out.
    """
    store, features, screen = evaluation.store, evaluation.features, evaluation.store.screen
    rows = candidate_rows(screen, folds, config, classes)
    readable, statistics = _readable(store, rows, features)
    if not readable:
        raise FoldError(f"None of the {len(rows)} unlabelled sites can be read, so there are no pseudo labels.")
    pool_rows = np.asarray(readable, dtype=int)
    uses_own_statistics = labelled.statistics is None
    pool = _without_labels(screen, pool_rows, config, None if uses_own_statistics else statistics)
    controls, control_classes, control_statistics = _hidden_controls(
        store, folds, labelled, classes, config, features=features
    )
    control_sites = _without_labels(screen, controls, config, None if uses_own_statistics else control_statistics)
    constraint = no_constraint(len(classes))
    if config.pseudo_labels.plate_structure:
        constraint = _learn_constraint(screen, labelled, config, n_classes=len(classes))
    wells = dataclasses.replace(
        unlabelled_wells(screen, labelled, pool, classes, config), control_classes=control_classes
    )
    n_known = int((wells.truth >= 0).sum())
    say(
        f"pseudo labels: {len(wells.names)} wells of {len({place[0] for place in wells.plates})} experiments have no "
        f"label in training; the class of {n_known} is known, for counts only. {len(controls)} control sites of "
        f"hidden plates join with the label of the plate map."
    )
    labeller = PseudoLabeller(wells, constraint, config, site_logits=PoolLogits(pool, statistics, evaluation), say=say)
    joined = join_sites(labelled, pool)
    return (join_sites(joined, control_sites) if len(controls) else joined), labeller


def unlabelled_wells(
    screen: Screen, labelled: TrainingSites, pool: TrainingSites, classes: Sequence[str], config: TrainingConfig
) -> UnlabelledWells:
    """Group unlabelled sites into wells, with the possible classes of each.

    Args:
        screen: The screen.
        labelled: Sites of the training fold; only their classes are possible.
        pool: The unlabelled sites.
        classes: Class names in the order of the network outputs.
        config: Names the target.
    """
    keys = _wells_of(screen, pool.rows)
    first_position: dict[tuple[str, str, str], int] = {}
    for position, key in enumerate(keys):
        first_position.setdefault(key, position)
    wells, first_positions = list(first_position), np.array(list(first_position.values()))
    index_of_well = {well: k for k, well in enumerate(wells)}
    class_index = {well: k for k, well in enumerate(classes)}
    truth = (
        screen.sites[config.target]
        .astype(str)
        .iloc[pool.rows[first_positions]]
        .map(lambda well: class_index.get(well, -1))
    )
    is_trained = np.bincount(labelled.labels, minlength=len(classes)) > 0
    if config.target == "perturbation":
        is_control = screen.sites["role"].iloc[labelled.rows].isin(CONTROLS).to_numpy()
        is_trained &= np.bincount(labelled.labels[~is_control], minlength=len(classes)) > 0
    return UnlabelledWells(
        well_of_site=np.array([index_of_well[key] for key in keys], dtype=np.int64),
        first_position=len(labelled.rows),
        plates=tuple((well[0], well[1]) for well in wells),
        names=tuple(well[2] for well in wells),
        possible=np.tile(is_trained, (len(wells), 1)),
        truth=truth.to_numpy(dtype=np.int64),
        labelled_classes=_treatment_wells(screen, labelled, config)[1],
        control_classes=np.empty(0, dtype=np.int64),
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
    """Return rows, classes and statistics of readable controls on hidden plates.

    Without them only treatments would come from the new plates, and the network would call their controls treatments.
    """
    screen = store.screen
    class_codes = screen.sites[config.target].astype(str).map({name: k for k, name in enumerate(classes)})
    is_hidden_control = (folds.of(screen) == UNLABELLED) & screen.sites["role"].isin(CONTROLS).to_numpy()
    is_hidden_control &= class_codes.isin(np.unique(labelled.labels)).to_numpy()
    if config.target != "perturbation" or not config.pseudo_labels.controls or not is_hidden_control.any():
        return np.empty(0, dtype=int), np.empty(0, dtype=np.int64), np.empty((0, 2, 0), dtype=np.float32)
    readable, statistics = _readable(store, np.flatnonzero(is_hidden_control), features)
    rows = np.asarray(readable, dtype=int)
    return rows, class_codes.iloc[rows].to_numpy(dtype=np.int64), statistics


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


def _learn_constraint(
    screen: Screen, labelled: TrainingSites, config: TrainingConfig, *, n_classes: int
) -> PlateLayoutConstraint:
    plates, labels = _treatment_wells(screen, labelled, config)
    return learn_constraint(plates, labels, n_classes=n_classes)


def _treatment_wells(
    screen: Screen, labelled: TrainingSites, config: TrainingConfig
) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Return plate and class of each labelled well, without controls."""
    is_control = np.zeros(len(labelled.rows), dtype=bool)
    if config.target == "perturbation":
        is_control = screen.sites["role"].iloc[labelled.rows].isin(CONTROLS).to_numpy()
    keys = _wells_of(screen, labelled.rows)
    label_of_well = {
        key: int(k) for key, k, excluded in zip(keys, labelled.labels, is_control, strict=True) if not excluded
    }
    return [(key[0], key[1]) for key in label_of_well], np.array(list(label_of_well.values()), dtype=np.int64)


def _wells_of(screen: Screen, rows: np.ndarray) -> list[tuple[str, str, str]]:
    return list(screen.sites[list(WELL_COLUMNS)].iloc[rows].astype(str).itertuples(index=False, name=None))
