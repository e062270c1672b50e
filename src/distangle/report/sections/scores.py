"""Compute the sections on scores, training curves, plate maps and controls."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from distangle.errors import brief
from distangle.report import charts
from distangle.report.data import ReportData
from distangle.report.html import Content, Table, count, missing_notice, paragraph, percent, spaced
from distangle.report.inline_svg import plate_map
from distangle.report.plates import held_out_plates, plate_grid, spread
from distangle.report.score_table import command, not_scored, score_bar, score_sentence
from distangle.results import Scores

MOST_CELLS = 40  # classes up to which a confusion matrix can be read
MOST_PLATES = 6
MOST_PAIRS = 20
Write = Callable[[str, str], str]  # file name and SVG text to path inside the report


def headline(material: ReportData, *, explanation: str = "") -> Content:
    """Summarise the score, the screen, what was held out, and what to beware of.

    Args:
        material: The run.
        explanation: What the explanation says, in a sentence; "" before explaining.
    """
    scores, row = material.scores, material.main_row
    values: dict[str, Any] = {"name": material.name, "facts": _facts(material)}
    if scores is None and not material.holds_nothing_out:
        what = "There is no score yet: no held-out well has been predicted."
        return Content(_HEADLINE, values | {"missing": missing_notice(what, command("predict", material))})
    if scores is None or row is None:
        sentences = [not_scored(material)]
    else:
        sentences = [score_sentence(scores, row)]
        values |= {"score": row.value, "bar": score_bar(row)}
    if material.crossed is not None:
        sentences.append(_out_of_fold(material.crossed))
    if explanation:
        sentences.append(explanation)
    return Content(_HEADLINE, values | {"sentences": sentences, "warnings": warnings_of(material)})


_HEADLINE = "sections/headline.html.j2"


def _out_of_fold(plan: Mapping[str, Any]) -> str:
    return (
        f"Scores are out of fold: in each of {plan['n_folds']} folds a network was trained with some whole "
        f"{plan['expect']} held out, and every well is scored by the network that had not seen it. The final network, "
        "which predicts new screens, was then trained on everything, so no well is left to score it on."
    )


def warnings_of(material: ReportData) -> list[str]:
    """Return what a reader must know before trusting the scores, one sentence each."""
    scores = material.scores
    warnings: list[str] = []
    if scores is None:
        return warnings
    notes = " ".join(scores.notes)  # a warning that the notes have in exact words is not repeated
    if scores.forced:
        why = next((note for note in scores.notes if "split was forced" in note), "The split was forced.")
        warnings.append(
            f"{why} The scores also reward recognising what training and held-out wells share, and are no estimate for "
            "a new experiment."
        )
    if "transductive" not in notes and any(row.transductive for row in scores.rows):
        which = "all" if all(row.transductive for row in scores.rows) else "some"
        warnings.append(f"In {which} rows of the score table the method saw the test plates (marked transductive).")
    if scores.never_trained and "no training well" not in notes:
        listed = ", ".join(map(brief, scores.never_trained[:8])) + (", …" if len(scores.never_trained) > 8 else "")
        warnings.append(
            f"{count(len(scores.never_trained), 'perturbation')} of the held-out wells had no training well and "
            f"{'is' if len(scores.never_trained) == 1 else 'are'} left out of the scores: {listed}."
        )
    unread = 0 if material.wells is None else int((material.wells.table["reason"] != "").sum())
    if unread and "could not be read" not in notes:
        warnings.append(f"{count(unread, 'well')} could not be read during prediction.")
    if material.screen.card.refused:
        warnings.append(
            f"{count(material.screen.card.refused, 'entry', 'entries')} of the screen "
            f"{'was' if material.screen.card.refused == 1 else 'were'} refused during indexing; see the last section."
        )
    for role, check in scores.controls.items():
        if check.get("verdict") == "violated":
            warnings.append(f"The check of the {spaced(role)}s is violated: {check.get('sentence', '')}")
    return warnings + [note for note in scores.notes if not (scores.forced and "split was forced" in note)]


def curves(material: ReportData, write: Write) -> Content:
    """Draw the training curves."""
    if material.metrics is None:
        return missing_notice("No epoch has been recorded.", command("train", material))
    metrics, row = material.metrics, material.main_row
    drawings = charts.training_curves(metrics, chance=None if row is None else row.chance, stamp=material.stamp)
    duration = f" in {_duration(float(metrics['seconds'].sum()))}" if "seconds" in metrics.columns else ""
    sentences = [f"{count(len(metrics), 'epoch')}{duration}, measured after each epoch."]
    if material.crossed is not None:
        sentences.append("These are the curves of the final network, trained on everything: it has no held-out wells.")
    elif material.holds_nothing_out:
        sentences.append("Nothing was held out, so there is no held-out curve.")
    cutmix = material.config.get("cutmix")
    if isinstance(cutmix, Mapping) and cutmix.get("probability"):
        sentences.append(
            "Training accuracy is measured on mixed images (CutMix), so it can lie below the held-out accuracy."
        )
    sources = [{"name": name, "source": write(f"{name}.svg", text)} for name, text in drawings.items()]
    return Content("sections/curves.html.j2", {"charts": sources, "sentences": sentences})


def confusion(material: ReportData, write: Write) -> Content:
    """Draw the confusion matrix of the held-out sites, or list its largest errors."""
    if material.scores is None:
        return missing_notice("No predictions have been scored.", command("predict", material))
    names, counts = _confusion(material.scores)
    if not len(names):
        if material.holds_nothing_out:
            return paragraph("Nothing was held out, so no error can be counted: the training wells are no test.")
        return paragraph("No held-out site of a known perturbation was predicted.")
    values: dict[str, Any] = {}
    if len(names) <= MOST_CELLS:
        totals = counts.sum(axis=1, keepdims=True)
        shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
        values["matrix"] = write("confusion.svg", charts.confusion_matrix(names, shares, stamp=material.stamp))
        values["caption"] = (
            f"Share of the {int(counts.sum()):,} held-out sites of each true perturbation (each row adds up to "
            "100\u202f%), by predicted perturbation. Grey rows have no held-out site."
        )
    else:
        values["caption"] = f"A matrix of {len(names):,} perturbations cannot be read. The table lists the main errors."
    pairs = confused_pairs(names, counts)[: MOST_PAIRS if len(names) > MOST_CELLS else 6]
    if pairs:
        rows = [
            (brief(true), brief(predicted), f"{times:,}", f"{of:,}", percent(times / of, 0))
            for true, predicted, times, of in pairs
        ]
        columns = ("true", "predicted", "sites", "of", "share")
        values["pairs"] = Table(columns=columns, rows=rows, numeric=(2, 3, 4), caption="Most frequent confusions")
    return Content("sections/confusion.html.j2", values)


def confused_pairs(names: Sequence[str], counts: np.ndarray) -> list[tuple[str, str, int, int]]:
    """Return (true, predicted, sites, true sites) of the errors, most frequent first."""
    wrong = counts.astype(np.int64)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    places = [divmod(int(place), wrong.shape[1]) for place in order]
    totals = counts.sum(axis=1)
    return [(names[t], names[p], int(wrong[t, p]), int(totals[t])) for t, p in places if wrong[t, p] > 0]


def plate_maps(material: ReportData) -> Content:
    """Draw the held-out plates, well by well."""
    if material.wells is None:
        return missing_notice("No well has been predicted.", command("predict", material))
    plates = held_out_plates(material.wells)
    if not plates:
        return paragraph("No well is held out, so there is no plate to show.")
    shown = spread(plates, most=MOST_PLATES)
    never = () if material.scores is None else material.scores.never_trained
    maps = []
    for experiment, plate in shown:
        grid = plate_grid(material.wells, material.screen, experiment=experiment, plate=plate, never_trained=never)
        score = f"{grid.n_correct} of {grid.n_scored} wells correct" if grid.n_scored else "no scored well"
        maps.append({"drawing": plate_map(grid), "experiment": experiment, "plate": plate, "score": score})
    number = count(len(plates), "held-out plate")
    which = f"All {number}." if len(plates) == len(shown) else f"{len(shown)} of {number}, spread over the experiments."
    return Content("sections/plate_maps.html.j2", {"plates": maps, "shown": which})


def control_checks(material: ReportData) -> Content:
    """Report the checks of the controls: those of Sec. 2.2 of the paper."""
    if material.scores is None:
        return missing_notice("The controls have not been checked.", command("predict", material))
    if material.holds_nothing_out:
        return paragraph("Nothing was held out, so the controls could not be checked (Sec. 2.2).")
    if not material.scores.controls:
        return paragraph("The held-out wells include no control, so the controls could not be checked (Sec. 2.2).")
    cards = [
        {
            "role": spaced(role),
            "verdict": str(check.get("verdict", "")),
            "text": str(check.get("sentence", "")),
            "numbers": [(spaced(key), printed_scores(value)) for key, value in check.items() if key not in _NO_NUMBERS],
        }
        for role, check in material.scores.controls.items()
    ]
    return Content("sections/controls.html.j2", {"cards": cards})


_NO_NUMBERS = ("verdict", "sentence")


def printed_scores(value: object) -> str:
    """Return a number, list or text of a results file as a reader expects it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{spaced(str(key))} {printed_scores(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        short = [printed_scores(item) for item in value[:24]]
        return ", ".join(short) + (f", … ({len(value)} in all)" if len(value) > 24 else "")
    return str(value)


def _facts(material: ReportData) -> list[tuple[str, str]]:
    sites, card = material.screen.sites, material.screen.card
    wells = sites[["experiment", "plate", "well"]].drop_duplicates()
    plates = wells[["experiment", "plate"]].drop_duplicates()
    size = f"{card.shape[0]} × {card.shape[1]} px, {card.dtype}" if card.shape else "not read"
    pairs = [
        ("screen", material.screen.source.name),
        ("experiments", f"{wells['experiment'].nunique():,}"),
        ("plates", f"{len(plates):,}"),
        ("wells", f"{len(wells):,}"),
        ("sites", f"{len(sites):,}"),
        ("perturbations", f"{len(card.perturbations):,}"),
        ("channels", f"{len(card.channels)}"),
        ("images", size),
        ("cell types", ", ".join(card.cell_types) or "not given"),
    ]
    if material.scores is not None:
        pairs.append(("held out", material.scores.held_out))
    return pairs


def _confusion(scores: Scores) -> tuple[list[str], np.ndarray]:
    listed = scores.confusion.get("perturbations", [])
    names = [str(name) for name in listed] if isinstance(listed, Sequence) else []
    counts = np.array(scores.confusion.get("counts", []), dtype=np.int64)
    return names, counts.reshape(len(names), len(names))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
