"""Compute the section on profiles: hits, map of the wells, batch effects."""

from collections import Counter
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from distangle.errors import brief
from distangle.report.html import Content, Table, count, format_value, missing_notice, spaced
from distangle.report.profile_charts import (
    activity_chart,
    front,
    map_charts,
    numbers,
    similarity_chart,
    texts,
    trade_off,
    trade_off_chart,
)
from distangle.results.profile_result import ProfileResult

MAX_ROWS = 30
MAX_REASONS = 8
LEVEL = 0.05  # q of a hit, if the settings name none
_NO_VALUE = "–"
_LESS_IS_BETTER = {"PCR", "probe accuracy"}
_MEASURES = {
    "BRAS": "batch removal silhouette",
    "PCR": "share of variance",
    "iLISI": "mixing among neighbors",
    "probe accuracy": "accuracy of a linear classifier",
    "cLISI": "purity among neighbors",
    "graph connectivity": "share of a perturbation in its largest group of neighbors",
    "mAP": "mean average precision of the search for replicates",
}


def profiles(
    result: ProfileResult | None, *, command: str, file: str, linked: bool = False, with_hits: bool = True
) -> Content:
    """Show hits, the map of the wells, batch effects and groups of perturbations.

    Args:
        result: The profiles; None before they were made.
        command: Command that makes them.
        file: Name of the CSV file with all hits, as the reader finds it.
        linked: Whether the page lies next to the file and can link to it.
        with_hits: Whether the hits are listed; False if the page has them elsewhere.
    """
    if result is None:
        return missing_notice("No profiles have been made.", command)
    level, folder = hit_level(result), file.removesuffix(PurePosixPath(file).name)
    hits = result.hits
    values: dict[str, Any] = {
        "lead": lead(result),
        "sentences": _alignment_sentences(result),
        "reasons": _reasons(hits),
        "notes": [str(note) for note in _list(result.settings.get("notes"))],
        "hits": hit_table(hits, level),
        "n_hits": len(hits) if with_hits else 0,
        "with_hits": with_hits,
        "n_shown": min(len(hits), MAX_ROWS),
        "file": file,
        "linked": linked,
        "activity": activity_chart(hits, level) or "",
        "maps": map_charts(result, level),
        "trade_off": trade_off_chart(result.batch_effects) or "",
        "similarity": similarity_chart(result.similarity, hits) or "",
        "stages": _stage_table(result.batch_effects),
        "batch": batch_table(result.batch_effects),
        "batch_sentence": _batch_sentence(result.batch_effects),
        "batch_reasons": _batch_reasons(result.batch_effects),
        "tables": _group_tables(result, folder),
        "files": {name: [f"{folder}{name}.parquet"] for name in ("hits", "coordinates", "batch_effects", "similarity")},
    }
    return Content("sections/profiles.html.j2", values)


def hit_level(result: ProfileResult) -> float:
    """Return the largest q of a hit."""
    level = result.settings.get("q")
    return float(level) if isinstance(level, int | float) and not isinstance(level, bool) else LEVEL


def lead(result: ProfileResult) -> str:
    """Return how many perturbations were tested and how many are hits."""
    hits, level = result.hits, hit_level(result)
    q = numbers(hits, "q")
    n_tested, n_hits = int(np.isfinite(q).sum()), int((q <= level).sum())
    if not len(hits):
        return "There is no perturbation to test: all profiles are negative controls, or none has a name."
    if not n_tested:
        return f"None of {count(len(hits), 'perturbation')} can be tested."
    tested = count(n_tested, "perturbation")
    if n_tested < len(hits):
        tested = f"{n_tested:,} of {count(len(hits), 'perturbation')}"
    verdict = "None is a hit" if not n_hits else "1 is a hit" if n_hits == 1 else f"{n_hits:,} are hits"
    return (
        f"{tested} {'was' if n_tested == 1 else 'were'} tested against the negative controls of the same plates. "
        f"{verdict} at q ≤ {level:g}."
    )


