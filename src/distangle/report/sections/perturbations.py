"""Compute the table of perturbations: what acts, how sure, and in which channel."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distangle.errors import brief
from distangle.report.data import ReportData
from distangle.report.html import Content, Table, count, link, missing_notice, percent, spaced
from distangle.report.profile_charts import numbers, texts
from distangle.report.sections.profiles import format_number, hit_level, lead
from distangle.results import STANDS_OUT
from distangle.screen import NEGATIVE, Role, channel_labels, natural_sort_key

MAX_ROWS = 40  # rows that are open
MAX_FOLDED = 2000  # rows that a click opens; the CSV file has all
MAX_ANNOTATIONS = 2  # columns such as gene and dose
FILE = "perturbations"
_NO_VALUE = "–"
_PROFILE_COLUMNS = (
    *("p", "q", "mean_average_precision", "effect_size", "replicate_agreement"),
    *("nearest", "nearest_cosine", "opposite", "opposite_cosine", "reason"),
)


def perturbation_table(data: ReportData) -> pd.DataFrame:
    """Return one row per perturbation with all that the run knows of it.

    Args:
        data: Results of the run.

    Returns:
        Columns `perturbation`, `role`, `acts` (`yes`, `not shown`, `not tested` or `control`), the columns of the hit
        list, `wells_correct`, `wells_scored` and `mean_confidence` of the held-out wells, then `top_channel`,
        `top_channel_shapley` and `top_channel_p`. The strongest come first, negative controls last.
    """
    scored = _scored_wells(data)
    roles = _roles(data)
    hits = pd.DataFrame({"perturbation": []}) if data.profiles is None else data.profiles.hits
    names = texts(hits, "perturbation")
    known = set(names)
    shares = _shares(scored)
    others = [name for name in shares if name not in known]
    others.sort(key=lambda name: (roles.get(name) in NEGATIVE, -shares[name], natural_sort_key(name)))
    table = hits.reindex(columns=["perturbation", *(name for name in _PROFILE_COLUMNS if name in hits)])
    annotations = [name for name in hits.columns if str(name).startswith("Metadata_") and hits[name].notna().any()]
    for name in annotations:
        if name != "Metadata_Role":
            table[str(name).removeprefix("Metadata_")] = texts(hits, str(name))
    table = pd.concat([table, pd.DataFrame({"perturbation": others})], ignore_index=True)
    all_names = texts(table, "perturbation")
    table.insert(1, "role", [roles.get(name, "") for name in all_names])
    table.insert(2, "acts", _verdicts(table, level=None if data.profiles is None else hit_level(data.profiles)))
    own = scored.reindex(all_names)
    table["wells_correct"] = own["correct"].to_numpy()
    table["wells_scored"] = own["scored"].to_numpy()
    table["mean_confidence"] = own["confidence"].to_numpy()
    channels = _top_channels(data)
    empty = ("", np.nan, np.nan)
    for position, name in enumerate(("top_channel", "top_channel_shapley", "top_channel_p")):
        table[name] = [channels.get(perturbation, empty)[position] for perturbation in all_names]
    return table


def perturbations(data: ReportData, table: pd.DataFrame, *, pictures: Mapping[str, str]) -> Content:
    """Show the table of perturbations, the strongest first.

    Args:
        data: Results of the run.
        table: The table of `perturbation_table`.
        pictures: Anchor of the example cells of a perturbation, by name.
    """
    if not len(table):
        return missing_notice("No perturbation has been scored or tested.", f"distangle predict {data.command_path}")
    values: dict[str, Any] = {
        "missing": "",
        "table": _displayed(data, table.head(MAX_ROWS), pictures=pictures),
        "folded": [],
        "n_rest": max(0, min(len(table), MAX_FOLDED) - MAX_ROWS),
        "legend": _legend(data, table),
        "file": f"tables/{FILE}.csv",
        "n": len(table),
    }
    if values["n_rest"]:
        values["folded"] = [_displayed(data, table.iloc[MAX_ROWS:MAX_FOLDED], pictures=pictures)]
    if data.profiles is None:
        sentence = "Which perturbations act has not been tested."
        values["missing"] = missing_notice(sentence, f"distangle profile {data.command_path}")
    return Content("sections/perturbations.html.j2", values)


def _displayed(data: ReportData, table: pd.DataFrame, *, pictures: Mapping[str, str]) -> Table:
    names, roles = texts(table, "perturbation"), texts(table, "role")
    scored, correct = numbers(table, "wells_scored"), numbers(table, "wells_correct")
    annotations = annotation_columns(table)
    columns: dict[str, Sequence[str]] = {
        "perturbation": [_name(name, role) for name, role in zip(names, roles, strict=True)],
        **{spaced(name): [brief(text, max_length=24) for text in texts(table, name)] for name in annotations},
        "acts?": texts(table, "acts"),
        "q": _formatted(table, "q", "{:.2g}"),
        "effect size": _formatted(table, "effect_size", "{:.1f}"),
        "wells right": [
            f"{n:.0f} of {total:.0f}" if total > 0 else "" for n, total in zip(correct, scored, strict=True)
        ],
        "confidence": [percent(value, 0) if np.isfinite(value) else "" for value in numbers(table, "mean_confidence")],
        "channel that carries the answer": _channel_cells(table),
        "most similar (cosine)": _nearest(table),
        "no test because": texts(table, "reason"),
        "cells": [link("pictures", f"#{pictures[name]}") if name in pictures else "" for name in names],
    }
    columns = {title: cells for title, cells in columns.items() if title == "perturbation" or any(cells)}
    rows = list(zip(*([cell or _NO_VALUE for cell in cells] for cells in columns.values()), strict=True))
    numeric = [k for k, title in enumerate(columns) if title in ("q", "effect size", "wells right", "confidence")]
    bold = {(row, 0) for row, acts in enumerate(texts(table, "acts")) if acts == "yes"}
    return Table(columns=list(columns), rows=rows, numeric=numeric, bold=bold)


def annotation_columns(table: pd.DataFrame) -> list[str]:
    """Return the laboratory's columns that the page shows, such as gene and dose."""
    start, end = list(table.columns).index("acts") + 1, list(table.columns).index("wells_correct")
    own = [str(name) for name in table.columns[start:end] if name not in _PROFILE_COLUMNS]
    return [name for name in own if any(texts(table, name))][:MAX_ANNOTATIONS]


