"""Compute the score sentence and the score table."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distangle.core.stats import MIN_GROUPS
from distangle.report.data import ReportData
from distangle.report.html import Content, Table, missing_notice, paragraph, percent, spaced
from distangle.report.inline_svg import interval_bar
from distangle.results import ScoreRow, Scores

LAYOUT_TAG = "uses the layout of the plate"


def score_sentence(scores: Scores, row: ScoreRow) -> str:
    """Return the main score as a sentence, with its interval and chance."""
    units = "wells" if row.level == "well" else "sites"
    sentence = (
        f"On {row.n:,} held-out {units} ({row.wells}) the network predicted the right {spaced(scores.target)} with "
        f"{'an' if row.metric == 'accuracy' else 'a'} {row.metric} of {percent(row.value)}"
    )
    if row.interval is None:
        by_group = ", ".join(f"{name} {percent(value)}" for name, value in row.by_group.items())
        return (
            f"{sentence}{f' ({by_group})' if by_group else ''}; chance is {percent(row.chance)}. An interval needs "
            f"at least {MIN_GROUPS} {_group_noun(row, plural=True)}, because it estimates the score on another one; "
            f"there {'is' if row.n_groups == 1 else 'are'} {row.n_groups}."
        )
    low, high = row.interval
    sentence += f" (95\u202f% interval {percent(low)} to {percent(high)}, over {row.n_groups} {_group_noun(row)})"
    sentence += f"; chance is {percent(row.chance)}. "
    if row.interval[0] > row.chance:
        return sentence + "The whole interval lies above chance."
    if row.interval[1] < row.chance:
        return sentence + "The whole interval lies below chance: look for an error in the data or the labels."
    return sentence + "The interval includes chance: this run does not show that the network learned anything general."


def score_table(data: ReportData, calibration: Content | None = None) -> Content:
    """Compute the score table, grouped by level and wells, the main group first.

    Args:
        data: Results of the run.
        calibration: Placed below the main table.
    """
    if data.scores is None:
        return missing_notice("No predictions have been scored.", command("predict", data))
    rows, main = data.scores.rows, data.main_row
    if main is None:
        return paragraph(not_scored(data))
    groups = list(dict.fromkeys(_group_key(row) for row in rows))
    groups.sort(key=lambda group: (group[:2] != (main.level, main.wells), group[2]))
    tagged = not all(row.transductive for row in rows if not row.layout)
    tables = [
        _score_group([row for row in rows if _group_key(row) == group], main=main, tagged=tagged) for group in groups
    ]
    values = {
        "groups": tables,
        "baselines": [cells] if (cells := _baseline_table(rows, main)) else [],
        "sentences": _legend_sentences(rows, tagged=tagged) + _top_five(rows, main),
        "calibration": calibration or "",
    }
    return Content("sections/scores.html.j2", values)


def baseline_row(data: ReportData) -> ScoreRow | None:
    """Return the row of the main score with baselines; None without one.

    Balanced accuracy comes first, because guessing frequent classes does not raise it.
    """
    main = data.main_row
    if data.scores is None or main is None:
        return None
    names = ("subset", "level", "views", "wells", "layout", "transductive")
    rows = [
        row for row in data.scores.rows if row.baselines and all(getattr(row, n) == getattr(main, n) for n in names)
    ]
    return min(rows, key=lambda row: row.metric != "balanced accuracy", default=None)


def _baseline_table(rows: Sequence[ScoreRow], main: ScoreRow) -> Table | None:
    """Compare the network with rules that see no cell, in the main group."""
    names = _baseline_names(rows)
    lines: dict[str, ScoreRow] = {}
    for row in rows:
        if row.baselines and _group_key(row) == _group_key(main) and _is_like(row, main):
            if row.subset not in lines or row.metric == "balanced accuracy":
                lines[row.subset] = row
    if not lines:
        return None
    cells = [
        (_subset(row), percent(row.value), *(_baseline_cell(row, rule) for rule in names), percent(row.chance))
        for row in lines.values()
    ]
    columns = ("", "network", *(f"{rule} alone" for rule in names), "chance")
    caption = "Cell-free baselines: balanced accuracy of rules that see no cell, beside that of the network"
    return Table(
        columns=columns, rows=cells, numeric=range(1, len(columns)), caption=caption, file="cell-free-baselines"
    )


def _is_like(row: ScoreRow, main: ScoreRow) -> bool:
    return (row.views, row.transductive) == (main.views, main.transductive)


def _baseline_cell(row: ScoreRow, rule: str) -> str:
    return percent(row.baselines[rule]) if rule in row.baselines else "–"


def _subset(row: ScoreRow) -> str:
    views = f", mean of {row.views} views" if row.views > 1 else ""
    return ": ".join(filter(None, (row.layout, row.subset))) + views


def not_scored(data: ReportData) -> str:
    """Return why a predicted run has no score."""
    if data.holds_nothing_out:
        return (
            "Nothing was held out and nothing was scored: the network was trained on all wells, and its accuracy on "
            "new plates is unknown."
        )
    return "Nothing could be scored: no held-out well has a known and trained perturbation."


def _group_key(row: ScoreRow) -> tuple[str, str, bool]:
    return row.level, row.wells, row.layout != ""


def score_bar(row: ScoreRow) -> Markup:
    """Draw a score with its interval, or with its groups if they are too few."""
    return interval_bar(row.value, row.interval, chance=row.chance, by_group=row.by_group)


def command(verb: str, data: ReportData) -> str:
    """Return the command that makes a missing part of the report."""
    name = data.command_path
    commands = {"predict": f"distangle predict {name} SCREEN", "train": "distangle train SCREEN --out " + name}
    return commands.get(verb, f"distangle {verb} {name}")


def _top_five(rows: Sequence[ScoreRow], main: ScoreRow) -> list[str]:
    """Return the top-5 accuracy of the rows of the main score as a sentence."""
    same = {"metric": "top-5 accuracy", "subset": main.subset, "level": main.level, "views": main.views}
    same |= {"wells": main.wells, "layout": main.layout}
    matches = [row for row in rows if all(getattr(row, name) == value for name, value in same.items())]
    return [
        f"In {percent(row.value)} of the {row.level}s of the score at the top, the true class is among the five most "
        f"probable (chance {percent(row.chance)})."
        for row in matches[:1]
    ]


def _legend_sentences(rows: Sequence[ScoreRow], *, tagged: bool) -> list[str]:
    units = sorted({_group_name(row) for row in rows if row.interval is not None})
    units_without_interval = sorted({_group_name(row) for row in rows if row.interval is None and row.by_group})
    sentences = [f"Intervals: 95\u202f%, over whole {' or '.join(units)}s (Korn and Graubard)."] if units else []
    if units_without_interval or not units:
        unit = " or ".join(units_without_interval) or "group"
        sentences.append(f"Fewer than {MIN_GROUPS} {unit}s give no interval, but the value of each {unit}.")
    if any(row.views > 1 for row in rows):
        sentences.append("8 views: the mean over the eight rotations and flips of an image.")
    sentences.append("Balanced: the mean over perturbations. Dashed tick: chance. Bold: the score at the top.")
    if any(row.layout for row in rows):
        sentences.append(
            f"The table that {LAYOUT_TAG} knows which perturbations share a plate: plate group allows only those of "
            "the group that the plate's wells point to; one perturbation per well moreover allows each once. It says "
            "little about plates with another layout."
        )
    if any(row.transductive for row in rows if not row.layout):
        rows_text = "Rows marked transductive" if tagged else "All rows"
        sentences.append(f"{rows_text} used wells of the tested plates or experiments, without labels.")
    return sentences


def _score_group(rows: Sequence[ScoreRow], *, main: ScoreRow, tagged: bool) -> dict[str, Any]:
    interval_title = "95 % interval" if any(row.interval for row in rows) else f"by {_group_name(rows[0])}"
    titles = ("", "accuracy", "from 0 to 1", interval_title, "balanced", interval_title, "chance", "n", "groups")
    # Accuracy and balanced accuracy of the same predictions share a line.
    lines: dict[tuple[str, int, bool, str], dict[str, ScoreRow]] = {}
    for row in rows:
        lines.setdefault((row.subset, row.views, row.transductive, row.layout), {})[row.metric] = row
    return {
        "name": f"{rows[0].level}s · {rows[0].wells}{f' · {LAYOUT_TAG}' if rows[0].layout else ''}",
        "titles": titles,
        "lines": [_score_line(by_metric, main=main, tagged=tagged) for by_metric in lines.values()],
    }


def _score_line(by_metric: Mapping[str, ScoreRow], *, main: ScoreRow, tagged: bool) -> dict[str, Any]:
    row = next(iter(by_metric.values()))
    accuracy, balanced = by_metric.get("accuracy"), by_metric.get("balanced accuracy")
    return {
        "subset": _subset(row),
        "is_main": any(other is main for other in by_metric.values()),
        "tag": "transductive" if tagged and row.transductive and not row.layout else "",
        "accuracy": "–" if accuracy is None else percent(accuracy.value),
        "bar": "" if accuracy is None else score_bar(accuracy),
        "accuracy_interval": "–" if accuracy is None else _format_interval(accuracy),
        "balanced": "–" if balanced is None else percent(balanced.value),
        "balanced_interval": "–" if balanced is None else _format_interval(balanced),
        "chance": percent(row.chance),
        "n": f"{row.n:,}",
        "groups": f"{row.n_groups} {_group_noun(row)}",
    }


def _baseline_names(rows: Sequence[ScoreRow]) -> list[str]:
    return list(dict.fromkeys(rule for row in rows for rule in row.baselines))


def _group_noun(row: ScoreRow, *, plural: bool = False) -> str:
    name = _group_name(row)
    return name if row.n_groups == 1 and not plural else f"{name}s"


def _group_name(row: ScoreRow) -> str:
    return row.interval_over.rstrip("s") or "group"


def _format_interval(row: ScoreRow) -> str:
    if row.interval is not None:
        return f"{100 * row.interval[0]:.1f} – {100 * row.interval[1]:.1f}\u202f%"
    by_group = " · ".join(f"{100 * value:.1f}" for value in row.by_group.values())
    return f"{by_group}\u202f%" if by_group else "–"