def hit_table(hits: pd.DataFrame, level: float) -> Table:
    """Return the first rows of the table of hits; the names of hits are bold."""
    table = hits.head(MAX_ROWS)
    names, q = texts(table, "perturbation"), numbers(table, "q")
    groups = zip(*(numbers(table, f"n_{name}") for name in ("wells", "plates", "experiments")), strict=True)
    columns: dict[str, list[str]] = {
        "perturbation": [brief(name) for name in names],
        "mAP": _formatted(table, "mean_average_precision"),
        "by chance": _formatted(table, "expected"),
        "p": _formatted(table, "p", "{:.2g}"),
        "q": _formatted(table, "q", "{:.2g}"),
        "agreement": _formatted(table, "replicate_agreement", "{:.2f}"),
        "effect size": _formatted(table, "effect_size", "{:.2f}"),
        "wells / plates / experiments": [" / ".join(format_number(n, "{:,.0f}") for n in row) for row in groups],
    }
    numeric = set(range(1, len(columns)))
    words = {
        "channel that moved": [
            brief(name) if q_value <= level else "" for name, q_value in zip(texts(table, "channel"), q, strict=True)
        ],
        "nearest (cosine)": _neighbors(table, "nearest"),
        "most opposite (cosine)": _neighbors(table, "opposite"),
        "no value because": texts(table, "reason"),
    }
    columns |= {title: cells for title, cells in words.items() if any(cells)}
    rows = list(zip(*([cell or _NO_VALUE for cell in cells] for cells in columns.values()), strict=True))
    return Table(
        columns=list(columns),
        rows=rows,
        numeric=numeric,
        bold={(row, 0) for row, value in enumerate(q) if value <= level},
    )


def batch_table(batch_effects: pd.DataFrame) -> Table | None:
    """Return the measures with a value, before and after the alignment."""
    stages = list(dict.fromkeys(texts(batch_effects, "alignment")))
    if not stages:
        return None
    first, last = ("none" if "none" in stages else stages[0]), stages[-1]
    shown = [first] if first == last else [first, last]
    cells: dict[tuple[str, str], dict[str, str]] = {}
    chances: dict[tuple[str, str], str] = {}
    columns = zip(
        texts(batch_effects, "alignment"),
        texts(batch_effects, "name"),
        texts(batch_effects, "of"),
        numbers(batch_effects, "value"),
        numbers(batch_effects, "low"),
        numbers(batch_effects, "high"),
        texts(batch_effects, "range"),
        numbers(batch_effects, "chance"),
        strict=True,
    )
    for stage, name, of, value, low, high, kind, chance in columns:
        if stage not in shown:
            continue
        has_interval = kind.endswith("interval") and np.isfinite([value, low, high]).all()
        cells.setdefault((of, name), {})[stage] = _with_interval(value, (low, high) if has_interval else None)
        if np.isfinite(chance) or (of, name) not in chances:
            chances[of, name] = format_number(chance)
    rows = [
        (
            of, name, "less" if name in _LESS_IS_BETTER else "more",
            *(by_stage.get(stage, _NO_VALUE) for stage in shown), chances[of, name],
        )
        for (of, name), by_stage in cells.items()
        if set(by_stage.values()) != {_NO_VALUE}
    ]  # fmt: skip
    titles = ["no alignment" if stage == "none" else f"after {stage}" for stage in shown]
    headings = ["of", "measure", "better is", *titles, "chance"]
    return Table(columns=headings, rows=rows, numeric=range(3, 4 + len(shown))) if rows else None


def _stage_table(batch_effects: pd.DataFrame) -> Table | None:
    """Return the numbers of the chart of biology against batch effects."""
    stages, batch = trade_off(batch_effects)
    best = front(stages)
    rows = [
        (
            stage.name, _with_interval(stage.batch, stage.batch_interval),
            _with_interval(stage.biology, stage.biology_interval), "no" if stage in best else "yes",
        )
        for stage in stages
    ]  # fmt: skip
    columns = ("alignment", f"batch left ({batch})", "replicate mAP", "beaten?")
    return Table(columns=columns, rows=rows, numeric=(1, 2)) if rows else None


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return format_number(value) + (
        "" if interval is None else f" ({format_number(interval[0])} to {format_number(interval[1])})"
    )


def _batch_sentence(batch_effects: pd.DataFrame) -> str:
    names = dict.fromkeys(texts(batch_effects, "name"))
    meanings = "; ".join(f"{name}: {_MEASURES[name]}" for name in names if name in _MEASURES)
    return (
        f"Batch effects and separation of perturbations. {meanings + '. ' if meanings else ''}In brackets: "
        "95\u202f% intervals; measures without one lie between 0 and 1."
    )


