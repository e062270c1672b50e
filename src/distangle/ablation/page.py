"""Write the ablation as tables (CSV, JSON), a chart and a page."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distangle.ablation.compare import Comparison, Row
from distangle.ablation.components import BASELINE, COMPONENTS, settings_of
from distangle.ablation.plan import AblationPlan
from distangle.core.io import write_json, write_text
from distangle.core.stats import MIN_GROUPS, MIN_SEEDS, Interval
from distangle.report.html import Content, Section, Table, count, paragraph, percent, render_page, write_style
from distangle.report.inline_svg import Bar, bars, interval_bar
from distangle.report.quality_charts import curve_panels
from distangle.training import values_of

COLUMNS = ("condition", "level", "views", "metric", "value", "low", "high", "difference", "difference_low",
           "difference_high", "n", "seeds")  # fmt: skip


def write_comparison(plan: AblationPlan, comparison: Comparison) -> Path:
    """Write the tables, the curves and the page into the folder of the ablation.

    Args:
        plan: The ablation.
        comparison: From `compare`.

    Returns:
        The path of `index.html`; beside it lie `comparison.csv`, `comparison.json`, `curves.svg` and `style.css`.
    """
    write_json(plan.root / "comparison.json", comparison.to_json())
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_csv_row(row) for row in comparison.rows)
    write_text(plan.root / "comparison.csv", text.getvalue())
    stamp = "forced split" if plan.folds.forced else ""
    curves = {name: curve for name, curve in comparison.curves.items() if curve.size}
    if curves:
        svg = curve_panels(curves, reference=BASELINE, measure="accuracy, held-out sites", stamp=stamp)
        write_text(plan.root / "curves.svg", svg)
    write_style(plan.root)
    sections = [
        Section(name="results", title="Results", content=_results(comparison)),
        Section(name="curves", title="Training curves", content=_curves(comparison, has_curves=bool(curves))),
        Section(name="conditions", title="Conditions", content=_conditions(plan)),
        Section(name="provenance", title="Provenance", content=_provenance(plan, comparison)),
    ]
    name = plan.root.resolve().name
    page = render_page(f"{name} · distangle ablation", stamp=stamp, header=_header(plan, comparison), sections=sections)
    write_text(plan.root / "index.html", page)
    return plan.root / "index.html"


def table_lines(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the terminal table: both accuracies with their differences.

    Args:
        comparison: From `compare`.
    """
    balanced = {(row.condition, row.level): row for row in comparison.rows if row.metric == "balanced accuracy"}
    for row in comparison.rows:
        if row.metric == "accuracy":
            cells = [
                cell
                for metric_row in (row, balanced[row.condition, row.level])
                for cell in (_format_mean(metric_row), _format_difference(metric_row))
            ]
            yield row.condition, row.level, str(row.views), *cells, f"{len(row.by_seed)}", f"{row.n}"


def caveats(comparison: Comparison) -> list[str]:
    """Return the caveats of the intervals, one sentence each.

    Args:
        comparison: From `compare`.
    """
    sentences = []
    if len(comparison.groups) < MIN_GROUPS:
        sentences.append(
            f"{count(len(comparison.groups), f'held-out {comparison.unit}')}: an interval takes {MIN_GROUPS} or "
            "more, so there is none, and it is unknown how far a difference would carry over to another one."
        )
    elif len(comparison.seeds) < MIN_SEEDS:
        sentences.append(
            f"{count(len(comparison.seeds), 'seed')}: the interval of a difference takes {MIN_SEEDS} or more, so "
            "there is none, and other seeds may order the conditions differently."
        )
    if comparison.unit == "plate":
        sentences.append("A single experiment is held out: intervals are over its plates, which share a batch effect.")
    if comparison.unchanged:
        sentences.append(
            f"{', '.join(comparison.unchanged)}: every run predicts, to the last bit, what the baseline predicts, so "
            "the component that was switched on had no effect. Check run.json and metrics.csv of its runs."
        )
    seeds_by_condition = {(row.condition, tuple(row.by_seed)) for row in comparison.rows}
    if len({seeds for _, seeds in seeds_by_condition}) > 1:
        missing = sorted({name for name, seeds in seeds_by_condition if len(seeds) < len(comparison.seeds)})
        sentences.append(f"Not every seed is finished for {', '.join(missing)}; differences use the seeds of both.")
    return sentences


def _header(plan: AblationPlan, comparison: Comparison) -> Content:
    well_rows = [row for row in comparison.rows if (row.level, row.metric) == ("well", "accuracy")]
    compared = [row for row in well_rows if row.difference is not None]
    sentences = [_verdict(compared)] if compared else []
    sentences.append(
        f"{count(len(well_rows), 'condition')}, {count(len(comparison.seeds), 'seed')} each, on the same held-out "
        f"{count(len(comparison.groups), comparison.unit)}; chance is {percent(comparison.chance)}."
    )
    values = {
        "name": plan.root.resolve().name,
        "sentences": sentences,
        "warnings": [*caveats(comparison), *plan.folds.notes],
    }
    return Content("ablation/header.html.j2", values)


