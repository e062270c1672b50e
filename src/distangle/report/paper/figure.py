"""A drawn figure with the number that its caption claims, and how it is written."""

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

PNG_DPI = 200


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """A figure of the paper, drawn from a run.

    Attributes:
        figure: As matplotlib has it.
        title: What it shows, in a few words.
        caption: What can be read off it, with the numbers.
        numbers: The numbers of the caption by name, ready for JSON.
    """

    figure: Figure
    title: str
    caption: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class UnavailableFigure:
    """A figure that this run has nothing to draw from.

    Attributes:
        title: What it would show.
        reason: What is not there.
        command: What makes it; "" where nothing does.
    """

    title: str
    reason: str
    command: str = ""


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Set matplotlib for the figures of the paper: own style, white background."""
    with matplotlib.rc_context({**svg_settings(), "figure.facecolor": "white", "savefig.facecolor": "white"}):
        yield


def save(drawn: PaperFigure, folder: Path, name: str, *, stamp: str = "") -> list[Path]:
    """Write a figure as `NAME.png` and `NAME.svg`, reproducible to the byte.

    Args:
        drawn: The figure.
        folder: Of the figures.
        name: Of the files.
        stamp: Words in the corner, such as "forced split".
    """
    if stamp:
        drawn.figure.text(0.995, 0.005, stamp, color=ORANGE, fontsize=7.5, ha="right", va="bottom")
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with drawing():
        for path, metadata in zip(paths, ({"Software": None}, {"Date": None, "Creator": "distangle"}), strict=True):
            kind: Literal["png", "svg"] = "png" if path.suffix == ".png" else "svg"
            with drawable(drawn.figure, kind), atomic_write(path) as temporary:
                drawn.figure.savefig(temporary, format=path.suffix[1:], dpi=PNG_DPI, metadata=metadata)
    return paths


def picture(axes: Axes, pixels: np.ndarray, title: str = "", *, below: str = "") -> None:
    """Draw an RGB picture without axes; a title above it and words below."""
    axes.imshow(pixels, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, color=INK, fontsize=9, pad=4)
    if below:
        axes.text(0.5, -0.03, below, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=MUTED)


def row_of(material: ReportData, key: tuple[str, str, str, int]) -> int:
    """Return the position of a site in the screen.

    Raises:
        ScreenError: It is not there.
    """
    sites = material.screen.sites
    experiment, plate, well, number = key
    here = (
        (sites["experiment"].astype(str) == experiment)
        & (sites["plate"].astype(str) == plate)
        & (sites["well"].astype(str) == well)
        & (sites["site"].astype(int) == number)
    )
    found = np.flatnonzero(here.to_numpy())
    if not len(found):
        raise ScreenError(
            f"Site {experiment} {plate} {well} {number} is not in the screen given. Name the screen of the run."
        )
    return int(found[0])


def read(material: ReportData, row: int) -> np.ndarray:
    """Read the image of a site of the screen, [channel, height, width].

    Raises:
        RunError: It cannot be read; the folder of the images is not named.
    """
    # Late: figures are listed without opening an image.
    from distangle.images import VerifiedReader

    try:
        return VerifiedReader(material.screen).read(row)
    except (ImageError, ScreenError) as error:
        raise RunError(without_folder(str(error), material.screen)) from error


def example_sites(material: ReportData, *, most: int) -> list[int]:
    """Return rows of the screen to show: explained sites first, else different wells.

    Args:
        material: Of the run.
        most: How many.
    """
    if material.explanation is not None:
        chosen = choose_sites(material.explanation.table, correct=most, wrong=0, controls=most)
        rows = [row_of(material, site_key(site.entry)) for site in chosen]
        if len(rows) >= most:
            return rows[:most]
    sites = material.screen.sites.reset_index(drop=True)
    first = sites.drop_duplicates(["experiment", "plate", "well"])
    treated_first = first.assign(other=first["role"].astype(str) != "treatment")
    return [int(row) for row in treated_first.sort_values(["other", "experiment", "plate", "well"]).index[:most]]


def place_of(material: ReportData, row: int) -> str:
    """Say which site a row is."""
    site = material.screen.sites.iloc[row]
    kind = f" ({site.cell_type})" if str(site.cell_type) else ""
    named = f", {site.perturbation}" if str(site.perturbation) else ""
    return f"{site.experiment}, plate {site.plate}, well {site.well}, site {site.site}{kind}{named}"


def merge_tables(image: np.ndarray, material: ReportData, *, beside: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Return all channels of an image in their colours, uint8 [height, width, 3].

    Args:
        image: As it was read.
        material: Says the colours.
        beside: Images that are to be compared with this one: all share one contrast.
    """
    limits = composites.contrast_limits([image, *beside])
    colours = composites.channel_colors(material.screen.card.channels)
    gain = float(np.median([composites.exposure(composites.stretch(one, limits), colours) for one in (image, *beside)]))
    return composites.composite(composites.stretch(image, limits), colours, gain=gain)


def channel_names(material: ReportData) -> list[tuple[str, str]]:
    """Return the labels of the channels: the name, and the organelle or stain."""
    names = []
    for channel in material.screen.card.channels:
        what = channel.organelle or channel.stain
        names.append((channel.name, what if what != channel.name else ""))
    return names
