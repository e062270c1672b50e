"""Scores as a sentence and as a table, with intervals, or group by group where these are too few."""

from collections.abc import Mapping, Sequence

from distangle.intervals import LEAST_GROUPS
from distangle.report.marks import interval_bar
from distangle.report.material import Material
from distangle.report.page import Markup, absent, element, joined, paragraph, percent, scrolling
from distangle.results import ScoreRow, Scores


def score_sentence(scores: Scores, row: ScoreRow) -> str:
    """Return the main score as a sentence, with its interval, chance, and what the interval says of chance."""
    units = "wells" if row.level == "well" else "sites"
    target = scores.target.replace("_", " ")
    sentence = (
        f"On {row.n:,} held-out {units} ({row.wells}) the network named the right {target} with "
        f"{'an' if row.metric == 'accuracy' else 'a'} {row.metric} of {percent(row.value)}"
    )
    if row.interval is None:
        apart = ", ".join(f"{name} {percent(value)}" for name, value in row.by_group.items())
        return (
            f"{sentence}{f' ({apart})' if apart else ''}; guessing gives {percent(row.chance)}. There is no interval: "
            f"it takes {LEAST_GROUPS} {_groups(row, many=True)} or more to say how far this "
            f"carries to another one, and there {'is' if row.n_groups == 1 else 'are'} {row.n_groups}."
        )
    low, high = row.interval
    sentence += f" (95\u202f% interval {percent(low)} to {percent(high)}, over {row.n_groups} {_groups(row)})"
    sentence += f"; guessing gives {percent(row.chance)}. "
    if row.interval[0] > row.chance:
        return sentence + "The whole interval lies above chance."
    if row.interval[1] < row.chance:
        return sentence + "The whole interval lies below chance: look for a mistake before anything else."
    return sentence + "The interval includes chance: this run has not shown that it learnt anything that carries over."


def score_table(material: Material) -> Markup:
    """Draw every row of the scores, grouped by level and wells; the main group first, the others folded."""
    if material.scores is None:
        return absent("No predictions have been scored.", command("predict", material))
    rows, main = material.scores.rows, material.main_row
    if main is None:
        return paragraph(not_scored(material))
    groups = list(dict.fromkeys((row.level, row.wells) for row in rows))
    groups.sort(key=lambda group: group != (main.level, main.wells))
    tagged = not all(row.transductive for row in rows)
    drawn = [
        _score_group([row for row in rows if (row.level, row.wells) == group], main=main, tagged=tagged)
        for group in groups
    ]
    over = sorted({row.interval_over.rstrip("s") for row in rows if row.interval is not None})
    few = sorted({row.interval_over.rstrip("s") for row in rows if row.interval is None and row.by_group})
    said = f"Intervals: 95\u202f%, over whole {' or '.join(over)}s (Korn and Graubard). " if over else ""
    if few or not over:
        one = " or ".join(few) or "group"
        said += f"With fewer than {LEAST_GROUPS} {one}s there is no interval, but the value of each {one}. "
    said += "Views 8 averages the eight turns and flips of an image; balanced is the mean over perturbations. "
    said += "Dashed tick: chance. The line in bold is the one at the top."
    if rules := _rules(rows):
        said += f" Without cells: the balanced accuracy of {' · '.join(rules)} alone."
    if any(row.transductive for row in rows):
        which = "Lines marked transductive" if tagged else "All lines"
        said += f" {which} used wells of the tested plates or experiments, without labels."
    folded = [element("details", element("summary", f"Other scores ({len(groups) - 1} tables)"), *drawn[1:])]
    return joined([drawn[0], paragraph(said, class_="small"), *(folded if len(groups) > 1 else [])])


def not_scored(material: Material) -> str:
    """Say why a run that was predicted has no score."""
    if material.holds_nothing_out:
        return (
            "Nothing was held out and nothing was scored: the network was trained on everything, and how good it is on "
            "new plates is not known."
        )
    return "Nothing could be scored: no held-out well has a known and trained perturbation."


