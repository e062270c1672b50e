"""Which explained sites are worth showing, and the pictures of one of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image

from distangle.core.io import atomic_write
from distangle.errors import ImageError, ScreenError
from distangle.images import VerifiedReader, composites
from distangle.report.plates import is_control
from distangle.screen import Screen

Kind = Literal["correct", "wrong", "unlabelled", "control"]
Key = tuple[str, str, str, int]
Reader = Callable[[int], np.ndarray]

SITES_OF_A_PLATE = 4  # read for the contrast that the pictures of one plate share
LARGEST_PX = 768  # longer side of a picture on the page
STAIN_PX = 256


@dataclass(frozen=True, kw_only=True)
class ChosenSite:
    """An explained site that is shown.

    Attributes:
        row: Position in the explanation's table and maps.
        kind: Why it is shown.
        entry: Its row of the table.
    """

    row: int
    kind: Kind
    entry: dict[str, Any] = field(repr=False)

    @property
    def key(self) -> Key:
        """Experiment, plate, well and site."""
        return site_key(self.entry)


@dataclass(frozen=True, kw_only=True)
class SitePictures:
    """Files of one site, as paths inside the folder of the report.

    Attributes:
        composite: All channels in their colours; "" when the image could not be read.
        overlay: The attribution map over the grey mean of the channels; "" when it could not be drawn.
        stains: One grey picture per channel.
        width: Display width of the larger pictures in CSS pixels.
        problem: Why there is no picture; "" otherwise.
    """

    composite: str = ""
    overlay: str = ""
    stains: tuple[str, ...] = ()
    width: int = 0
    problem: str = ""


def site_key(entry: dict[str, Any]) -> Key:
    """Return what names a site in the `Metadata_*` columns."""
    return (
        str(entry["Metadata_Experiment"]),
        str(entry["Metadata_Plate"]),
        str(entry["Metadata_Well"]),
        int(entry["Metadata_Site"]),
    )


def choose_sites(table: pd.DataFrame, *, correct: int = 6, wrong: int = 3, controls: int = 2) -> list[ChosenSite]:
    """Choose which explained sites to show: correct ones, then errors, then controls.

    The best supported come first: the highest probability of what was explained. A control is never shown
    among the treatments, whatever was predicted for it.

    Args:
        table: The table of an `Explanation`.
        correct: Most sites predicted as they are.
        wrong: Most errors.
        controls: Most control wells.
    """
    entries = [{str(name): value for name, value in entry.items()} for entry in table.to_dict("records")]
    ranked = sorted(enumerate(entries), key=lambda pair: -float(pair[1]["probability"]))
    wanted: list[tuple[Kind, int]] = [
        ("correct", correct),
        ("wrong", wrong),
        ("unlabelled", wrong),
        ("control", controls),
    ]
    chosen = []
    for kind, most in wanted:
        group = [(row, entry) for row, entry in ranked if _kind(entry) == kind]
        chosen += [ChosenSite(row=row, kind=kind, entry=entry) for row, entry in _different(group)[:most]]
    return chosen


def fit_map(activation_map: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return an attribution map at the size of a picture, float32 in [0, 1].

    A network that saw binned pixels has a smaller map than the image on disk.

    Raises:
        ImageError: The map has another aspect than the picture.
    """
    if activation_map.shape == shape:
        return np.asarray(np.clip(activation_map, 0, 1), dtype=np.float32)
    scales = shape[0] / activation_map.shape[0], shape[1] / activation_map.shape[1]
    # One pixel of the map may have been cut off at an edge when binning.
    if abs(scales[0] / scales[1] - 1) > 0.5 / min(activation_map.shape) + 0.02:
        raise ImageError(f"A map of {activation_map.shape} does not belong to an image of {shape}: another aspect.")
    drawn = Image.fromarray(np.ascontiguousarray(activation_map, dtype=np.float32))
    resized = drawn.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(np.clip(np.asarray(resized), 0, 1), dtype=np.float32)


