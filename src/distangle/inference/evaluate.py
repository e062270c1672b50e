"""Score predictions, with intervals over experiments and chance levels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from distangle.core.shrinkage import Correction
from distangle.core.stats import share_interval
from distangle.inference.baselines import beats_no_baseline
from distangle.inference.calibration import top_k_hits
from distangle.inference.confusion import count_predictions, is_scored
from distangle.inference.control_checks import UNSEEN, evaluate_controls
from distangle.inference.plate_layout import BY_ASSIGNMENT, BY_GROUP, GROUP_SIZE
from distangle.model import ModelCard
from distangle.results import Predictions, ScoreRow, Scores
from distangle.results.confusion import summarize_confusion
from distangle.screen import CONTROLS, NEGATIVE
from distangle.screen.folds.coverage import count_well_labels
from distangle.screen.folds.folds import NO_HOLD_OUT

Metric = Literal["accuracy", "balanced accuracy"]
BLOCK_ROWS = 4096  # whose logits are copied together: bounds memory for a million rows
TOP_K = 5  # classes of the top-5 accuracy
IN_TOP_K = "in top 5"
_LAYOUTS: tuple[tuple[Literal["plate group", "one perturbation per well"], str], ...] = (
    ("plate group", BY_GROUP),
    ("one perturbation per well", BY_ASSIGNMENT),
)
_STATISTICS_OWNER = {"plate": "plate", "experiment": "experiment", "controls": "plate's negative controls"}


def evaluate(
    predictions: Sequence[Predictions],
    *,
    card: ModelCard,
    run: Mapping[str, Any],
    norms: str = "running",
    baselines: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> Scores:
    """Score the held-out fold in several predictions of one network.

    Args:
        predictions: Sites and wells, with one view and with eight.
        card: Of the network: classes, training sites of each, preprocessing and correction.
        run: Content of `run.json`: target, how the fold was made, whether a leak was overridden and which.
        norms: Whose batch-norm statistics the network used: all but `running` use images of the held-out plates.
        baselines: By level, the labels that baselines predict for every row (see `predict_without_cells`).

    Returns:
        All rows, the confusion over sites, the control checks, and notes for the reader.
    """
    trained = card.trained_classes
    uses_other_wells = card.preprocessing.standardize not in ("image", "training")
    transductive = uses_other_wells or norms != "running" or card.correction.method != "none"
    rows: list[ScoreRow] = []
    layout_rows: list[ScoreRow] = []
    mixed_wells = list(_note_mixed_wells(predictions, target=str(run["target"])))
    for level_predictions in predictions:
        if level_predictions.level == "well" and mixed_wells:
            continue
        columns: dict[str, np.ndarray] = {
            f"by {name}": labels for name, labels in (baselines or {}).get(level_predictions.level, {}).items()
        }
        can_score = is_scored(level_predictions.table, trained)
        if len(trained) > TOP_K:
            columns[IN_TOP_K] = _top_hits(level_predictions, can_score.to_numpy())
        for wells, selected in _well_subsets(level_predictions.table):
            scored = selected & can_score
            table = level_predictions.table.assign(**columns)[scored]
            rows += _score_rows(
                table, level_predictions, wells=wells, chance=1 / len(trained), transductive=transductive
            )
            if wells == "treatments":
                layout_rows += _score_layouts(level_predictions.table[scored], level_predictions)
    rows += layout_rows
    sites = next(level_predictions for level_predictions in predictions if level_predictions.level == "site")
    unseen_sites = sites.table[sites.table["Metadata_Fold"].isin(UNSEEN)]
    held_out = unseen_sites[unseen_sites["perturbation"] != ""]
    never_trained = tuple(sorted(set(held_out["perturbation"]) - trained))
    scored_sites = sites.table[is_scored(sites.table, trained)]
    return Scores(
        target=str(run["target"]),
        held_out=str(run["held_out"]),
        forced=bool(run["forced"]),
        rows=tuple(rows),
        never_trained=never_trained,
        confusion=confusion(scored_sites["perturbation"], scored_sites["predicted"], card.classes),
        controls=evaluate_controls(sites, trained=trained, target=str(run["target"])),
        notes=(
            *_notes(sites, held_out, never_trained, run=run, card=card, norms=norms),
            *_note_missing_labels(unseen_sites, run),
            *mixed_wells,
            *_note_split_wells(predictions),
            *beats_no_baseline(rows),
        ),
    )


def score(truth: np.ndarray, predicted: np.ndarray, metric: Metric) -> float:
    """Return accuracy or balanced accuracy, in [0, 1].

    Balanced accuracy is the mean recall of the classes that occur.

    Args:
        truth: Names, or numbers of the sorted names, [row].
        predicted: The same of the predictions, [row].
        metric: Which score.
    """
    is_correct = truth == predicted
    if metric == "accuracy":
        return float(is_correct.mean())
    names, index = np.unique(truth if truth.dtype.kind == "i" else truth.astype(str), return_inverse=True)
    return float((np.bincount(index, weights=is_correct) / np.bincount(index, minlength=len(names))).mean())


def confusion(truth: pd.Series, predicted: pd.Series, classes: Sequence[str]) -> dict[str, object]:
    """Count predictions by true class (rows) and predicted class (columns).

    Only classes that occur or are predicted have a row and a column. Of more than `MAX_MATRIX` classes, only the sites,
    the correct ones and the most frequent errors are returned.
    """
    return summarize_confusion(*count_predictions(truth, predicted, classes))


def _well_subsets(table: pd.DataFrame) -> Iterator[tuple[Literal["treatments", "with controls"], pd.Series]]:
    controls = table["Metadata_Role"].isin(CONTROLS)
    yield "treatments", ~controls
    if controls.any():
        yield "with controls", pd.Series(data=True, index=table.index)


def _note_missing_labels(unseen_sites: pd.DataFrame, run: Mapping[str, Any]) -> Iterator[str]:
    n = int((unseen_sites["perturbation"] == "").sum())
    if 0 < n < len(unseen_sites):
        yield (
            f"{n} of {len(unseen_sites)} held-out sites have no label in column {run['target']!r}: they are predicted "
            "and not scored. To score them, fill in the column, index and predict again."
        )


def _note_mixed_wells(predictions: Sequence[Predictions], *, target: str) -> Iterator[str]:
    """Explain that wells are not scored, if the sites of a well have several labels."""
    if not any(part.level == "well" for part in predictions):
        return
    table = next(part for part in predictions if part.level == "site").table
    wells = table[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]]
    counts = count_well_labels(wells, table["perturbation"].astype(str).to_numpy())
    if not counts.single:
        partial = f", {counts.n_partial} lack it at some sites" if counts.n_partial else ""
        yield (
            f"The wells have no single {target} ({counts.n_ambiguous} of {counts.n_labeled} wells hold "
            f"several{partial}), "
            "so no score by well is computed."
        )


def _note_split_wells(predictions: Sequence[Predictions]) -> Iterator[str]:
    table = next(part for part in predictions if part.level == "site").table
    is_held_out = (table["Metadata_Fold"] == "held_out").groupby(
        [table[f"Metadata_{name}"] for name in ("Experiment", "Plate", "Well")]
    )
    n = int((is_held_out.any() & ~is_held_out.all()).sum())
    if n and any(part.level == "well" for part in predictions):
        yield f"{n} wells have both held-out and other sites: they are in no score by well."


def _top_hits(predictions: Predictions, scored: np.ndarray) -> np.ndarray:
    """Return whether the label is among the most probable classes, float [row]; NaN if not scored."""
    hits = np.full(len(scored), np.nan)
    if scored.any():
        rows = np.flatnonzero(scored)
        names = predictions.table["perturbation"].to_numpy(dtype=object)[rows]
        labels = pd.Index(predictions.perturbations, dtype=object).get_indexer(pd.Index(names, dtype=object))
        for start in range(0, len(rows), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            hits[rows[block]] = top_k_hits(predictions.logits[rows[block]], labels[block], TOP_K)
    return hits


def _score_layouts(table: pd.DataFrame, predictions: Predictions) -> Iterator[ScoreRow]:
    """Score the predictions that use the layout of the plate; chance is a guess in the plate's group."""
    if GROUP_SIZE not in table.columns:
        return
    table = table[table[GROUP_SIZE] > 0]
    for layout, column in _LAYOUTS:
        part = table.assign(predicted=table[column])
        chance = float((1 / table[GROUP_SIZE]).mean()) if len(table) else 0.0
        for row in _score_rows(part, predictions, wells="treatments", chance=chance, transductive=True):
            yield row.model_copy(update={"layout": layout})