def _score_group(rows: Sequence[ScoreRow], *, main: ScoreRow, tagged: bool) -> Markup:
    rules = _rules(rows)
    ends = "95 % interval" if any(row.interval for row in rows) else f"by {_one(rows[0])}"
    heads = ("", "views", "accuracy", "from 0 to 1", ends, "balanced", ends, "chance",
             *(["without cells"] if rules else []), "n", "groups")  # fmt: skip
    titles = [
        element("th", head, scope="col", class_=None if place in (0, 3) else "number")
        for place, head in enumerate(heads)
    ]
    # Accuracy and balanced accuracy of the same predictions share a line.
    lines: dict[tuple[str, int, bool], dict[str, ScoreRow]] = {}
    for row in rows:
        lines.setdefault((row.subset, row.views, row.transductive), {})[row.metric] = row
    name = element("th", f"{rows[0].level}s · {rows[0].wells}", colspan=len(heads), scope="colgroup")
    body = [_score_line(found, main=main, tagged=tagged, rules=rules) for found in lines.values()]
    head = element("thead", element("tr", *titles))
    group = element("tr", name, class_="group")
    return scrolling(element("table", head, element("tbody", group, *body), class_="scores"))


def _score_line(found: Mapping[str, ScoreRow], *, main: ScoreRow, tagged: bool, rules: Sequence[str]) -> Markup:
    row = next(iter(found.values()))
    is_main = any(other is main for other in found.values())
    name = [row.subset] + ([element("span", "transductive", class_="tag")] if tagged and row.transductive else [])
    cells = [element("th", joined(name, " "), scope="row"), element("td", str(row.views), class_="number")]
    for metric in ("accuracy", "balanced accuracy"):
        score = found.get(metric)
        cells.append(element("td", "–" if score is None else percent(score.value), class_="number score"))
        if metric == "accuracy":
            cells.append(element("td", Markup("") if score is None else score_bar(score)))
        cells.append(element("td", "–" if score is None else _ends(score), class_="number"))
    cells.append(element("td", percent(row.chance), class_="number"))
    # Balanced accuracy is the harder one to reach by guessing what is frequent.
    naive = found.get("balanced accuracy", row).baselines
    blind = " · ".join(f"{100 * naive[rule]:.1f}" if rule in naive else "–" for rule in rules)
    cells += [element("td", f"{blind}\u202f%", class_="number")] if rules else []
    cells.append(element("td", f"{row.n:,}", class_="number"))
    cells.append(element("td", f"{row.n_groups} {_groups(row)}", class_="number"))
    return element("tr", *cells, class_="main" if is_main else None)


def _rules(rows: Sequence[ScoreRow]) -> list[str]:
    return list(dict.fromkeys(rule for row in rows for rule in row.baselines))


def _groups(row: ScoreRow, *, many: bool = False) -> str:
    one = _one(row)
    return one if row.n_groups == 1 and not many else f"{one}s"


def _one(row: ScoreRow) -> str:
    return row.interval_over.rstrip("s") or "group"


def score_bar(row: ScoreRow) -> Markup:
    """Draw a score with its interval, or with the groups where they are too few for one."""
    return interval_bar(row.value, row.interval, chance=row.chance, by_group=row.by_group)


def _ends(row: ScoreRow) -> str:
    if row.interval is not None:
        return f"{100 * row.interval[0]:.1f} – {100 * row.interval[1]:.1f}\u202f%"
    apart = " · ".join(f"{100 * value:.1f}" for value in row.by_group.values())
    return f"{apart}\u202f%" if apart else "–"


def command(verb: str, material: Material) -> str:
    """Return the command line that makes what a section lacks."""
    name = material.typed
    commands = {"predict": f"distangle predict {name} SCREEN", "train": "distangle train SCREEN --out " + name}
    return commands.get(verb, f"distangle {verb} {name}")
