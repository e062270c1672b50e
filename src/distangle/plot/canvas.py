"""Make figures that notebooks show, and open the run of a figure."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distangle.report.charts import svg_settings
from distangle.results.run import RunFolder
from distangle.results.run_screen import own_metadata
from distangle.screen import Screen, ScreenMetadata

RunLike = RunFolder | Path | str
"""A run: its folder, or what `RunFolder.open` returned."""

COLORS = ("#2f7fc1", "#d9772b", "#2a9d78", "#c85a9d", "#b8960c", "#6b5fc7", "#5bb4d8")
"""Colors of groups, as in the report; the other groups are grey."""
DPI = 110


class NotebookFigure(Figure):
    """A figure that a notebook shows once, with or without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        return buffer.getvalue()


@contextmanager
def canvas(ax: Axes | None, *, width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Yield a figure and its axes, in the style of the report.

    Args:
        ax: Axes to draw into; None for a new figure.
        width: Width of a new figure in inches.
        height: Height of a new figure in inches.
    """
    with style():
        if ax is not None:
            yield figure_of(ax), ax
            return
        figure = NotebookFigure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


@contextmanager
def style() -> Iterator[None]:
    """Use the fonts, colors and lines of the report, on white."""
    settings: Any = {**svg_settings(), "figure.facecolor": "white"}
    with matplotlib.rc_context(settings):
        yield


def figure_of(ax: Axes) -> Figure:
    """Return the figure of axes."""
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)  # noqa: S101 - axes in no figure cannot be drawn
    return figure


def open_run(run: RunLike) -> RunFolder:
    """Return a run.

    Raises:
        RunError: The folder is not a run.
    """
    return run if isinstance(run, RunFolder) else RunFolder.open(Path(run))


def run_metadata(run: RunFolder) -> ScreenMetadata:
    """Return the metadata of the screen of a run, from the copy in the run.

    Raises:
        RunError: The copy is missing or damaged.
    """
    return ScreenMetadata.model_validate(own_metadata(run))


def bare_screen(metadata: ScreenMetadata) -> Screen:
    """Return a screen without sites, for what needs its metadata only."""
    return Screen(metadata=metadata, sites=pd.DataFrame(), problems=pd.DataFrame())
