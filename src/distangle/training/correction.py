"""Choose the correction of batch effects by cross-validation on training wells."""

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
from distangle.results.backbone_features import Features
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
MAX_STEPS = 2000  # of one training of a candidate on a fold
MIN_FOLDS = 2  # that every candidate is evaluated on
SIGNIFICANCE = 0.05  # probability of choosing any correction where none helps
NEW_DATA = "expected"  # fold name of the wells that stand for new data


@dataclass(frozen=True)
class CorrectionScore:
    """Score of one correction.

    Attributes:
        correction: The correction.
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
    """The chosen correction, with the reason.

    Attributes:
        correction: The correction.
        expect: Kind of the new data: `plates` or `experiments`.
        reason: The reason, in a sentence.
        scores: Score of every candidate; empty if none could be compared.
    """

    correction: Correction
    expect: str
    reason: str
    scores: tuple[CorrectionScore, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the content of `correction.json`."""
        return {
            "chosen": self.correction.model_dump(),
            "expect": self.expect,
            "reason": self.reason,
            "compared": [
                {
                    **score.correction.model_dump(),
                    "name": str(score.correction),
                    "balanced_accuracy": score.mean,
                    "by_fold": list(score.accuracies),
                    "share_corrected": score.share,
                }
                for score in self.scores
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
    check_stop: Callable[[], None] = lambda: None,
) -> CorrectionChoice:
    """Compare corrections on whole plates or experiments of the training fold.

    A correction is chosen only if its gain over no correction, fold by fold, is significant (one-sided t test, 5 % over
    all candidates); the best of these is chosen. A candidate without a gain after two folds is evaluated no further.

    Args:
        store: Images of the screen, with its folds.
        features: Features of the sites.
        sites: Sites of the training fold.
        config: `correction`, `expect`, and the training of heads.
        n_classes: Number of outputs.
        advance: Called after each training.
        check_stop: Called before each training; an exception of it ends the comparison.
    """
    expect, origin = expected_groups(store.screen, config.expect, label=config.target)
    try:
        folds = list(_folds(store.screen, sites, expect, n_folds=config.correction.folds))
    except FoldError as error:
        return CorrectionChoice(Correction(), expect, f"No correction could be compared: {error}")
    scores: list[CorrectionScore] = []
    for candidate in CANDIDATES:
        accuracies, shares = [], []
        model = initial_state(
            store.screen, config, n_classes=n_classes, correction=candidate, pretrained=False, say=no_progress
        ).model
        initial_weights = {name: tensor.detach().clone() for name, tensor in averaged_tensors(model).items()}
        for held_out in folds:
            check_stop()
            model.load_state_dict(initial_weights, strict=False)
            accuracy, share = _score(store, features, sites, config, model, held_out=held_out)
            accuracies.append(accuracy)
            shares.append(share)
            advance(f"correction {candidate}: {accuracy:.3f}")
            if scores and shows_no_gain(accuracies, scores[0].accuracies):
                break
        scores.append(CorrectionScore(candidate, tuple(accuracies), float(np.mean(shares))))
    best = best_correction(scores)
    reason = (
        f"For new {expect} ({origin}): balanced accuracy {best.mean:.3f} over {len(folds)} folds of training {expect}; "
        f"{scores[0].mean:.3f} without a correction."
    )
    return CorrectionChoice(best.correction, expect, reason, tuple(scores))


def shows_no_gain(accuracies: Sequence[float], baseline: Sequence[float]) -> bool:
    """Return whether a correction has no gain on the first two or more folds.

    Args:
        accuracies: Accuracies of the correction, fold by fold.
        baseline: Accuracies without a correction, on all folds.
    """
    n = len(accuracies)
    return n >= MIN_FOLDS and float(np.mean(accuracies)) <= float(np.mean(baseline[:n]))


def best_correction(scores: Sequence[CorrectionScore]) -> CorrectionScore:
    """Return the best correction with a significant gain, or no correction.

    Args:
        scores: Score without a correction first. A candidate that was not evaluated on all folds is not chosen.
    """
    baseline = scores[0]
    better = []
    for score in scores[1:]:
        if len(score.accuracies) < max(MIN_FOLDS, len(baseline.accuracies)):
            continue
        gains = np.subtract(score.accuracies, baseline.accuracies)
        threshold = t.ppf(1 - SIGNIFICANCE / (len(scores) - 1), len(gains) - 1)
        if gains.mean() > threshold * gains.std(ddof=1) / np.sqrt(len(gains)):
            better.append(score)
    return max(better, key=lambda score: score.mean, default=baseline)


def _folds(screen: Screen, sites: TrainingSites, expect: str, *, n_folds: int) -> Iterator[np.ndarray]:
    """Yield which training sites stand for new data, bool [site]; groups stay whole."""
    columns = ["experiment"] if expect == "experiments" else ["experiment", "plate"]
    member = np.unique(group_codes(screen.sites, columns)[sites.rows], return_inverse=True)[1]
    n_groups = int(member.max()) + 1
    if n_groups < 2:
        raise FoldError(f"the training wells lie in one {expect.removesuffix('s')}.")
    labelled = np.maximum(sites.labels, 0)
    n_sets = min(n_folds, n_groups)
    set_of_group = assign_groups(member, labelled, n_sets=n_sets, rng=rng_for(0, "folds of the corrections", expect))
    for k in range(n_sets):
        held_out = set_of_group[member] == k
        has_trained_label = np.isin(sites.labels[held_out], sites.labels[~held_out])
        if has_trained_label.any() and len(np.unique(sites.labels[~held_out])) > 1:
            yield held_out


def _score(
    store: ImageCache,
    features: Features,
    sites: TrainingSites,
    config: TrainingConfig,
    model: Any,
    *,
    held_out: np.ndarray,
) -> tuple[float, float]:
    """Return balanced accuracy and corrected share of a head on held-out sites."""
    screen, correction, n_classes = store.screen, model.config.correction, model.config.n_perturbations
    fold = np.full(len(screen.sites), "", dtype=object) if store.fold is None else store.fold.astype(object)
    columns = ["experiment", "plate"]
    plates = group_codes(screen.sites, columns)
    is_new = np.isin(plates, plates[sites.rows[held_out]]) & (fold == fold[sites.rows[0]])
    fold[is_new] = NEW_DATA
    training = _select(sites, ~held_out)
    epochs = min(config.correction.epochs, max(1, MAX_STEPS * config.batch_size // max(1, len(training.rows))))
    short_config = config.model_copy(
        update={
            "epochs": epochs,
            "optim": config.optim.model_copy(update={"warmup_epochs": min(1, epochs / 10)}),
            "adversary": config.adversary.model_copy(update={"weight": 0.0}),
        }
    )
    state = TrainingState(epochs_done=0, model=model, optimizer=make_optimizer(model, short_config))
    wells: ReferenceWells | None = None
    if correction.method != "none":
        rows = np.flatnonzero(np.isin(fold, [fold[training.rows[0]], NEW_DATA]))
        wells = reference_wells(
            screen, rows, correction, features.of_whole_images, fold=fold.astype(str), training_rows=training.rows
        )
        set_prior(model, wells)
    loader = BatchLoader(store, training, short_config, n_perturbations=n_classes, wells=wells, features=features)
    try:
        run_epochs(
            state,
            loader,
            training.labels,
            short_config,
            callbacks=Callbacks(validate=lambda _: {}, after_epoch=lambda _: None),
        )
    finally:
        loader.close()
    evaluated = _select(sites, held_out & np.isin(sites.labels, training.labels))
    device = next(model.parameters()).device
    with use_averaged_weights(model, state.ema), eval_mode(model), torch.no_grad():
        one_hot = torch.eye(len(screen.metadata.cell_types), device=device)
        cell_types = None if evaluated.cell_types is None else one_hot[evaluated.cell_types]
        references = None if wells is None else torch.from_numpy(wells.of(evaluated.rows)).to(device)
        logits = torch.zeros(len(evaluated.rows), n_classes, device=device)
        for k in range(N_VIEWS):
            numbers = torch.from_numpy(features.take(evaluated.rows, k)).to(device)
            logits += model.classify_features(numbers, cell_types, references).logits
    predicted = logits.argmax(1).cpu().numpy()
    recalls = [float((predicted[evaluated.labels == label] == label).mean()) for label in np.unique(evaluated.labels)]
    share = 0.0 if wells is None else float(np.mean([share for _, share in wells.share_of_groups().values()]))
    return float(np.mean(recalls)), share


def _select(sites: TrainingSites, is_selected: np.ndarray) -> TrainingSites:
    positions = np.flatnonzero(is_selected)
    return TrainingSites(
        rows=sites.rows[positions],
        names=tuple(sites.names[k] for k in positions),
        labels=sites.labels[positions],
        cell_types=None if sites.cell_types is None else sites.cell_types[positions],
        statistics=None,
    )
