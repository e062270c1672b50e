"""Predict another screen than that of the training.

Which sites are new, what rules without cells say, and what score was expected.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd

from distangle.errors import RunError, ScreenError
from distangle.inference.baselines import predict_without_cells
from distangle.inference.out_of_fold import Guesses
from distangle.inference.predict import average_wells, cell_free_table
from distangle.model import ModelCard
from distangle.results import Predictions, RunFolder, ScoreRow, Scores
from distangle.results.run_screen import own_screen
from distangle.screen import TRAIN, Folds, Screen

Say = Callable[[str], None]
NEW = "new"  # fold of a site that no training saw
Key = tuple[str, str, str, int]


def new_sites(run: RunFolder, screen: Screen, *, say: Say) -> dict[Key, str]:
    """Return the fold of every site of another screen: new, or train for a copy.

    A copy has the bytes of a training image.

    Args:
        run: Whose training images are looked for, by the SHA-256 of their files.
        screen: The other screen.
        say: Told what could not be compared.
    """
    keys = screen.sites[["experiment", "plate", "well", "site"]].itertuples(index=False, name=None)
    fold = {(str(e), str(p), str(w), int(s)): NEW for e, p, w, s in keys}
    own = _own_screen(run)
    if own is None:
        say(f"The screen of {run.root.name} is not where it was: whether its training images are here is not known.")
        return fold
    trained = Folds.read(run.folds).of(own) == TRAIN
    hashes = set(own.sites["sha256"].astype(str)[trained]) - {""}
    copies = screen.sites["sha256"].astype(str).isin(hashes).to_numpy()
    for (e, p, w, s), copy in zip(list(fold), copies, strict=True):
        if copy:
            fold[e, p, w, s] = TRAIN
    if copies.any():
        say(
            f"{int(copies.sum())} of {len(copies)} sites are training images of {run.root.name}, byte for byte: they "
            "are predicted and not scored."
        )
    return fold


def predict_new_without_cells(run: RunFolder, screen: Screen, card: ModelCard, *, say: Say) -> Guesses:
    """Learn the rules without cells from a run, for the rows of another screen.

    Args:
        run: Knows its training wells, and the mean and spread of their images.
        screen: The other screen.
        card: Of the network of the run.
        say: Told when the rules cannot be learnt.
    """
    own = _own_screen(run)
    if own is None:
        say("What position, plate and intensity alone would score needs the screen of the training: name where it is.")
        return lambda found, sites, statistics: {}
    fold = Folds.read(run.folds).of(own)
    measured = np.load(run.image_statistics) if run.image_statistics.exists() else None
    before = cell_free_table(own, card.target, fold.tolist(), classes=card.classes)

    def guesses(found: Predictions, sites: Predictions, statistics: np.ndarray) -> Mapping[str, np.ndarray]:
        training = before if found.level == "site" else average_wells(before)
        both = _stacked(training, found)
        known = np.full((len(before.table), *statistics.shape[1:]), np.nan) if measured is None else measured
        all_sites = _stacked(before, sites)
        guessed = predict_without_cells(both, all_sites, np.concatenate([known, statistics]))
        return {rule: labels[len(training.table) :] for rule, labels in guessed.items()}

    return guesses


def compare_with_expected(run: RunFolder, scores: Scores) -> Iterator[str]:
    """Compare the score of new data with that of held-out training data.

    Args:
        run: With predictions of its own screen.
        scores: Of the new screen.
    """
    before = Scores.read(run.scores) if run.scores.exists() else None
    if before is None or not before.rows:
        yield (
            f"What was to be expected of new data is not known: {run.root.name} has no score of its own screen. "
            f"`distangle predict {run.root}` makes it where something was held out; else train with --cross-validate."
        )
        return
    how = "cross-validation" if run.describe().get("cross_validation") else f"holding out {before.held_out}"
    for level in ("site", "well"):
        expected, now = _headline(before, level), _headline(scores, level)
        if expected is None or now is None:
            continue
        interval = expected.interval
        words = f" ({interval[0]:.2f}-{interval[1]:.2f})" if interval else ""
        yield (
            f"By {level}, new data: balanced accuracy {now.value:.2f} over {now.n} {level}s of {now.wells}; {how} said "
            f"{expected.value:.2f}{words}."
        )
        if interval and not interval[0] <= now.value <= interval[1]:
            yield (
                f"WARNING: {now.value:.2f} lies outside the interval {interval[0]:.2f}-{interval[1]:.2f}: the new data "
                "differ from those that the network was judged on. Look at the plates before you trust it on more."
            )


def _headline(scores: Scores, level: str) -> ScoreRow | None:
    rows = [
        row
        for row in scores.rows
        if row.level == level and row.subset == "all" and row.metric == "balanced accuracy" and row.views == 8
    ]
    return next((row for row in rows if row.wells == "treatments"), rows[0] if rows else None)


def _own_screen(run: RunFolder) -> Screen | None:
    try:
        return own_screen(run)
    except (RunError, ScreenError, OSError):
        return None


def _stacked(first: Predictions, second: Predictions) -> Predictions:
    """Return the rows of both without logits: what rules that see no cell look at."""
    table = pd.concat([first.table, second.table], ignore_index=True)
    nothing = np.zeros((len(table), 0), dtype=np.float32)
    return Predictions(
        level=second.level, table=table, logits=nothing, embedding=nothing, perturbations=(), views=second.views
    )