def _legend(data: ReportData, table: pd.DataFrame) -> list[str]:
    sentences = []
    if data.profiles is not None:
        sentences += [
            f"Acts: the wells of the perturbation find each other among the control wells of their plates, with "
            f"q ≤ {hit_level(data.profiles):g}. Not shown is not the same as no effect.",
            "Effect size: distance from the control wells, in their standard deviations. These columns and the most "
            "similar perturbation: profiles/hits.parquet.",
        ]
    if np.isfinite(numbers(table, "wells_scored")).any():
        sentences.append(
            "Wells right and confidence: held-out wells only; confidence is the mean over them "
            "(predictions/wells.parquet)."
        )
    if any(texts(table, "top_channel")):
        sentences.append(
            f"Channel: the one with the largest Shapley value, if its p is at most {STANDS_OUT:g} among shuffled "
            "channels (explanations/explanation.json)."
        )
    return sentences


def _name(name: str, role: str) -> str:
    if role in ("", Role.TREATMENT, Role.UNKNOWN):
        return brief(name, max_length=40)
    return f"{brief(name, max_length=40)} ({spaced(role)})"


def _channel_cells(table: pd.DataFrame) -> list[str]:
    cells = []
    for label, p in zip(texts(table, "top_channel"), numbers(table, "top_channel_p"), strict=True):
        if not label:
            cells.append("")
        elif p <= STANDS_OUT:
            cells.append(f"{label}, p = {p:.2g}")
        else:
            cells.append(f"none stands out (p = {p:.2g})" if np.isfinite(p) else "not tested")
    return cells


