"""Draw the charts of profiles: activity, map of the wells, biology against batch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from distangle.report.html import count
from distangle.report.inline_svg import draw_svg, tag
from distangle.report.scatter import Frame, Point, scatter, shorten, text_width
from distangle.results.profile_result import ProfileResult
from distangle.screen import NEGATIVE, Role

MAX_CELLS = 40  # perturbations of the similarity matrix
MAX_LABELS = 12  # of the activity chart
MAX_POINTS = 3000  # of a chart
N_HUES = 7  # colors of a map; the rest is grey
ROLE_STYLES: dict[str, str] = {Role.POSITIVE_CONTROL: "positive", **dict.fromkeys(NEGATIVE, "negative")}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing with its caption.

    Attributes:
        drawing: The SVG.
        caption: Sentences below it.
        legend: (class of the mark, text) of every kind of mark; empty for none.
    """

    drawing: Markup
    caption: str
    legend: Sequence[tuple[str, str]] = ()


def numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as float64 [row]; NaN where there is no number."""
    if name not in table:
        return np.full(len(table), np.nan)
    return np.asarray(pd.to_numeric(table[name], errors="coerce"), dtype=np.float64)


def texts(table: pd.DataFrame, name: str) -> list[str]:
    """Return a column as texts; "" where a value or the column is absent."""
    if name not in table:
        return [""] * len(table)
    return ["" if value is None or value != value else str(value) for value in table[name].tolist()]


def activity_chart(hits: pd.DataFrame, level: float) -> Chart | None:
    """Draw the size of the effect against the significance; None without numbers.

    Args:
        hits: Table of hits, the strongest first.
        level: Largest q of a hit.
    """
    q, size = numbers(hits, "q"), numbers(hits, "effect_size")
    names, agreement = texts(hits, "perturbation"), numbers(hits, "mean_average_precision")
    by_size = bool((np.isfinite(size) & np.isfinite(q)).any())
    x = size if by_size else agreement - np.nan_to_num(numbers(hits, "expected"))
    usable = np.isfinite(x) & np.isfinite(q) & (q >= 0)
    if not usable.any():
        return None
    positive = q[usable & (q > 0)]
    height = -np.log10(np.clip(np.nan_to_num(q, nan=1.0), positive.min() if len(positive) else 1e-6, None))
    order = [row for row in np.argsort(-x, kind="stable") if usable[row]]
    n_usable, order = len(order), order[:MAX_POINTS]
    top = {row for row in order if q[row] <= level}
    labelled = set([row for row in order if row in top][:MAX_LABELS])
    points = [
        Point(
            x=float(x[row]),
            y=float(height[row]),
            style="hit" if row in top else "other",
            tooltip=f"{names[row]}: mAP {agreement[row]:.3f}, q = {q[row]:.3g}",
            label=names[row] if row in labelled else "",
        )
        for row in sorted(order, key=lambda row: row in top)
    ]
    title = "effect size (energy distance)" if by_size else "mAP above chance"
    frame = Frame(
        x_title=f"{title}, stronger →",
        y_title="−log₁₀ q, surer →",
        description=f"Activity of {count(len(points), 'perturbation')}",
        threshold=-float(np.log10(level)) if 0 < level < 1 else None,
        threshold_label=f"q = {level:g}",
    )
    explanation = (
        "Effect size: mean energy distance between the wells of a perturbation and the negative controls of their "
        "plates."
        if by_size
        else "mAP above chance: mean average precision minus the value expected of random profiles."
    )
    names_shown = f"Names: the strongest hits, up to {MAX_LABELS}, where there is space. " if labelled else ""
    shown = f"the strongest {len(points):,} of " if len(points) < n_usable else ""
    caption = f"Activity of {shown}{count(n_usable, 'perturbation')}. {explanation} {names_shown}"
    caption += "Point at a mark to read its name."
    legend = [("hit", f"hit (q ≤ {level:g})"), ("other", "no hit")]
    return Chart(drawing=scatter(points, frame), caption=caption, legend=legend)


def map_charts(result: ProfileResult, level: float) -> list[Chart]:
    """Draw the map of the wells twice: by experiment or plate, and by perturbation.

    Args:
        result: Profiles with coordinates; without them there is no chart.
        level: Largest q of a hit.
    """
    if result.coordinates is None:
        return []
    x, y = numbers(result.coordinates, "x"), numbers(result.coordinates, "y")
    rows = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not len(rows):
        return []
    n_wells = len(rows)
    if n_wells > MAX_POINTS:
        rows = rows[np.linspace(0, n_wells - 1, MAX_POINTS).round().astype(np.int64)]
    rows = np.random.default_rng(0).permutation(rows)  # no experiment covers another one
    table = result.wells.table
    experiments, plates = texts(table, "Metadata_Experiment"), texts(table, "Metadata_Plate")
    by_experiment = len({experiments[row] for row in rows}) > 1
    places = [
        f"{experiment} · plate {plate}" if experiment else f"plate {plate}"
        for experiment, plate in zip(experiments, plates, strict=True)
    ]
    perturbations, roles = texts(table, "Metadata_Perturbation"), texts(table, "Metadata_Role")
    wells = texts(table, "Metadata_Well")
    tooltips = [
        f"{name or role}, {place} {well}"
        for name, role, place, well in zip(perturbations, roles, places, wells, strict=True)
    ]
    batches, group_name = (experiments, "experiment") if by_experiment else (places, "plate")
    positions = {int(row): (float(x[row]), float(y[row])) for row in rows}
    shown = "" if len(rows) == n_wells else f", {len(rows):,} of {n_wells:,} shown"
    method = result.settings.get("map")
    method = f"2-D map ({method})" if isinstance(method, str) and method else "2-D map"
    styles, legend = _hues([batches[row] for row in rows])
    hits = _top_hits(result.hits, level)
    strongest = f" and by the {len(hits)} strongest hits" if len(hits) > 1 else " and by the hit" if hits else ""
    captions = (
        f"{method} of the wells{shown}, colored by {group_name}. Distances between far groups mean little.",
        f"The same map, colored by role{strongest}.",
    )
    first = Chart(
        drawing=_draw_map(positions, styles, tooltips, description=f"Map of the wells by {group_name}"),
        caption=captions[0],
        legend=legend,
    )
    role_styles, role_legend = _role_styles(rows, perturbations, roles, hits=hits)
    second = Chart(
        drawing=_draw_map(positions, role_styles, tooltips, description="Map of the wells by perturbation"),
        caption=captions[1],
        legend=role_legend,
    )
    return [first, second]


def _draw_map(
    positions: dict[int, tuple[float, float]], styles: Sequence[str], tooltips: Sequence[str], *, description: str
) -> Markup:
    points = [
        Point(x=x, y=y, style=style, tooltip=tooltips[row])
        for (row, (x, y)), style in zip(positions.items(), styles, strict=True)
    ]
    # Grey marks first, so that they hide nothing.
    points.sort(key=lambda point: point.style.startswith("hue") or point.style == "positive")
    return scatter(points, Frame(x_title="", y_title="", description=description, is_map=True, radius=3.0))


def _top_hits(hits: pd.DataFrame, level: float) -> list[str]:
    q = numbers(hits, "q")
    return [name for name, value in zip(texts(hits, "perturbation"), q, strict=True) if value <= level][:N_HUES]


def _hues(values: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the class of every value and the legend: the most frequent in color."""
    counts = Counter(values)
    names = sorted(name for name, _ in counts.most_common(N_HUES))
    hues = {name: f"hue-{number}" for number, name in enumerate(names, start=1)}
    legend = [(hues[name], name or "unknown") for name in names]
    if len(counts) > len(names):
        legend.append(("other", f"{len(counts) - len(names)} others"))
    return [hues.get(value, "other") for value in values], legend


