"""Write the ablation as a table (CSV and JSON), a figure and an HTML page."""

import csv
import importlib.resources
import io
from collections.abc import Callable, Iterator
from pathlib import Path

from distangle.ablation.compare import Comparison, Row
from distangle.ablation.conditions import BASELINE, PARTS, settings_of
from distangle.ablation.plan import Plan
from distangle.commit import commit_json, commit_text
from distangle.intervals import LEAST_GROUPS, LEAST_SEEDS, Interval
from distangle.report.bands import curve_panels
from distangle.report.marks import Bar, bars, interval_bar
from distangle.report.page import (
    Markup,
    count,
    definitions,
    document,
    element,
    figure,
    joined,
    listing,
    notice,
    paragraph,
    percent,
    section,
    table,
)
from distangle.training import values_of

COLUMNS = ("condition", "level", "views", "metric", "value", "low", "high", "difference", "difference_low",
           "difference_high", "n", "seeds")  # fmt: skip


def write_comparison(plan: Plan, found: Comparison) -> Path:
    """Write table, figure and page of an ablation into its folder.

    The files are `comparison.csv`, `comparison.json`, `curves.svg` and `index.html`.

    Args:
        plan: The ablation.
        found: From `compare`.

    Returns:
        The path of `index.html`.
    """
    commit_json(plan.root / "comparison.json", found.to_json())
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_line(row) for row in found.rows)
    commit_text(plan.root / "comparison.csv", text.getvalue())
    stamp = "forced split" if plan.folds.forced else ""
    drawn = {name: curve for name, curve in found.curves.items() if curve.size}
    if drawn:
        picture = curve_panels(drawn, reference=BASELINE, measure="accuracy, held-out sites", stamp=stamp)
        commit_text(plan.root / "curves.svg", picture)
    style = importlib.resources.files("distangle.report").joinpath("assets/style.css").read_text("utf-8")
    commit_text(plan.root / "style.css", style)
    sections = [
        ("result", "Result", section("result", "What each part is worth", *_results(found))),
        ("curves", "Curves", section("curves", "How it learnt", *_curves(plan, found, drawn=bool(drawn)))),
        ("conditions", "Conditions", section("conditions", "What was switched", *_conditions(plan))),
        ("made", "Methods", section("made", "How this was made", *_made(plan, found))),
    ]
    page = document(plan.root.resolve().name, stamp=stamp, header=_header(plan, found), sections=sections)
    commit_text(plan.root / "index.html", page)
    return plan.root / "index.html"


def table_lines(found: Comparison) -> Iterator[tuple[str, ...]]:
    """Give the lines of the table for a terminal.

    Accuracy and balanced accuracy, each with its difference.

    Args:
        found: From `compare`.
    """
    balanced = {(row.condition, row.level): row for row in found.rows if row.metric == "balanced accuracy"}
    for row in found.rows:
        if row.metric == "accuracy":
            cells = [cell for one in (row, balanced[row.condition, row.level]) for cell in (_mean(one), _apart(one))]
            yield row.condition, row.level, str(row.views), *cells, f"{len(row.by_seed)}", f"{row.n}"


def beware(found: Comparison) -> list[str]:
    """Return what must be said beside the intervals.

    Args:
        found: From `compare`.
    """
    said = []
    if len(found.groups) < LEAST_GROUPS:
        said.append(
            f"{count(len(found.groups), f'held-out {found.unit}')}: an interval takes {LEAST_GROUPS} or more, so there "
            "is none, and nothing says how far a difference would carry to another one."
        )
    elif len(found.seeds) < LEAST_SEEDS:
        said.append(
            f"{count(len(found.seeds), 'seed')}: the interval of a difference takes {LEAST_SEEDS} or more, so there is "
            "none, and other seeds may order the conditions otherwise."
        )
    if found.unit == "plate":
        said.append("A single experiment is held out: intervals are over its plates, which share what was done to it.")
    if found.unchanged:
        said.append(
            f"{', '.join(found.unchanged)}: every run predicts, to the last bit, what the baseline does, so what was "
            "switched on has never come to act. Look into run.json and metrics.csv of its runs."
        )
    counted = {(row.condition, tuple(row.by_seed)) for row in found.rows}
    if len({seeds for _, seeds in counted}) > 1:
        missing = sorted({name for name, seeds in counted if len(seeds) < len(found.seeds)})
        said.append(f"Not every seed is finished for {', '.join(missing)}; differences are over the seeds of both.")
    return said