class SiteRenderer:
    """Draws sites of one screen; pictures of one plate share their contrast.

    Args:
        screen: Says where the images lie and in which colours its channels are drawn.
        folder: Folder of the report.
        read: Reads the image of a row of the screen, instead of the screen's own reader.
    """

    def __init__(self, screen: Screen, folder: Path, *, read: Reader | None = None) -> None:
        self._screen, self._folder = screen, folder
        self._image = read or VerifiedReader(screen).read
        self._colours = composites.channel_colors(screen.card.channels)
        self._shared: dict[tuple[str, str], tuple[np.ndarray, float]] = {}
        sites = screen.sites
        keys = zip(sites["experiment"], sites["plate"], sites["well"], sites["site"], strict=True)
        self._rows = {(str(e), str(p), str(w), int(s)): row for row, (e, p, w, s) in enumerate(keys)}
        self.written: list[Path] = []

    def paint(self, key: Key, activation_map: np.ndarray, *, name: str) -> SitePictures:
        """Write the pictures of one site.

        Args:
            key: Experiment, plate, well and site.
            activation_map: [height, width] in [0, 1].
            name: Start of the file names, ours and never one of the screen.
        """
        if key not in self._rows:
            return SitePictures(problem="This site is not in the screen given to the report.")
        try:
            image = self._image(self._rows[key])
            limits, gain = self._contrast_of(key, image)
        except (ImageError, ScreenError) as error:
            return SitePictures(problem=f"The image could not be read: {without_folder(str(error), self._screen)}")
        channels = composites.stretch(image, limits)
        merged = composites.composite(channels, self._colours, gain=gain)
        stains = []
        for place, channel in enumerate(channels):
            picture = np.round(channel * 255).astype(np.uint8)
            small = composites.enlarge(composites.reduce(picture, max_side=STAIN_PX), min_side=120)
            stains.append(self._write(small, f"{name}-channel-{place + 1}.png"))
        shown = self._shown(merged)
        width = min(400, shown.shape[1])
        painted = self._write(shown, f"{name}-composite.png")
        try:
            # The grey below the map only tells the place: it takes the contrast of its own site.
            below = composites.grey(composites.stretch(image, composites.contrast_limits([image])))
            on_grey = composites.overlay(below, fit_map(activation_map, (image.shape[1], image.shape[2])))
        except ImageError as error:
            return SitePictures(composite=painted, stains=tuple(stains), width=width, problem=str(error))
        laid = self._write(self._shown(on_grey), f"{name}-map.png")
        return SitePictures(composite=painted, overlay=laid, stains=tuple(stains), width=width)

    def scale(self) -> str:
        """Write the colour bar of the attribution maps; return its path inside the folder."""
        return self._write(composites.activation_scale(), "map-scale.png")

    def _shown(self, picture: np.ndarray) -> np.ndarray:
        return composites.enlarge(composites.reduce(picture, max_side=LARGEST_PX))

    def _contrast_of(self, key: Key, image: np.ndarray) -> tuple[np.ndarray, float]:
        plate = key[:2]
        if plate not in self._shared:
            rows = [row for other, row in self._rows.items() if other[:2] == plate]
            step = max(1, len(rows) // SITES_OF_A_PLATE)
            images = [image]
            for row in rows[::step][:SITES_OF_A_PLATE]:
                try:
                    images.append(self._image(row))
                except ImageError:  # a damaged neighbour takes no part in the contrast
                    continue
            limits = composites.contrast_limits(images)
            gains = [composites.exposure(composites.stretch(other, limits), self._colours) for other in images]
            self._shared[plate] = limits, float(np.median(gains))
        return self._shared[plate]

    def _write(self, picture: np.ndarray, name: str) -> str:
        path = self._folder / "figures" / name
        with atomic_write(path) as temporary:
            Image.fromarray(np.ascontiguousarray(picture)).save(temporary, format="PNG")
        self.written.append(path)
        return f"figures/{name}"


def without_folder(text: str, screen: Screen) -> str:
    """Remove the folder of the images from a message, for pages that are mailed."""
    return text.replace(f"{screen.source}/", "").replace(str(screen.source), "the screen's source")


def _kind(entry: dict[str, Any]) -> Kind:
    if is_control(str(entry["Metadata_Role"])):
        return "control"
    if not entry["perturbation"]:
        return "unlabelled"
    return "correct" if entry["predicted"] == entry["perturbation"] else "wrong"


def _different(group: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    """Order a group so that every perturbation comes once before any comes twice."""
    turns: dict[str, int] = {}
    ranked = []
    for place, (row, entry) in enumerate(group):
        name = str(entry["perturbation"])
        turns[name] = turns.get(name, -1) + 1
        ranked.append((turns[name], place, (row, entry)))
    return [pair for _, _, pair in sorted(ranked, key=lambda item: item[:2])]
