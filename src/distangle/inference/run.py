"""Predict and score a whole run: the files of `predictions/`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distangle.commit import sweep
from distangle.errors import RunError
from distangle.images import ImageStore
from distangle.images.again import n_tried_again, said_of_tries
from distangle.inference.evaluate import evaluate
from distangle.inference.naive import guess_without_cells
from distangle.inference.norms import keep_norms, norms_for
from distangle.inference.predict import average_wells, predict_by_views, preparation_of
from distangle.model import PerturbationClassifier, load_model
from distangle.progress import no_progress
from distangle.ranks import is_first, wait_for_all
from distangle.results import Predictions, RunFolder, Scores
from distangle.screen import TRAIN, Folds, Screen
from distangle.screen.norm_groups import AtTest


def open_model(run: RunFolder) -> tuple[PerturbationClassifier, dict[str, Any]]:
    """Load the final weights of a run and what was saved beside them.

    Raises:
        RunError: The training has not ended.
    """
    path = run.checkpoints / "model.safetensors"
    if not path.exists():
        message = f"{run.root} has no final weights yet. Finish it: `distangle train --resume {run.root}`."
        raise RunError(message)
    return load_model(path)


def fold_of_sites(run: RunFolder) -> dict[tuple[str, str, str, int], str]:
    """Return the fold by (experiment, plate, well, site)."""
    table = Folds.read(run.folds).table
    keys = table[["experiment", "plate", "well", "site"]].itertuples(index=False, name=None)
    return {(str(e), str(p), str(w), int(s)): str(f) for (e, p, w, s), f in zip(keys, table["fold"], strict=True)}


def training_rows(run: RunFolder, screen: Screen, fold: Mapping[tuple[str, str, str, int], str]) -> list[int]:
    """Return the rows of a screen that a run was trained on; none of another screen, whatever its plates are called.

    Args:
        run: Keeps a copy of the card of its screen.
        screen: Its own, or another.
        fold: From `fold_of_sites`.
    """
    own = json.loads(run.screen.read_text(encoding="utf-8"))
    if own["sites_sha256"] != screen.card.sites_sha256:
        return []
    keys = screen.sites[["experiment", "plate", "well", "site"]].itertuples(index=False, name=None)
    return [k for k, (e, p, w, s) in enumerate(keys) if fold.get((str(e), str(p), str(w), int(s))) == TRAIN]


def predict_run(
    run: RunFolder,
    screen: Screen,
    *,
    out: Path | None = None,
    at_test: AtTest | None = None,
    advance: Callable[[str], None] = no_progress,
    say: Callable[[str], None] = no_progress,
) -> tuple[Scores, Predictions]:
    """Predict every site and well of a screen with one view and with eight, and score what was held out.

    Args:
        run: A finished run.
        screen: The run's own screen, or another with the same channels.
        out: Where to write; the run's `predictions/` when None. Then the norm statistics are computed and kept, else
            those that are kept are used for plates of the same name.
        at_test: Whose norm statistics, instead of what the configuration of the run says.
        advance: Called after each of the eight views.
        say: Called with sentences that a person should see.

    Returns:
        The scores, and the predictions of sites with eight views.
    """
    model, about = open_model(run)
    store, tries = ImageStore(screen, preparation_of(about)), n_tried_again()
    fold = fold_of_sites(run)
    try:
        training = training_rows(run, screen, fold)
        norms = norms_for(run, model, about, store, at_test=at_test, known=out is not None, training=training, say=say)
        one, eight = predict_by_views(model, about, store, views=(1, 8), fold=fold, norms=norms, advance=advance)
    finally:
        store.close()
    found = [one, eight, average_wells(one), average_wells(eight)]
    naive = {str(some.level): guess_without_cells(some, one, store.statistics) for some in (found[0], found[2])}
    by = "running" if norms is None else norms.by
    scores = evaluate(found, about=about, run=run.describe(), norms=by, naive=naive if training else None)
    scores = scores.model_copy(update={"notes": (*scores.notes, *said_of_tries(since=tries))})
    if is_first():
        folder = out or run.predictions
        sweep(folder)
        written = [path for predictions in found for path in predictions.write(folder)]
        written.append(scores.write(folder / "scores.json"))
        if out is None:
            run.record(*written, *keep_norms(run, norms))
    wait_for_all("the files of the prediction")
    return scores, eight
