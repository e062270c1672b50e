"""Predict logits and embeddings of sites, and average them over wells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch

from distangle.core.progress import by_percent, no_progress
from distangle.errors import ConfigError, RunError
from distangle.images import N_VIEWS, ImageCache
from distangle.inference.parts import PartPredictor, predict_parts
from distangle.model import ModelCard, PerturbationClassifier, PlateBatchNorm
from distangle.results import Predictions
from distangle.results.backbone_features import Features
from distangle.results.predictions import softmax
from distangle.screen import Screen, rename_columns
from distangle.screen.screen import KEY_COLUMNS

PREDICTION_PIECES = 100  # how often a prediction calls `advance`
BLOCK_ROWS = 4096  # rows whose probabilities are in memory at once
METADATA_COLUMNS = {"experiment": "Metadata_Experiment", "plate": "Metadata_Plate", "well": "Metadata_Well"}


def check_fits(screen: Screen, card: ModelCard) -> None:
    """Check that a screen has the channels and cell types of a network.

    Raises:
        RunError: They differ; the message names both.
    """
    channels = [channel.name for channel in screen.metadata.channels]
    if channels != list(card.channels):
        raise RunError(
            f"The screen has the channels {', '.join(channels)}; the network was trained on "
            f"{', '.join(card.channels)}, in that order. Index the screen with these channels."
        )
    unknown = sorted(set(screen.sites["cell_type"]) - set(card.cell_types)) if card.cell_types else []
    if unknown:
        raise RunError(
            f"The screen has the cell type(s) {', '.join(repr(name) for name in unknown)}; the network was trained "
            f"on {', '.join(card.cell_types)}. Train with these cell types, or with network.cell_type=false."
        )


def cell_type_rows(screen: Screen, rows: Sequence[int], card: ModelCard) -> torch.Tensor | None:
    """Return one-hot cell types, float32 [site, cell_type].

    None for a network without cell types.
    """
    if not card.cell_types:
        return None
    index = {name: k for k, name in enumerate(card.cell_types)}
    indices = [index[name] for name in screen.sites["cell_type"].iloc[list(rows)]]
    return torch.eye(len(index))[indices]


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """How the sites of a screen are predicted.

    Attributes:
        views: Numbers of views to average, each 1 or 8; each view is computed once.
        norms: Batch-norm statistics of every plate; None: the running statistics of the training for all.
        features: Features of a frozen backbone; with them no image is read.
        rows: Sites to be predicted, others have no logits; None: all.
    """

    views: Sequence[int] = (1,)
    norms: PlateBatchNorm | None = None
    features: Features | None = None
    rows: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if wrong := [n for n in self.views if n not in (1, N_VIEWS)]:
            raise ConfigError(f"views must be 1 or {N_VIEWS}, got {wrong[0]}.")


def predict_sites(
    model: PerturbationClassifier,
    card: ModelCard,
    store: ImageCache,
    *,
    fold: Mapping[tuple[str, str, str, int], str] | None = None,
    views: Literal[1, 8] = 1,
    norms: PlateBatchNorm | None = None,
    advance: Callable[[str], None] = no_progress,
) -> Predictions:
    """Predict every site of a screen with one number of views.

    Args:
        model: The network; its mode and memory format are restored.
        card: Saved with its weights.
        store: The images of the screen, preprocessed as in `card.preprocessing`.
        fold: Fold by (experiment, plate, well, site); sites it lacks have "" as `Metadata_Fold`.
        views: 8 averages the logits of the eight flips and rotations.
        norms: Batch-norm statistics of every plate; None: the running statistics of the training for all.
        advance: Called after every percent of the sites.

    Returns:
        One row for each site; the row of an unreadable site has the reason.

    Raises:
        RunError: The screen has other channels or cell types than the network.
        ConfigError: `views` is neither 1 nor 8.
        WeightsError: A plate has no statistics in `norms`.
    """
    options = PredictionOptions(views=(views,), norms=norms)
    return predict_by_views(model, card, store, options, fold=fold, advance=advance)[0]


def predict_by_views(
    model: PerturbationClassifier,
    card: ModelCard,
    store: ImageCache,
    options: PredictionOptions,
    *,
    fold: Mapping[tuple[str, str, str, int], str] | None = None,
    advance: Callable[[str], None] = no_progress,
) -> list[Predictions]:
    """Predict sites with several numbers of views, each view computed once.

    Args:
        model: The network; its mode and memory format are restored.
        card: Saved with its weights.
        store: The images of the screen, preprocessed as in `card.preprocessing`.
        options: Sites, views and batch-norm statistics.
        fold: Fold by (experiment, plate, well, site); sites it lacks have "" as `Metadata_Fold`.
        advance: Called after every percent of the sites.

    Returns:
        One for each of `options.views`, in their order, with one row for each site of the screen; the row of an
        unreadable site has the reason.

    Raises:
        RunError: The screen has other channels or cell types than the network.
        WeightsError: A plate has no statistics in `options.norms`.
    """
    predictor = part_predictor(model, card, store, options)
    n_sites = len(store.screen.sites)
    rows = range(n_sites) if options.rows is None else sorted(options.rows)
    shapes = {"logits": (n_sites, len(card.classes)), "embedding": (n_sites, model.config.embedding_size)}
    values = {n: {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()} for n in options.views}
    reasons = [""] * n_sites
    for part in predict_parts(predictor, rows, report=by_percent(advance)):
        for n in options.views:
            values[n]["logits"][part.rows], values[n]["embedding"][part.rows] = part.logits[n], part.embedding[n]
        for row, reason in zip(part.rows.tolist(), part.reasons, strict=True):
            reasons[row] = reason
    return [
        site_predictions(
            store.screen, card, values[n]["logits"], values[n]["embedding"], views=n, reasons=reasons, fold=fold
        )
        for n in options.views
    ]


def part_predictor(
    model: PerturbationClassifier, card: ModelCard, store: ImageCache, options: PredictionOptions
) -> PartPredictor:
    """Return what predicts the parts of a screen.

    Args:
        model: The network.
        card: Saved with its weights.
        store: The images of the screen, preprocessed as in `card.preprocessing`.
        options: Views and batch-norm statistics.

    Raises:
        RunError: The screen has other channels or cell types than the network.
    """
    check_fits(store.screen, card)
    return PartPredictor(
        model=model,
        card=card,
        store=store,
        cell_types=lambda rows: cell_type_rows(store.screen, rows, card),
        views=options.views,
        norms=options.norms,
        features=options.features,
    )


def site_predictions(
    screen: Screen,
    card: ModelCard,
    logits: np.ndarray,
    embedding: np.ndarray,
    *,
    views: int,
    reasons: Sequence[str],
    fold: Mapping[tuple[str, str, str, int], str] | None = None,
) -> Predictions:
    """Join the logits and embeddings of all sites of a screen with their metadata.

    Args:
        screen: The screen.
        card: Of the network.
        logits: float32 [site, class].
        embedding: float32 [site, dimension].
        views: Number of averaged views.
        reasons: Why a site could not be read; "" if it could.
        fold: Fold by (experiment, plate, well, site); sites it lacks have "" as `Metadata_Fold`.
    """
    table = _site_metadata(screen, card.target, fold or {})
    return join_results(table, logits, embedding, card.classes, level="site", views=views, reasons=reasons)


def average_wells(sites: Predictions) -> Predictions:
    """Return the mean logits and embeddings over the readable sites of every well.

    A metadata field of a well (label, extra column, cell type, fold) has the common value of its sites; it is blank if
    they differ.

    Args:
        sites: Predictions of sites.
    """
    keys = list(METADATA_COLUMNS.values())
    groups = sites.table.groupby(keys, sort=False).indices
    first = [members[0] for members in groups.values()]
    metadata = sites.table.drop(columns=["Metadata_Site", "predicted", "confidence", "reason"])
    table = metadata.iloc[first].copy()
    well = np.empty(len(metadata), dtype=np.int64)
    for row, members in enumerate(groups.values()):
        well[members] = row
    for column in table.columns.difference(keys):
        values = metadata[column].to_numpy(dtype=object)
        differs = np.bincount(well, weights=values != values[first][well], minlength=len(first)) > 0
        if differs.any():
            table[column] = np.where(differs, "", table[column].to_numpy(dtype=object))
    logits = np.full((len(first), len(sites.perturbations)), np.nan, dtype=np.float32)
    embedding = np.full((len(first), sites.embedding.shape[1]), np.nan, dtype=np.float32)
    readable = (sites.table["reason"] == "").to_numpy()
    n_sites, reasons = [], []
    for row, members in enumerate(groups.values()):
        readable_members = np.asarray(members)[readable[members]]
        n_sites.append(len(readable_members))
        reasons.append("" if len(readable_members) else str(sites.table["reason"].iloc[members[0]]))
        if len(readable_members):
            logits[row], embedding[row] = (
                sites.logits[readable_members].mean(axis=0),
                sites.embedding[readable_members].mean(axis=0),
            )
    table = table.reset_index(drop=True)
    table["n_sites"] = n_sites
    return join_results(table, logits, embedding, sites.perturbations, level="well", views=sites.views, reasons=reasons)


def cell_free_table(screen: Screen, target: str, fold: Sequence[str], *, classes: Sequence[str]) -> Predictions:
    """List sites as predictions without a network: positions, labels and folds.

    Args:
        screen: The screen.
        target: Its label column.
        fold: Of each site.
        classes: Of the network; other labels are left blank.
    """
    table = _site_metadata(screen, target, {})
    table["Metadata_Fold"] = list(fold)
    table["perturbation"] = table["perturbation"].where(table["perturbation"].isin(list(classes)), "")
    n, zeros = len(table), np.zeros((len(table), 1), dtype=np.float32)
    return join_results(table, zeros, zeros, ("none",), level="site", views=1, reasons=[""] * n)


def join_results(
    table: pd.DataFrame,
    logits: np.ndarray,
    embedding: np.ndarray,
    names: Sequence[str],
    *,
    level: Literal["site", "well"],
    views: int,
    reasons: Sequence[str],
) -> Predictions:
    """Return predictions with the most probable class of every row.

    Args:
        table: Metadata of each row; changed in place.
        logits: float32 [row, class].
        embedding: float32 [row, dimension].
        names: Of the classes.
        level: Sites or wells.
        views: Number of averaged views.
        reasons: Why a row could not be read; "" if it could.
    """
    predictions = Predictions(
        level=level, table=table, logits=logits, embedding=embedding, perturbations=tuple(names), views=views
    )
    is_unreadable = np.asarray([bool(reason) for reason in reasons], dtype=bool)
    best, confidence = np.zeros(len(table), dtype=np.int64), np.zeros(len(table), dtype=np.float32)
    for start in range(0, len(table), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block = np.asarray(logits[rows])
        best[rows] = np.where(is_unreadable[rows], 0, np.nan_to_num(block, nan=-np.inf).argmax(axis=1))
        with np.errstate(invalid="ignore"):
            confidence[rows] = softmax(block)[np.arange(len(block)), best[rows]]
    table["predicted"] = np.where(is_unreadable, "", np.asarray(names, dtype=object)[best])
    table["confidence"] = np.where(is_unreadable, np.nan, confidence)
    table["reason"] = list(reasons)
    return predictions


def _site_metadata(screen: Screen, target: str, fold: Mapping[tuple[str, str, str, int], str]) -> pd.DataFrame:
    sites = screen.sites
    table = pd.DataFrame({column: sites[name].to_numpy() for name, column in METADATA_COLUMNS.items()})
    table["Metadata_Site"] = sites["site"].to_numpy()
    table["Metadata_Cell_Type"] = sites["cell_type"].to_numpy()
    table["Metadata_Role"] = sites["role"].to_numpy()
    table["Metadata_Perturbation"] = sites["perturbation"].to_numpy()
    # The index renames columns already; a screen of an older version may still have ours.
    extra = screen.metadata.extra_columns
    for column, name in zip(extra, rename_columns(extra), strict=True):
        table[f"Metadata_{name}"] = sites[column].to_numpy()
    keys = sites[list(KEY_COLUMNS)].itertuples(index=False, name=None)
    table["Metadata_Fold"] = [fold.get((str(e), str(p), str(w), int(s)), "") for e, p, w, s in keys]
    table["perturbation"] = sites[target].to_numpy() if target in sites.columns else ""  # new plates may have no labels
    return table