def _score_rows(
    table: pd.DataFrame,
    predictions: Predictions,
    *,
    wells: Literal["treatments", "with controls"],
    chance: float,
    transductive: bool,
) -> Iterator[ScoreRow]:
    if table.empty:
        return
    group_level = "experiment" if table["Metadata_Experiment"].nunique() > 1 else "plate"
    groups = table["Metadata_Experiment"].astype(str)
    if group_level == "plate":
        groups = groups + " plate " + table["Metadata_Plate"].astype(str)
    keys = [table[f"Metadata_{name}"].astype(str) for name in ("Experiment", "Plate", "Well")]
    well_codes = table.groupby(keys, sort=False).ngroup().to_numpy()
    group_codes, group_names = pd.factorize(groups)
    # Names are compared once; all scores work on their numbers.
    truth_codes, names = pd.factorize(table["perturbation"].to_numpy(dtype=object), sort=True)
    codes = {
        str(column): pd.Index(names).get_indexer(pd.Index(table[column], dtype=object))
        for column in table.columns
        if column == "predicted" or str(column).startswith("by ")
    }
    subsets: list[tuple[str, pd.Series]] = [("all", pd.Series(data=True, index=table.index))]
    cell_types = sorted(set(table["Metadata_Cell_Type"]) - {""})
    if len(cell_types) > 1:
        subsets += [(f"cell type {name}", table["Metadata_Cell_Type"] == name) for name in cell_types]
    if groups.nunique() > 1:
        group_accuracy = (table["perturbation"] == table["predicted"]).groupby(groups).mean()
        subsets.append((f"worst {group_level} {group_accuracy.idxmin()}", groups == group_accuracy.idxmin()))

    def by_name(values: Mapping[int, float]) -> dict[str, float]:
        return {str(group_names[code]): value for code, value in values.items()}

    for name, selected in subsets:
        rows = np.flatnonzero(selected.to_numpy())
        truth, predicted, group, well = truth_codes[rows], codes["predicted"][rows], group_codes[rows], well_codes[rows]
        n_groups = len(pd.unique(group))
        for metric in ("accuracy", "balanced accuracy"):
            interval = share_interval(
                truth == predicted, group, wells=well, classes=truth if metric == "balanced accuracy" else None
            )
            yield ScoreRow(
                level=predictions.level,
                views=predictions.views,
                wells=wells,
                subset=name,
                metric=metric,
                value=score(truth, predicted, metric),
                interval=interval,
                by_group={} if interval or n_groups < 2 else by_name(_score_by_group(truth, predicted, group, metric)),
                interval_over=group_level,
                n=len(rows),
                n_groups=n_groups,
                chance=chance,
                transductive=transductive,
                baselines={
                    column.removeprefix("by "): score(truth, code[rows], metric)
                    for column, code in codes.items()
                    if column != "predicted"
                },
            )
        if IN_TOP_K in table.columns:
            hits = table[IN_TOP_K].to_numpy(dtype=np.float64)[rows]
            interval = share_interval(hits, group, wells=well)
            yield ScoreRow(
                level=predictions.level,
                views=predictions.views,
                wells=wells,
                subset=name,
                metric="top-5 accuracy",
                value=float(hits.mean()),
                interval=interval,
                by_group={} if interval or n_groups < 2 else by_name(_means_by_group(hits, group)),
                interval_over=group_level,
                n=len(rows),
                n_groups=n_groups,
                chance=TOP_K * chance,
                transductive=transductive,
            )