def _nearest(table: pd.DataFrame) -> list[str]:
    pairs = zip(texts(table, "nearest"), numbers(table, "nearest_cosine"), strict=True)
    return [
        f"{brief(other, max_length=40)} ({format_number(value, '{:+.2f}')})" if other else "" for other, value in pairs
    ]


def _formatted(table: pd.DataFrame, name: str, pattern: str) -> list[str]:
    return [format_number(value, pattern) if np.isfinite(value) else "" for value in numbers(table, name)]


def _verdicts(table: pd.DataFrame, *, level: float | None) -> list[str]:
    if level is None:
        return ["control" if role in NEGATIVE else "" for role in texts(table, "role")]
    verdicts = []
    for role, q in zip(texts(table, "role"), numbers(table, "q"), strict=True):
        if role in NEGATIVE and not np.isfinite(q):
            verdicts.append("control")
        else:
            verdicts.append("yes" if q <= level else "not shown" if np.isfinite(q) else "not tested")
    return verdicts


def _scored_wells(data: ReportData) -> pd.DataFrame:
    """Return counts and confidence of the held-out wells by perturbation."""
    if data.wells is None:
        return pd.DataFrame({"correct": [], "scored": [], "confidence": []}, dtype=np.float64)
    table = data.wells.table
    never_trained = set(() if data.scores is None else data.scores.never_trained)
    trained = [name for name in data.wells.perturbations if name not in never_trained]
    is_scored = (table["Metadata_Fold"] == "held_out") & (table["reason"] == "") & table["perturbation"].isin(trained)
    wells = table[is_scored]
    wells = wells.assign(correct=wells["predicted"] == wells["perturbation"])
    groups = wells.groupby(wells["perturbation"].astype(str), sort=True)
    return pd.DataFrame({
        "correct": groups["correct"].sum().astype(np.float64),
        "scored": groups.size().astype(np.float64),
        "confidence": groups["confidence"].mean(),
    })  # fmt: skip


def _shares(scored: pd.DataFrame) -> dict[str, float]:
    shares = (scored["correct"] / scored["scored"]).to_numpy(dtype=np.float64)
    return dict(zip(map(str, scored.index), map(float, shares), strict=True))


def _roles(data: ReportData) -> dict[str, str]:
    sites = data.screen.sites[["perturbation", "role"]].astype(str)
    return dict(sites.drop_duplicates("perturbation").itertuples(index=False, name=None))


def _top_channels(data: ReportData) -> dict[str, tuple[str, float, float]]:
    """Return label, mean Shapley value and p of the top channel by perturbation."""
    if data.explanation is None:
        return {}
    labels = channel_labels(data.screen.metadata.channels)
    tops = {}
    for name, entry in data.explanation.summary.get("perturbations", {}).items():
        means = np.array([np.nan if value is None else value for value in entry["shapley"]["mean"]], dtype=np.float64)
        if len(means) != len(labels) or not np.isfinite(means).any():
            continue
        top = int(np.nanargmax(means))
        p = entry["shapley"].get("p_family")
        tops[str(name)] = labels[top], float(means[top]), float(p[top]) if p else float("nan")
    return tops


def acting_sentence(data: ReportData, table: pd.DataFrame) -> str:
    """Return which perturbations act, for the top of the page."""
    if data.profiles is None:
        return f"Not tested yet. `distangle profile {data.command_path}` tests it."
    names = [
        name for name, acts in zip(texts(table, "perturbation"), texts(table, "acts"), strict=True) if acts == "yes"
    ]
    first = ", ".join(brief(name, max_length=40) for name in names[:8])
    more = f" and {count(len(names) - 8, 'more', 'more')}" if len(names) > 8 else ""
    return lead(data.profiles) + (f" The strongest first: {first}{more}." if names else "")
