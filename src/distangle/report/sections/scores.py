"""Compute the sections on scores, training curves, plate maps and controls."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from distangle.errors import brief
from distangle.report import charts
from distangle.report.data import ReportData
from distangle.report.html import Content, Table, count, format_value, missing_notice, paragraph, percent, spaced
from distangle.report.plate_svg import compact_plate_map, plate_map
from distangle.report.plates import held_out_plates, plate_grids, spread_over_experiments
from distangle.report.score_table import command, score_bar
from distangle.report.sections.decision import PLACES, SOURCES, answers
from distangle.results.confusion import ConfusionCounts, read_confusion
from distangle.screen.screen import WELL_COLUMNS

MAX_CLASSES = 40  # classes in a readable confusion matrix
MAX_PLATES = 6  # plates to read well by well
MAX_FOLDED_WELLS = 100_000  # wells of the small plate maps: 2 MB of a page
MAX_PAIRS = 20
Write = Callable[[str, str], str]  # file name and SVG text to path inside the report


def headline(data: ReportData, table: pd.DataFrame, *, explanation: str = "") -> Content:
    """Answer what a decision needs, with the warnings and the facts of the screen.

    Args:
        data: Results of the run.
        table: Table of `perturbation_table`.
        explanation: Summary of the explanation; "" before `explain`.
    """
    scores, row = data.scores, data.main_row
    values: dict[str, Any] = {
        "name": data.name,
        "facts": _screen_facts(data),
        "sources": data.present(("screen.json",)),
    }
    if scores is None and not data.holds_nothing_out:
        sentence = "There is no score yet: no held-out well has been predicted."
        return Content(_HEADLINE, values | {"missing": missing_notice(sentence, command("predict", data))})
    if scores is not None and row is not None:
        values |= {"score": row.value, "bar": score_bar(row)}
    sentences = [] if data.cross_validation is None else [_out_of_fold(data.cross_validation)]
    decision = [
        (question, answer, PLACES.get(question, ()), data.present(SOURCES.get(question, ())))
        for question, answer in answers(data, table, explanation=explanation)
    ]
    return Content(_HEADLINE, values | {"answers": decision, "sentences": sentences, "warnings": warnings_of(data)})


_HEADLINE = "sections/headline.html.j2"


def _out_of_fold(plan: Mapping[str, Any]) -> str:
    return (
        f"Scores are out of fold: in each of {plan['n_folds']} folds a network was trained with some whole "
        f"{plan['expect']} held out, and every well is scored by the network that had not seen it. The final network, "
        "which predicts new screens, was then trained on all wells, so no well is left to score it on."
    )


def warnings_of(data: ReportData) -> list[str]:
    """Return the warnings about the scores, one sentence each."""
    scores = data.scores
    warnings: list[str] = []
    if scores is None:
        return warnings
    notes = " ".join(scores.notes)  # the notes already contain some warnings
    if scores.forced:
        reason = next((note for note in scores.notes if "split was forced" in note), "The split was forced.")
        warnings.append(
            f"{reason} The scores also reward batch effects that training and held-out wells share, so they do not "
            "estimate the accuracy on a new experiment."
        )
    rows = [row for row in scores.rows if not row.layout]
    if "transductive" not in notes and any(row.transductive for row in rows):
        rows_text = "all" if all(row.transductive for row in rows) else "some"
        warnings.append(f"In {rows_text} rows of the score table the method saw the test plates (marked transductive).")
    if scores.never_trained and "no training well" not in notes:
        names = ", ".join(map(brief, scores.never_trained[:8])) + (", …" if len(scores.never_trained) > 8 else "")
        warnings.append(
            f"{count(len(scores.never_trained), 'perturbation')} of the held-out wells had no training well and "
            f"{'is' if len(scores.never_trained) == 1 else 'are'} left out of the scores: {names}."
        )
    n_unreadable = 0 if data.wells is None else int((data.wells.table["reason"] != "").sum())
    if n_unreadable and "could not be read" not in notes:
        warnings.append(f"{count(n_unreadable, 'well')} could not be read during prediction.")
    if data.screen.metadata.refused:
        warnings.append(
            f"{count(data.screen.metadata.refused, 'entry', 'entries')} of the screen "
            f"{'was' if data.screen.metadata.refused == 1 else 'were'} refused during indexing; see the last section."
        )
    for role, check in scores.controls.items():
        if check.get("verdict") == "violated":
            warnings.append(f"The check of the {spaced(role)}s is violated: {check.get('sentence', '')}")
    return warnings + [note for note in scores.notes if not (scores.forced and "split was forced" in note)]


def curves(data: ReportData, write: Write) -> Content:
    """Draw the training curves."""
    if data.metrics is None:
        return missing_notice("No epoch has been recorded.", command("train", data))
    metrics, row = data.metrics, data.main_row
    drawings = charts.training_curves(metrics, chance=None if row is None else row.chance, stamp=data.stamp)
    duration = f" in {_format_duration(float(metrics['seconds'].sum()))}" if "seconds" in metrics.columns else ""
    sentences = [f"{count(len(metrics), 'epoch')}{duration}, measured after each epoch."]
    if data.cross_validation is not None:
        sentences.append("These are the curves of the final network, trained on all wells: it has no held-out wells.")
    elif data.holds_nothing_out:
        sentences.append("Nothing was held out, so there is no held-out curve.")
    cutmix = data.config.get("cutmix")
    if isinstance(cutmix, Mapping) and cutmix.get("probability"):
        sentences.append(
            "Training accuracy is measured on mixed images (CutMix), so it can lie below the held-out accuracy."
        )
    sources = [{"name": name, "source": write(f"{name}.svg", text)} for name, text in drawings.items()]
    return Content("sections/curves.html.j2", {"charts": sources, "sentences": sentences})


def confusion(data: ReportData, write: Write) -> Content:
    """Draw the confusion matrix of the held-out sites, or list its largest errors."""
    if data.scores is None:
        return missing_notice("No predictions have been scored.", command("predict", data))
    counts = read_confusion(data.scores.confusion)
    names = counts.perturbations
    if not len(names):
        if data.holds_nothing_out:
            return paragraph("Nothing was held out, so no error can be counted: the training wells are no test.")
        return paragraph("No held-out site of a known perturbation was predicted.")
    values: dict[str, Any] = {}
    if counts.matrix is not None and len(names) <= MAX_CLASSES:
        totals = counts.matrix.sum(axis=1, keepdims=True)
        shares = np.where(totals > 0, counts.matrix / np.maximum(totals, 1), np.nan)
        values["matrix"] = write("confusion.svg", charts.confusion_matrix(names, shares, stamp=data.stamp))
        values["caption"] = (
            f"Share of the {int(totals.sum()):,} held-out sites of each true perturbation (each row adds up to "
            "100\u202f%), by predicted perturbation. Grey rows have no held-out site."
        )
    else:
        values["caption"] = f"A matrix of {len(names):,} perturbations cannot be read. The table lists the main errors."
    pairs = confused_pairs(counts)[: MAX_PAIRS if len(names) > MAX_CLASSES else 6]
    if pairs:
        rows = [
            (brief(true), brief(predicted), f"{n:,}", f"{total:,}", percent(n / total, 0))
            for true, predicted, n, total in pairs
        ]
        columns = ("true", "predicted", "sites", "of", "share")
        values["pairs"] = Table(columns=columns, rows=rows, numeric=(2, 3, 4), caption="Most frequent confusions")
    return Content("sections/confusion.html.j2", values)


def confused_pairs(counts: ConfusionCounts) -> list[tuple[str, str, int, int]]:
    """Return (true, predicted, sites, true sites) of the errors, most frequent first."""
    totals = dict(zip(counts.perturbations, counts.n_sites.tolist(), strict=True))
    return [(true, predicted, n, totals[true]) for true, predicted, n in counts.largest[:MAX_PAIRS]]


def plate_maps(data: ReportData) -> Content:
    """Draw the held-out plates: a few well by well, the others small and folded."""
    if data.wells is None:
        return missing_notice("No well has been predicted.", command("predict", data))
    plates = held_out_plates(data.wells)
    if not plates:
        return paragraph("No well is held out, so there is no plate to show.")
    selection = spread_over_experiments(plates, limit=MAX_PLATES)
    others = [plate for plate in plates if plate not in set(selection)]
    metadata = data.screen.metadata
    n_folded = min(len(others), MAX_FOLDED_WELLS // (metadata.plate_rows * metadata.plate_columns))
    never_trained = () if data.scores is None else data.scores.never_trained
    grids = plate_grids(data.wells, data.screen, plates=[*selection, *others[:n_folded]], never_trained=never_trained)
    maps = [
        {
            "drawing": plate_map(grid) if number < len(selection) else compact_plate_map(grid),
            "experiment": grid.experiment,
            "plate": grid.plate,
            "score": f"{grid.n_correct} of {grid.n_scored} wells correct" if grid.n_scored else "no scored well",
        }
        for number, grid in enumerate(grids)
    ]
    plate_count = count(len(plates), "held-out plate")
    sentence = (
        f"All {plate_count}." if not others else f"{len(selection)} of {plate_count}, spread over the experiments."
    )
    if n_folded < len(others):
        sentence += f" {count(len(others) - n_folded, 'plate')} more are only in the table of wells."
    values = {"plates": maps[: len(selection)], "folded": maps[len(selection) :], "shown": sentence}
    return Content("sections/plate_maps.html.j2", values)


def control_checks(data: ReportData) -> Content:
    """Report the checks of the control wells (Sec. 2.2 of the paper)."""
    if data.scores is None:
        return missing_notice("The controls have not been checked.", command("predict", data))
    if data.holds_nothing_out:
        return paragraph("Nothing was held out, so the controls could not be checked (Sec. 2.2).")
    if not data.scores.controls:
        return paragraph("The held-out wells include no control, so the controls could not be checked (Sec. 2.2).")
    cards = [
        {
            "role": spaced(role),
            "verdict": str(check.get("verdict", "")),
            "text": str(check.get("sentence", "")),
            "numbers": [(spaced(key), format_value(value)) for key, value in check.items() if key not in _TEXT_KEYS],
        }
        for role, check in data.scores.controls.items()
    ]
    return Content("sections/controls.html.j2", {"cards": cards})


_TEXT_KEYS = ("verdict", "sentence")


def _screen_facts(data: ReportData) -> list[tuple[str, str]]:
    sites, metadata = data.screen.sites, data.screen.metadata
    wells = sites[list(WELL_COLUMNS)].drop_duplicates()
    plates = wells[["experiment", "plate"]].drop_duplicates()
    size = f"{metadata.shape[0]} × {metadata.shape[1]} px, {metadata.dtype}" if metadata.shape else "not read"
    pairs = [
        ("screen", data.screen.source.name),
        ("experiments", f"{wells['experiment'].nunique():,}"),
        ("plates", f"{len(plates):,}"),
        ("wells", f"{len(wells):,}"),
        ("sites", f"{len(sites):,}"),
        ("perturbations", f"{len(metadata.perturbations):,}"),
        ("channels", f"{len(metadata.channels)}"),
        ("images", size),
        ("cell types", ", ".join(metadata.cell_types) or "not given"),
    ]
    if data.scores is not None:
        pairs.append(("held out", data.scores.held_out))
    return pairs


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
