"""The sections that say what was learnt: headline, curves, confusion, plate maps, control checks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from distangle.errors import brief
from distangle.report import charts
from distangle.report.marks import plate_map
from distangle.report.material import Material
from distangle.report.page import (
    Markup,
    absent,
    count,
    definitions,
    element,
    figure,
    joined,
    listing,
    notice,
    paragraph,
    percent,
    table,
)
from distangle.report.plates import held_out_plates, plate_grid, spread
from distangle.report.score_table import command, not_scored, score_bar, score_sentence
from distangle.results import Scores

MOST_CELLS = 40  # classes up to which a confusion matrix can be read
MOST_PLATES = 6
MOST_PAIRS = 20
Write = Callable[[str, str], str]  # file name and SVG text to path inside the report


def headline(material: Material, *, explanation: str = "") -> Markup:
    """Say in plain words what was learnt, on which screen, how it was held out, and what to beware of.

    Args:
        material: The run.
        explanation: What the explanation says, in a sentence; "" before explaining.
    """
    title = element("header", paragraph("distangle report", class_="kicker"), element("h1", material.name))
    scores, row = material.scores, material.main_row
    if scores is None and not material.holds_nothing_out:
        what = "There is no score yet: no held-out well has been predicted."
        return joined([title, absent(what, command("predict", material)), _facts(material)])
    warned = warnings_of(material)
    if scores is None or row is None:
        parts = [title, paragraph(not_scored(material), class_="lead")]
    else:
        big = element(
            "div",
            element("span", percent(row.value), class_="big"),
            element("span", score_bar(row), class_="big-bar"),
            class_="result",
        )
        parts = [title, big, paragraph(score_sentence(scores, row), class_="lead")]
    if material.crossed is not None:
        parts.append(paragraph(_out_of_fold(material.crossed), class_="lead"))
    if explanation:
        parts.append(paragraph(explanation, class_="lead"))
    if warned:
        parts.append(notice(element("strong", "Read this first"), listing(warned)))
    return joined([*parts, _facts(material)])


def _out_of_fold(plan: Mapping[str, Any]) -> str:
    return (
        f"Scores are out of fold: in each of {plan['n_folds']} folds a network was trained without some whole "
        f"{plan['expect']}, and every well is scored by the network that had not seen it. The final network, which "
        "predicts new screens, was then trained on everything: no well is left to score it on."
    )


def warnings_of(material: Material) -> list[str]:
    """Return what a reader must know beside the numbers, one sentence each."""
    scores = material.scores
    said: list[str] = []
    if scores is None:
        return said
    told = " ".join(scores.notes)  # each is said once: the notes have the exact words
    if scores.forced:
        why = next((note for note in scores.notes if "split was forced" in note), "The split was forced.")
        said.append(f"{why} They also reward recognising what is shared, and are no estimate for a new experiment.")
    if "transductive" not in told and any(row.transductive for row in scores.rows):
        shared = "all" if all(row.transductive for row in scores.rows) else "some"
        said.append(f"In {shared} rows of the score table the method saw the test plates (marked transductive).")
    if scores.never_trained and "no training well" not in told:
        listed = ", ".join(map(brief, scores.never_trained[:8])) + (", …" if len(scores.never_trained) > 8 else "")
        said.append(
            f"{count(len(scores.never_trained), 'perturbation')} of the held-out wells had no training well and "
            f"{'is' if len(scores.never_trained) == 1 else 'are'} left out of the scores: {listed}."
        )
    unread = 0 if material.wells is None else int((material.wells.table["reason"] != "").sum())
    if unread and "could not be read" not in told:
        said.append(f"{count(unread, 'well')} could not be read when predicting.")
    if material.screen.card.refused:
        said.append(
            f"{count(material.screen.card.refused, 'entry', 'entries')} of the screen "
            f"{'was' if material.screen.card.refused == 1 else 'were'} refused when indexing; see the last section."
        )
    for role, found in scores.controls.items():
        if found.get("verdict") == "violated":
            said.append(f"The check of the {_words(role)}s is violated: {found.get('words', '')}")
    return said + [note for note in scores.notes if not (scores.forced and "split was forced" in note)]


def curves(material: Material, write: Write) -> Markup:
    """Draw the training curves."""
    if material.metrics is None:
        return absent("No epoch has been recorded.", command("train", material))
    metrics, row = material.metrics, material.main_row
    drawn = charts.training_curves(metrics, chance=None if row is None else row.chance, stamp=material.stamp)
    said = f"{count(len(metrics), 'epoch')}"
    if "seconds" in metrics.columns:
        said += f" in {_duration(float(metrics['seconds'].sum()))}"
    said += ", measured after each epoch."
    if material.crossed is not None:
        said += " Of the final network, trained on everything: nothing is held out of it."
    elif material.holds_nothing_out:
        said += " Nothing was held out, so there is no held-out curve."
    cutmix = material.config.get("cutmix")
    if isinstance(cutmix, Mapping) and cutmix.get("probability"):
        said += " Training accuracy is measured on mixed images (CutMix), so it can lie below the held-out one."
    pictures = [
        element("img", src=write(f"{name}.svg", text), alt=f"{name} by epoch", width=336, loading="lazy")
        for name, text in drawn.items()
    ]
    return element("figure", element("div", *pictures, class_="trio"), element("figcaption", said))


def confusion(material: Material, write: Write) -> Markup:
    """Draw the confusion matrix of the held-out sites, or name the most confused pairs where it is too large."""
    if material.scores is None:
        return absent("No predictions have been scored.", command("predict", material))
    names, counts = _confusion(material.scores)
    if not len(names):
        if material.holds_nothing_out:
            return paragraph("Nothing was held out, so no mistake can be counted: the training wells are no test.")
        return paragraph("No held-out site of a known perturbation was predicted.")
    parts = []
    if len(names) <= MOST_CELLS:
        totals = counts.sum(axis=1, keepdims=True)
        shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
        source = write("confusion.svg", charts.confusion_matrix(names, shares, stamp=material.stamp))
        said = (
            f"Share of the {int(counts.sum()):,} held-out sites of each true perturbation (rows add to 100\u202f%) "
            "by what was predicted. Grey rows have no held-out site."
        )
        parts.append(figure(source, alternative="Confusion matrix of the held-out sites", caption=said))
    else:
        parts.append(
            paragraph(f"With {len(names):,} perturbations a matrix cannot be read; these pairs were confused most.")
        )
    pairs = confused_pairs(names, counts)
    if pairs:
        lines = [
            (brief(true), brief(predicted), f"{times:,}", f"{of:,}", percent(times / of, 0))
            for true, predicted, times, of in pairs
        ]
        most = MOST_PAIRS if len(names) > MOST_CELLS else 6
        parts.append(
            table(
                ("true", "predicted", "sites", "of", "share"), lines[:most], numeric=(2, 3, 4), caption="Most confused"
            )
        )
    return element("div", *parts, class_="pair")


def confused_pairs(names: Sequence[str], counts: np.ndarray) -> list[tuple[str, str, int, int]]:
    """Return (true, predicted, sites, sites of the true one) of the wrong answers, the most frequent first."""
    wrong = counts.astype(np.int64)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    places = [divmod(int(place), wrong.shape[1]) for place in order]
    totals = counts.sum(axis=1)
    return [(names[t], names[p], int(wrong[t, p]), int(totals[t])) for t, p in places if wrong[t, p] > 0]


def plate_maps(material: Material) -> Markup:
    """Draw the held-out plates as they lie."""
    if material.wells is None:
        return absent("No well has been predicted.", command("predict", material))
    plates = held_out_plates(material.wells)
    if not plates:
        return paragraph("No well is held out, so no plate can be tested.")
    shown = spread(plates, most=MOST_PLATES)
    never = () if material.scores is None else material.scores.never_trained
    maps = []
    for experiment, plate in shown:
        grid = plate_grid(material.wells, material.screen, experiment=experiment, plate=plate, never_trained=never)
        told = f"{grid.n_correct} of {grid.n_scored} wells right" if grid.n_scored else "no scored well"
        caption = element("figcaption", element("strong", f"{experiment} · plate {plate}"), " ", told)
        maps.append(element("figure", plate_map(grid), caption, class_="plate-figure"))
    left_out = len(plates) - len(shown)
    said = (
        f"All {count(len(plates), 'held-out plate')}."
        if not left_out
        else f"{len(shown)} of {count(len(plates), 'held-out plate')}, taken in turn from the experiments."
    )
    return joined(
        [
            _legend(),
            element("div", *maps, class_="plates"),
            paragraph(said, " Point at a well to read it.", class_="small"),
        ]
    )


def control_checks(material: Material) -> Markup:
    """Say what the controls say: the checks of Sec. 2.2."""
    if material.scores is None:
        return absent("The controls have not been checked.", command("predict", material))
    if material.holds_nothing_out:
        return paragraph("Nothing was held out, so these checks of Sec. 2.2 could not be made.")
    if not material.scores.controls:
        return paragraph("The held-out wells include no control: these checks of Sec. 2.2 could not be made.")
    cards = []
    for role, found in material.scores.controls.items():
        verdict, words = str(found.get("verdict", "")), str(found.get("words", ""))
        numbers = [(_words(key), printed(value)) for key, value in found.items() if key not in ("verdict", "words")]
        kind = "tag wrong" if verdict == "violated" else "tag"
        title = element("h3", _words(role), *([" ", element("span", verdict, class_=kind)] if verdict else []))
        said = [paragraph(words, class_="card-words")] if words else []
        cards.append(element("div", title, *said, definitions(numbers), class_="card"))
    return element("div", *cards, class_="cards")


def printed(value: object) -> str:
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
        return ", ".join(f"{_words(str(key))} {printed(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        short = [printed(item) for item in value[:24]]
        return ", ".join(short) + (f", … ({len(value)} in all)" if len(value) > 24 else "")
    return str(value)


def _facts(material: Material) -> Markup:
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
        ("cell types", ", ".join(card.cell_types) or "not told"),
    ]
    if material.scores is not None:
        pairs.append(("held out", material.scores.held_out))
    return definitions(pairs)


def _confusion(scores: Scores) -> tuple[list[str], np.ndarray]:
    found = scores.confusion.get("perturbations", [])
    names = [str(name) for name in found] if isinstance(found, Sequence) else []
    counts = np.array(scores.confusion.get("counts", []), dtype=np.int64)
    return names, counts.reshape(len(names), len(names))


def _legend() -> Markup:
    def key(class_: str, words: str) -> Markup:
        box = element("rect", x=1, y=1, width=12, height=12, rx=2, class_=class_)
        shapes = [box] if class_ in ("correct", "wrong", "training", "unscored", "empty") else []
        if class_ == "unreadable":
            shapes = [element("rect", x=1, y=1, width=12, height=12, rx=2, class_=class_),
                      element("path", d="M4 4l6 6m0 -6l-6 6", class_="cross")]  # fmt: skip
        if class_ == "negative":
            shapes = [element("circle", cx=7, cy=7, r=3, class_=class_)]
        if class_ == "positive":
            shapes = [element("path", d="M7 3.5l3.5 3.5l-3.5 3.5l-3.5 -3.5z", class_=class_)]
        return element(
            "li", element("svg", *shapes, viewBox="0 0 14 14", width=14, height=14, class_="plate"), " ", words
        )

    return element(
        "ul",
        key("correct", "right"),
        key("wrong", "wrong (fuller = more confident)"),
        key("unscored", "held out, not scored"),
        key("training", "training well"),
        key("unreadable", "not read"),
        key("negative", "negative control"),
        key("positive", "positive control"),
        class_="legend",
    )


def _words(key: str) -> str:
    return key.replace("_", " ")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
