"""Predict and score a whole run, and write the files of `predictions/`."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from distangle.core.distributed import is_first, n_ranks, wait_for_all
from distangle.core.io import remove_stale_temporaries, sha256_of
from distangle.core.progress import by_percent, no_progress, show_action
from distangle.core.remote import address_of
from distangle.errors import RunError, WeightsError
from distangle.images import N_VIEWS, ImageCache
from distangle.images.readers.common import n_retries, retry_summary
from distangle.inference.baselines import predict_without_cells
from distangle.inference.confusion import write_confusion
from distangle.inference.evaluate import evaluate
from distangle.inference.image_statistics import store_statistics
from distangle.inference.kaggle import check_kaggle, write_kaggle
from distangle.inference.new_screen import compare_with_expected, new_sites, predict_new_without_cells
from distangle.inference.out_of_fold import BaselinePredictor, open_folds, out_of_fold
from distangle.inference.part_workers import PartWorkers
from distangle.inference.predict import (
    PredictionOptions,
    average_wells,
    part_predictor,
    predict_by_views,
    site_predictions,
)
from distangle.inference.statistics import (
    ExperimentStatistics,
    Results,
    compute_here,
    save_statistics,
    statistics_for,
    stored_statistics,
)
from distangle.inference.stored_parts import Share, part_folder, predict_missing, screen_sha256
from distangle.inference.well_columns import add_well_columns, calibrate
from distangle.model import ModelCard, PerturbationClassifier, PlateBatchNorm, load_model
from distangle.model.device import inference_device
from distangle.results import Predictions, RunFolder, Scores
from distangle.results.backbone_features import CARD, Features
from distangle.results.prediction_parts import FOLDER, PartFolder
from distangle.results.predictions import LogitStorage
from distangle.results.run_screen import is_own
from distangle.screen import TRAIN, Folds, Screen
from distangle.screen.plate_groups import StatisticsSource
from distangle.screen.screen import KEY_COLUMNS


def open_model(run: RunFolder) -> tuple[PerturbationClassifier, ModelCard]:
    """Load the final weights of a run and their card.

    Raises:
        RunError: The training has not finished.
    """
    path = run.checkpoints / "model.safetensors"
    if not path.exists():
        raise RunError(
            f"{run.root} has no final weights yet: {path} does not exist. "
            f"Finish the training: `distangle train --resume {run.root}`."
        )
    return load_model(path)


def fold_of_sites(run: RunFolder) -> dict[tuple[str, str, str, int], str]:
    """Return the fold by (experiment, plate, well, site)."""
    table = Folds.read(run.folds).table
    keys = table[list(KEY_COLUMNS)].itertuples(index=False, name=None)
    return {(str(e), str(p), str(w), int(s)): str(f) for (e, p, w, s), f in zip(keys, table["fold"], strict=True)}


def training_rows(run: RunFolder, screen: Screen, fold: Mapping[tuple[str, str, str, int], str]) -> list[int]:
    """Return the rows of a screen that a run was trained on.

    Another screen has none, whatever its plates are called.

    Args:
        run: Has a copy of the card of its screen.
        screen: Its own, or another.
        fold: From `fold_of_sites`.
    """
    if not is_own_screen(run, screen):
        return []
    keys = screen.sites[list(KEY_COLUMNS)].itertuples(index=False, name=None)
    return [k for k, (e, p, w, s) in enumerate(keys) if fold.get((str(e), str(p), str(w), int(s))) == TRAIN]


def store_of(run: RunFolder, screen: Screen, card: ModelCard) -> ImageCache:
    """Open the images of a screen for a run.

    In the run's own screen, estimates are separate for each fold.

    Args:
        run: Has the fold of each site.
        screen: Its own, a part of it, or another, which is one fold.
        card: Of the network of the run.
    """
    return ImageCache(screen, card.preprocessing, fold=site_folds(run, screen))


def site_folds(run: RunFolder, screen: Screen) -> np.ndarray | None:
    """Return the fold of each site of the run's own screen, as text [site].

    The screen may be a part of it; None for another screen.
    """
    return Folds.read(run.folds).of(screen) if is_own_screen(run, screen) else None


def is_own_screen(run: RunFolder, screen: Screen) -> bool:
    """Return whether a screen is, or is part of, the screen of a run's training."""
    return is_own(run, screen)


def features_of(run: RunFolder, screen: Screen, card: ModelCard) -> Features | None:
    """Open the stored features of the run's own screen; None if there are none."""
    if not is_own_screen(run, screen) or not (run.features / CARD).is_file():
        return None
    features = Features(run.features)
    same = features.card["preprocessing"] == card.preprocessing.model_dump(mode="json")
    return features if same and features.n_sites == len(screen.sites) else None


