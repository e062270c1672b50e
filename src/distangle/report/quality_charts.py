"""Draw the charts of ablations, data cards and faithfulness tests as SVG."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from distangle.images.composites import contrast_limits, grey, stretch
from distangle.report.charts import BLUE, INK, MUTED, ORANGE, RULE, svg_of, svg_settings
from distangle.report.merging import merge_channels, merged_channels
from distangle.screen import well_name


def curve_panels(
    curves: Mapping[str, np.ndarray],
    *,
    reference: str,
    measure: str,
    chance: float | None = None,
    stamp: str = "",
    n_columns: int = 3,
) -> str:
    """Draw a panel per condition, with the reference behind it in grey, as SVG text.

    A line is the mean over the runs that reached the epoch; its band reaches from the lowest to the highest run.

    Args:
        curves: [epoch, run] by name of the condition; NaN where a run did not reach the epoch.
        reference: Condition that is drawn in every panel; alone, it gets the only panel.
        measure: Label of the value axis; the values lie in [0, 1].
        chance: Value of guessing, drawn as a dashed line; None for no line.
        stamp: Label in the corner, such as "forced split".
        n_columns: Number of panels per row.
    """
    reference_runs = curves.get(reference)
    panels = [name for name in curves if name != reference] or [reference]
    n_columns = min(n_columns, len(panels))
    n_rows = -(-len(panels) // n_columns)
    with matplotlib.rc_context(svg_settings()):
        figure = Figure(figsize=(2.9 * n_columns + 0.2, 2.15 * n_rows + 0.15), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
        for index, axes in enumerate(grid.flat):
            if index >= len(panels):
                axes.set_axis_off()
                continue
            name = panels[index]
            if reference_runs is not None and name != reference:
                _draw_band(axes, reference_runs, MUTED, dashed=True)
            _draw_band(axes, curves[name], BLUE)
            axes.set_title(name, pad=6, color=BLUE)
            if chance is not None:
                axes.axhline(chance, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            axes.locator_params(axis="x", integer=True, nbins=5)
            # A panel without another one below carries the axis.
            axes.tick_params(labelbottom=index + n_columns >= len(panels))
        grid[0, 0].set_ylim(0, None)
        figure.supxlabel("epoch", color=MUTED, fontsize=9)
        figure.supylabel(measure, color=MUTED, fontsize=9)
        return svg_of(figure, stamp)


def _draw_band(axes: Axes, runs: np.ndarray, color: str, *, dashed: bool = False) -> None:
    has_value = np.isfinite(runs).any(axis=1)
    if not has_value.any():
        return
    epochs, values = np.flatnonzero(has_value) + 1, runs[has_value]
    axes.fill_between(epochs, np.nanmin(values, axis=1), np.nanmax(values, axis=1), color=color, alpha=0.2, linewidth=0)
    style = (0, (4, 2)) if dashed else "solid"
    marker = "o" if len(epochs) < 4 else None
    axes.plot(epochs, np.nanmean(values, axis=1), color=color, linewidth=1.7, linestyle=style, marker=marker)


LEVELS = ("experiment", "plate", "well", "site")
_SHADES = {"experiment": "#c4661f", "plate": "#d9a15f", "well": "#7fa8cc", "site": "#2f6299"}
_AROUND_ZERO = LinearSegmentedColormap.from_list("around zero", [ORANGE, "#f4f1ec", BLUE])


def wells_per_perturbation(counts: Mapping[str, Sequence[int]]) -> str:
    """Draw the number of wells of each perturbation, largest first, a line per role.

    Source: Fig. 2
    """
    with matplotlib.rc_context(svg_settings()):
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        axes = figure.add_subplot()
        # Thinner lines over thicker ones, so that equal counts of two roles show both.
        for (role, wells), color, width in zip(
            counts.items(), (BLUE, ORANGE, INK, MUTED, MUTED), (4.0, 2.6, 1.4, 1.0, 0.7), strict=False
        ):
            label = role.replace("_", " ")
            axes.step(range(1, len(wells) + 1), wells, where="mid", color=color, label=label, linewidth=width)
            if len(wells) == 1:
                axes.plot([1], wells, "o", color=color, markersize=4)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("perturbations, most wells first")
        axes.set_ylabel("wells")
        axes.grid(axis="y")
        axes.legend(frameon=False, fontsize=8)
        return svg_of(figure, "")


def channels_side_by_side(image: np.ndarray, *, max_side: int = 320) -> bytes:
    """Draw every channel of a site in grey and up to three of them merged, as PNG.

    Source: Fig. 1

    Args:
        image: [channel, height, width].
        max_side: Longest side in pixels; larger images show every n-th pixel.
    """
    step = -(-max(image.shape[1:]) // max_side)
    stretched = stretch(image[:, ::step, ::step], contrast_limits([image]))
    pictures = [grey(plane[None]) for plane in stretched]
    if len(image) > 1:
        pictures.append(merge_channels(image[:, ::step, ::step], merged_channels(image)))
    gap = np.full((stretched.shape[1], 4, 3), 255, dtype=np.uint8)
    strip = np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, format="PNG")
    return buffer.getvalue()


def intensity_by_experiment(channels: Sequence[Mapping[str, Any]]) -> str:
    """Draw quartiles and range of the mean site intensity, by channel and experiment.

    Source: Fig. 3
    """
    names = list(dict.fromkeys(name for channel in channels for name in channel["by_experiment"]))
    with matplotlib.rc_context(svg_settings()):
        figure = Figure(figsize=(6.8, 0.5 + 1.15 * len(channels)), layout="constrained")
        grid = figure.subplots(len(channels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, channel in zip(grid, channels, strict=True):
            for position, name in enumerate(names):
                quantiles = channel["by_experiment"].get(name)
                if quantiles:
                    axes.plot([position, position], [quantiles[0], quantiles[4]], color=MUTED, linewidth=0.8)
                    axes.plot(
                        [position, position],
                        [quantiles[1], quantiles[3]],
                        color=BLUE,
                        linewidth=4,
                        solid_capstyle="butt",
                    )
                    axes.plot([position], [quantiles[2]], "o", color=INK, markersize=3)
            axes.set_title(str(channel["channel"]), pad=3)
            axes.grid(axis="y")
            axes.margins(x=0.02)
        grid[-1].set_xticks(range(len(names)), names, rotation=90 if len(names) > 6 else 0, fontsize=7)
        grid[len(grid) // 2].set_ylabel("mean intensity of a site")
        return svg_of(figure, "")


def variance_shares(channels: Sequence[Mapping[str, Any]]) -> str:
    """Draw the shares of variance between experiments, plates, wells and sites."""
    with matplotlib.rc_context(svg_settings()):
        figure = Figure(figsize=(6.4, 0.9 + 0.32 * len(channels)), layout="constrained")
        axes = figure.add_subplot()
        for position, channel in enumerate(channels):
            start = 0.0
            for level in LEVELS:
                share = channel["components"].get(level) or 0.0
                axes.barh(position, share, left=start, color=_SHADES[level], label=level if position == 0 else None)
                if share > 0.06:
                    axes.text(
                        start + share / 2, position, f"{100 * share:.0f}", ha="center", va="center", color="white",
                        fontsize=8,
                    )  # fmt: skip
                start += share
        axes.set_yticks(range(len(channels)), [str(channel["channel"]) for channel in channels])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the variance of the logarithm (labels in %)")
        axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
        return svg_of(figure, "")


def plate_and_light(channel: Mapping[str, Any], *, quantity: str) -> str:
    """Draw the median plate of a channel and its illumination profile.

    Wells without an image are hatched, so that they differ from wells at the median.
    """
    plate = np.array(channel["plate"], dtype=float)
    light = np.array(channel["illumination"], dtype=float)
    has_value = np.isfinite(plate)
    n_rows, n_columns = plate.shape
    with matplotlib.rc_context(svg_settings()):
        figure = Figure(figsize=(6.8, 2.5), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
        limit = max(float(np.nanquantile(np.abs(plate[has_value]), 0.98)) if has_value.any() else 0.0, 1e-6)
        frame = Rectangle((0.5, 0.5), n_columns, n_rows, facecolor="none", edgecolor=RULE, hatch="////", linewidth=0)
        left.add_patch(frame)
        mesh = left.pcolormesh(
            np.arange(n_columns + 1) + 0.5, np.arange(n_rows + 1) + 0.5, np.ma.masked_invalid(plate),
            cmap=_AROUND_ZERO, vmin=-limit, vmax=limit, edgecolors=RULE, linewidth=0.3,
        )  # fmt: skip
        left.set_xlim(0.5, n_columns + 0.5)
        left.set_ylim(n_rows + 0.5, 0.5)
        left.set_aspect("equal")
        step = 1 if n_rows <= 16 else 2
        names = [well_name(row, 0)[:-2] for row in range(0, n_rows, step)]
        left.set_yticks(range(1, n_rows + 1, step), names, fontsize=6)
        columns = [1, *range(4, n_columns + 1, 4)]
        left.set_xticks(columns, [str(column) for column in columns], fontsize=6)
        left.set_title(f"{quantity}, median plate\n(hatched: no well)")
        figure.colorbar(mesh, ax=left, shrink=0.7).set_label("log, against the median", fontsize=7)
        lit = right.pcolormesh(light, cmap="gray", vmin=min(0.5, float(light.min())), vmax=float(light.max()))
        right.invert_yaxis()
        right.set_aspect("equal")
        right.set_xticks([])
        right.set_yticks([])
        right.set_title("illumination")
        figure.colorbar(lit, ax=right, shrink=0.7)
        return svg_of(figure, "")


Line = tuple[Sequence[float], Sequence[float], str]  # horizontal values, vertical values, color


def share_curves(lines: Mapping[str, Line], *, title: str, x_label: str, y_label: str, stamp: str = "") -> str:
    """Draw curves over a share from 0 to 1, each named at its end, as SVG text.

    Args:
        lines: Horizontal values, vertical values and color of each curve, by name.
        title: Title above the chart.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
        stamp: Label in the corner, such as "forced split".
    """
    with matplotlib.rc_context(svg_settings()):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = figure.add_subplot()
        ends = sorted((ys[-1], name, color) for name, (_, ys, color) in lines.items())
        for xs, ys, color in lines.values():
            axes.plot(xs, ys, color=color, linewidth=1.8)
        axes.set_ylim(bottom=0)
        low, high = axes.get_ylim()
        label_y = -np.inf
        for y, name, color in ends:
            label_y = max(y, label_y + 0.07 * (high - low))  # separates the names of curves with the same end
            axes.annotate(
                name, (1.0, label_y), xytext=(5, 0), textcoords="offset points", color=color, va="center",
                annotation_clip=False,
            )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_title(title, pad=8)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        return svg_of(figure, stamp)


def cascade(
    stages: Sequence[str],
    means: np.ndarray,
    *,
    null: tuple[np.ndarray, np.ndarray],
    title: str,
    y_label: str,
    stamp: str = "",
) -> str:
    """Draw the similarity after each stage, with that of random maps, as SVG text.

    Args:
        stages: Names of the stages, in the order of the randomization.
        means: Mean similarity of each stage.
        null: Lower and upper limit of random maps at each stage.
        title: Title above the chart.
        y_label: Label of the vertical axis.
        stamp: Label in the corner, such as "forced split".
    """
    with matplotlib.rc_context(svg_settings()):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = figure.add_subplot()
        positions = np.arange(len(stages) + 1)
        low, high = (np.concatenate([edge[:1], edge]) for edge in null)
        axes.fill_between(positions, low, high, color=RULE, linewidth=0, zorder=1)
        axes.plot(positions, np.concatenate([[1.0], means]), "o-", color=BLUE, linewidth=1.6, markersize=4, zorder=2)
        axes.axhline(0, color=RULE, linewidth=0.8, zorder=0)
        axes.set_xticks(positions, ["trained", *stages], rotation=40, ha="right", fontsize=7.5)
        axes.set_ylim(min(-0.2, float(low.min()), float(means.min())) - 0.05, 1.05)
        axes.set_title(title, pad=8)
        axes.set_ylabel(y_label)
        return svg_of(figure, stamp)
