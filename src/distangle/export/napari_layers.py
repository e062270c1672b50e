"""Make the layers of a well for napari, as (data, keywords, type) tuples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distangle.errors import ConfigError, ImageError, ScreenError
from distangle.export.explained_sites import (
    MAP_LABEL,
    explained_keys,
    first_channels,
    map_grid,
    prediction_of,
    provenance,
    site_rows,
)
from distangle.export.ngff_writer import PixelGrid
from distangle.images import VerifiedReader
from distangle.images.composites import channel_colors, contrast_limits
from distangle.results.explanation import Explanation
from distangle.results.run import RunFolder
from distangle.screen import NEGATIVE, Screen, channel_labels, well_name
from distangle.screen.plates import location_name, split_well
from distangle.screen.screen import WELL_COLUMNS

LayerData = tuple[np.ndarray, dict[str, Any], str]
"""Data, keywords of the layer, and its type, as `napari.layers.Layer.create` takes them."""

MAP_COLORMAP = "inferno"
MAP_OPACITY = 0.5
MOST_NAMES = 6  # wells that an error names
CONTRAST_SITES = 4  # negative controls of the plate that set the contrast


@dataclass(frozen=True, kw_only=True)
class WellLayers:
    """A well as layers of napari.

    Attributes:
        title: Experiment, plate and well.
        layers: One per channel, then the activation map if a site was explained. The first axis is the site, if there
            are several.
        sites: Number of each site, in the order of the first axis.
        in_um: Whether the scale is in micrometers.
        notes: Sentences on what is absent.
    """

    title: str
    layers: list[LayerData]
    sites: list[int]
    in_um: bool = False
    notes: list[str] = field(default_factory=list)


def site_number(screen: Screen, row: int) -> int:
    """Return the number of a site of a screen."""
    return int(screen.sites["site"].to_numpy()[row])


def find_well(screen: Screen, name: str) -> list[int]:
    """Return the rows of the sites of a well.

    Args:
        screen: The screen.
        name: `WELL`, `PLATE/WELL` or `EXPERIMENT/PLATE/WELL`, as in `B02` or `HUVEC-01/1/B02`; also `b2`.

    Raises:
        ConfigError: No well or several wells have that name; wells that exist are named.
    """
    start, _, well = name.rpartition("/")
    position = split_well(well)
    wanted = "/".join(part for part in (start, well_name(*position) if position else well) if part)
    wells: dict[str, list[int]] = {}
    columns = [screen.sites[column].astype(str) for column in WELL_COLUMNS]
    for row, parts in enumerate(zip(*columns, strict=True)):
        place = split_well(parts[2])
        wells.setdefault("/".join((*parts[:2], well_name(*place) if place else parts[2])), []).append(row)
    matches = [key for key in wells if f"/{key}".endswith(f"/{wanted}")]
    if len(matches) == 1:
        return wells[matches[0]]
    if matches:
        raise ConfigError(
            f"{name} is on {len(matches)} plates: {_list(matches)}. Expected one well. Name its plate too: "
            f"`{matches[0]}`."
        )
    nearest = _nearest(list(wells), start, position)
    raise ConfigError(
        f"The screen has no well {name}. Expected a well such as {_list(nearest)}: name it as WELL, PLATE/WELL or "
        "EXPERIMENT/PLATE/WELL."
    )


def well_layers(run: RunFolder, screen: Screen, well: str, *, site: int | None = None) -> WellLayers:
    """Read a well, and the activation maps of its explained sites, as layers.

    Args:
        run: A run; its explanation may be absent.
        screen: Its screen, with images.
        well: Name of the well, as `find_well` takes it.
        site: Number of one site; None for all.

    Raises:
        ConfigError: There is no such well or site.
        ImageError: No site can be read.
    """
    rows = find_well(screen, well)
    numbers = [site_number(screen, row) for row in rows]
    if site is not None and site not in numbers:
        raise ConfigError(f"{well} has no site {site}. Expected one of {', '.join(map(str, numbers))}.")
    reader, notes = VerifiedReader(screen), []
    images: dict[int, np.ndarray] = {}
    for row, number in zip(rows, numbers, strict=True):
        if site is None or number == site:
            try:
                images[row] = reader.read(row)
            except (ImageError, ScreenError) as error:
                notes.append(f"Site {number} is left out: {error}")
    shape = next((image.shape for image in images.values()), ())
    other = [row for row, image in images.items() if image.shape != shape]
    notes += [f"Site {screen.sites['site'].iat[row]} is left out: its image has another size." for row in other]
    rows = [row for row in images if row not in other]
    if not rows:
        raise ImageError(f"No site of {well} can be read. {notes[0]} If the images were moved, name them: `--images`.")
    stack = np.stack([images[row] for row in rows])
    entry = screen.sites.iloc[rows[0]]
    title = location_name(*(str(entry[name]) for name in WELL_COLUMNS))
    size = screen.metadata.pixel_size_um
    about: dict[str, Any] = {name: str(entry[name]) for name in (*WELL_COLUMNS, "perturbation", "role")}
    about["sites"] = [site_number(screen, row) for row in rows]
    explanation = Explanation.read(run.explanations) if (run.explanations / "explanation.json").exists() else None
    names = channel_labels(screen.metadata.channels)
    layers = channel_layers(
        stack,
        names=names,
        colors=channel_colors(screen.metadata.channels),
        limits=_plate_limits(screen, reader, rows[0], stack),
        visible=list(range(min(3, len(names)))) if explanation is None else first_channels(explanation, len(names)),
        grid=PixelGrid(size=(size or 1.0, size or 1.0), in_um=size is not None),
        metadata=about,
    )
    if explanation is None:
        notes.append("The run has no activation maps. Make them: `distangle explain RUN`.")
    else:
        layers += _map_layers(run, screen, rows, explanation, about=about, notes=notes)
    return WellLayers(title=title, layers=layers, sites=about["sites"], in_um=size is not None, notes=notes)


def channel_layers(
    images: np.ndarray,
    *,
    names: Sequence[str],
    colors: np.ndarray,
    limits: np.ndarray,
    visible: Sequence[int],
    grid: PixelGrid,
    metadata: dict[str, Any],
) -> list[LayerData]:
    """Return one layer per channel.

    Args:
        images: uint8 or uint16 [site, channel, height, width]; a single site gives layers of two axes.
        names: Names of the channels.
        colors: [channel, (red, green, blue)] in [0, 1].
        limits: Pixel values of black and full brightness, [channel, 2].
        visible: Numbers of the channels that are shown at first, from 0.
        grid: Pixels of a site.
        metadata: Facts that every layer carries.
    """
    layers: list[LayerData] = []
    for k, (name, color, (low, high)) in enumerate(zip(names, colors, limits, strict=True)):
        keywords = {
            "name": name,
            "colormap": "#" + "".join(f"{round(255 * float(part)):02x}" for part in color),
            "contrast_limits": (float(low), max(float(high), float(low) + 1.0)),
            "blending": "additive",
            "visible": k in visible,
            **_place(grid, n_sites=len(images)),
            "metadata": {"distangle": metadata},
        }
        layers.append((_squeeze(images[:, k]), keywords, "image"))
    return layers


def map_layer(maps: np.ndarray, *, grid: PixelGrid, metadata: dict[str, Any], name: str = MAP_LABEL) -> LayerData:
    """Return the layer of the activation maps, which brightens what they point at.

    Args:
        maps: float32 [site, height, width] in [0, 1]; NaN where a site has no map. A single site gives two axes.
        grid: Pixels of a map over the site.
        metadata: Facts that the layer carries.
        name: Name of the layer.
    """
    keywords = {
        "name": name,
        "colormap": MAP_COLORMAP,
        "contrast_limits": (0.0, 1.0),
        "blending": "additive",
        "opacity": MAP_OPACITY,
        "interpolation2d": "linear",
        **_place(grid, n_sites=len(maps)),
        "metadata": {"distangle": metadata},
    }
    return _squeeze(np.asarray(maps, dtype=np.float32)), keywords, "image"


def _map_layers(
    run: RunFolder,
    screen: Screen,
    rows: Sequence[int],
    explanation: Explanation,
    *,
    about: dict[str, Any],
    notes: list[str],
) -> list[LayerData]:
    """Return the layer of the maps of the sites; empty if none was explained."""
    by_site = site_rows(screen)
    places = {by_site[key]: number for number, key in enumerate(explained_keys(explanation)) if key in by_site}
    numbers = {row: site_number(screen, row) for row in rows}
    if absent := [str(numbers[row]) for row in rows if row not in places]:
        which = f"site{'s' if len(absent) > 1 else ''} {', '.join(absent)}"
        notes.append(f"No activation map of {which}: only explained sites have one (`distangle explain`).")
    if len(absent) == len(rows):
        return []
    maps = np.full((len(rows), *explanation.maps.shape[1:]), np.nan, dtype=np.float32)
    names = channel_labels(screen.metadata.channels)
    predictions: dict[str, Any] = {}
    for k, row in enumerate(rows):
        if row in places:
            maps[k] = np.clip(explanation.maps[places[row]], 0, 1)
            predictions[str(numbers[row])] = prediction_of(explanation, places[row], names)
    explained = sorted({str(table["explained"]) for table in predictions.values() if "explained" in table})
    metadata = {**about, **provenance(run, explanation), "predictions": predictions}
    name = f"{MAP_LABEL} of {', '.join(explained)}" if explained else MAP_LABEL
    return [map_layer(maps, grid=map_grid(explanation, screen.metadata.pixel_size_um), metadata=metadata, name=name)]


def _plate_limits(screen: Screen, reader: VerifiedReader, row: int, images: np.ndarray) -> np.ndarray:
    """Return the contrast of the negative controls of the plate and of these images."""
    sites, own = screen.sites, screen.sites.iloc[row]
    on_plate = (sites["experiment"] == own["experiment"]) & (sites["plate"] == own["plate"])
    controls = np.flatnonzero(on_plate & sites["role"].astype(str).isin(NEGATIVE))
    usable = list(images)
    for control in controls[:: max(1, len(controls) // CONTRAST_SITES)][:CONTRAST_SITES]:
        try:
            usable.append(reader.read(int(control)))
        except (ImageError, ScreenError):  # the contrast does without it
            continue
    return contrast_limits([image for image in usable if len(image) == len(images[0])])


def _place(grid: PixelGrid, *, n_sites: int) -> dict[str, Any]:
    """Return scale and position of the pixels; the axis of the sites counts from 0."""
    several = n_sites > 1
    return {
        "scale": ((1.0,) if several else ()) + tuple(map(float, grid.size)),
        "translate": ((0.0,) if several else ()) + tuple(map(float, grid.start)),
    }


def _squeeze(stack: np.ndarray) -> np.ndarray:
    return stack[0] if len(stack) == 1 else np.ascontiguousarray(stack)


def _nearest(keys: list[str], start: str, position: tuple[int, int] | None) -> list[str]:
    """Return wells near a position, those on the wanted plates first."""

    def distance(key: str) -> tuple[bool, float, str]:
        plate, _, well = key.rpartition("/")
        place = split_well(well)
        is_other = bool(start) and not f"/{plate}".endswith(f"/{start}")
        if position is None or place is None:
            return is_other, float("inf"), key
        return is_other, float(np.hypot(place[0] - position[0], place[1] - position[1])), key

    return sorted(keys, key=distance)[:3]


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"