def _role_styles(
    rows: np.ndarray, perturbations: Sequence[str], roles: Sequence[str], *, hits: Sequence[str]
) -> tuple[list[str], list[tuple[str, str]]]:
    hues = {name: f"hue-{number}" for number, name in enumerate(hits, start=1)}
    styles = [ROLE_STYLES.get(roles[row], hues.get(perturbations[row], "other")) for row in rows]
    legend = [(hue, name) for name, hue in hues.items() if hue in styles]
    words = {"negative": "negative control", "positive": "positive control", "other": "other perturbations"}
    return styles, legend + [(style, text) for style, text in words.items() if style in styles]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Biology and batch effect of profiles after one alignment.

    Attributes:
        name: `none`, or the chain of steps.
        batch: Batch effect left; less is better.
        biology: Replicate mean average precision; more is better.
        batch_interval: Interval of `batch`; None without one.
        biology_interval: Interval of `biology`; None without one.
    """

    name: str
    batch: float
    biology: float
    batch_interval: tuple[float, float] | None = None
    biology_interval: tuple[float, float] | None = None


def trade_off(batch_effects: pd.DataFrame) -> tuple[list[Stage], str]:
    """Return biology and batch effect of every alignment, and the name of the latter.

    The batch effect is the first of these that every stage has: accuracy of the probe of experiments above chance, of
    plates above chance, 1 - BRAS of experiments, 1 - BRAS of plates.
    """
    biology = _values(batch_effects, "mAP", "perturbation")
    if not biology:
        return [], ""
    for measure in ("probe accuracy", "BRAS"):
        for of in ("experiment", "plate"):
            batch = _values(batch_effects, measure, of)
            names = [name for name in biology if name in batch]
            if len(names) < len(biology):
                continue
            stages = []
            for name in names:
                (value, low_high, chance), (precision, interval, _) = batch[name], biology[name]
                if measure == "probe accuracy":
                    start = chance if np.isfinite(chance) else 0.0
                    left, ends = value - start, low_high and (low_high[0] - start, low_high[1] - start)
                else:
                    left, ends = 1 - value, low_high and (1 - low_high[1], 1 - low_high[0])
                stages.append(
                    Stage(name=name, batch=left, biology=precision, batch_interval=ends, biology_interval=interval)
                )
            return stages, f"{of} probe above chance" if measure == "probe accuracy" else f"1 − BRAS of the {of}"
    return [], ""


def _values(
    batch_effects: pd.DataFrame, name: str, of: str
) -> dict[str, tuple[float, tuple[float, float] | None, float]]:
    """Return value, interval and chance of a measure by alignment, if it has a value."""
    rows = batch_effects[(batch_effects["name"] == name) & (batch_effects["of"] == of)]
    low, high, is_interval = numbers(rows, "low"), numbers(rows, "high"), [
        text.endswith("interval") for text in texts(rows, "range")
    ]  # fmt: skip
    value, chance = numbers(rows, "value"), numbers(rows, "chance")
    return {
        alignment: (
            float(value[row]),
            (float(low[row]), float(high[row]))
            if is_interval[row] and np.isfinite(low[row]) and np.isfinite(high[row])
            else None,
            float(chance[row]),
        )
        for row, alignment in enumerate(texts(rows, "alignment"))
        if np.isfinite(value[row])
    }


def front(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages that no other stage beats in both directions."""
    return [
        stage
        for stage in stages
        if not any(
            other.batch <= stage.batch
            and other.biology >= stage.biology
            and (other.batch, other.biology) != (stage.batch, stage.biology)
            for other in stages
        )
    ]


