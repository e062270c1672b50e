"""Choose the batch correction that serves new plates or experiments best.

Corrections are compared on folds of the training wells.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import t

from distangle.core.progress import no_progress
from distangle.core.random import rng_for
from distangle.core.shrinkage import Correction
from distangle.errors import FoldError
from distangle.images import N_VIEWS, ImageCache
from distangle.model import ReferenceWells, eval_mode, reference_wells, set_prior
from distangle.model.features import Features
from distangle.screen import Screen
from distangle.screen.folds.expectation import expected_groups
from distangle.screen.folds.make import assign_groups
from distangle.screen.plate_groups import group_codes
from distangle.training.config import TrainingConfig
from distangle.training.data.loader import BatchLoader
from distangle.training.data.sites import TrainingSites
from distangle.training.initial_state import initial_state
from distangle.training.loop import Callbacks, make_optimizer, run_epochs, use_averaged_weights
from distangle.training.state import TrainingState, averaged_tensors

CANDIDATES = (
    Correction(),
    Correction(method="center", group="experiment", wells="controls"),
    Correction(method="center", group="plate", wells="controls"),
    Correction(method="standardize", group="experiment", wells="controls"),
    Correction(method="standardize", group="plate", wells="all"),
)
MOST_STEPS = 2000  # of the training of one candidate on one fold
FEWEST_FOLDS = 2  # that every candidate is tried on
CHANCE = 0.05  # of taking any correction where none helps
INNER = "expected"  # fold of the wells that stand for new data


@dataclass(frozen=True)
class CorrectionScore:
    """How one correction did.

    Attributes:
        correction: Which.
        accuracies: Balanced accuracy over the sites of each fold, in [0, 1].
        share: Mean share of a group's difference that is corrected, over features and groups, in [0, 1].
    """

    correction: Correction
    accuracies: tuple[float, ...]
    share: float

    @property
    def mean(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.accuracies))


@dataclass(frozen=True)
class CorrectionChoice:
    """What was chosen, and why.

    Attributes:
        chosen: The correction.
        expect: What new data are expected to be: `plates` or `experiments`.
        reason: Why, in a sentence.
        compared: Every candidate; none where nothing could be compared.
    """

    chosen: Correction
    expect: str
    reason: str
    compared: tuple[CorrectionScore, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "chosen": self.chosen.model_dump(),
            "expect": self.expect,
            "reason": self.reason,
            "compared": [
                {
                    **one.correction.model_dump(),
                    "name": str(one.correction),
                    "balanced_accuracy": one.mean,
                    "by_fold": list(one.accuracies),
                    "share_corrected": one.share,
                }
                for one in self.compared
            ],
        }


def choose_correction(
    store: ImageCache,
    features: Features,
    sites: TrainingSites,
    config: TrainingConfig,
    *,
    n_classes: int,
    advance: Callable[[str], None] = no_progress,
    look: Callable[[], None] = lambda: None,
) -> CorrectionChoice:
    """Compare corrections on whole plates or experiments of the training fold.

    A correction is taken only where its gain over none, fold by fold, is more than chance explains (one-sided t test,
    5 % over all candidates); of those, the best. One that has gained nothing on two folds or more is tried no further.

    Args:
        store: Of the screen; its folds stay apart.
        features: Of its sites.
        sites: The training fold.
        config: `correction`, `expect`, and how heads are trained.
        n_classes: Outputs.
        advance: Called after each training.
        look: Called before each training; what it raises ends the comparison.
    """
    expect, why = expected_groups(store.screen, config.expect, label=config.target)
    try:
        folds = list(_folds(store.screen, sites, expect, n_folds=config.correction.folds))
    except FoldError as error:
        return CorrectionChoice(Correction(), expect, f"Nothing could be compared: {error}")
    compared: list[CorrectionScore] = []
    for candidate in CANDIDATES:
        accuracies, share = [], []
        model = initial_state(
            store.screen, config, n_classes=n_classes, correction=candidate, pretrained=False, say=no_progress
        ).model
        first = {name: tensor.detach().clone() for name, tensor in averaged_tensors(model).items()}
        for held in folds:
            look()
            model.load_state_dict(first, strict=False)
            accuracy, corrected = _score(store, features, sites, config, model, held=held)
            accuracies.append(accuracy)
            share.append(corrected)
            advance(f"correction {candidate}: {accuracy:.3f}")
            if compared and is_lost(accuracies, compared[0].accuracies):
                break
        compared.append(CorrectionScore(candidate, tuple(accuracies), float(np.mean(share))))
    chosen = best_correction(compared)
    reason = (
        f"For new {expect} ({why}): balanced accuracy {chosen.mean:.3f} over {len(folds)} folds of training {expect}, "
        f"none {compared[0].mean:.3f}."
    )
    return CorrectionChoice(chosen.correction, expect, reason, tuple(compared))


def is_lost(accuracies: Sequence[float], of_none: Sequence[float]) -> bool:
    """Tell whether a correction is given up: no gain on two or more first folds.

    Args:
        accuracies: Of the correction, fold by fold.
        of_none: Of no correction, on all folds.
    """
    n = len(accuracies)
    return n >= FEWEST_FOLDS and float(np.mean(accuracies)) <= float(np.mean(of_none[:n]))


def best_correction(compared: Sequence[CorrectionScore]) -> CorrectionScore:
    """Return the best correction whose gain over none is more than chance explains.

    Without such a gain it is none.

    Args:
        compared: No correction first. One that was given up has fewer folds and is not taken.
    """
    none = compared[0]
    better = []
    for one in compared[1:]:
        if len(one.accuracies) < max(FEWEST_FOLDS, len(none.accuracies)):
            continue
        gains = np.subtract(one.accuracies, none.accuracies)
        needed = t.ppf(1 - CHANCE / (len(compared) - 1), len(gains) - 1)
        if gains.mean() > needed * gains.std(ddof=1) / np.sqrt(len(gains)):
            better.append(one)
    return max(better, key=lambda one: one.mean, default=none)


def _folds(screen: Screen, sites: TrainingSites, expect: str, *, n_folds: int) -> Iterator[np.ndarray]:
    """Give which training sites stand for new data, bool [site]; whole groups, every label spread evenly."""
    columns = ["experiment"] if expect == "experiments" else ["experiment", "plate"]
    member = np.unique(group_codes(screen.sites, columns)[sites.rows], return_inverse=True)[1]
    n_groups = int(member.max()) + 1
    if n_groups < 2:
        raise FoldError(f"the training wells are of one {expect.removesuffix('s')}.")
    labelled = np.maximum(sites.labels, 0)
    n_sets = min(n_folds, n_groups)
    dealt = assign_groups(member, labelled, n_sets=n_sets, rng=rng_for(0, "folds of the corrections", expect))
    for k in range(n_sets):
        held = dealt[member] == k
        known = np.isin(sites.labels[held], sites.labels[~held])
        if known.any() and len(np.unique(sites.labels[~held])) > 1:
            yield held


def _score(
    store: ImageCache,
    features: Features,
    sites: TrainingSites,
    config: TrainingConfig,
    model: Any,
    *,
    held: np.ndarray,
) -> tuple[float, float]:
    """Train a head without some sites; return its balanced accuracy on them, and the share that was corrected."""
    screen, correction, n_classes = store.screen, model.config.correction, model.config.n_perturbations
    fold = np.full(len(screen.sites), "", dtype=object) if store.fold is None else store.fold.astype(object)
    columns = ["experiment", "plate"]
    plates = group_codes(screen.sites, columns)
    inner = np.isin(plates, plates[sites.rows[held]]) & (fold == fold[sites.rows[0]])
    fold[inner] = INNER
    part = _only(sites, ~held)
    epochs = min(config.correction.epochs, max(1, MOST_STEPS * config.batch_size // max(1, len(part.rows))))
    quick = config.model_copy(
        update={
            "epochs": epochs,
            "optim": config.optim.model_copy(update={"warmup_epochs": min(1, epochs / 10)}),
            "adversary": config.adversary.model_copy(update={"weight": 0.0}),
        }
    )
    state = TrainingState(epochs_done=0, model=model, optimiser=make_optimizer(model, quick))
    wells: ReferenceWells | None = None
    if correction.method != "none":
        everybody = np.flatnonzero(np.isin(fold, [fold[part.rows[0]], INNER]))
        wells = reference_wells(
            screen, everybody, correction, features.of_whole_images, fold=fold.astype(str), training_rows=part.rows
        )
        set_prior(model, wells)
    maker = BatchLoader(store, part, quick, n_perturbations=n_classes, wells=wells, features=features)
    try:
        run_epochs(
            state, maker, part.labels, quick, moments=Callbacks(validate=lambda _: {}, after_epoch=lambda _: None)
        )
    finally:
        maker.close()
    new = _only(sites, held & np.isin(sites.labels, part.labels))
    device = next(model.parameters()).device
    with use_averaged_weights(model, state.average), eval_mode(model), torch.no_grad():
        one_hot = torch.eye(len(screen.card.cell_types), device=device)
        cell_types = None if new.cell_types is None else one_hot[new.cell_types]
        references = None if wells is None else torch.from_numpy(wells.of(new.rows)).to(device)
        logits = torch.zeros(len(new.rows), n_classes, device=device)
        for k in range(N_VIEWS):
            numbers = torch.from_numpy(features.take(new.rows, k)).to(device)
            logits += model.classify_features(numbers, cell_types, references).logits
    named = logits.argmax(1).cpu().numpy()
    recalls = [float((named[new.labels == label] == label).mean()) for label in np.unique(new.labels)]
    share = 0.0 if wells is None else float(np.mean([share for _, share in wells.share_of_groups().values()]))
    return float(np.mean(recalls)), share


def _only(sites: TrainingSites, chosen: np.ndarray) -> TrainingSites:
    kept = np.flatnonzero(chosen)
    return TrainingSites(
        rows=sites.rows[kept],
        names=tuple(sites.names[k] for k in kept),
        labels=sites.labels[kept],
        cell_types=None if sites.cell_types is None else sites.cell_types[kept],
        statistics=None,
    )
