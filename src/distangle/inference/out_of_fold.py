"""Predict every labelled site by the network that was trained without its group."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from distangle.images import ImageCache
from distangle.inference.baselines import predict_without_cells
from distangle.inference.predict import PredictionOptions, join_results, predict_by_views
from distangle.model import ModelCard, PerturbationClassifier
from distangle.model.device import inference_device
from distangle.model.features import CARD, Features
from distangle.results import Predictions, RunFolder
from distangle.screen import ASIDE, HELD_OUT, TRAIN, Folds, Screen

Guesses = Callable[[Predictions, Predictions, np.ndarray], Mapping[str, np.ndarray]]
OpenModel = Callable[[RunFolder], tuple[PerturbationClassifier, ModelCard]]
FOLD_COLUMN = "Metadata_Cross_Validation"  # which network predicted a site, from 1; 0: the one trained on everything


def out_of_fold(
    run: RunFolder,
    screen: Screen,
    one: Predictions,
    eight: Predictions,
    *,
    open_model: OpenModel,
    sides_of: Callable[[RunFolder, Screen], np.ndarray | None],
) -> tuple[Predictions, Predictions, list[str], Guesses]:
    """Put into predictions the logits of the networks that had not seen each site.

    Embeddings stay those of the final network: those of different networks cannot be compared.

    Args:
        run: Of the final network, with the runs of its cross-validation.
        screen: Its own.
        one: Of the final network, one view; not changed.
        eight: The same with eight views.
        open_model: Loads the network of a run.
        sides_of: Gives the fold of each site in a run.

    Returns:
        Both, with `Metadata_Fold` held_out for the sites that a fold held out and `Metadata_Cross_Validation`; notes
        for the reader; and the rules without cells, each learnt from the training wells of the fold.
    """
    tables = [found.table.drop(columns=["predicted", "confidence", "reason"]) for found in (one, eight)]
    logits = [found.logits.copy() for found in (one, eight)]
    number = np.zeros(len(one.table), dtype=int)
    fold = one.table["Metadata_Fold"].to_numpy(dtype=object).copy()
    never: dict[str, int] = {}
    folds = {k: RunFolder.open(path) for k, path in enumerate(fold_folders(run), start=1)}
    for k, part in folds.items():
        sides = Folds.read(part.folds).of(screen)
        rows = np.flatnonzero(sides == HELD_OUT)
        model, card = open_model(part)
        model.to(inference_device())
        features = Features(part.features) if (part.features / CARD).is_file() else None
        store = ImageCache(screen, card.preparation, fold=sides_of(part, screen))
        options = PredictionOptions(views=(1, 8), features=features, rows=rows.tolist())
        try:
            predicted = predict_by_views(model, card, store, options)
        finally:
            store.close()
        for into, found in zip(logits, predicted, strict=True):
            into[rows] = found.logits[rows]
        number[rows], fold[rows] = k, HELD_OUT
        trained = card.trained_classes
        labels = one.table["perturbation"].to_numpy(dtype=object)
        unknown = rows[[bool(labels[row]) and labels[row] not in trained for row in rows]]
        fold[unknown] = ASIDE
        for row in unknown:
            never[str(labels[row])] = never.get(str(labels[row]), 0) + 1
    both = []
    for found, table, values in zip((one, eight), tables, logits, strict=True):
        table["Metadata_Fold"], table[FOLD_COLUMN] = fold, number
        reasons = found.table["reason"].tolist()
        both.append(
            join_results(
                table, values, found.embedding, found.perturbations, level="site", views=found.views, reasons=reasons
            )
        )
    notes = []
    if never:
        listed = ", ".join(f"{name} ({n})" for name, n in sorted(never.items())[:20])
        notes.append(
            f"{sum(never.values())} sites are not scored: where they were held out, no training well had their label "
            f"({listed}). The final network was trained on them."
        )

    def guesses(found: Predictions, sites: Predictions, statistics: np.ndarray) -> Mapping[str, np.ndarray]:
        return _guesses(found, sites, statistics, screen=screen, folds=folds)

    return both[0], both[1], notes, guesses


def fold_folders(run: RunFolder) -> list[Path]:
    """Return the folders of the runs of a cross-validation, in their order."""
    n = int(run.describe().get("cross_validation", {}).get("n_folds", 0))
    return [run.cross_validation / f"fold-{k}" for k in range(1, n + 1)]


def _guesses(
    found: Predictions,
    sites: Predictions,
    statistics: np.ndarray,
    *,
    screen: Screen,
    folds: Mapping[int, RunFolder],
) -> Mapping[str, np.ndarray]:
    """Ask the rules without cells fold by fold, each taught by the fold's training rows."""
    guessed: dict[str, np.ndarray] = {}
    number = found.table[FOLD_COLUMN].to_numpy()
    place = ["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]
    for k, part in folds.items():
        side_of = dict(
            zip(
                screen.sites[["experiment", "plate", "well"]].astype(str).itertuples(index=False, name=None),
                Folds.read(part.folds).of(screen).tolist(),
                strict=True,
            )
        )
        sides = [side_of[key] for key in found.table[place].astype(str).itertuples(index=False, name=None)]
        table = found.table.assign(Metadata_Fold=np.where(np.asarray(sides) == TRAIN, "train", "held_out"))
        here = np.flatnonzero(number == k)
        as_of_fold = Predictions(
            level=found.level,
            table=table,
            logits=found.logits,
            embedding=found.embedding,
            perturbations=found.perturbations,
            views=found.views,
        )
        for rule, labels in predict_without_cells(as_of_fold, sites, statistics).items():
            guessed.setdefault(rule, np.full(len(found.table), "", dtype=object))[here] = labels[here]
    return guessed
