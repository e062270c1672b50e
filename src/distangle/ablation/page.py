"""Write the ablation as tables (CSV, JSON), a chart and a page."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distangle.ablation.compare import Comparison, Row
from distangle.ablation.components import BASELINE, PARTS, settings_of
from distangle.ablation.plan import AblationPlan
from distangle.core.io import write_json, write_text
from distangle.core.stats import LEAST_GROUPS, LEAST_SEEDS, Interval
from distangle.report.html import Content, Section, Table, count, paragraph, percent, render_page, write_style
from distangle.report.inline_svg import Bar, bars, interval_bar
from distangle.report.quality_charts import curve_panels
from distangle.training import values_of

COLUMNS = ("condition", "level", "views", "metric", "value", "low", "high", "difference", "difference_low",
           "difference_high", "n", "seeds")  # fmt: skip


def write_comparison(plan: AblationPlan, found: Comparison) -> Path:
    """Write the tables, the curves and the page into the folder of the ablation.

    Args:
        plan: The ablation.
        found: From `compare`.

    Returns:
        The path of `index.html`; beside it lie `comparison.csv`, `comparison.json`, `curves.svg` and `style.css`.
    """
    write_json(plan.root / "comparison.json", found.to_json())
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_line(row) for row in found.rows)
    write_text(plan.root / "comparison.csv", text.getvalue())
    stamp = "forced split" if plan.folds.forced else ""
    drawn = {name: curve for name, curve in found.curves.items() if curve.size}
    if drawn:
        picture = curve_panels(drawn, reference=BASELINE, measure="accuracy, held-out sites", stamp=stamp)
        write_text(plan.root / "curves.svg", picture)
    write_style(plan.root)
    sections = [
        Section(name="results", title="Results", content=_results(found)),
        Section(name="curves", title="Training curves", content=_curves(found, drawn=bool(drawn))),
        Section(name="conditions", title="Conditions", content=_conditions(plan)),
        Section(name="provenance", title="Provenance", content=_provenance(plan, found)),
    ]
    name = plan.root.resolve().name
    page = render_page(f"{name} · distangle ablation", stamp=stamp, header=_header(plan, found), sections=sections)
    write_text(plan.root / "index.html", page)
    return plan.root / "index.html"


def table_lines(found: Comparison) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the terminal table: both accuracies with their differences.

    Args:
        found: From `compare`.
    """
    balanced = {(row.condition, row.level): row for row in found.rows if row.metric == "balanced accuracy"}
    for row in found.rows:
        if row.metric == "accuracy":
            cells = [cell for one in (row, balanced[row.condition, row.level]) for cell in (_mean(one), _apart(one))]
            yield row.condition, row.level, str(row.views), *cells, f"{len(row.by_seed)}", f"{row.n}"


def caveats(found: Comparison) -> list[str]:
    """Return the caveats of the intervals, one sentence each.

    Args:
        found: From `compare`.
    """
    caveats = []
    if len(found.groups) < LEAST_GROUPS:
        caveats.append(
            f"{count(len(found.groups), f'held-out {found.unit}')}: an interval takes {LEAST_GROUPS} or more, so there "
            "is none, and it is unknown how far a difference would carry over to another one."
        )
    elif len(found.seeds) < LEAST_SEEDS:
        caveats.append(
            f"{count(len(found.seeds), 'seed')}: the interval of a difference takes {LEAST_SEEDS} or more, so there is "
            "none, and other seeds may order the conditions otherwise."
        )
    if found.unit == "plate":
        caveats.append("A single experiment is held out: intervals are over its plates, which share a batch effect.")
    if found.unchanged:
        caveats.append(
            f"{', '.join(found.unchanged)}: every run predicts, to the last bit, what the baseline predicts, so the "
            "component that was switched on never took effect. Check run.json and metrics.csv of its runs."
        )
    counted = {(row.condition, tuple(row.by_seed)) for row in found.rows}
    if len({seeds for _, seeds in counted}) > 1:
        missing = sorted({name for name, seeds in counted if len(seeds) < len(found.seeds)})
        caveats.append(f"Not every seed is finished for {', '.join(missing)}; differences use the seeds of both.")
    return caveats


def _header(plan: AblationPlan, found: Comparison) -> Content:
    main = [row for row in found.rows if (row.level, row.metric) == ("well", "accuracy")]
    compared = [row for row in main if row.difference is not None]
    sentences = [_verdict(compared)] if compared else []
    sentences.append(
        f"{count(len(main), 'condition')}, {count(len(found.seeds), 'seed')} each, on the same held-out "
        f"{count(len(found.groups), found.unit)}; chance is {percent(found.chance)}."
    )
    values = {
        "name": plan.root.resolve().name,
        "sentences": sentences,
        "warnings": [*caveats(found), *plan.folds.notes],
    }
    return Content("ablation/header.html.j2", values)


