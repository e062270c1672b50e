"""Answer what a decision needs: what acts, how sure, what is batch."""

import numpy as np
import pandas as pd

from distangle.errors import brief
from distangle.report.data import ReportData
from distangle.report.html import count, percent
from distangle.report.profile_charts import numbers, texts
from distangle.report.score_table import baseline_row, not_scored, score_sentence
from distangle.report.sections.perturbations import acting_sentence
from distangle.screen import Screen

_RULES = {"intensity": "the brightness of the images", "position": "the position of the well", "plate": "the plate"}
# Title and anchor of the sections with more on each answer.
PLACES = {
    "How sure is that?": (("Accuracy", "scores"),),
    "In which channel?": (("Channels", "channels"), ("Example cells", "sites")),
    "What is batch, not biology?": (("Profiles and batch", "profiles"),),
    "What is missing?": (("Refused entries", "refused"),),
}
# Files of the run with the numbers of each answer.
SOURCES = {
    "Which perturbations act?": ("profiles/hits.parquet",),
    "How sure is that?": ("predictions/scores.json", "profiles/profile.json"),
    "In which channel?": ("explanations/explanation.json",),
    "What is batch, not biology?": ("predictions/scores.json", "profiles/batch_effects.parquet"),
    "What is missing?": ("screen.json", "predictions/wells.parquet", "profiles/hits.parquet"),
}
_GROUPS = ("experiment", "plate")


def answers(data: ReportData, table: pd.DataFrame, *, explanation: str) -> list[tuple[str, str]]:
    """Return question and answer, the most important first.

    Args:
        data: Results of the run.
        table: Table of `perturbation_table`.
        explanation: Summary of the explanation; "" before `explain`.
    """
    pairs = [("Which perturbations act?", acting_sentence(data, table)), ("How sure is that?", _certainty(data))]
    if explanation:
        pairs.append(("In which channel?", explanation))
    if batch := batch_sentences(data):
        pairs.append(("What is batch, not biology?", " ".join(batch)))
    pairs.append(("What is missing?", " ".join(missing_sentences(data))))
    return pairs


def _certainty(data: ReportData) -> str:
    scores, row = data.scores, data.main_row
    sentence = not_scored(data) if scores is None or row is None else score_sentence(scores, row)
    if data.profiles is not None:
        q = data.profiles.settings.get("q")
        if isinstance(q, float) and (numbers(data.profiles.hits, "q") <= q).any():
            sentence += f" Of the perturbations that act, up to {100 * q:g}\u202f% are expected to be false."
    return sentence


def batch_sentences(data: ReportData) -> list[str]:
    """Return what scores without cells, and how well profiles tell plates apart."""
    sentences = []
    row = baseline_row(data)
    if row is not None:
        best = sorted(row.baselines.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{percent(value)} from {_RULES.get(rule, rule)}" for rule, value in best)
        sentences.append(
            f"Without cells, {row.metric} is {listed}, each alone; the network reaches {percent(row.value)}, chance is "
            f"{percent(row.chance)}."
        )
        if best[0][1] >= row.value:
            sentences.append("So the network shows nothing that this does not.")
    if data.profiles is not None:
        sentences += _probe_sentences(data.profiles.batch_effects)
    return sentences


def _probe_sentences(batch_effects: pd.DataFrame) -> list[str]:
    """Say how often a linear classifier names plate and experiment of a profile."""
    stages = list(dict.fromkeys(texts(batch_effects, "alignment")))
    if not stages:
        return []
    columns = zip(
        texts(batch_effects, "alignment"), texts(batch_effects, "name"), texts(batch_effects, "of"),
        numbers(batch_effects, "value"), numbers(batch_effects, "chance"), strict=True,
    )  # fmt: skip
    values = {(stage, of): (value, chance) for stage, name, of, value, chance in columns if name == "probe accuracy"}
    sentences = []
    for of in _GROUPS:
        value, chance = values.get((stages[-1], of), (np.nan, np.nan))
        before, _ = values.get((stages[0], of), (np.nan, np.nan))
        if not np.isfinite([value, chance]).all():
            continue
        start = f" ({percent(before)} before the alignment)" if len(stages) > 1 and np.isfinite(before) else ""
        sentences.append(
            f"A linear classifier names the {of} of a profile in {percent(value)} of the cases{start}; chance is "
            f"{percent(chance)}."
        )
    return sentences


def missing_sentences(data: ReportData) -> list[str]:
    """Return what was refused, not read, not trained or not tested."""
    screen: Screen = data.screen
    metadata = screen.metadata
    sentences = [
        f"{metadata.found:,} entries found, {metadata.indexed:,} indexed, "
        f"{f'{metadata.refused:,} refused' if metadata.refused else 'none refused'}."
    ]
    n_unreadable = 0 if data.wells is None else int((data.wells.table["reason"] != "").sum())
    if n_unreadable:
        sentences.append(f"The images of {count(n_unreadable, 'well')} could not be read.")
    if data.scores is not None and data.scores.never_trained:
        names = data.scores.never_trained
        listed = ", ".join(map(brief, names[:4])) + (", …" if len(names) > 4 else "")
        sentences.append(f"Without a training well, and so not scored: {listed}.")
    if data.profiles is not None:
        n_untested = int((~np.isfinite(numbers(data.profiles.hits, "q"))).sum())
        if n_untested:
            sentences.append(f"{count(n_untested, 'perturbation')} could not be tested.")
        if n_refused := len(data.profiles.refused):
            sentences.append(
                f"{count(n_refused, 'row')} of the profiles {'was' if n_refused == 1 else 'were'} refused."
            )
    return sentences
