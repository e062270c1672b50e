"""Compute the score sentence and the score table."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distangle.core.stats import MIN_GROUPS
from distangle.report.data import ReportData
from distangle.report.html import Content, missing_notice, paragraph, percent, spaced
from distangle.report.inline_svg import interval_bar
from distangle.results import ScoreRow, Scores


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
            f"{sentence}{f' ({by_group})' if by_group else ''}; chance is {percent(row.chance)}. There is no interval: "
            f"it takes {MIN_GROUPS} {_groups(row, many=True)} or more to estimate how far this score carries over "
            f"to another one, and there {'is' if row.n_groups == 1 else 'are'} {row.n_groups}."
        )
    low, high = row.interval
    sentence += f" (95\u202f% interval {percent(low)} to {percent(high)}, over {row.n_groups} {_groups(row)})"
    sentence += f"; chance is {percent(row.chance)}. "
    if row.interval[0] > row.chance:
        return sentence + "The whole interval lies above chance."
    if row.interval[1] < row.chance:
        return sentence + "The whole interval lies below chance: look for a mistake before anything else."
    return sentence + "The interval includes chance: this run has not shown that it learned anything that carries over."


def score_table(material: ReportData) -> Content:
    """Compute the score table, grouped by level and wells, the main group first."""
    if material.scores is None:
        return missing_notice("No predictions have been scored.", command("predict", material))
    rows, main = material.scores.rows, material.main_row
    if main is None:
        return paragraph(not_scored(material))
    groups = list(dict.fromkeys((row.level, row.wells) for row in rows))
    groups.sort(key=lambda group: group != (main.level, main.wells))
    tagged = not all(row.transductive for row in rows)
    tables = [
        _score_group([row for row in rows if (row.level, row.wells) == group], main=main, tagged=tagged)
        for group in groups
    ]
    return Content("sections/scores.html.j2", {"groups": tables, "sentences": _legend(rows, tagged=tagged)})


def not_scored(material: ReportData) -> str:
    """Return why a predicted run has no score."""
    if material.holds_nothing_out:
        return (
            "Nothing was held out and nothing was scored: the network was trained on everything, and its accuracy on "
            "new plates is not known."
        )
    return "Nothing could be scored: no held-out well has a known and trained perturbation."


def score_bar(row: ScoreRow) -> Markup:
    """Draw a score with its interval, or with its groups if they are too few."""
    return interval_bar(row.value, row.interval, chance=row.chance, by_group=row.by_group)


def command(verb: str, material: ReportData) -> str:
    """Return the command line that makes what a section lacks."""
    name = material.typed
    commands = {"predict": f"distangle predict {name} SCREEN", "train": "distangle train SCREEN --out " + name}
    return commands.get(verb, f"distangle {verb} {name}")


def _legend(rows: Sequence[ScoreRow], *, tagged: bool) -> list[str]:
    over = sorted({_one(row) for row in rows if row.interval is not None})
    few = sorted({_one(row) for row in rows if row.interval is None and row.by_group})
    sentences = [f"Intervals: 95\u202f%, over whole {' or '.join(over)}s (Korn and Graubard)."] if over else []
    if few or not over:
        one = " or ".join(few) or "group"
        sentences.append(f"Fewer than {MIN_GROUPS} {one}s give no interval, but the value of each {one}.")
    sentences.append("8 views: the mean over the eight rotations and flips of an image.")
    sentences.append("Balanced: the mean over perturbations. Dashed tick: chance. Bold: the score at the top.")
    if rules := _rules(rows):
        sentences.append(f"Cell-free baselines: the balanced accuracy of {' · '.join(rules)} alone.")
    if any(row.transductive for row in rows):
        which = "Rows marked transductive" if tagged else "All rows"
        sentences.append(f"{which} used wells of the tested plates or experiments, without labels.")
    return sentences


def _score_group(rows: Sequence[ScoreRow], *, main: ScoreRow, tagged: bool) -> dict[str, Any]:
    rules = _rules(rows)
    ends = "95 % interval" if any(row.interval for row in rows) else f"by {_one(rows[0])}"
    titles = ("", "views", "accuracy", "from 0 to 1", ends, "balanced", ends, "chance",
              *(["cell-free baselines"] if rules else []), "n", "groups")  # fmt: skip
    # Accuracy and balanced accuracy of the same predictions share a line.
    lines: dict[tuple[str, int, bool], dict[str, ScoreRow]] = {}
    for row in rows:
        lines.setdefault((row.subset, row.views, row.transductive), {})[row.metric] = row
    return {
        "name": f"{rows[0].level}s · {rows[0].wells}",
        "titles": titles,
        "has_baselines": bool(rules),
        "lines": [_score_line(by_metric, main=main, tagged=tagged, rules=rules) for by_metric in lines.values()],
    }


def _score_line(
    by_metric: Mapping[str, ScoreRow], *, main: ScoreRow, tagged: bool, rules: Sequence[str]
) -> dict[str, Any]:
    row = next(iter(by_metric.values()))
    accuracy, balanced = by_metric.get("accuracy"), by_metric.get("balanced accuracy")
    # Balanced accuracy is the harder one to reach by guessing what is frequent.
    naive = (balanced or row).baselines
    baselines = " · ".join(f"{100 * naive[rule]:.1f}" if rule in naive else "–" for rule in rules)
    return {
        "subset": row.subset,
        "is_main": any(other is main for other in by_metric.values()),
        "tag": "transductive" if tagged and row.transductive else "",
        "views": row.views,
        "accuracy": "–" if accuracy is None else percent(accuracy.value),
        "bar": "" if accuracy is None else score_bar(accuracy),
        "accuracy_interval": "–" if accuracy is None else _ends(accuracy),
        "balanced": "–" if balanced is None else percent(balanced.value),
        "balanced_interval": "–" if balanced is None else _ends(balanced),
        "chance": percent(row.chance),
        "baselines": f"{baselines}\u202f%",
        "n": f"{row.n:,}",
        "groups": f"{row.n_groups} {_groups(row)}",
    }


def _rules(rows: Sequence[ScoreRow]) -> list[str]:
    return list(dict.fromkeys(rule for row in rows for rule in row.baselines))


def _groups(row: ScoreRow, *, many: bool = False) -> str:
    one = _one(row)
    return one if row.n_groups == 1 and not many else f"{one}s"


def _one(row: ScoreRow) -> str:
    return row.interval_over.rstrip("s") or "group"


def _ends(row: ScoreRow) -> str:
    if row.interval is not None:
        return f"{100 * row.interval[0]:.1f} – {100 * row.interval[1]:.1f}\u202f%"
    by_group = " · ".join(f"{100 * value:.1f}" for value in row.by_group.values())
    return f"{by_group}\u202f%" if by_group else "–"