def _verdict(rows: list[Row]) -> str:
    """Return which conditions differ from the baseline by more than their interval."""
    sentences = []
    for side, sign in (("above", 1), ("below", -1)):
        beyond = [row for row in rows if row.difference_interval and sign * row.difference_interval[sign < 0] > 0]
        if beyond:
            named = ", ".join(f"{row.condition} ({_points(row.difference or 0.0)})" for row in beyond)
            sentences.append(f"In points of well accuracy, the whole interval lies {side} the baseline for {named}.")
    if not any(row.difference_interval for row in rows):
        return "There are too few held-out groups or seeds to tell whether any component has an effect."
    return " ".join(sentences) or "No interval lies wholly above or below the baseline: no component shows an effect."


def _results(found: Comparison) -> Content:
    parts: list[dict[str, Any]] = []
    for level, views in dict.fromkeys((row.level, row.views) for row in found.rows):
        for metric in ("accuracy", "balanced accuracy"):
            rows = [row for row in found.rows if (row.level, row.metric) == (level, metric)]
            wells = "treatments" if found.wells == "treatments" else "all, with controls"
            caption = (
                f"{metric.capitalize()} of {level}s ({wells}; {count(views, 'view')}; n = {rows[0].n} in each run)"
            )
            part: dict[str, Any] = {"table": _table(found, rows, caption=caption)}
            differences = [_bar(row, row.difference) for row in rows if row.difference is not None]
            if (level, metric) == ("well", "accuracy") and differences:
                intervals = any(row.difference_interval for row in rows)
                label = f"Percentage points over the baseline{', with 95 % intervals' if intervals else ''}"
                part["bars"] = bars(differences, description=label, width=480.0)
                thin = "; thin lines: 95\u202f% intervals" if intervals else ""
                part["bars_caption"] = f"Percentage points over the baseline{thin}."
            parts.append(part)
    return Content("ablation/results.html.j2", {"parts": parts, "unit": found.unit})


def _table(found: Comparison, rows: list[Row], *, caption: str) -> Table:
    """Return the table of one level and metric; no empty columns of intervals."""
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
    titles = ("", "mean", "from 0 to 1", "95 % interval", "points over baseline", "95 % interval", "by seed, %")
    shown = [k for k in range(len(titles)) if k not in (3, 5) or any(line[k] for line in lines)]
    return Table(
        columns=[titles[k] for k in shown],
        rows=[[line[k] for k in shown] for line in lines],
        numeric=[place for place, k in enumerate(shown) if k not in (0, 2)],
        caption=caption,
    )


def _bar(row: Row, difference: float) -> Bar:
    ends = row.difference_interval
    interval = None if ends is None else (100 * ends[0], 100 * ends[1])
    return Bar(name=row.condition, value=100 * difference, printed=_points(difference), interval=interval)


def _curves(found: Comparison, *, drawn: bool) -> Content:
    if not drawn:
        return paragraph("The held-out fold has no labels, so there is no curve.")
    return Content("ablation/curves.html.j2", {"source": "curves.svg", "names": list(found.curves)})


def _conditions(plan: AblationPlan) -> Content:
    rows = [
        {
            "name": condition.name,
            "components": " · ".join(PARTS[name].said for name in condition.on) or "none",
            "settings": [f"{name}={value}" for name, value in settings_of(condition, plan.config).items()],
        }
        for condition in plan.conditions
    ]
    return Content("ablation/conditions.html.j2", {"rows": rows})


def _provenance(plan: AblationPlan, found: Comparison) -> Content:
    facts = [
        ("held out", plan.folds.description),
        (found.unit if len(found.groups) == 1 else f"{found.unit}s", ", ".join(found.groups)),
        ("seeds", ", ".join(map(str, found.seeds))),
        ("folds sha256", plan.folds.sha256[:16]),
    ]
    if plan.folds.unlabelled:
        facts.insert(1, ("labels hidden", plan.folds.unlabelled))
    settings = [(name, str(value)) for name, value in values_of(plan.config).items()]
    values = {
        "commands": plan.commands,
        "facts": facts,
        "settings": Table(columns=("setting", "value"), rows=settings),
    }
    return Content("ablation/provenance.html.j2", values)


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


def _ends(interval: Interval | None, number: Callable[[float], str]) -> str:
    return "" if interval is None else f"{number(interval[0])} to {number(interval[1])}"