def predict_run(
    run: RunFolder,
    screen: Screen,
    *,
    out: Path | None = None,
    statistics_source: StatisticsSource | None = None,
    kaggle: Path | None = None,
    storage: LogitStorage | None = None,
    advance: Callable[[str], None] = no_progress,
    say: Callable[[str], None] = no_progress,
) -> tuple[Scores, Predictions]:
    """Predict every site and well of a screen, and score those not used in training.

    Predictions are made with one view and with eight. In the run's own screen, the held-out sites are scored; after a
    cross-validation, every labeled site, predicted by the network of the fold that held it out. In another screen, all
    labeled sites are scored.

    Args:
        run: A finished run.
        screen: The run's own screen, or another with the same channels.
        out: Output folder; None: the run's `predictions/`, and new batch-norm statistics are computed and stored. With
            a folder, stored statistics are used for plates of the run's own screen; another screen has its own.
        statistics_source: Whose batch-norm statistics, instead of the configured ones.
        kaggle: New file for the predictions of the test wells of RxRx1, as `id_code,sirna`.
        storage: Which logits to store, and in which precision; None for the default.
        advance: Called after every percent of the sites.
        say: Called with messages for the user.

    Returns:
        The scores, and the predictions of sites with eight views.

    Raises:
        RunError: No site can be read, or a Kaggle file is asked for and the names are not those of RxRx1.
    """
    model, card = open_model(run)
    if kaggle is not None:
        check_kaggle(screen, card.classes)
    model.to(inference_device())
    description = run.describe()
    store, retries = store_of(run, screen, card), n_retries()
    is_training_screen = is_own_screen(run, screen)
    fold = fold_of_sites(run) if is_training_screen else new_sites(run, screen, say=say)
    features, parts = None, None
    folder = out or run.predictions
    try:
        norms = _norms(run, model, card, store, out=out, statistics_source=statistics_source, say=say)
        features = features_of(run, screen, card) if norms is None else None
        show_action("predicting")
        options = PredictionOptions(views=(1, 8), norms=norms, features=features)
        predictor = part_predictor(model, card, store, options)
        if n_ranks() == 1 and features is None:
            weights_sha256 = sha256_of(run.checkpoints / "model.safetensors")
            parts = part_folder(predictor, folder / FOLDER, weights_sha256=weights_sha256)
        if parts is None or (len(parts.plan) < 2 and not parts.folder.exists()):
            one_view, eight_views = predict_by_views(model, card, store, options, fold=fold, advance=advance)
        else:
            predict_missing(predictor, parts, report=by_percent(advance), say=say)
            one_view, eight_views = _join(parts, store, card, fold)
        _check_readable(one_view, screen)
    finally:
        store.close()
    show_action("scoring")
    statistics = store.statistics if features is None else features.statistics
    notes: list[str] = []
    predict_baselines: BaselinePredictor = predict_without_cells
    if is_training_screen and description.get("cross_validation"):
        one_view, eight_views, notes, predict_baselines = out_of_fold(
            run,
            screen,
            one_view,
            eight_views,
            folder=folder / FOLDER,
            open_model=open_model,
            site_folds=site_folds,
            say=say,
        )
    elif not is_training_screen:
        predict_baselines = predict_new_without_cells(run, screen, card, say=say)
        name = "another screen" if screen.folder is None else address_of(screen.folder) or screen.folder
        description = {
            **description,
            "held_out": f"all labelled wells of {name}",
            "forced": False,
        }
        description |= {"unlabelled": "", "new": True}
    predictions, calibration = calibrate(
        [one_view, eight_views, average_wells(one_view), average_wells(eight_views)], card
    )
    columns: Mapping[str, str] = {}
    for k, part in enumerate(predictions):
        if part.level == "well":
            predictions[k], columns = add_well_columns(part, run, card, is_own_screen=is_training_screen)
    baselines = {
        str(level_predictions.level): predict_baselines(level_predictions, one_view, statistics)
        for level_predictions in (predictions[0], predictions[2])
    }
    statistics_owner = "running" if norms is None else norms.by
    scores = evaluate(predictions, card=card, run=description, norms=statistics_owner, baselines=baselines)
    if not is_training_screen:
        notes += compare_with_expected(run, scores)
    notes = [*notes, *scores.notes, *retry_summary(since=retries)]
    scores = scores.model_copy(update={"notes": tuple(notes), "calibration": calibration, "well_columns": columns})
    if is_first():
        remove_stale_temporaries(folder)
        written = [path for part in predictions for path in part.write(folder, storage=storage)]
        written.append(scores.write(folder / "scores.json"))
        written += write_confusion(predictions[0], card.trained_classes, card.classes, folder=folder)
        if kaggle is not None:
            write_kaggle(predictions[-1], screen, kaggle)
        if out is None:
            if is_training_screen:
                written += store_statistics(run, store)
            run.record(*written, *save_statistics(run, norms))
        (parts or PartFolder(folder / FOLDER, [], {})).remove()  # with the parts of the folds of a cross-validation
    wait_for_all("the files of the prediction")
    return scores, eight_views