def _header(plan: Plan, found: Comparison) -> Markup:
    title = element("header", paragraph("distangle ablation", class_="kicker"), element("h1", plan.root.resolve().name))
    main = [row for row in found.rows if (row.level, row.metric) == ("well", "accuracy")]
    apart = [row for row in main if row.difference is not None]
    what = (
        f"{count(len(main), 'condition')}, {count(len(found.seeds), 'seed')} each, on the same held-out "
        f"{count(len(found.groups), found.unit)}; guessing gives {percent(found.chance)}."
    )
    parts = [title, paragraph(_verdict(apart), class_="lead")] if apart else [title]
    parts.append(paragraph(what, class_="lead"))
    warned = beware(found) + list(plan.folds.notes)
    if warned:
        parts.append(notice(element("strong", "Read this first"), listing(warned)))
    return joined(parts)


def _verdict(rows: list[Row]) -> str:
    """Say which conditions differ from the baseline by more than their interval; a best one is not picked out."""
    said = []
    for words, sign in (("above", 1), ("below", -1)):
        beyond = [row for row in rows if row.difference_interval and sign * row.difference_interval[sign < 0] > 0]
        if beyond:
            named = ", ".join(f"{row.condition} ({_points(row.difference or 0.0)})" for row in beyond)
            said.append(f"In points of well accuracy, the whole interval lies {words} the baseline for {named}.")
    if not any(row.difference_interval for row in rows):
        return "There are too few held-out groups or seeds to say whether any part has an effect that carries over."
    return " ".join(said) or "No interval lies wholly above or below the baseline: no part has shown an effect here."


def _results(found: Comparison) -> Iterator[Markup]:
    for level, views in dict.fromkeys((row.level, row.views) for row in found.rows):
        for metric in ("accuracy", "balanced accuracy"):
            rows = [row for row in found.rows if (row.level, row.metric) == (level, metric)]
            lines = [
                (
                    row.condition,
                    percent(row.value),
                    interval_bar(row.value, row.interval, chance=found.chance),
                    _ends(row.interval, percent),
                    "" if row.difference is None else _points(row.difference),
                    _ends(row.difference_interval, _points),
                    ", ".join(f"{100 * value:.1f}" for value in row.by_seed.values()),
                )
                for row in rows
            ]
            wells = "treatments" if found.wells == "treatments" else "all, controls too"
            name = f"{metric.capitalize()} of {level}s ({wells}; {count(views, 'view')}; n = {rows[0].n} in each run)"
            heads = ("", "mean", "from 0 to 1", "95 % interval", "points over baseline", "95 % interval", "by seed, %")
            kept = [k for k in range(len(heads)) if k not in (3, 5) or any(line[k] for line in lines)]
            shown = table(
                [heads[k] for k in kept],
                [[line[k] for k in kept] for line in lines],
                numeric=[place for place, k in enumerate(kept) if k not in (0, 2)],
                caption=name,
            )
            apart = [_bar(row, row.difference) for row in rows if row.difference is not None]
            if (level, metric) == ("well", "accuracy") and apart:
                ends = ", with 95 % intervals" if any(row.difference_interval for row in rows) else ""
                drawn = bars(apart, said=f"Percentage points over the baseline{ends}", width=480.0)
                below = f"Percentage points over the baseline{'; thin lines: 95 % intervals' if ends else ''}."
                yield joined([shown, element("figure", drawn, element("figcaption", below))])
            else:
                yield shown
    yield paragraph(
        f"An interval adds the variance over the held-out {found.unit}s (leaving out one at a time) and that over the "
        f"seeds: it says how far the value would move with other {found.unit}s and other seeds of the network. All "
        f"conditions have the same {found.unit}s held out and the same seeds, and a difference is taken within them. "
        f"Sites and wells do not count by themselves: those of one {found.unit} share their staining, so they are no "
        "independent witnesses.",
        class_="small",
    )