def _batch_reasons(batch_effects: pd.DataFrame) -> list[str]:
    """Return why measures have no value, one sentence per reason."""
    missing: dict[str, list[str]] = {}
    value = numbers(batch_effects, "value")
    columns = zip(
        texts(batch_effects, "name"), texts(batch_effects, "of"), texts(batch_effects, "reason"), value, strict=True
    )
    for name, of, reason, number in columns:
        if not np.isfinite(number):
            missing.setdefault(reason or "No reason was recorded.", []).append(f"{name} of {of}")
    return [f"{', '.join(dict.fromkeys(measures))}: {reason}" for reason, measures in missing.items()]


def _alignment_sentences(result: ProfileResult) -> list[str]:
    steps = [str(step) for step in _list(result.settings.get("alignment")) if step not in ("", "none")]
    level = str(result.settings.get("level") or result.wells.level)
    sentences = [
        f"Alignment of the {level} profiles: {', then '.join(steps)}."
        if steps
        else "The profiles are not aligned: batch effects are still in them."
    ]
    q = numbers(result.hits, "q")
    n_hits, q_level = int((q <= hit_level(result)).sum()), hit_level(result)
    if n_hits:
        sentences.append(f"At this level, up to {100 * q_level:g}\u202f% of the hits are expected to be false.")
    refused = len(result.refused)
    if refused:
        sentences.append(f"{count(refused, 'row')} of the source {'was' if refused == 1 else 'were'} refused.")
    return sentences


def _reasons(hits: pd.DataFrame) -> list[str]:
    """Return how many perturbations cannot be tested, by reason."""
    q = numbers(hits, "q")
    counts = Counter(
        reason or "No reason was recorded."
        for reason, value in zip(texts(hits, "reason"), q, strict=True)
        if not np.isfinite(value)
    )
    lines = [f"{count(n, 'perturbation')} cannot be tested: {reason}" for reason, n in counts.most_common(MAX_REASONS)]
    rest = sum(counts.values()) - sum(n for _, n in counts.most_common(MAX_REASONS))
    return lines + ([f"{count(rest, 'perturbation')} cannot be tested for other reasons."] if rest else [])


def _group_tables(result: ProfileResult, folder: str) -> list[Table]:
    tables = []
    captions = {
        "consistency": "Do perturbations of one label have similar profiles? Mean average precision by label.",
        "relations": "Recall of known relations among the pairs of lowest and highest cosine.",
    }
    for name, caption in captions.items():
        table: pd.DataFrame | None = getattr(result, name)
        if table is None or not len(table):
            continue
        shown = table.head(MAX_ROWS)
        caption += f" The first {MAX_ROWS} of {len(table):,} rows." if len(table) > MAX_ROWS else ""
        numeric = {
            number for number, column in enumerate(table.columns) if pd.api.types.is_numeric_dtype(table[column])
        }
        rows = [tuple(_cell(value) for value in row) for row in shown.itertuples(index=False, name=None)]
        tables.append(
            Table(
                columns=[spaced(str(column)).replace("mean average precision", "mAP") for column in table.columns],
                rows=rows,
                numeric=numeric,
                caption=caption,
                sources=(f"{folder}{name}.parquet",),
            )
        )
    return tables


def _cell(value: object) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value != value:
        return _NO_VALUE
    return brief(value) or _NO_VALUE if isinstance(value, str) else format_value(value)


def _neighbors(table: pd.DataFrame, name: str) -> list[str]:
    pairs = zip(texts(table, name), numbers(table, f"{name}_cosine"), strict=True)
    return [
        f"{brief(other, max_length=40)} ({format_number(cosine, '{:+.2f}')})" if other else ""
        for other, cosine in pairs
    ]


def _formatted(table: pd.DataFrame, name: str, pattern: str = "{:.3f}") -> list[str]:
    return [format_number(value, pattern) for value in numbers(table, name)]


def format_number(value: float, pattern: str = "{:.3f}") -> str:
    """Return a number as text; a dash without a number."""
    return pattern.format(value).replace("-", "\u2212") if np.isfinite(value) else _NO_VALUE


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
