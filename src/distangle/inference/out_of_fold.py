"""Predict every labeled site by the network that was trained without its group."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from distangle.core.distributed import n_ranks
from distangle.core.io import sha256_of
from distangle.core.progress import count_items
from distangle.images import N_VIEWS, ImageCache
from distangle.inference.baselines import predict_without_cells
from distangle.inference.part_workers import PartWorkers
from distangle.inference.parts import PartPredictor, predict_parts
from distangle.inference.predict import PredictionOptions, join_results, part_predictor
from distangle.inference.stored_parts import Share, part_folder, predict_missing
from distangle.model import ModelCard, PerturbationClassifier
from distangle.model.device import inference_device
from distangle.results import Predictions, RunFolder
from distangle.results.backbone_features import CARD, Features
from distangle.results.prediction_parts import BLOCK_ROWS, PartFolder, PredictionPart, allocate
from distangle.screen import HELD_OUT, TRAIN, Folds, Screen
from distangle.screen.folds.folds import EXCLUDED
from distangle.screen.screen import WELL_COLUMNS

BaselinePredictor = Callable[[Predictions, Predictions, np.ndarray], Mapping[str, np.ndarray]]
OpenModel = Callable[[RunFolder], tuple[PerturbationClassifier, ModelCard]]
FOLD_COLUMN = "Metadata_Cross_Validation"  # network that predicted a site, from 1; 0: the final network


@dataclass(frozen=True, kw_only=True)
class HeldOutFold:
    """Sites that one network of a cross-validation was trained without.

    Attributes:
        number: Of the fold, from 1.
        title: Such as `fold 1 of 5`.
        run: The run of its network.
        rows: int64 [site], its held-out sites.
        predictor: The network and the images.
        parts: Where the parts of its prediction are stored; None with features, and with several ranks.
    """

    number: int
    title: str
    run: RunFolder
    rows: np.ndarray
    predictor: PartPredictor
    parts: PartFolder | None

    def predict_missing(
        self, *, share: Share | None = None, workers: PartWorkers | None = None, say: Callable[[str], None]
    ) -> None:
        """Predict the parts that have no file yet.

        Args:
            share: Which of the parts; None for all.
            workers: Predict the parts; None for this process.
            say: Called with messages for the user.

        Raises:
            RunError: Some parts failed, or a part on disk was predicted from something else.
            StorageError: The storage has no room; the parts that were written stay.
        """
        if self.parts is None:
            return
        count = count_items(f"predicting {self.title}", len(self.rows), "sites")
        if workers is not None:
            workers = replace(workers, weights=_weights(self.run))
        predict_missing(
            self.predictor, self.parts, share=share, workers=workers, report=lambda done, total: count(done), say=say
        )

    def predict(self, *, say: Callable[[str], None]) -> Iterator[PredictionPart]:
        """Predict the sites part by part; parts on disk are read.

        Args:
            say: Called with messages for the user.
        """
        if self.parts is None:
            count = count_items(f"predicting {self.title}", len(self.rows), "sites")
            yield from predict_parts(self.predictor, self.rows.tolist(), report=lambda done, total: count(done))
            return
        self.predict_missing(say=say)
        for number in range(len(self.parts.plan)):
            yield self.parts.read(number)


def open_folds(
    run: RunFolder,
    screen: Screen,
    folder: Path,
    *,
    open_model: OpenModel,
    site_folds: Callable[[RunFolder, Screen], np.ndarray | None],
) -> Iterator[HeldOutFold]:
    """Open the networks of a cross-validation, one after the other.

    Args:
        run: Of the final network; without a cross-validation there are no folds.
        screen: Its own.
        folder: Folder of the parts of its prediction; each fold has a folder in it.
        open_model: Loads the network of a run.
        site_folds: Returns the fold of each site in a run.
    """
    paths = fold_folders(run)
    for number, path in enumerate(paths, start=1):
        fold_run = RunFolder.open(path)
        model, card = open_model(fold_run)
        model.to(inference_device())
        features = Features(fold_run.features) if (fold_run.features / CARD).is_file() else None
        rows = np.flatnonzero(Folds.read(fold_run.folds).of(screen) == HELD_OUT)
        store = ImageCache(screen, card.preprocessing, fold=site_folds(fold_run, screen))
        try:
            predictor = part_predictor(model, card, store, PredictionOptions(views=(1, N_VIEWS), features=features))
            parts = None
            if features is None and n_ranks() == 1:
                weights_sha256 = sha256_of(_weights(fold_run))
                parts = part_folder(
                    predictor, folder / f"fold-{number}", weights_sha256=weights_sha256, rows=rows.tolist()
                )
            yield HeldOutFold(
                number=number,
                title=f"fold {number} of {len(paths)}",
                run=fold_run,
                rows=rows,
                predictor=predictor,
                parts=parts,
            )
        finally:
            store.close()


def out_of_fold(
    run: RunFolder,
    screen: Screen,
    one_view: Predictions,
    eight_views: Predictions,
    *,
    folder: Path,
    open_model: OpenModel,
    site_folds: Callable[[RunFolder, Screen], np.ndarray | None],
    say: Callable[[str], None],
) -> tuple[Predictions, Predictions, list[str], BaselinePredictor]:
    """Replace the logits of each site by those of a network trained without it.

    Embeddings stay those of the final network, because embeddings of different networks cannot be compared.

    Args:
        run: Of the final network, with the runs of its cross-validation.
        screen: Its own.
        one_view: Predictions of the final network with one view; not changed.
        eight_views: The same with eight views.
        folder: Folder of the parts of the prediction, where those of each fold are stored until it is complete.
        open_model: Loads the network of a run.
        site_folds: Returns the fold of each site in a run.
        say: Called with messages for the user.

    Returns:
        Both predictions, with `Metadata_Fold` held_out for the sites that a fold held out and
        `Metadata_Cross_Validation`; notes for the reader; and the baselines, each fitted to the training wells of the
        fold.
    """
    tables = [
        predictions.table.drop(columns=["predicted", "confidence", "reason"]) for predictions in (one_view, eight_views)
    ]
    logits = {n.views: _copy(n.logits, folder / f"out_of_fold.{n.views}.npy") for n in (one_view, eight_views)}
    network_number = np.zeros(len(one_view.table), dtype=int)
    fold = one_view.table["Metadata_Fold"].to_numpy(dtype=object).copy()
    labels = one_view.table["perturbation"].to_numpy(dtype=object)
    never_trained: dict[str, int] = {}
    folds: dict[int, RunFolder] = {}
    for held_out in open_folds(run, screen, folder, open_model=open_model, site_folds=site_folds):
        k, rows = held_out.number, held_out.rows
        folds[k] = held_out.run
        for part in held_out.predict(say=say):
            for n, target in logits.items():
                target[part.rows] = part.logits[n]
        network_number[rows], fold[rows] = k, HELD_OUT
        trained_classes = held_out.predictor.card.trained_classes
        untrained_rows = rows[[bool(labels[row]) and labels[row] not in trained_classes for row in rows]]
        fold[untrained_rows] = EXCLUDED
        for row in untrained_rows:
            never_trained[str(labels[row])] = never_trained.get(str(labels[row]), 0) + 1
    combined = []
    for predictions, table in zip((one_view, eight_views), tables, strict=True):
        table["Metadata_Fold"], table[FOLD_COLUMN] = fold, network_number
        reasons = predictions.table["reason"].tolist()
        combined.append(
            join_results(
                table,
                logits[predictions.views],
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


def _weights(run: RunFolder) -> Path:
    return run.checkpoints / "model.safetensors"


def _copy(values: np.ndarray, path: Path) -> np.ndarray:
    """Return a copy of an array, mapped from a file if it is large."""
    copy = allocate(path, values.shape)
    for start in range(0, len(copy), BLOCK_ROWS):
        copy[start : start + BLOCK_ROWS] = values[start : start + BLOCK_ROWS]
    return copy


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
