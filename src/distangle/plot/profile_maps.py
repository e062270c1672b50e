"""Draw profiles: the 2-D map, and biology against batch effect."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distangle.errors import ConfigError, ProfileError
from distangle.plot.canvas import COLORS, RunLike, canvas, open_run
from distangle.plot.plate_maps import GREY
from distangle.report.charts import BLUE, INK, MUTED
from distangle.report.profile_charts import ROLE_STYLES, front, numbers, texts
from distangle.report.profile_charts import trade_off as stages_of
from distangle.results.profile_result import JSON_FILE, ProfileResult
from distangle.screen import natural_sort_key

BY_PERTURBATION = "perturbation"
_PREFIX = "Metadata_"


def profile_map(profiles: RunLike, *, color: str = BY_PERTURBATION, ax: Axes | None = None) -> Figure:
    """Draw the 2-D map of the wells.

    Args:
        profiles: A run with profiles, its folder, or a folder of profiles.
        color: `perturbation` (the seven strongest hits; controls in grey and black), `experiment`, `plate` or another
            column of the wells, with or without `Metadata_`; the seven most frequent values have a color.
        ax: Axes to draw into; None for a new figure.

    Raises:
        ConfigError: There is no such column.
        ProfileError: There is no map.
        RunError: There are no profiles.
    """
    result = _read(profiles)
    if result.coordinates is None:
        raise ProfileError("The profiles have no 2-D map. Make one: `distangle profile RUN --map pca`.")
    x, y = numbers(result.coordinates, "x"), numbers(result.coordinates, "y")
    values, order = _groups(result, color)
    with canvas(ax, width=5.6, height=4.0) as (figure, axes):
        rest = np.array([value not in order for value in values])
        if rest.any():
            others = len({value for value in values if value not in order})
            label = f"{others} others" if others > 1 else next(value for value in values if value not in order)
            axes.scatter(x[rest], y[rest], s=14, color=GREY, linewidth=0, label=label or "none")
        for value, shade in order.items():
            rows = np.array([entry == value for entry in values])
            style = {"facecolors": "none", "edgecolors": MUTED} if shade == "ring" else {"color": shade, "linewidth": 0}
            axes.scatter(x[rows], y[rows], s=18, label=value or "none", **style)
        method = result.settings.get("map")
        axes.set_title(f"2-D map{f' ({method})' if method else ''} of {len(values):,} wells")
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        handles, labels = axes.get_legend_handles_labels()
        if rest.any():  # drawn first, below the others, and named last
            handles, labels = [*handles[1:], handles[0]], [*labels[1:], labels[0]]
        axes.legend(
            handles, labels, title=color.removeprefix(_PREFIX).lower().replace("_", " "), frameon=False, fontsize=7.5,
            title_fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0),
        )  # fmt: skip
        return figure


def trade_off(profiles: RunLike, *, ax: Axes | None = None) -> Figure:
    """Draw biology against the batch effect left, after each step of the alignment.

    Best is the upper left corner; no other step beats the blue ones. Lines are 95 % intervals.

    Args:
        profiles: A run with profiles, its folder, or a folder of profiles.
        ax: Axes to draw into; None for a new figure.

    Raises:
        ProfileError: Biology or batch effect was not measured.
        RunError: There are no profiles.
    """
    stages, batch = stages_of(_read(profiles).batch_effects)
    if not stages:
        raise ProfileError(
            "The profiles have no batch effects with biology. Expected replicates of perturbations in several "
            "experiments or plates. Compute the profiles again: `distangle profile RUN`."
        )
    best = front(stages)
    with canvas(ax, width=5.0, height=3.6) as (figure, axes):
        axes.plot([stage.batch for stage in stages], [stage.biology for stage in stages], color=GREY, linewidth=1.0)
        for stage in stages:
            shade = BLUE if stage in best else MUTED
            for interval, draw, other in (
                (stage.batch_interval, axes.hlines, stage.biology),
                (stage.biology_interval, axes.vlines, stage.batch),
            ):
                if interval is not None:
                    draw(other, *interval, color=shade, linewidth=1.0, alpha=0.6)
            axes.plot([stage.batch], [stage.biology], "o", color=shade, markersize=6)
            axes.annotate(
                stage.name, (stage.batch, stage.biology), xytext=(6, 5), textcoords="offset points", fontsize=8,
                color=INK,
            )  # fmt: skip
        axes.set_xlabel(f"← less is better: batch left ({batch})")
        axes.set_ylabel("more is better →: replicate mAP")
        axes.set_title("Biology against batch effect")
        axes.margins(0.15)
        axes.grid()
        axes.set_axisbelow(True)
        return figure


def _read(profiles: RunLike) -> ProfileResult:
    """Read the profiles of a run or of a folder of profiles."""
    if isinstance(profiles, str | Path) and (Path(profiles) / JSON_FILE).is_file():
        return ProfileResult.read(Path(profiles))
    return ProfileResult.read(open_run(profiles).profiles)


def _groups(result: ProfileResult, color: str) -> tuple[Sequence[str], dict[str, str]]:
    """Return the group of every well, and the color of those that have one.

    Raises:
        ConfigError: There is no such column.
    """
    table = result.wells.table
    if color == BY_PERTURBATION:
        names, roles = texts(table, f"{_PREFIX}Perturbation"), texts(table, f"{_PREFIX}Role")
        words = {"negative": "negative control", "positive": "positive control"}
        styles = [ROLE_STYLES.get(role, "") for role in roles]
        hits = [name for name in texts(result.hits, "perturbation") if name in names][: len(COLORS)]
        values = [words.get(style, name) for style, name in zip(styles, names, strict=True)]
        order = {**dict(zip(hits, COLORS, strict=False)), words["negative"]: "ring", words["positive"]: INK}
        return values, {name: shade for name, shade in order.items() if name in values}
    columns = {str(name).removeprefix(_PREFIX).lower(): str(name) for name in table}
    key = color.removeprefix(_PREFIX).lower()
    if key not in columns:
        raise ConfigError(f"The wells have no column {color!r}. Expected {', '.join(columns)}.")
    values = texts(table, columns[key])
    if key == "plate" and "experiment" in columns:
        values = ["/".join(pair) for pair in zip(texts(table, columns["experiment"]), values, strict=True)]
    frequent = sorted((value for value, _ in Counter(values).most_common(len(COLORS))), key=natural_sort_key)
    return values, dict(zip(frequent, COLORS, strict=False))
