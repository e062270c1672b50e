"""Draw training curves of several runs as a mean with a band."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distangle.report.charts import BLUE, MUTED, svg_of, svg_settings


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

    A line is the mean over the runs that have come so far, its band reaches from the lowest run to the highest.

    Args:
        curves: [epoch, run] by name of the condition; NaN where a run has not come so far.
        reference: Name of the condition that is drawn in every panel; alone, it gets the only panel.
        measure: On the value axis, in [0, 1].
        chance: Of guessing, drawn as a dashed line; None for none.
        stamp: Words in the corner, such as "forced split".
        n_columns: Panels side by side.
    """
    behind = curves.get(reference)
    panels = [name for name in curves if name != reference] or [reference]
    n_columns = min(n_columns, len(panels))
    n_rows = -(-len(panels) // n_columns)
    with matplotlib.rc_context(svg_settings()):
        drawn = Figure(figsize=(2.9 * n_columns + 0.2, 2.15 * n_rows + 0.15), layout="constrained")
        grid = drawn.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
        for place, axes in enumerate(grid.flat):
            if place >= len(panels):
                axes.set_axis_off()
                continue
            name = panels[place]
            if behind is not None and name != reference:
                _band(axes, behind, MUTED, dashed=True)
            _band(axes, curves[name], BLUE)
            axes.set_title(name, pad=6, color=BLUE)
            if chance is not None:
                axes.axhline(chance, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            axes.locator_params(axis="x", integer=True, nbins=5)
            # A panel above an empty place has no panel below that would carry its axis.
            axes.tick_params(labelbottom=place + n_columns >= len(panels))
        grid[0, 0].set_ylim(0, None)
        drawn.supxlabel("epoch", color=MUTED, fontsize=9)
        drawn.supylabel(measure, color=MUTED, fontsize=9)
        return svg_of(drawn, stamp)


def _band(axes: Axes, runs: np.ndarray, colour: str, *, dashed: bool = False) -> None:
    known = np.isfinite(runs).any(axis=1)
    if not known.any():
        return
    epochs, values = np.flatnonzero(known) + 1, runs[known]
    axes.fill_between(
        epochs, np.nanmin(values, axis=1), np.nanmax(values, axis=1), color=colour, alpha=0.2, linewidth=0
    )
    style = (0, (4, 2)) if dashed else "solid"
    marker = "o" if len(epochs) < 4 else None
    axes.plot(epochs, np.nanmean(values, axis=1), color=colour, linewidth=1.7, linestyle=style, marker=marker)
