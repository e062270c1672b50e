"""Predict a screen other than the training screen; compare with expected scores."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd

from distangle.errors import RunError, ScreenError
from distangle.inference.baselines import predict_without_cells
from distangle.inference.out_of_fold import BaselinePredictor
from distangle.inference.predict import average_wells, cell_free_table
from distangle.model import ModelCard
from distangle.results import Predictions, RunFolder, ScoreRow, Scores
from distangle.results.run_screen import own_screen
from distangle.screen import TRAIN, Folds, Screen
from distangle.screen.screen import KEY_COLUMNS

Say = Callable[[str], None]
NEW_FOLD = "new"  # fold of a site that was not used in training
Key = tuple[str, str, str, int]


def new_sites(run: RunFolder, screen: Screen, *, say: Say) -> dict[Key, str]:
    """Return the fold of every site of another screen: `new`, or `train` for a copy.

    A copy has the bytes of a training image.

    Args:
        run: Its training images are compared, by the SHA-256 of their files.
        screen: The other screen.
        say: Called with what could not be compared, and the number of copies.
    """
    keys = screen.sites[list(KEY_COLUMNS)].itertuples(index=False, name=None)
    fold = {(str(e), str(p), str(w), int(s)): NEW_FOLD for e, p, w, s in keys}
    training_screen = _read_training_screen(run)
    if training_screen is None:
        say(f"The screen of {run.root.name} was not found: this screen may contain its training images.")
        return fold
    in_training = Folds.read(run.folds).of(training_screen) == TRAIN
    hashes = set(training_screen.sites["sha256"].astype(str)[in_training]) - {""}
    copies = screen.sites["sha256"].astype(str).isin(hashes).to_numpy()
    for (e, p, w, s), is_copy in zip(list(fold), copies, strict=True):
        if is_copy:
            fold[e, p, w, s] = TRAIN
    if copies.any():
        say(
            f"{int(copies.sum())} of {len(copies)} sites are byte-identical to training images of {run.root.name}: "
            "they are predicted and not scored."
        )
    return fold


def predict_new_without_cells(run: RunFolder, screen: Screen, card: ModelCard, *, say: Say) -> BaselinePredictor:
    """Fit the baselines to the training wells of a run, for another screen.

    Args:
        run: Has the training wells, and mean and standard deviation of their images.
        screen: The other screen.
        card: Of the network of the run.
        say: Called if the baselines cannot be fitted.
    """
    training_screen = _read_training_screen(run)
    if training_screen is None:
        say("The baselines (position, plate, intensity) need the training screen, which was not found.")
        return lambda predictions, sites, statistics: {}
    fold = Folds.read(run.folds).of(training_screen)
    training_statistics = np.load(run.image_statistics) if run.image_statistics.exists() else None
    training_sites = cell_free_table(training_screen, card.target, fold.tolist(), classes=card.classes)

    def predict_baselines(
        predictions: Predictions, sites: Predictions, statistics: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        training_rows = training_sites if predictions.level == "site" else average_wells(training_sites)
        joined = _concatenate(training_rows, predictions)
        stored = (
            np.full((len(training_sites.table), *statistics.shape[1:]), np.nan)
            if training_statistics is None
            else training_statistics
        )
        all_sites = _concatenate(training_sites, sites)
        labels_by_rule = predict_without_cells(joined, all_sites, np.concatenate([stored, statistics]))
        return {rule: labels[len(training_rows.table) :] for rule, labels in labels_by_rule.items()}

    return predict_baselines


def training_wells(run: RunFolder, card: ModelCard) -> pd.DataFrame | None:
    """Return the training wells of a run; None if its screen was not found.

    Args:
        run: Has the fold of each site.
        card: Of the network of the run.
    """
    training_screen = _read_training_screen(run)
    if training_screen is None:
        return None
    fold = Folds.read(run.folds).of(training_screen)
    table = average_wells(cell_free_table(training_screen, card.target, fold.tolist(), classes=card.classes)).table
    return table[table["Metadata_Fold"] == TRAIN]


def compare_with_expected(run: RunFolder, scores: Scores) -> Iterator[str]:
    """Compare the score on new data with that of held-out training data.

    Args:
        run: Has predictions of its own screen.
        scores: Of the new screen.
    """
    own_scores = Scores.read(run.scores) if run.scores.exists() else None
    if own_scores is None or not own_scores.rows:
        yield (
            f"The expected score on new data is unknown: {run.root.name} has no scores of its own screen. "
            f"Compute them with `distangle predict {run.root}` if wells were held out; else train with "
            "--cross-validate."
        )
        return
    method = "cross-validation" if run.describe().get("cross_validation") else f"holding out {own_scores.held_out}"
    for level in ("site", "well"):
        expected, observed = _main_score(own_scores, level), _main_score(scores, level)
        if expected is None or observed is None:
            continue
        interval = expected.interval
        range_text = f" ({interval[0]:.2f}-{interval[1]:.2f})" if interval else ""
        yield (
            f"By {level}, new data: balanced accuracy {observed.value:.2f} over {observed.n} {level}s of "
            f"{observed.wells}; {method} gave {expected.value:.2f}{range_text}."
        )
        if interval and not interval[0] <= observed.value <= interval[1]:
            yield (
                f"WARNING: {observed.value:.2f} lies outside the interval {interval[0]:.2f}-{interval[1]:.2f}: the new "
                "data differ from those that the network was evaluated on. Inspect the plates before predicting more."
            )


def _main_score(scores: Scores, level: str) -> ScoreRow | None:
    rows = [
        row
        for row in scores.rows
        if row.level == level
        and row.subset == "all"
        and row.metric == "balanced accuracy"
        and row.views == 8
        and not row.layout
    ]
    return next((row for row in rows if row.wells == "treatments"), rows[0] if rows else None)


def _read_training_screen(run: RunFolder) -> Screen | None:
    try:
        return own_screen(run)
    except (RunError, ScreenError, OSError):
        return None


def _concatenate(first: Predictions, second: Predictions) -> Predictions:
    """Return the rows of both without logits, for baselines that see no cell."""
    table = pd.concat([first.table, second.table], ignore_index=True)
    nothing = np.zeros((len(table), 0), dtype=np.float32)
    return Predictions(
        level=second.level, table=table, logits=nothing, embedding=nothing, perturbations=(), views=second.views
    )