def _verdict(rows: list[Row]) -> str:
    """Return which conditions differ from the baseline by more than their interval."""
    sentences = []
    for side, sign in (("above", 1), ("below", -1)):
        outside = [row for row in rows if row.difference_interval and sign * row.difference_interval[sign < 0] > 0]
        if outside:
            changes = ", ".join(f"{row.condition} ({_format_points(row.difference or 0.0)})" for row in outside)
            sentences.append(f"In points of well accuracy, the whole interval lies {side} the baseline for {changes}.")
    if not any(row.difference_interval for row in rows):
        return "There are too few held-out groups or seeds to tell whether any component has an effect."
    return " ".join(sentences) or "No interval lies wholly above or below the baseline: no component shows an effect."


def _results(comparison: Comparison) -> Content:
    contents: list[dict[str, Any]] = []
    for level, views in dict.fromkeys((row.level, row.views) for row in comparison.rows):
        for metric in ("accuracy", "balanced accuracy"):
            rows = [row for row in comparison.rows if (row.level, row.metric) == (level, metric)]
            wells = "treatments" if comparison.wells == "treatments" else "all, with controls"
            caption = (
                f"{metric.capitalize()} of {level}s ({wells}; {count(views, 'view')}; n = {rows[0].n} in each run)"
            )
            content: dict[str, Any] = {"table": _table(comparison, rows, caption=caption)}
            differences = [_difference_bar(row, row.difference) for row in rows if row.difference is not None]
            if (level, metric) == ("well", "accuracy") and differences:
                intervals = any(row.difference_interval for row in rows)
                label = f"Percentage points over the baseline{', with 95 % intervals' if intervals else ''}"
                content["bars"] = bars(differences, description=label, width=480.0)
                legend = "; thin lines: 95\u202f% intervals" if intervals else ""
                content["bars_caption"] = f"Percentage points over the baseline{legend}."
            contents.append(content)
    return Content("ablation/results.html.j2", {"parts": contents, "unit": comparison.unit})


def _table(comparison: Comparison, rows: list[Row], *, caption: str) -> Table:
    """Return the table of one level and metric, without empty interval columns."""
    lines = [
        (
            row.condition,
            percent(row.value),
            interval_bar(row.value, row.interval, chance=comparison.chance),
            _format_interval(row.interval, percent),
            "" if row.difference is None else _format_points(row.difference),
            _format_interval(row.difference_interval, _format_points),
            ", ".join(f"{100 * value:.1f}" for value in row.by_seed.values()),
        )
        for row in rows
    ]
    titles = ("", "mean", "from 0 to 1", "95 % interval", "points over baseline", "95 % interval", "by seed, %")
    used = [k for k in range(len(titles)) if k not in (3, 5) or any(line[k] for line in lines)]
    return Table(
        columns=[titles[k] for k in used],
        rows=[[line[k] for k in used] for line in lines],
        numeric=[position for position, k in enumerate(used) if k not in (0, 2)],
        caption=caption,
    )


def _difference_bar(row: Row, difference: float) -> Bar:
    bounds = row.difference_interval
    interval = None if bounds is None else (100 * bounds[0], 100 * bounds[1])
    return Bar(name=row.condition, value=100 * difference, printed=_format_points(difference), interval=interval)


def _curves(comparison: Comparison, *, has_curves: bool) -> Content:
    if not has_curves:
        return paragraph("The held-out fold has no labels, so there is no curve.")
    return Content("ablation/curves.html.j2", {"source": "curves.svg", "names": list(comparison.curves)})


def _conditions(plan: AblationPlan) -> Content:
    rows = [
        {
            "name": condition.name,
            "components": " · ".join(COMPONENTS[name].description for name in condition.enabled) or "none",
            "settings": [f"{name}={value}" for name, value in settings_of(condition, plan.config).items()],
        }
        for condition in plan.conditions
    ]
    return Content("ablation/conditions.html.j2", {"rows": rows})


def _provenance(plan: AblationPlan, comparison: Comparison) -> Content:
    facts = [
        ("held out", plan.folds.description),
        (comparison.unit if len(comparison.groups) == 1 else f"{comparison.unit}s", ", ".join(comparison.groups)),
        ("seeds", ", ".join(map(str, comparison.seeds))),
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


def _csv_row(row: Row) -> list[object]:
    low, high = row.interval or ("", "")
    difference_low, difference_high = row.difference_interval or ("", "")
    difference = "" if row.difference is None else row.difference
    seeds = " ".join(f"{seed}:{value:.6g}" for seed, value in row.by_seed.items())
    return [row.condition, row.level, row.views, row.metric, row.value, low, high, difference, difference_low,
            difference_high, row.n, seeds]  # fmt: skip


def _format_mean(row: Row) -> str:
    return f"{row.value:.3f}" + (f" ({row.interval[0]:.3f}-{row.interval[1]:.3f})" if row.interval else "")


def _format_difference(row: Row) -> str:
    if row.difference is None:
        return "" if row.condition == BASELINE else "-"
    bounds = row.difference_interval
    return f"{row.difference:+.3f}" + (f" ({bounds[0]:+.3f} to {bounds[1]:+.3f})" if bounds else "")


def _format_points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\u2212")


def _format_interval(interval: Interval | None, format_number: Callable[[float], str]) -> str:
    return "" if interval is None else f"{format_number(interval[0])} to {format_number(interval[1])}"