def _bar(row: Row, difference: float) -> Bar:
    ends = row.difference_interval
    interval = None if ends is None else (100 * ends[0], 100 * ends[1])
    return Bar(name=row.condition, value=100 * difference, printed=_points(difference), interval=interval)


def _curves(plan: Plan, found: Comparison, *, drawn: bool) -> Iterator[Markup]:
    if not drawn:
        yield paragraph("The held-out fold has no labels, so there is no curve.")
        return
    caption = (
        "Accuracy over all labelled held-out sites after every epoch, one view, with the weights that prediction uses. "
        "Line: mean over the seeds; band: lowest to highest seed; grey and dashed: the baseline. No epoch was "
        "chosen by it: the tables are about the last one."
    )
    names = ", ".join(found.curves)
    yield figure("curves.svg", alternative=f"Held-out accuracy by epoch for {names}", caption=caption)


def _conditions(plan: Plan) -> Iterator[Markup]:
    heads = ("condition", "parts that are on", "settings")
    rows = [
        (
            condition.name,
            " · ".join(PARTS[name].said for name in condition.on) or "none",
            joined(
                [element("code", f"{name}={value}") for name, value in settings_of(condition, plan.config).items()],
                " ",
            ),
        )
        for condition in plan.conditions
    ]
    yield table(heads, rows)
    yield paragraph("All other settings, the folds, and the random numbers of a seed are the same in every run.")


def _made(plan: Plan, found: Comparison) -> Iterator[Markup]:
    if plan.commands:
        yield element("h3", "Commands")
        yield element("pre", element("code", "\n".join(plan.commands)), class_="scroll", tabindex=0)
    facts = [
        ("held out", plan.folds.description),
        (found.unit if len(found.groups) == 1 else f"{found.unit}s", ", ".join(found.groups)),
        ("seeds", ", ".join(map(str, found.seeds))),
        ("folds sha256", plan.folds.sha256[:16]),
    ]
    if plan.folds.unlabelled:
        facts.insert(1, ("labels hidden", plan.folds.unlabelled))
    yield definitions(facts)
    values = [(name, str(value)) for name, value in values_of(plan.config).items()]
    settings = table(("setting", "value"), values)
    yield element("details", element("summary", f"Settings ({len(values)})"), settings)
    yield paragraph(
        "Every run is a folder of its own under ", element("code", "runs/"), ", which ",
        element("code", "distangle report"), " and ", element("code", "distangle explain"), " take.",
    )  # fmt: skip


def _line(row: Row) -> list[object]:
    low, high = row.interval or ("", "")
    apart_low, apart_high = row.difference_interval or ("", "")
    apart = "" if row.difference is None else row.difference
    seeds = " ".join(f"{seed}:{value:.6g}" for seed, value in row.by_seed.items())
    return [row.condition, row.level, row.views, row.metric, row.value, low, high, apart, apart_low, apart_high,
            row.n, seeds]  # fmt: skip


def _mean(row: Row) -> str:
    return f"{row.value:.3f}" + (f" ({row.interval[0]:.3f}-{row.interval[1]:.3f})" if row.interval else "")


def _apart(row: Row) -> str:
    if row.difference is None:
        return "" if row.condition == BASELINE else "-"
    ends = row.difference_interval
    return f"{row.difference:+.3f}" + (f" ({ends[0]:+.3f} to {ends[1]:+.3f})" if ends else "")


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\u2212")


def _ends(interval: Interval | None, said: Callable[[float], str]) -> str:
    return "" if interval is None else f"{said(interval[0])} to {said(interval[1])}"
