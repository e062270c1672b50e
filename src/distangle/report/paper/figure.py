"""Define the figures of the paper: drawing, captions with numbers, and files."""

import contextlib
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distangle.core.io import atomic_write
from distangle.errors import ImageError, RunError, ScreenError
from distangle.report.charts import INK, MUTED, ORANGE, svg_settings
from distangle.report.data import ReportData
from distangle.report.glyphs import drawable
from distangle.report.scale_bar import bar_length_um, draw_scale_bar, length_text
from distangle.report.site_renderer import choose_sites, site_key, without_folder
from distangle.screen.screen import WELL_COLUMNS

PNG_DPI = 200


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """A figure of the paper, drawn from a run.

    Attributes:
        figure: The matplotlib figure.
        title: Title of a few words.
        caption: Description with the numbers that the figure shows.
        numbers: Numbers of the caption by name, ready for JSON.
    """

    figure: Figure
    title: str
    caption: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class UnavailableFigure:
    """A figure that cannot be drawn from this run.

    Attributes:
        title: Title of the figure.
        reason: What is missing.
        command: Command that makes it; "" if there is none.
    """

    title: str
    reason: str
    command: str = ""


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Set the matplotlib style of the figures of the paper, with white background."""
    with matplotlib.rc_context({**svg_settings(), "figure.facecolor": "white", "savefig.facecolor": "white"}):
        yield


def save(paper_figure: PaperFigure, folder: Path, name: str, *, stamp: str = "") -> list[Path]:
    """Write a figure as `NAME.png` and `NAME.svg`, reproducible to the byte.

    Args:
        paper_figure: Figure to write.
        folder: Folder of the figures.
        name: File name without extension.
        stamp: Label in the corner, such as "forced split".
    """
    if stamp:
        paper_figure.figure.text(0.995, 0.005, stamp, color=ORANGE, fontsize=7.5, ha="right", va="bottom")
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with drawing():
        for path, metadata in zip(paths, ({"Software": None}, {"Date": None, "Creator": "distangle"}), strict=True):
            kind: Literal["png", "svg"] = "png" if path.suffix == ".png" else "svg"
            with drawable(paper_figure.figure, kind), atomic_write(path) as temporary:
                paper_figure.figure.savefig(temporary, format=path.suffix[1:], dpi=PNG_DPI, metadata=metadata)
    return paths


def picture(axes: Axes, pixels: np.ndarray, title: str = "", *, caption: str = "") -> None:
    """Draw an RGB picture without axes, with a title and a caption.

    Both are part of the axes, so that the layout leaves room for them.
    """
    axes.imshow(pixels, interpolation="nearest")
    hide_frame(axes)
    axes.set_title("\n".join(textwrap.wrap(title, 26)), color=INK, fontsize=8.5, pad=4, loc="center")
    if caption:
        axes.set_xlabel(caption, color=MUTED, fontsize=8, labelpad=4)


def hide_frame(axes: Axes) -> None:
    """Remove ticks and spines; title and label of an axis stay."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def with_scale(pixels: np.ndarray, data: ReportData) -> np.ndarray:
    """Draw a scale bar into a picture of whole pixels, if the pixel size is known."""
    size = data.screen.metadata.pixel_size_um
    return pixels if size is None else draw_scale_bar(pixels, um_per_pixel=size)[0]


def scale_sentence(data: ReportData, width: int) -> str:
    """Return the length of the scale bar, or that the pixel size is unknown.

    Args:
        data: Results of the run.
        width: Width of the image in pixels.
    """
    size = data.screen.metadata.pixel_size_um
    if size is None:
        return "The pixel size is unknown, so there is no scale bar."
    return f"Scale bar: {length_text(bar_length_um(width * size))}."


def row_of(data: ReportData, key: tuple[str, str, str, int]) -> int:
    """Return the row of a site in the screen.

    Raises:
        ScreenError: The screen does not have the site.
    """
    sites = data.screen.sites
    experiment, plate, well, number = key
    is_site = (
        (sites["experiment"].astype(str) == experiment)
        & (sites["plate"].astype(str) == plate)
        & (sites["well"].astype(str) == well)
        & (sites["site"].astype(int) == number)
    )
    rows = np.flatnonzero(is_site.to_numpy())
    if not len(rows):
        raise ScreenError(
            f"Site {experiment} {plate} {well} {number} is not in this screen. Use the screen of the run."
        )
    return int(rows[0])


def read(data: ReportData, row: int) -> np.ndarray:
    """Read the image of a site of the screen, [channel, height, width].

    Raises:
        RunError: It cannot be read; the message does not name the folder of the images.
    """
    # A late import: listing figures needs no image reader.
    from distangle.images import VerifiedReader

    try:
        return VerifiedReader(data.screen).read(row)
    except (ImageError, ScreenError) as error:
        raise RunError(without_folder(str(error), data.screen)) from error


def example_sites(data: ReportData, *, limit: int) -> list[int]:
    """Return rows of the screen to show: explained sites first, else different wells.

    Args:
        data: Results of the run.
        limit: Maximum number of sites.
    """
    if data.explanation is not None:
        examples = choose_sites(data.explanation.table, correct=limit, wrong=0, controls=limit)
        rows = [row_of(data, site_key(site.entry)) for site in examples]
        if len(rows) >= limit:
            return rows[:limit]
    sites = data.screen.sites.reset_index(drop=True)
    first = sites.drop_duplicates(list(WELL_COLUMNS))
    candidates = first.assign(other=first["role"].astype(str) != "treatment")
    return [int(row) for row in candidates.sort_values(["other", "experiment", "plate", "well"]).index[:limit]]


def describe_site(data: ReportData, row: int) -> str:
    """Describe the site of a row: experiment, plate, well, cell type, perturbation."""
    site = data.screen.sites.iloc[row]
    cell_type = f" ({site.cell_type})" if str(site.cell_type) else ""
    perturbation = f", {site.perturbation}" if str(site.perturbation) else ""
    return f"{site.experiment}, plate {site.plate}, well {site.well}, site {site.site}{cell_type}{perturbation}"