def predict_share(
    run: RunFolder,
    screen: Screen,
    share: Share,
    *,
    out: Path | None = None,
    statistics_source: StatisticsSource | None = None,
    workers: PartWorkers | None = None,
    advance: Callable[[str], None] = no_progress,
    say: Callable[[str], None] = no_progress,
) -> PartFolder:
    """Predict one share of the parts of a screen, for several processes or machines.

    `predict_run` then predicts the parts that are missing, and scores all. Its files are those of one process.

    Args:
        run: A finished run.
        screen: The run's own screen, or another with the same channels.
        share: Which of the parts.
        out: Output folder; None: the run's `predictions/`.
        statistics_source: Whose batch-norm statistics, instead of the configured ones.
        workers: Predict the parts; None for this process.
        advance: Called after every percent of the sites.
        say: Called with messages for the user.

    Returns:
        The parts on disk.

    Raises:
        RunError: Some parts failed; the others are on disk. Or the run has the features of this screen.
        StorageError: The storage has no room.
    """
    model, card = open_model(run)
    if features_of(run, screen, card) is not None:
        raise RunError(
            f"{run.features} has the backbone features of this screen, so a prediction reads no image and needs no "
            f"shares. Predict all at once: `distangle predict {run.root}`."
        )
    model.to(inference_device())
    store = store_of(run, screen, card)
    try:
        is_training_screen = is_own_screen(run, screen)
        if not is_training_screen:
            new_sites(run, screen, say=say)  # names copies of training images
        norms = _norms(
            run,
            model,
            card,
            store,
            out=out,
            statistics_source=statistics_source,
            compute_all=compute_here if workers is None else workers.compute_statistics,
            say=say,
        )
        folder = (out or run.predictions) / FOLDER
        if norms is not None:
            norms.write(folder, weights_sha256=_norms_origin(run, screen, norms.by))
        show_action("predicting")
        predictor = part_predictor(model, card, store, PredictionOptions(views=(1, N_VIEWS), norms=norms))
        weights_sha256 = sha256_of(run.checkpoints / "model.safetensors")
        parts = part_folder(predictor, folder, weights_sha256=weights_sha256)
        predict_missing(predictor, parts, share=share, workers=workers, report=by_percent(advance), say=say)
    finally:
        store.close()
    if is_training_screen:
        for held_out in open_folds(run, screen, folder, open_model=open_model, site_folds=site_folds):
            held_out.predict_missing(share=share, workers=workers, say=say)
    return parts


def _norms(
    run: RunFolder,
    model: PerturbationClassifier,
    card: ModelCard,
    store: ImageCache,
    *,
    out: Path | None,
    statistics_source: StatisticsSource | None,
    compute_all: Callable[[ExperimentStatistics], Results] = compute_here,
    say: Callable[[str], None],
) -> PlateBatchNorm | None:
    """Return the batch-norm statistics of every plate; those of an earlier share are read.

    Raises:
        ConfigError: No training plate has enough controls.
    """
    screen = store.screen
    by = statistics_source or card.batch_norm.statistics
    if by == "running":
        return None
    with contextlib.suppress(WeightsError):  # of another screen or network, or damaged: computed again
        folder = (out or run.predictions) / FOLDER
        stored = PlateBatchNorm.read(folder, weights_sha256=_norms_origin(run, screen, by))
        if stored is not None:
            for remark in stored.remarks:
                say(remark)
            return stored
    is_training_screen = is_own_screen(run, screen)
    if out is None and is_training_screen:
        known = PlateBatchNorm(by, {}, (), ())
    else:
        known = stored_statistics(run, screen, by, with_plates=is_training_screen, say=say)
    training = training_rows(run, screen, fold_of_sites(run)) if is_training_screen else []
    return statistics_for(model, card, store, known, training=training, compute_all=compute_all, say=say)


def _norms_origin(run: RunFolder, screen: Screen, by: StatisticsSource) -> str:
    """Return a name of all that batch-norm statistics depend on."""
    return f"{sha256_of(run.checkpoints / 'model.safetensors')} {screen_sha256(screen)} {by}"


def _join(
    parts: PartFolder, store: ImageCache, card: ModelCard, fold: Mapping[tuple[str, str, str, int], str]
) -> list[Predictions]:
    """Join the parts on disk, and give the store the statistics of the images."""
    joined = parts.join(len(store.screen.sites))
    store.statistics[:] = joined.statistics
    return [
        site_predictions(
            store.screen, card, joined.logits[n], joined.embedding[n], views=n, reasons=joined.reasons, fold=fold
        )
        for n in joined.logits
    ]


def _check_readable(sites: Predictions, screen: Screen) -> None:
    """Check that at least one site was predicted.

    Raises:
        RunError: No site could be read; names the first reason, or a missing image folder.
    """
    reasons = sites.table["reason"]
    if len(reasons) and (reasons == "").any():
        return
    source = screen.source
    is_missing = isinstance(source, Path) and not source.exists()
    cause = f"{source} does not exist" if is_missing else f"the first: {reasons.iloc[0]}" if len(reasons) else "no site"
    raise RunError(
        f"None of the {len(reasons)} sites of {screen.folder} can be read: {cause}. Nothing was written. If the "
        "images were moved, index them at their new location (`distangle index SOURCE --out SCREEN`), and pass that "
        "screen: `--screen SCREEN`."
    )
