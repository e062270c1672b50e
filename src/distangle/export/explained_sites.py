"""Write the explained sites of a run as plates in OME-Zarr."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distangle import __version__
from distangle.core.io import sha256_of
from distangle.core.progress import no_progress
from distangle.errors import ExplanationError, ImageError, ScreenError
from distangle.export.ngff_writer import DisplayChannel, PixelGrid, write_group, write_image, write_plate
from distangle.export.pycytominer_files import file_names
from distangle.images import VerifiedReader
from distangle.images.composites import channel_colors, contrast_limits, fit_map
from distangle.results.explanation import Explanation
from distangle.results.run import RunFolder
from distangle.screen import Screen, channel_labels
from distangle.screen.plates import location_name, well_name
from distangle.screen.screen import KEY_COLUMNS, escape_formula

Key = tuple[str, str, str, int]
MAP_LABEL = "activation map"
MAP_COLOR = "FF9F1C"
MAP_FOLDER = "map"
FIRST_CHANNELS = 3  # shown at first; more colors cannot be told apart, and vizarr shows at most six channels
CONTRAST_SITES = 8  # of a plate, read for its contrast
TABLE = "sites.csv"
_NUMBERS = ("probability", "confidence")
_TEXTS = ("perturbation", "predicted", "explained")


@dataclass(kw_only=True)
class SiteExport:
    """What was written.

    Attributes:
        plates: Folder of every plate, in the folder of the export.
        n_sites: Number of sites.
        refused: Sentence on every site that was not written.
    """

    plates: list[str] = field(default_factory=list)
    n_sites: int = 0
    refused: list[str] = field(default_factory=list)


def site_rows(screen: Screen) -> dict[Key, int]:
    """Return the row of every site of a screen by its key."""
    columns = [screen.sites[name] for name in KEY_COLUMNS]
    return {(str(e), str(p), str(w), int(s)): row for row, (e, p, w, s) in enumerate(zip(*columns, strict=True))}


def explained_keys(explanation: Explanation) -> list[Key]:
    """Return experiment, plate, well and site of every explained site."""
    columns = [explanation.table[f"Metadata_{name}"] for name in ("Experiment", "Plate", "Well", "Site")]
    return [(str(e), str(p), str(w), int(s)) for e, p, w, s in zip(*columns, strict=True)]


def prediction_of(explanation: Explanation, row: int, channels: Sequence[str]) -> dict[str, Any]:
    """Return what is known of an explained site, for the attributes of its image.

    Args:
        explanation: Explanation of the run.
        row: Row of its table.
        channels: Names of the channels.

    Returns:
        `perturbation` (true), `predicted`, `explained`, `probability`, `confidence`, and by channel `shapley` and
        `shapley_p`. A number that is absent is None.
    """
    entry = explanation.table.iloc[row]
    about: dict[str, Any] = {name: str(entry[name]) for name in _TEXTS if name in entry}
    about |= {name: _number(entry[name]) for name in _NUMBERS if name in entry}
    for name in ("shapley", "shapley_p"):
        columns = [f"{name}_{k}" for k in range(1, len(channels) + 1)]
        if set(columns) <= set(explanation.table):
            about[name] = {channel: _number(entry[column]) for channel, column in zip(channels, columns, strict=True)}
    return about


def first_channels(explanation: Explanation, n_channels: int) -> list[int]:
    """Choose the channels that a viewer shows at first: number 0, then the strongest.

    Args:
        explanation: Explanation of the run; the strongest have the largest mean Shapley value.
        n_channels: Number of channels.

    Returns:
        At most three, from 0, in order.
    """
    columns = [f"shapley_{k}" for k in range(1, n_channels + 1)]
    if not set(columns) <= set(explanation.table) or not len(explanation.table):
        return list(range(min(n_channels, FIRST_CHANNELS)))
    means = np.nan_to_num(explanation.table[columns].to_numpy(dtype=np.float64)).mean(axis=0)
    others = [int(k) for k in np.argsort(-means, kind="stable") if k != 0]
    return sorted([0, *others[: FIRST_CHANNELS - 1]])


def provenance(run: RunFolder, explanation: Explanation) -> dict[str, Any]:
    """Return version, run, its hash, and the method of the maps."""
    return {
        "distangle": __version__,
        "run": run.root.resolve().name,
        "run_sha256": sha256_of(run.manifest) if run.manifest.is_file() else "",
        "method": str(explanation.settings.get("method", "")),
        "layer": str(explanation.settings.get("layer", "")),
    }


def map_grid(explanation: Explanation, pixel_size_um: float | None) -> PixelGrid:
    """Return the grid of the maps over the pixels of a site."""
    scale = [float(value) for value in explanation.settings.get("scale", (1.0, 1.0))]
    size = pixel_size_um or 1.0
    height, width = size * scale[0], size * scale[1]
    return PixelGrid(
        size=(height, width),
        in_um=pixel_size_um is not None,
        start=((height - size) / 2, (width - size) / 2),  # centers of the first pixels
    )


def write_explained_sites(
    run: RunFolder, screen: Screen, folder: Path, *, step: Callable[[str], None] = no_progress
) -> SiteExport:
    """Write one plate per plate with explained sites, and a table of the sites.

    A site is an image with its channels and, as the last channel, its activation map at the size of the site, scaled
    to the pixel type. `map` in the image has the map as it is, float32.

    Args:
        run: A run with explanations.
        screen: Its screen, with images.
        folder: A new folder; it becomes a zarr group.
        step: Called with the name of a plate before it is written.

    Returns:
        The plates, and the sites that could not be written.

    Raises:
        ExplanationError: No site can be written.
        RunError: The run has no explanation.
    """
    explanation = Explanation.read(run.explanations)
    origin = provenance(run, explanation)
    writer = _PlateWriter(screen, explanation, origin)
    plates: dict[tuple[str, str], list[tuple[int, Key]]] = defaultdict(list)
    for row, key in enumerate(explained_keys(explanation)):
        plates[key[:2]].append((row, key))
    result = SiteExport()
    for (experiment, plate), name in zip(plates, file_names(list(plates)), strict=True):
        step(name)
        n_sites = writer.write(folder / f"{name}.zarr", plates[experiment, plate], title=f"{experiment} plate {plate}")
        if n_sites:
            result.plates.append(f"{name}.zarr")
            result.n_sites += n_sites
    result.refused = writer.refused
    if not result.n_sites:
        raise ExplanationError(
            f"None of {len(explanation.table)} explained sites can be written"
            f"{': ' + result.refused[0] if result.refused else '.'} Expected a site with images. Explain sites: "
            "`distangle explain RUN`, and name moved images by `--images FOLDER`."
        )
    table = pd.DataFrame(writer.lines).astype({"path": str})
    write_group(folder, {"distangle": {**origin, "plates": result.plates, "refused": result.refused}})
    text = table.map(lambda cell: escape_formula(cell) if isinstance(cell, str) else cell)
    text.to_csv(folder / TABLE, index=False, lineterminator="\n")
    return result


class _PlateWriter:
    """Writes the explained sites of one plate after another."""

    def __init__(self, screen: Screen, explanation: Explanation, origin: Mapping[str, Any]) -> None:
        self._screen, self._explanation, self._origin = screen, explanation, origin
        self._reader, self._rows = VerifiedReader(screen), site_rows(screen)
        self._names = channel_labels(screen.metadata.channels)
        colors = np.rint(255 * channel_colors(screen.metadata.channels)).astype(int)
        self._colors = ["".join(f"{part:02X}" for part in color) for color in colors]
        self._first = first_channels(explanation, len(self._names))
        self.refused: list[str] = []
        self.lines: list[dict[str, Any]] = []

    def write(self, folder: Path, sites: Sequence[tuple[int, Key]], *, title: str) -> int:
        """Write a plate; return the number of its sites."""
        limits = self._limits([key for _, key in sites])
        if limits is None:
            self.refused += [reason for _, key in sites if isinstance(reason := self._read(key), str)]
            return 0
        wells: dict[tuple[str, str], int] = defaultdict(int)
        for row, key in sites:
            image = self._read(key)
            if isinstance(image, str):
                self.refused.append(image)
                continue
            entry = self._screen.sites.iloc[self._rows[key]]
            name = well_name(int(entry["row"]), int(entry["column"]))
            well = name.rstrip("0123456789"), name.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
            path = f"{well[0]}/{well[1]}/{wells[well]}"
            try:
                self._write_site(folder / path, row, key, image=image, limits=limits)
            except ImageError as error:
                self.refused.append(f"{location_name(*key)}: {error}")
                continue
            wells[well] += 1
            about = prediction_of(self._explanation, row, self._names)
            place = dict(zip(KEY_COLUMNS, key, strict=True))
            scalars = {name: value for name, value in about.items() if not isinstance(value, Mapping)}
            self.lines.append({"path": f"{folder.name}/{path}", **place, **scalars})
        if wells:
            write_plate(folder, wells, name=title, about={"distangle": self._origin})
        return sum(wells.values())

    def _write_site(self, folder: Path, row: int, key: Key, *, image: np.ndarray, limits: np.ndarray) -> None:
        exact = np.asarray(np.clip(np.nan_to_num(self._explanation.maps[row]), 0, 1), dtype=np.float32)
        largest = float(np.iinfo(image.dtype).max)
        activation = np.rint(fit_map(exact, (image.shape[1], image.shape[2])) * largest).astype(image.dtype)
        channels = [
            DisplayChannel(
                label=name, color=color, low=float(low), high=max(float(high), float(low) + 1), largest=largest,
                active=k in self._first,
            )
            for k, (name, color, (low, high)) in enumerate(zip(self._names, self._colors, limits, strict=True))
        ]  # fmt: skip
        channels.append(DisplayChannel(label=MAP_LABEL, color=MAP_COLOR, low=0.0, high=largest, largest=largest))
        size = self._screen.metadata.pixel_size_um
        about = {
            **self._origin,
            **dict(zip(KEY_COLUMNS, key, strict=True)),
            **prediction_of(self._explanation, row, self._names),
            "map": {"channel": len(image), "value_of_one": largest, "exact": MAP_FOLDER},
        }
        name = location_name(*key)
        write_image(
            folder, np.concatenate([image, activation[None]]), name=name, channels=channels, about={"distangle": about},
            grid=PixelGrid(size=(size or 1.0, size or 1.0), in_um=size is not None),
        )  # fmt: skip
        write_image(
            folder / MAP_FOLDER, exact, name=f"{name}, {MAP_LABEL}", grid=map_grid(self._explanation, size),
            about={"distangle": about},
        )  # fmt: skip

    def _limits(self, keys: Sequence[Key]) -> np.ndarray | None:
        """Return the contrast of a plate [channel, (low, high)]; None if no site can be read."""
        images: list[np.ndarray] = []
        for key in keys:
            image = self._read(key)
            if not isinstance(image, str):
                images.append(image)
            if len(images) == CONTRAST_SITES:
                break
        return contrast_limits(images) if images else None

    def _read(self, key: Key) -> np.ndarray | str:
        """Return the image of a site [channel, height, width], or why it cannot be read."""
        if key not in self._rows:
            return f"{location_name(*key)}: it is not in the screen."
        try:
            return self._reader.read(self._rows[key])
        except (ImageError, ScreenError) as error:
            return f"{location_name(*key)}: {error}".replace(f"{self._screen.source}/", "")


def _number(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
