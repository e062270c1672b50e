"""Draw a site: its composite, and its activation map over the grey image."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from distangle.errors import ConfigError
from distangle.export.explained_sites import explained_keys, site_rows
from distangle.export.napari_layers import find_well, site_number
from distangle.images import VerifiedReader, composites
from distangle.plot.canvas import NotebookFigure, RunLike, figure_of, open_run, style
from distangle.report.charts import MUTED
from distangle.report.merging import merge_channels, merge_sentence, merged_channels
from distangle.report.scale_bar import draw_scale_bar, length_text
from distangle.results.explanation import Explanation
from distangle.results.run import RunFolder
from distangle.results.run_screen import own_screen
from distangle.screen import Screen
from distangle.screen.plates import location_name

CAPTION_LETTERS = 48  # letters of a line below a picture
NO_MAP = "no activation map:\nonly explained sites have one"


def site(
    run: RunLike,
    well: str,
    *,
    site: int | None = None,
    screen: Path | str | None = None,
    images: Path | str | None = None,
    axes: Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Draw a site: up to three channels merged, and its activation map.

    A scale bar is drawn if the pixel size is known.

    Args:
        run: A run, or its folder.
        well: `WELL`, `PLATE/WELL` or `EXPERIMENT/PLATE/WELL`, such as `HUVEC-01/1/B02`.
        site: Number of the site; None for the first explained one, else the first.
        screen: Screen of the run, if it was moved.
        images: Folder of the images, if they were moved after `distangle index`.
        axes: Two axes to draw into; None for a new figure.

    Raises:
        ConfigError: There is no such well or site, or `axes` are not two.
        ImageError: The image cannot be read.
    """
    run = open_run(run)
    own = own_screen(run, None if screen is None else Path(screen), images=None if images is None else Path(images))
    explanation, maps = _maps(run, own)
    row = _choose(own, well, site, list(maps))
    image = VerifiedReader(own).read(row)
    if axes is not None and len(axes) != 2:
        raise ConfigError(f"`axes` has {len(axes)} axes. Expected two: of the composite and of the activation map.")
    chosen = merged_channels(image)
    with style():
        figure: Figure = NotebookFigure(figsize=(7.4, 4.0), layout="constrained")
        left, right = figure.subplots(1, 2) if axes is None else axes
        figure = figure if axes is None else figure_of(left)
        entry = own.sites.iloc[row]
        place = location_name(*(str(entry[name]) for name in ("experiment", "plate", "well", "site")))
        _show(
            left, merge_channels(image, chosen), own, title=place, caption=merge_sentence(own.metadata.channels, chosen)
        )
        if explanation is None or row not in maps:
            right.text(0.5, 0.5, NO_MAP, ha="center", va="center", color=MUTED, transform=right.transAxes)
            right.set_axis_off()
            return figure
        grey = composites.grey(composites.stretch(image, composites.contrast_limits([image])))
        fitted = composites.fit_map(explanation.maps[maps[row]], (image.shape[1], image.shape[2]))
        about = explanation.table.iloc[maps[row]]
        caption = f"true {about['perturbation'] or 'unknown'}, predicted {about['predicted']}"
        title = f"why {about['explained']} (probability {float(about['probability']):.2f})"
        _show(right, composites.overlay(grey, fitted), own, title=title, caption=caption)
        scale = ScalarMappable(norm=Normalize(0, 1), cmap=composites.ACTIVATION_COLORMAP)
        figure.colorbar(scale, ax=right, shrink=0.7).set_label("activation map")
        return figure


def _maps(run: RunFolder, screen: Screen) -> tuple[Explanation | None, dict[int, int]]:
    """Return the explanation, and its row of every explained site of the screen."""
    if not (run.explanations / "explanation.json").exists():
        return None, {}
    explanation, rows = Explanation.read(run.explanations), site_rows(screen)
    return explanation, {rows[key]: number for number, key in enumerate(explained_keys(explanation)) if key in rows}


def _choose(screen: Screen, well: str, site: int | None, explained: Sequence[int]) -> int:
    rows = find_well(screen, well)
    if site is None:
        return next((row for row in rows if row in explained), rows[0])
    by_number = {site_number(screen, row): row for row in rows}
    if site not in by_number:
        raise ConfigError(f"{well} has no site {site}. Expected one of {', '.join(map(str, by_number))}.")
    return by_number[site]


def _show(axes: Axes, picture: np.ndarray, screen: Screen, *, title: str, caption: str) -> None:
    if screen.metadata.pixel_size_um is not None:
        picture, length = draw_scale_bar(picture, um_per_pixel=screen.metadata.pixel_size_um)
        caption = f"{caption}; bar {length_text(length)}"
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, fontsize=8.5)
    axes.set_xlabel(textwrap.fill(caption, CAPTION_LETTERS), fontsize=7.5)
    axes.set_xticks([])
    axes.set_yticks([])
