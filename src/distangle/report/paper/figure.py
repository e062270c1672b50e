"""Define the figures of the paper: drawing, captions with numbers, and files."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distangle.core.io import atomic_write
from distangle.errors import ImageError, RunError, ScreenError
from distangle.images import composites
from distangle.report.charts import INK, MUTED, ORANGE, svg_settings
from distangle.report.data import ReportData
from distangle.report.glyphs import drawable
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
    """Draw an RGB picture without axes, with a title and a caption."""
    axes.imshow(pixels, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, color=INK, fontsize=9, pad=4)
    if caption:
        axes.text(0.5, -0.03, caption, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=MUTED)


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


def merge_channels(image: np.ndarray, data: ReportData, *, others: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Return all channels of an image in their colors, uint8 [height, width, 3].

    Args:
        image: Raw image.
        data: Results of the run, with the colors of the channels.
        others: Images to compare with this one; all share one contrast.
    """
    limits = composites.contrast_limits([image, *others])
    colours = composites.channel_colors(data.screen.card.channels)
    gain = float(
        np.median([composites.exposure(composites.stretch(other, limits), colours) for other in (image, *others)])
    )
    return composites.composite(composites.stretch(image, limits), colours, gain=gain)


def channel_names(data: ReportData) -> list[tuple[str, str]]:
    """Return the labels of the channels: name, and organelle or stain."""
    names = []
    for channel in data.screen.card.channels:
        content = channel.organelle or channel.stain
        names.append((channel.name, content if content != channel.name else ""))
    return names
