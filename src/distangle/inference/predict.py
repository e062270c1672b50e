"""Predict logits and embeddings of sites, and average them over wells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch

from distangle.core.distributed import check_once, sum_array
from distangle.core.progress import no_progress
from distangle.errors import ConfigError, RunError
from distangle.images import N_VIEWS, ImageCache, fit_normalization
from distangle.model import ModelCard, PerturbationClassifier, PlateBatchNorm, control_features, eval_mode
from distangle.model.features import Features
from distangle.model.forward import BatchPlan, SiteInputs, site_outputs
from distangle.model.modes import channels_last
from distangle.results import Predictions
from distangle.screen import Screen, rename_columns

# Always full and of one size, so that a prediction does not depend on its neighbours.
BATCHES = BatchPlan(size=32, always_full=True, channels_last=True)
PLACE = {"experiment": "Metadata_Experiment", "plate": "Metadata_Plate", "well": "Metadata_Well"}


def check_fits(screen: Screen, card: ModelCard) -> None:
    """Check that a screen has the channels and cell types of a network.

    Raises:
        RunError: It has not; the message names both.
    """
    channels = [channel.name for channel in screen.card.channels]
    if channels != list(card.channels):
        raise RunError(
            f"The screen has the channels {', '.join(channels)}; the network was trained on "
            f"{', '.join(card.channels)}, in that order. Index the screen with these channels."
        )
    unknown = sorted(set(screen.sites["cell_type"]) - set(card.cell_types)) if card.cell_types else []
    if unknown:
        raise RunError(
            f"The screen has the cell type(s) {', '.join(repr(name) for name in unknown)}; the network knows "
            f"{', '.join(card.cell_types)}. Train with these cells, or with network.cell_type=false."
        )


def cell_type_rows(screen: Screen, rows: Sequence[int], card: ModelCard) -> torch.Tensor | None:
    """Return the one-hot cell types of sites, float32 [site, cell_type].

    None for a network without them.
    """
    if not card.cell_types:
        return None
    index = {name: k for k, name in enumerate(card.cell_types)}
    chosen = [index[name] for name in screen.sites["cell_type"].iloc[list(rows)]]
    return torch.eye(len(index))[chosen]


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """How the sites of a screen are predicted.

    Attributes:
        views: Numbers of views to average, each 1 or 8; each view is computed once for all of them.
        norms: Batch-norm statistics of every plate; None: the running statistics of the training for all.
        features: Features of a frozen backbone: then no image is read.
        rows: Sites to be predicted, the others have no logits; None: all.
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
        model: The network; left in its mode and memory format.
        card: Saved with its weights.
        store: The images of the screen, prepared as `card.preprocessing` says.
        fold: Fold by (experiment, plate, well, site); `Metadata_Fold` is "" where it says nothing.
        views: 8 averages the logits of the eight flips and turns.
        norms: Batch-norm statistics of every plate; None: the running statistics of the training for all.
        advance: Called after every view.

    Returns:
        One row for each site; the row of a site that cannot be read says why.

    Raises:
        RunError: The screen has other channels or cell types than the network.
        ConfigError: `views` is neither 1 nor 8.
        WeightsError: A plate is not in `norms`.
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
        model: The network; left in its mode and memory format.
        card: Saved with its weights.
        store: The images of the screen, prepared as `card.preprocessing` says.
        options: Which sites and views, and with which batch-norm statistics.
        fold: Fold by (experiment, plate, well, site); `Metadata_Fold` is "" where it says nothing.
        advance: Called after every view.

    Returns:
        One for each of `options.views`, in their order, with one row for each site of the screen; the row of a site
        that cannot be read says why.

    Raises:
        RunError: The screen has other channels or cell types than the network.
        WeightsError: A plate is not in `options.norms`.
    """
    screen, features, views = store.screen, options.features, options.views
    check_fits(screen, card)
    everything = list(range(len(screen.sites)))
    wanted = everything if options.rows is None else sorted(options.rows)
    if features is None:
        readable, statistics = fit_normalization(store, wanted)
        reasons_of = store.reasons
    else:
        readable, statistics, reasons_of = features.readable(wanted), features.statistics, features.reasons
    inputs = SiteInputs(
        store=store,
        statistics=statistics,
        features=features,
        references=control_features(model, store, readable, features=features),
        cell_types=lambda rows: cell_type_rows(screen, rows, card),
        norms=options.norms,
    )
    sums = {n: _Sums.zeros(len(everything), len(card.classes), model.config.embedding_size) for n in views}
    visits = np.zeros(len(everything), dtype=np.int64)
    with eval_mode(model), channels_last(model):
        for view in range(max(views)):
            for rows, outputs in site_outputs(model, inputs, readable, plan=BATCHES, view=view):
                logits, embedding = outputs.logits.float().cpu().numpy(), outputs.embedding.float().cpu().numpy()
                for n in views:
                    if view < n:
                        sums[n].logits[rows] += logits / n
                        sums[n].embedding[rows] += embedding / n
                visits[rows] += view == 0
            advance(f"view {view + 1}")
    check_once(visits, readable, where="the prediction")
    unread = sorted(set(everything) - set(readable))
    reasons = [reasons_of.get(row, "") for row in everything]
    predicted = []
    for n in views:
        for values in (sums[n].logits, sums[n].embedding):
            sum_array(values, where="the prediction")
            values[unread] = np.nan
        table = _metadata(screen, card.target, fold or {})
        predicted.append(
            join_results(table, sums[n].logits, sums[n].embedding, card.classes, level="site", views=n, reasons=reasons)
        )
    return predicted


@dataclass(frozen=True)
class _Sums:
    """What the views add up to."""

    logits: np.ndarray
    embedding: np.ndarray

    @classmethod
    def zeros(cls, n_sites: int, n_classes: int, embedding_size: int) -> "_Sums":
        return cls(
            np.zeros((n_sites, n_classes), dtype=np.float32), np.zeros((n_sites, embedding_size), dtype=np.float32)
        )


def average_wells(sites: Predictions) -> Predictions:
    """Return the mean over the readable sites of every well, logits and embeddings.

    What is said of sites stands for a well where all of its sites agree; else the well's field is blank: a label, an
    extra column, a cell type, a fold.

    Args:
        sites: Predictions at the level of sites.
    """
    keys = list(PLACE.values())
    groups = sites.table.groupby(keys, sort=False).indices
    first = [members[0] for members in groups.values()]
    apart = sites.table.drop(columns=["Metadata_Site", "predicted", "confidence", "reason"])
    table = apart.iloc[first].copy()
    well = np.empty(len(apart), dtype=np.int64)
    for row, members in enumerate(groups.values()):
        well[members] = row
    for column in table.columns.difference(keys):
        values = apart[column].to_numpy(dtype=object)
        differs = np.bincount(well, weights=values != values[first][well], minlength=len(first)) > 0
        if differs.any():
            table[column] = np.where(differs, "", table[column].to_numpy(dtype=object))
    logits = np.full((len(first), len(sites.perturbations)), np.nan, dtype=np.float32)
    embedding = np.full((len(first), sites.embedding.shape[1]), np.nan, dtype=np.float32)
    readable = (sites.table["reason"] == "").to_numpy()
    n_sites, reasons = [], []
    for row, members in enumerate(groups.values()):
        fine = np.asarray(members)[readable[members]]
        n_sites.append(len(fine))
        reasons.append("" if len(fine) else str(sites.table["reason"].iloc[members[0]]))
        if len(fine):
            logits[row], embedding[row] = sites.logits[fine].mean(axis=0), sites.embedding[fine].mean(axis=0)
    table = table.reset_index(drop=True)
    table["n_sites"] = n_sites
    return join_results(table, logits, embedding, sites.perturbations, level="well", views=sites.views, reasons=reasons)


def _metadata(screen: Screen, target: str, fold: Mapping[tuple[str, str, str, int], str]) -> pd.DataFrame:
    sites = screen.sites
    table = pd.DataFrame({theirs: sites[ours].to_numpy() for ours, theirs in PLACE.items()})
    table["Metadata_Site"] = sites["site"].to_numpy()
    table["Metadata_Cell_Type"] = sites["cell_type"].to_numpy()
    table["Metadata_Role"] = sites["role"].to_numpy()
    table["Metadata_Perturbation"] = sites["perturbation"].to_numpy()
    # The index renames columns already; a screen of an older version may still have ours.
    extra = screen.card.extra_columns
    for column, name in zip(extra, rename_columns(extra), strict=True):
        table[f"Metadata_{name}"] = sites[column].to_numpy()
    keys = sites[["experiment", "plate", "well", "site"]].itertuples(index=False, name=None)
    table["Metadata_Fold"] = [fold.get((str(e), str(p), str(w), int(s)), "") for e, p, w, s in keys]
    table["perturbation"] = sites[target].to_numpy() if target in sites.columns else ""  # new plates may have no labels
    return table


def cell_free_table(screen: Screen, target: str, fold: Sequence[str], *, classes: Sequence[str]) -> Predictions:
    """List sites as predictions without a network: places, labels and folds.

    Args:
        screen: The screen.
        target: Its label column.
        fold: Of each site.
        classes: Known to the network; other labels are left blank.
    """
    table = _metadata(screen, target, {})
    table["Metadata_Fold"] = list(fold)
    table["perturbation"] = table["perturbation"].where(table["perturbation"].isin(list(classes)), "")
    n, nothing = len(table), np.zeros((len(table), 1), dtype=np.float32)
    return join_results(table, nothing, nothing, ("none",), level="site", views=1, reasons=[""] * n)


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
    """Return predictions with the likeliest class of every row.

    Args:
        table: What is known of each row; changed.
        logits: float32 [row, class].
        embedding: float32 [row, number].
        names: Of the classes.
        level: Sites or wells.
        views: How many were averaged.
        reasons: Why a row could not be read; "" where it could.
    """
    found = Predictions(
        level=level, table=table, logits=logits, embedding=embedding, perturbations=tuple(names), views=views
    )
    unread = np.asarray([bool(reason) for reason in reasons], dtype=bool)
    best = np.where(unread, 0, np.nan_to_num(logits, nan=-np.inf).argmax(axis=1))
    with np.errstate(invalid="ignore"):
        confidence = found.probabilities[np.arange(len(table)), best]
    table["predicted"] = np.where(unread, "", np.asarray(names, dtype=object)[best])
    table["confidence"] = np.where(unread, np.nan, confidence)
    table["reason"] = list(reasons)
    return found
