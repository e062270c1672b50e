"""Choose explained sites to show, and draw the pictures of a site."""

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
from distangle.report.scale_bar import draw_scale_bar
from distangle.screen import NEGATIVE, Screen

Kind = Literal["correct", "wrong", "unlabelled", "control"]
Key = tuple[str, str, str, int]
Reader = Callable[[int], np.ndarray]

SITES_OF_A_PLATE = 4  # images read for the common contrast of a plate
MAX_PX = 512  # longer side of a picture on the page
CHANNEL_PX = 192


@dataclass(frozen=True, kw_only=True)
class ChosenSite:
    """An explained site to show.

    Attributes:
        row: Position in the table and the maps of the explanation.
        kind: Reason for showing it.
        entry: Row of the table.
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
    """Pictures of one site and of its control, as paths in the report folder.

    All pictures but the map have the contrast of the plate.

    Attributes:
        treated: The chosen channel of the site in grey; "" if the image could not be read.
        control: The same channel of the control; "" without a control.
        overlay: Attribution map over the grey mean of the channels; "" if it could not be drawn.
        channels: One grey picture per channel of the site.
        control_channels: The same of the control; empty without a control.
        control_key: Experiment, plate, well and site of the control; None without one.
        width: Display width of the larger pictures in CSS pixels.
        bar_um: Length of the scale bar in micrometers; 0 without one.
        problem: Reason for a missing picture; "" otherwise.
    """

    treated: str = ""
    control: str = ""
    overlay: str = ""
    channels: tuple[str, ...] = ()
    control_channels: tuple[str, ...] = ()
    control_key: Key | None = None
    width: int = 0
    bar_um: float = 0.0
    problem: str = ""


def site_key(entry: dict[str, Any]) -> Key:
    """Return the key of a site from its `Metadata_*` columns."""
    return (
        str(entry["Metadata_Experiment"]),
        str(entry["Metadata_Plate"]),
        str(entry["Metadata_Well"]),
        int(entry["Metadata_Site"]),
    )


def choose_sites(table: pd.DataFrame, *, correct: int = 6, wrong: int = 3, controls: int = 2) -> list[ChosenSite]:
    """Choose which explained sites to show: correct ones, then errors, then controls.

    Within each group, sites with the highest probability of the explained class come first. Controls are never shown
    among the treatments, whatever was predicted for them.

    Args:
        table: Table of an `Explanation`.
        correct: Maximum number of correct predictions.
        wrong: Maximum number of errors.
        controls: Maximum number of control wells.
    """
    entries = [{str(name): value for name, value in entry.items()} for entry in table.to_dict("records")]
    ranked = sorted(enumerate(entries), key=lambda pair: -float(pair[1]["probability"]))
    quotas: list[tuple[Kind, int]] = [
        ("correct", correct),
        ("wrong", wrong),
        ("unlabelled", wrong),
        ("control", controls),
    ]
    examples = []
    for kind, quota in quotas:
        group = [(row, entry) for row, entry in ranked if _site_kind(entry) == kind]
        examples += [
            ChosenSite(row=row, kind=kind, entry=entry) for row, entry in _alternate_perturbations(group)[:quota]
        ]
    return examples


class SiteRenderer:
    """Draws sites of one screen; the pictures of one plate share their contrast.

    Args:
        screen: Screen with the images and the colors of its channels.
        folder: Folder of the report.
        read: Function that reads the image of a row of the screen; None for the reader of the screen.
    """

    def __init__(self, screen: Screen, folder: Path, *, read: Reader | None = None) -> None:
        self._screen, self._folder = screen, folder
        self._image = read or VerifiedReader(screen).read
        self._shared: dict[tuple[str, str], np.ndarray] = {}
        sites = screen.sites
        keys = zip(sites["experiment"], sites["plate"], sites["well"], sites["site"], strict=True)
        self._rows = {(str(e), str(p), str(w), int(s)): row for row, (e, p, w, s) in enumerate(keys)}
        self.written: list[Path] = []

    def render(self, key: Key, attribution_map: np.ndarray, *, name: str, channel: int = 0) -> SitePictures:
        """Write the pictures of one site and of the nearest control well of its plate.

        Args:
            key: Experiment, plate, well and site.
            attribution_map: [height, width] in [0, 1].
            name: Start of the file names, from the code and never from the screen.
            channel: Index of the channel of the large pictures.
        """
        if key not in self._rows:
            return SitePictures(problem="This site is not in the screen of the report.")
        try:
            image = self._image(self._rows[key])
            limits = self._contrast_of(key, image)
        except (ImageError, ScreenError) as error:
            return SitePictures(problem=f"The image could not be read: {without_folder(str(error), self._screen)}")
        control_key = self.nearest_control(key)
        control, problem = self._read_control(control_key)
        treated, bar_um = self._large(composites.stretch(image, limits)[channel])
        values: dict[str, Any] = {
            "treated": self.write(treated, f"{name}-treated.png"),
            "channels": self._write_channels(image, limits, f"{name}-channel"),
            "width": min(400, treated.shape[1]),
            "bar_um": bar_um,
        }
        if control is not None:
            picture, _ = self._large(composites.stretch(control, limits)[channel])
            values |= {
                "control": self.write(picture, f"{name}-control.png"),
                "control_channels": self._write_channels(control, limits, f"{name}-control-channel"),
                "control_key": control_key,
            }
        try:
            # The grey image only shows the position, so it uses the contrast of its own site.
            background = composites.grey(composites.stretch(image, composites.contrast_limits([image])))
            overlay = composites.overlay(
                background, composites.fit_map(attribution_map, (image.shape[1], image.shape[2]))
            )
        except ImageError as error:
            return SitePictures(**values, problem=str(error))
        return SitePictures(
            **values, overlay=self.write(self._with_bar(self._resize(overlay), overlay)[0], f"{name}-map.png"),
            problem=problem,
        )  # fmt: skip

    def files(self, key: Key) -> list[str]:
        """Return the image files of a site, relative to the source of the screen.

        Args:
            key: Experiment, plate, well and site; files of an unknown site are none.
        """
        if key not in self._rows:
            return []
        site = self._screen.sites.iloc[self._rows[key]]
        names = (str(site[f"path_{k}"]) for k in range(1, len(self._screen.metadata.channels) + 1))
        return list(dict.fromkeys(filter(None, names)))

    def nearest_control(self, key: Key) -> Key | None:
        """Return the first site of the nearest control well of the plate.

        Args:
            key: Experiment, plate, well and site of a treated site.

        Returns:
            None if the site is a control itself, or if the plate has no control well.
        """
        sites = self._screen.sites
        own = sites.iloc[self._rows[key]]
        if str(own["role"]) in NEGATIVE:
            return None
        on_plate = (sites["experiment"].astype(str) == key[0]) & (sites["plate"].astype(str) == key[1])
        controls = sites[on_plate & sites["role"].astype(str).isin(NEGATIVE)]
        if not len(controls):
            return None
        rows, columns = (controls[name].to_numpy(dtype=float) - float(own[name]) for name in ("row", "column"))
        order = np.lexsort((controls["site"], controls["column"], controls["row"], rows**2 + columns**2))
        nearest = controls.iloc[int(order[0])]
        return str(nearest["experiment"]), str(nearest["plate"]), str(nearest["well"]), int(nearest["site"])

    def _read_control(self, key: Key | None) -> tuple[np.ndarray | None, str]:
        if key is None:
            return None, ""
        try:
            return self._image(self._rows[key]), ""
        except (ImageError, ScreenError) as error:
            return None, f"The control well could not be read: {without_folder(str(error), self._screen)}"

    def _write_channels(self, image: np.ndarray, limits: np.ndarray, name: str) -> tuple[str, ...]:
        paths = []
        for position, channel in enumerate(composites.stretch(image, limits), start=1):
            picture = np.round(channel * 255).astype(np.uint8)
            thumbnail = composites.enlarge(composites.reduce(picture, max_side=CHANNEL_PX), min_side=120)
            paths.append(self.write(thumbnail, f"{name}-{position}.png"))
        return tuple(paths)

    def _large(self, channel: np.ndarray) -> tuple[np.ndarray, float]:
        picture = np.round(channel * 255).astype(np.uint8)
        return self._with_bar(self._resize(picture), picture)

    def _with_bar(self, picture: np.ndarray, original: np.ndarray) -> tuple[np.ndarray, float]:
        """Draw a scale bar, if the pixel size is known; else its length is 0."""
        size = self._screen.metadata.pixel_size_um
        if size is None:
            return picture, 0.0
        return draw_scale_bar(picture, um_per_pixel=size * original.shape[1] / picture.shape[1])

    def scale(self) -> str:
        """Write the color bar of the attribution maps; return its path in the folder."""
        return self.write(composites.activation_scale(), "map-scale.png")

    def _resize(self, picture: np.ndarray) -> np.ndarray:
        return composites.enlarge(composites.reduce(picture, max_side=MAX_PX))

    def _contrast_of(self, key: Key, image: np.ndarray) -> np.ndarray:
        plate = key[:2]
        if plate not in self._shared:
            rows = [row for other, row in self._rows.items() if other[:2] == plate]
            step = max(1, len(rows) // SITES_OF_A_PLATE)
            images = [image]
            for row in rows[::step][:SITES_OF_A_PLATE]:
                try:
                    images.append(self._image(row))
                except ImageError:  # skip damaged images
                    continue
            self._shared[plate] = composites.contrast_limits(images)
        return self._shared[plate]

    def write(self, picture: np.ndarray, name: str) -> str:
        """Write a picture, uint8, as a PNG; return its path in the folder of the report.

        Args:
            picture: [height, width] or [height, width, 3].
            name: Name of the file, from the code and never from the screen.
        """
        path = self._folder / "figures" / name
        with atomic_write(path) as temporary:
            Image.fromarray(np.ascontiguousarray(picture)).save(temporary, format="PNG")
        self.written.append(path)
        return f"figures/{name}"


def without_folder(text: str, screen: Screen) -> str:
    """Remove the folder of the images from a message, because pages are shared."""
    return text.replace(f"{screen.source}/", "").replace(str(screen.source), "the screen's source")


def _site_kind(entry: dict[str, Any]) -> Kind:
    if is_control(str(entry["Metadata_Role"])):
        return "control"
    if not entry["perturbation"]:
        return "unlabelled"
    return "correct" if entry["predicted"] == entry["perturbation"] else "wrong"


def _alternate_perturbations(group: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    """Order a group so that every perturbation comes once before any comes twice."""
    n_seen: dict[str, int] = {}
    ranked = []
    for position, (row, entry) in enumerate(group):
        name = str(entry["perturbation"])
        n_seen[name] = n_seen.get(name, -1) + 1
        ranked.append((n_seen[name], position, (row, entry)))
    return [pair for _, _, pair in sorted(ranked, key=lambda item: item[:2])]
