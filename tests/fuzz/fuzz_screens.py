"""Random screens of tables, Cell Painting plates and OME-Zarr; and one of any kind without a fault."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_drafts import Draft, add_labels, dialect, draft, label, letters, text_of, well_text
from fuzz_pixels import FilePlan, Place, plane_of, write_array, write_group
from fuzz_schemes import describe, folder_screen, paged_screen, way_of


def table_screen(rng: random.Random, *, paged: bool | None = None, **choices: Any) -> tuple[Draft, list[list[str]]]:
    """Make up a screen of one table with a row per site; returns it with the table, which is not written yet."""
    d = draft(rng, "table", **{"n_experiments": rng.choice((1, 2)), **choices})
    paged = rng.random() < 0.4 if paged is None else paged
    paged = paged and len(d.channels) > 1
    ending = "tif" if paged else rng.choice(("png", "tif"))
    compression = way_of(rng, ending)
    d.labels = {}
    style = rng.choice(("A01", "A1", "r01c01"))
    head = ["experiment", "plate", "well", "site", "perturbation"]
    head = [f"Metadata_{name.title()}" for name in head] if rng.random() < 0.3 else head
    rows = [[*head, *(["file"] if paged else d.channels), "note"]]
    for first in d.places():
        if first.channel:
            continue
        e, p = first.experiment, first.plate
        name = label(d.experiments[e], d.plates[e, p], first.row, first.column)
        d.labels[first.well] = name
        stem = f"img/{d.experiments[e]}/{d.plates[e, p]}/{well_text(first.row, first.column)}_{first.site}"
        pages = [first._replace(channel=c) for c in range(len(d.channels))]
        if paged:
            paths = [f"{stem}.{ending}"]
            d.files[paths[0]] = FilePlan(pages, compression)
        else:
            paths = [f"{stem}_{name}.{ending}" for name in d.channels]
            d.files.update({path: FilePlan([place], compression) for path, place in zip(paths, pages, strict=True)})
        well = well_text(first.row, first.column, style)
        place = [d.experiments[e], d.plates[e, p], well, str(d.sites[first.site]), name]
        rows.append([*place, *paths, rng.choice(("", "seen", "x, y"))])
    d.options["channels"] = list(d.channels)
    if paged:
        d.options["pages"] = "file"
    return d, rows


def load_data_screen(rng: random.Random, **options: Any) -> tuple[Draft, dict[tuple[int, int], list[list[str]]]]:
    """Make up Cell Painting plates; returns them with the rows of each plate, which are not written yet."""
    d = draft(rng, "cellpainting", **options)
    d.experiments = ["all"]
    ending = rng.choice(("tiff", "png"))
    compression = way_of(rng, ending)
    d.labels = {}
    head = [f"{kind}_Orig{name}" for name in d.channels for kind in ("FileName", "PathName")]
    tables = {}
    for (e, p), wells in d.wells.items():
        plate = d.plates[e, p]
        rows = [[*head, "Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Compound"]]
        for row, column in wells:
            name = label("", plate, row, column)
            d.labels[e, p, row, column] = name
            for s, number in enumerate(d.sites):
                fields = []
                for c, stain in enumerate(d.channels):
                    file = f"{well_text(row, column)}-{number}-{stain}.{ending}"
                    d.files[f"images/{plate}/{file}"] = FilePlan([Place(e, p, row, column, s, c)], compression)
                    fields += [file, f"/home/ubuntu/bucket/x/images/{plate}"]
                rows.append([*fields, plate, well_text(row, column), str(number), name])
        tables[e, p] = rows
    return d, tables


def add_load_data(d: Draft, tables: Mapping[tuple[int, int], Sequence[Sequence[str]]]) -> None:
    """Write the tables in one of the usual ways: one in all, or one in a folder of each plate."""
    if d.rng.random() < 0.5:
        all_tables = list(tables.values())
        d.texts["load_data.csv"] = text_of([all_tables[0][0], *(row for table in all_tables for row in table[1:])])
        return
    d.experiments = ["B1"]
    for key, rows in tables.items():
        d.texts[f"workspace/load_data_csv/B1/{d.plates[key]}/load_data.csv"] = text_of(rows)


def ngff_screen(rng: random.Random, **options: Any) -> Draft:
    """Make up plates of OME-Zarr, written by deeds."""
    d = draft(rng, "ome-zarr", **options)
    d.experiments = ["all"]
    d.sites = [s + 1 for s in range(len(d.sites))]
    version = rng.choice(("0.4", "0.5"))
    axes = rng.choice(("cyx", "tczyx", "czyx"))
    compress, whole = rng.random() < 0.4, rng.random() < 0.4
    labelled = rng.random() < 0.7
    if not labelled:
        d.channels = [str(k + 1) for k in range(len(d.channels))]
    names = list(d.channels)
    extras, acquired = rng.choice(((), (), ("labels",), ("pyramid",), ("labels", "pyramid"))), rng.random() < 0.5
    pad = rng.choice(("{}", "{:02d}"))
    for (e, p), wells in d.wells.items():
        d.deeds.append(
            NgffPlate(
                folder=f"{d.plates[e, p]}.zarr",
                name=d.plates[e, p],
                version=version,
                axes=axes,
                packed=compress,
                whole=whole,
                names=names if labelled else [],
                shape=d.shape,
                dtype=d.dtype,
                beside=extras,
                acquisitions=[0] * len(d.sites) if acquired else [],
                wells={
                    f"{letters(row)}/{pad.format(column + 1)}": [
                        [Place(e, p, row, column, s, c) for c in range(len(names))] for s in range(len(d.sites))
                    ]
                    for row, column in wells
                },
            )
        )
    return d


@dataclass
class NgffPlate:
    """A plate to be written; `wells` has for each path of a well, for each field, its planes in the order of axes."""

    folder: str
    name: str
    version: str
    axes: str
    packed: bool
    whole: bool
    names: list[str]
    shape: tuple[int, int]
    dtype: str
    wells: dict[str, list[list[Place]]]
    sizes: dict[str, int] = field(default_factory=dict)
    acquisitions: list[int] = field(default_factory=list)
    first: int = 7
    said: dict[str, Any] = field(default_factory=dict)
    beside: tuple[str, ...] = ()  # `labels` and `pyramid`: what a field may have beside its image

    def __call__(self, source: Path, rng: np.random.Generator) -> None:
        rows = sorted({path.split("/")[0] for path in self.wells})
        columns = sorted({path.split("/")[1] for path in self.wells})
        well_entries: list[dict[str, Any]] = [{"path": path} for path in self.wells]
        for well in well_entries:
            row, column = well["path"].split("/")
            well |= {"rowIndex": rows.index(row), "columnIndex": columns.index(column)}
        axes = {"rows": [{"name": row} for row in rows], "columns": [{"name": column} for column in columns]}
        plate = {**axes, "name": self.name, "wells": well_entries, "version": self.version, **self.said}
        write_group(source / self.folder, {"plate": plate}, self.version)
        for path, fields in self.wells.items():
            well_folder = source / self.folder / path
            images = [{"path": str(k)} for k in range(len(fields))]
            for k, number in enumerate(self.acquisitions):
                images[k]["acquisition"] = number  # type: ignore[assignment]
            write_group(well_folder, {"well": {"images": images, "version": self.version}}, self.version)
            for k, places in enumerate(fields):
                self._field(well_folder / str(k), places, rng)

    def _field(self, folder: Path, places: Sequence[Place], rng: np.random.Generator) -> None:
        n_channels = len({place.channel for place in places})
        sizes = {"c": n_channels, **self.sizes}
        leading = [sizes.get(axis, 1) for axis in self.axes[:-2]]
        planes = [plane_of(place, self.shape, self.dtype, rng, self.first) for place in places]
        pixels = np.stack(planes).reshape(*leading, *self.shape)
        levels = [(str(k), [{"type": "scale", "scale": [2.0**k] * len(self.axes)}]) for k in (0, 1)]
        attributes: dict[str, Any] = {
            "multiscales": [
                {
                    "axes": [{"name": axis} for axis in self.axes],
                    "datasets": [
                        {"path": path, "coordinateTransformations": scale}
                        for path, scale in levels[: 2 if "pyramid" in self.beside else 1]
                    ],
                    "version": self.version,
                }
            ]
        }
        if self.names:
            attributes["omero"] = {"channels": [{"label": name, "color": "FFFFFF"} for name in self.names]}
        write_group(folder, attributes, self.version)
        write_array(folder / "0", pixels, self.version, is_compressed=self.packed, whole=self.whole)
        if "pyramid" in self.beside:
            write_array(folder / "1", pixels[..., ::2, ::2], self.version, is_compressed=self.packed, whole=self.whole)
        if "labels" in self.beside:
            write_group(folder / "labels", {"labels": ["nuclei"]}, self.version)
            write_group(
                folder / "labels" / "nuclei", {**attributes, "image-label": {"version": self.version}}, self.version
            )
            write_array(
                folder / "labels" / "nuclei" / "0", pixels, self.version, is_compressed=self.packed, whole=self.whole
            )


def whole_screen(rng: random.Random) -> Draft:
    """Make up a screen without a fault."""
    kind = rng.choice(("folder",) * 5 + ("pages", "table", "table", "cellpainting", "ome-zarr", "ome-zarr"))
    if kind == "table":
        d, rows = table_screen(rng)
        d.texts["sites.csv"] = dialect(rng, rows)
    elif kind == "cellpainting":
        d, tables = load_data_screen(rng)
        add_load_data(d, tables)
    else:
        if kind == "ome-zarr":
            d = ngff_screen(rng)
        else:
            d = (paged_screen if kind == "pages" else folder_screen)(rng)[0]
            if rng.random() < 0.4:
                describe(d)
        if rng.random() < 0.7:
            add_labels(d)
    if d.layout != "folder" and rng.random() < 0.3 and len(d.texts) < 2:
        d.options["layout"] = None  # detected from the files
    d.instance = kind
    return d