def _score_by_group(truth: np.ndarray, predicted: np.ndarray, group: np.ndarray, metric: Metric) -> dict[int, float]:
    rows_by_group = ((code, np.flatnonzero(group == code)) for code in pd.unique(group).tolist())
    return {code: score(truth[rows], predicted[rows], metric) for code, rows in rows_by_group}


def _means_by_group(hits: np.ndarray, group: np.ndarray) -> dict[int, float]:
    return {code: float(hits[group == code].mean()) for code in pd.unique(group).tolist()}


def _notes(
    sites: Predictions,
    held_out: pd.DataFrame,
    never_trained: Sequence[str],
    *,
    run: Mapping[str, Any],
    card: ModelCard,
    norms: str,
) -> Iterator[str]:
    standardise = card.preprocessing.standardize
    if run["forced"]:
        notes = "; ".join(run.get("forced_notes", [])) or "training and held-out wells share a source of information"
        yield f"The split was forced: {notes}. These scores are inflated."
    if never_trained:
        n = int(held_out["perturbation"].isin(never_trained).sum())
        kind = "sites" if run.get("new") else "held-out sites"
        yield f"{n} {kind} of {', '.join(never_trained)} are not scored: no training well has them."
    if standardise not in ("image", "training"):
        yield (
            f"Images were standardized by {standardise.replace('_', ' ')}, also held-out ones: without labels, but a "
            f"prediction depends on other wells of its {'experiment' if 'experiment' in standardise else 'plate'} and "
            f"fold (transductive)."
        )
    yield from _note_correction(sites, card.correction)
    n_hidden = int((sites.table["Metadata_Fold"] == "unlabelled").sum())
    if n_hidden:
        yield f"{n_hidden} sites of {run['unlabelled']} are predicted but not scored: {_describe_hidden_sites(run)}."
    if norms != "running":
        yield (
            f"Batch norm used statistics of the {_STATISTICS_OWNER[norms]} of every image, also of held-out ones: "
            f"without labels, but a prediction depends on other wells of its {norms.replace('controls', 'plate')} "
            f"(transductive)."
        )
    n_unreadable = int((sites.table["reason"] != "").sum())
    if n_unreadable:
        yield f"{n_unreadable} sites could not be read; predictions/sites.parquet has a row with the reason for each."
    if held_out.empty and run["held_out"] == NO_HOLD_OUT:
        yield (
            "Nothing was held out, so nothing is scored: the accuracy on new plates is unknown. "
            "Estimate it with `distangle train SCREEN --cross-validate 5`."
        )
    elif held_out.empty:
        kind = "No site of this screen" if run.get("new") else "No held-out site"
        yield (
            f"{kind} has a known label in column {run['target']!r}: there is nothing to score. Add labels, "
            "index and predict again."
        )


def _note_correction(sites: Predictions, correction: Correction) -> Iterator[str]:
    """Describe what the correction of a network did to these sites."""
    if correction.method == "none":
        return
    controls = sites.table["Metadata_Role"].isin([str(role) for role in NEGATIVE]).any()
    if controls or correction.wells == "all":
        yield (
            f"Features were corrected ({correction}), also those of held-out sites: without labels, but a prediction "
            f"depends on other wells of its {correction.group} and fold (transductive)."
        )
        return
    yield (
        f"Nothing was corrected: the network was trained with the correction {str(correction)!r}, and this screen "
        "has no negative control. Name negative controls when indexing, or train with correction.method=none."
    )


def _describe_hidden_sites(run: Mapping[str, Any]) -> str:
    settings = run.get("pseudo_labels")
    if not settings:
        return "their labels were hidden from training, and their images were not used"
    text = f"their images were used in training with pseudo labels ({settings['strategy']})"
    if settings["stopped"]:
        text += (
            f" until pseudo-labeling ended before epoch {settings['stopped']['epoch']}: {settings['stopped']['reason']}"
        )
    return text
