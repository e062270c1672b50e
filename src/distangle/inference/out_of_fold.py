"""Predict every labeled site by the network that was trained without its group."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from distangle.images import ImageCache
from distangle.inference.baselines import predict_without_cells
from distangle.inference.predict import PredictionOptions, join_results, predict_by_views
from distangle.model import ModelCard, PerturbationClassifier
from distangle.model.device import inference_device
from distangle.results import Predictions, RunFolder
from distangle.results.backbone_features import CARD, Features
from distangle.screen import HELD_OUT, TRAIN, Folds, Screen
from distangle.screen.folds.folds import EXCLUDED
from distangle.screen.screen import WELL_COLUMNS

BaselinePredictor = Callable[[Predictions, Predictions, np.ndarray], Mapping[str, np.ndarray]]
OpenModel = Callable[[RunFolder], tuple[PerturbationClassifier, ModelCard]]
FOLD_COLUMN = "Metadata_Cross_Validation"  # network that predicted a site, from 1; 0: the final network


def out_of_fold(
    run: RunFolder,
    screen: Screen,
    one: Predictions,
    eight: Predictions,
    *,
    open_model: OpenModel,
    site_folds: Callable[[RunFolder, Screen], np.ndarray | None],
) -> tuple[Predictions, Predictions, list[str], BaselinePredictor]:
    """Replace the logits of each site by those of a network trained without it.

    Embeddings stay those of the final network, because embeddings of different networks cannot be compared.

    Args:
        run: Of the final network, with the runs of its cross-validation.
        screen: Its own.
        one: Predictions of the final network with one view; not changed.
        eight: The same with eight views.
        open_model: Loads the network of a run.
        site_folds: Returns the fold of each site in a run.

    Returns:
        Both predictions, with `Metadata_Fold` held_out for the sites that a fold held out and
        `Metadata_Cross_Validation`; notes for the reader; and the baselines, each fitted to the training wells of the
        fold.
    """
    tables = [predictions.table.drop(columns=["predicted", "confidence", "reason"]) for predictions in (one, eight)]
    logits = [predictions.logits.copy() for predictions in (one, eight)]
    network_number = np.zeros(len(one.table), dtype=int)
    fold = one.table["Metadata_Fold"].to_numpy(dtype=object).copy()
    never_trained: dict[str, int] = {}
    folds = {k: RunFolder.open(path) for k, path in enumerate(fold_folders(run), start=1)}
    for k, fold_run in folds.items():
        fold_sides = Folds.read(fold_run.folds).of(screen)
        rows = np.flatnonzero(fold_sides == HELD_OUT)
        model, card = open_model(fold_run)
        model.to(inference_device())
        features = Features(fold_run.features) if (fold_run.features / CARD).is_file() else None
        store = ImageCache(screen, card.preprocessing, fold=site_folds(fold_run, screen))
        options = PredictionOptions(views=(1, 8), features=features, rows=rows.tolist())
        try:
            fold_predictions = predict_by_views(model, card, store, options)
        finally:
            store.close()
        for target, predictions in zip(logits, fold_predictions, strict=True):
            target[rows] = predictions.logits[rows]
        network_number[rows], fold[rows] = k, HELD_OUT
        trained_classes = card.trained_classes
        labels = one.table["perturbation"].to_numpy(dtype=object)
        untrained_rows = rows[[bool(labels[row]) and labels[row] not in trained_classes for row in rows]]
        fold[untrained_rows] = EXCLUDED
        for row in untrained_rows:
            never_trained[str(labels[row])] = never_trained.get(str(labels[row]), 0) + 1
    combined = []
    for predictions, table, values in zip((one, eight), tables, logits, strict=True):
        table["Metadata_Fold"], table[FOLD_COLUMN] = fold, network_number
        reasons = predictions.table["reason"].tolist()
        combined.append(
            join_results(
                table,
                values,
                predictions.embedding,
                predictions.perturbations,
                level="site",
                views=predictions.views,
                reasons=reasons,
            )
        )
    notes = []
    if never_trained:
        counts = ", ".join(f"{name} ({n})" for name, n in sorted(never_trained.items())[:20])
        notes.append(
            f"{sum(never_trained.values())} sites are not scored: in the fold that held them out, no training well had "
            f"their label ({counts}). The final network was trained on them."
        )

    def predict_baselines(
        predictions: Predictions, sites: Predictions, statistics: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        return _predict_baselines(predictions, sites, statistics, screen=screen, folds=folds)

    return combined[0], combined[1], notes, predict_baselines


def fold_folders(run: RunFolder) -> list[Path]:
    """Return the folders of the runs of a cross-validation, in their order."""
    n = int(run.describe().get("cross_validation", {}).get("n_folds", 0))
    return [run.cross_validation / f"fold-{k}" for k in range(1, n + 1)]


def _predict_baselines(
    predictions: Predictions,
    sites: Predictions,
    statistics: np.ndarray,
    *,
    screen: Screen,
    folds: Mapping[int, RunFolder],
) -> Mapping[str, np.ndarray]:
    """Predict by baselines, fitted to the training rows of each fold."""
    labels_by_rule: dict[str, np.ndarray] = {}
    network_number = predictions.table[FOLD_COLUMN].to_numpy()
    keys = ["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]
    for k, fold_run in folds.items():
        side_of = dict(
            zip(
                screen.sites[list(WELL_COLUMNS)].astype(str).itertuples(index=False, name=None),
                Folds.read(fold_run.folds).of(screen).tolist(),
                strict=True,
            )
        )
        sides = [side_of[key] for key in predictions.table[keys].astype(str).itertuples(index=False, name=None)]
        table = predictions.table.assign(Metadata_Fold=np.where(np.asarray(sides) == TRAIN, "train", "held_out"))
        rows = np.flatnonzero(network_number == k)
        fold_predictions = Predictions(
            level=predictions.level,
            table=table,
            logits=predictions.logits,
            embedding=predictions.embedding,
            perturbations=predictions.perturbations,
            views=predictions.views,
        )
        for rule, labels in predict_without_cells(fold_predictions, sites, statistics).items():
            labels_by_rule.setdefault(rule, np.full(len(predictions.table), "", dtype=object))[rows] = labels[rows]
    return labels_by_rule
