"""Score predictions, each with its interval over experiments and its chance."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Literal

import numpy as np
import pandas as pd

from distangle.core.shrinkage import Correction
from distangle.core.stats import share_interval
from distangle.inference.baselines import beats_no_baseline
from distangle.inference.control_checks import UNSEEN, evaluate_controls
from distangle.model import ModelCard
from distangle.results import Predictions, ScoreRow, Scores
from distangle.screen import CONTROLS, NEGATIVE, NO_HOLD_OUT
from distangle.screen.folds.coverage import count_well_labels

Metric = Literal["accuracy", "balanced accuracy"]
_WHOSE = {"plate": "plate", "experiment": "experiment", "controls": "plate's negative controls"}


def evaluate(
    predictions: Sequence[Predictions],
    *,
    card: ModelCard,
    run: Mapping[str, Any],
    norms: str = "running",
    naive: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> Scores:
    """Score the held-out fold of several predictions of one network.

    Args:
        predictions: Sites and wells, with one view and with eight.
        card: Of the network: classes, how many training sites each had, preparation and correction.
        run: What `run.json` says: target, how the fold was made, whether it was forced and in spite of what.
        norms: Whose statistics the norms used: all but `running` rest on images of the held-out plates.
        naive: By level, the labels that rules without cells give every row (see `guess_without_cells`).

    Returns:
        All rows, the confusion over sites, the control checks, and notes for the reader.
    """
    trained = card.trained_classes
    prepared = card.preparation.standardise not in ("image", "training")
    transductive = prepared or norms != "running" or card.correction.method != "none"
    rows: list[ScoreRow] = []
    no_wells = list(_wells_apart(predictions, target=str(run["target"])))
    for found in predictions:
        if found.level == "well" and no_wells:
            continue
        for wells, chosen in _by_role(found.table):
            rules = {f"by {rule}": labels for rule, labels in (naive or {}).get(found.level, {}).items()}
            table = found.table.assign(**rules)[chosen & _scored(found.table, trained)]
            rows += _rows(table, found, wells=wells, chance=1 / len(trained), transductive=transductive)
    sites = next(found for found in predictions if found.level == "site")
    of_fold = sites.table[sites.table["Metadata_Fold"].isin(UNSEEN)]
    held_out = of_fold[of_fold["perturbation"] != ""]
    never = tuple(sorted(set(held_out["perturbation"]) - trained))
    scored = sites.table[_scored(sites.table, trained)]
    return Scores(
        target=str(run["target"]),
        held_out=str(run["held_out"]),
        forced=bool(run["forced"]),
        rows=tuple(rows),
        never_trained=never,
        confusion=confusion(scored["perturbation"], scored["predicted"], card.classes),
        controls=evaluate_controls(sites, trained=trained, target=str(run["target"])),
        notes=(
            *_notes(sites, held_out, never, run=run, card=card, norms=norms),
            *_unlabelled(of_fold, run),
            *no_wells,
            *_divided_wells(predictions),
            *beats_no_baseline(rows),
        ),
    )


def score(truth: np.ndarray, predicted: np.ndarray, metric: Metric) -> float:
    """Return accuracy, or the mean recall of the classes that occur, in [0, 1].

    Args:
        truth: Names [row].
        predicted: Names [row].
        metric: Which one.
    """
    right = truth == predicted
    if metric == "accuracy":
        return float(right.mean())
    names, index = np.unique(truth.astype(str), return_inverse=True)
    return float((np.bincount(index, weights=right) / np.bincount(index, minlength=len(names))).mean())


def confusion(truth: pd.Series, predicted: pd.Series, classes: Sequence[str]) -> dict[str, object]:
    """Count predictions by true class (rows) and predicted class (columns).

    Only classes that occur or are predicted have a row and a column.
    """
    used = set(truth) | set(predicted)
    names = [name for name in classes if name in used]
    counts = pd.crosstab(truth.to_numpy(), predicted.to_numpy()).reindex(index=names, columns=names, fill_value=0)
    return {"perturbations": names, "counts": counts.to_numpy().tolist()}


def _by_role(table: pd.DataFrame) -> Iterator[tuple[Literal["treatments", "with controls"], pd.Series]]:
    controls = table["Metadata_Role"].isin(CONTROLS)
    yield "treatments", ~controls
    if controls.any():
        yield "with controls", pd.Series(data=True, index=table.index)


def _scored(table: pd.DataFrame, trained: Set[str]) -> pd.Series:
    unseen = table["Metadata_Fold"].isin(UNSEEN)
    return unseen & table["perturbation"].isin(trained) & (table["reason"] == "")


def _unlabelled(of_fold: pd.DataFrame, run: Mapping[str, Any]) -> Iterator[str]:
    n = int((of_fold["perturbation"] == "").sum())
    if 0 < n < len(of_fold):
        yield (
            f"{n} of {len(of_fold)} held-out sites have no label in column {run['target']!r}: they are predicted and "
            "not scored. To score them, fill the column in in the table, index and predict again."
        )


def _wells_apart(predictions: Sequence[Predictions], *, target: str) -> Iterator[str]:
    """Say that wells are not scored, where the sites of one do not share a label."""
    if not any(found.level == "well" for found in predictions):
        return
    table = next(found for found in predictions if found.level == "site").table
    wells = table[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]]
    counted = count_well_labels(wells, table["perturbation"].astype(str).to_numpy())
    if not counted.single:
        partial = f", {counted.n_partial} lack it at some sites" if counted.n_partial else ""
        yield (
            f"The wells have no single {target} ({counted.n_ambiguous} of {counted.n_labeled} wells "
            f"hold several{partial}), so no score by well is printed."
        )


def _divided_wells(predictions: Sequence[Predictions]) -> Iterator[str]:
    table = next(found for found in predictions if found.level == "site").table
    held = (table["Metadata_Fold"] == "held_out").groupby(
        [table[f"Metadata_{name}"] for name in ("Experiment", "Plate", "Well")]
    )
    n = int((held.any() & ~held.all()).sum())
    if n and any(found.level == "well" for found in predictions):
        yield f"{n} wells have held-out sites beside others: they are in no score by well."


def _rows(
    table: pd.DataFrame,
    found: Predictions,
    *,
    wells: Literal["treatments", "with controls"],
    chance: float,
    transductive: bool,
) -> Iterator[ScoreRow]:
    if table.empty:
        return
    over = "experiment" if table["Metadata_Experiment"].nunique() > 1 else "plate"
    groups = table["Metadata_Experiment"].astype(str)
    if over == "plate":
        groups = groups + " plate " + table["Metadata_Plate"].astype(str)
    wells_of = table[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]].astype(str).agg("\x1f".join, axis=1)
    subsets: list[tuple[str, pd.Series]] = [("all", pd.Series(data=True, index=table.index))]
    types = sorted(set(table["Metadata_Cell_Type"]) - {""})
    if len(types) > 1:
        subsets += [(f"cell type {name}", table["Metadata_Cell_Type"] == name) for name in types]
    if groups.nunique() > 1:
        right = (table["perturbation"] == table["predicted"]).groupby(groups).mean()
        subsets.append((f"worst {over} {right.idxmin()}", groups == right.idxmin()))
    for name, chosen in subsets:
        part = table[chosen]
        truth, predicted = part["perturbation"].to_numpy(dtype=object), part["predicted"].to_numpy(dtype=object)
        group, well = groups[chosen].to_numpy(dtype=object), wells_of[chosen].to_numpy(dtype=object)
        for metric in ("accuracy", "balanced accuracy"):
            interval = share_interval(
                truth == predicted, group, wells=well, classes=truth if metric == "balanced accuracy" else None
            )
            yield ScoreRow(
                level=found.level,
                views=found.views,
                wells=wells,
                subset=name,
                metric=metric,
                value=score(truth, predicted, metric),
                interval=interval,
                by_group={} if interval or len(set(group)) < 2 else _by_group(truth, predicted, group, metric),
                interval_over=over,
                n=len(part),
                n_groups=len(set(group)),
                chance=chance,
                transductive=transductive,
                baselines={
                    str(rule).removeprefix("by "): score(truth, part[rule].to_numpy(dtype=object), metric)
                    for rule in part.columns
                    if str(rule).startswith("by ")
                },
            )


def _by_group(truth: np.ndarray, predicted: np.ndarray, group: np.ndarray, metric: Metric) -> dict[str, float]:
    found = ((str(name), np.flatnonzero(group == name)) for name in dict.fromkeys(group.tolist()))
    return {name: score(truth[rows], predicted[rows], metric) for name, rows in found}


def _notes(
    sites: Predictions,
    held_out: pd.DataFrame,
    never: Sequence[str],
    *,
    run: Mapping[str, Any],
    card: ModelCard,
    norms: str,
) -> Iterator[str]:
    standardise = card.preparation.standardise
    if run["forced"]:
        notes = "; ".join(run.get("forced_notes", [])) or "training and held-out wells share something"
        yield f"The split was forced: {notes}. These scores are inflated."
    if never:
        n = int(held_out["perturbation"].isin(never).sum())
        whose = "sites" if run.get("new") else "held-out sites"
        yield f"{n} {whose} of {', '.join(never)} are not scored: no training well has them."
    if standardise not in ("image", "training"):
        yield (
            f"Images were standardised by {standardise.replace('_', ' ')}, also held-out ones: without labels, but a "
            f"prediction rests on other wells of its {'experiment' if 'experiment' in standardise else 'plate'} and "
            f"fold (transductive)."
        )
    yield from _corrected(sites, card.correction)
    hidden = int((sites.table["Metadata_Fold"] == "unlabelled").sum())
    if hidden:
        yield f"{hidden} sites of {run['unlabelled']} are predicted but not scored: {_use_of_hidden(run)}."
    if norms != "running":
        yield (
            f"The norms of the network used statistics of the {_WHOSE[norms]} of every image, also of held-out ones: "
            f"without labels, but a prediction rests on other wells of its {norms.replace('controls', 'plate')} "
            f"(transductive)."
        )
    unread = int((sites.table["reason"] != "").sum())
    if unread:
        yield f"{unread} sites could not be read; they keep a row with the reason in predictions/sites.parquet."
    if held_out.empty and run["held_out"] == NO_HOLD_OUT:
        yield (
            "Nothing was held out, so nothing is scored: how good the network is on new plates is not known. "
            "`distangle train SCREEN --cross-validate 5` tells."
        )
    elif held_out.empty:
        which = "No site of this screen" if run.get("new") else "No held-out site"
        yield (
            f"{which} has a known label in column {run['target']!r}: there is nothing to score. Name the labels when "
            "indexing, and predict again."
        )


def _corrected(sites: Predictions, correction: Correction) -> Iterator[str]:
    """Say what the correction of a network did to these sites."""
    if correction.method == "none":
        return
    controls = sites.table["Metadata_Role"].isin([str(role) for role in NEGATIVE]).any()
    if controls or correction.wells == "all":
        yield (
            f"Features were corrected ({correction}), also those of held-out sites: without labels, but a prediction "
            f"rests on other wells of its {correction.group} and fold (transductive)."
        )
        return
    yield (
        f"Nothing was corrected: the network was trained with the correction {str(correction)!r}, and this screen "
        "names no negative control. Name them when indexing, or train with correction.method=none."
    )


def _use_of_hidden(run: Mapping[str, Any]) -> str:
    told = run.get("pseudo_labels")
    if not told:
        return "their labels were hidden from the training, their images were not used"
    used = f"the training saw their images under pseudo labels ({told['strategy']})"
    if told["stopped"]:
        used += f" until these were ended before epoch {told['stopped']['epoch']}: {told['stopped']['reason']}"
    return used