def trade_off_chart(batch_effects: pd.DataFrame) -> Chart | None:
    """Draw biology against the batch effect left; None without both measures."""
    stages, batch = trade_off(batch_effects)
    if not stages:
        return None
    best = front(stages)
    points = [
        Point(
            x=stage.batch,
            y=stage.biology,
            style="hit" if stage in best else "other",
            tooltip=f"{stage.name}: {batch} {stage.batch:.3f}, mAP {stage.biology:.3f}",
            label=stage.name,
            x_interval=stage.batch_interval,
            y_interval=stage.biology_interval,
        )
        for stage in stages
    ]
    frame = Frame(
        x_title=f"← less is better: batch left ({batch})",
        y_title="more is better →: replicate mAP",
        description=f"Biology against batch effect of {len(stages)} alignments",
        joined=True,
        radius=5.0,
    )
    names = ", ".join(stage.name for stage in best)
    has_lines = any(stage.batch_interval or stage.biology_interval for stage in stages)
    lines = "Lines: 95\u202f% intervals. " if has_lines else ""
    caption = (
        "Biology kept against batch effect left, after each step of the alignment. Best is the upper left corner. "
        f"{lines}No other step beats: {names}."
    )
    legend = [("hit", "no other step beats it"), ("other", "another step beats it")]
    return Chart(drawing=scatter(points, frame), caption=caption, legend=legend)


def similarity_chart(similarity: pd.DataFrame | None, hits: pd.DataFrame) -> Chart | None:
    """Draw the cosines of the strongest perturbations as a matrix.

    Args:
        similarity: Of `ProfileResult`, in the order of its tree.
        hits: Table of hits, the strongest first.

    Returns:
        The matrix; None for fewer than three perturbations.
    """
    if similarity is None:
        return None
    strongest = set(texts(hits, "perturbation")[:MAX_CELLS])
    names = [name for name in texts(similarity, "perturbation") if name in strongest and name in similarity]
    if len(names) < 3:
        return None
    square = similarity.set_index("perturbation").loc[names, names].to_numpy(dtype=np.float64)
    shown = [shorten(name, 16) for name in names]
    margin, size = max(map(text_width, shown)) + 8, min(24.0, 560.0 / len(names))
    side = margin + size * len(names)
    parts = [
        tag("text", label, x=margin - 5, y=margin + size * (row + 0.5) + 4, class_="end")
        for row, label in enumerate(shown)
    ]
    parts += [
        tag("text", label, transform=f"translate({margin + size * (k + 0.5) + 4:.1f} {margin - 5:.1f}) rotate(-90)")
        for k, label in enumerate(shown)
    ]
    for row, name in enumerate(names):
        for column, other in enumerate(names):
            cosine = float(np.clip(square[row, column], -1, 1))
            parts.append(
                tag(
                    "rect",
                    tag("title", f"{name} and {other}: {cosine:.2f}"),
                    x=margin + size * column,
                    y=margin + size * row,
                    width=size,
                    height=size,
                    class_="alike" if cosine > 0 else "unlike",
                    fill_opacity=abs(cosine),
                )
            )
    drawing = draw_svg(
        parts,
        width=side + 2,
        height=side + 2,
        description=f"Cosines of {count(len(names), 'perturbation')}",
        class_="scatter matrix",
    )
    which = "All" if len(names) == len(similarity) else f"The {len(names)} strongest of {len(similarity):,}"
    caption = (
        f"Similarity. {which} perturbations, in the order of a tree. The stronger the color, the nearer the cosine of "
        "the two profiles is to 1 (blue, alike) or to -1 (orange, opposite)."
    )
    return Chart(drawing=drawing, caption=caption)
