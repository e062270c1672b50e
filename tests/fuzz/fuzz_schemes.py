"""Random screens of named files: how microscopes and laboratories name them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fuzz_drafts import Draft, draft, letters, well_text
from fuzz_pixels import FilePlan, Place, imagej_lines, ome_xml


@dataclass(frozen=True)
class Scheme:
    """How files are named.

    Attributes:
        name: In reports.
        path: Template of a path; `ext` is the ending.
        pattern: As it is asked for; "" where it is recognised.
        by_number: Channels are written as numbers from 1.
        endings: That may be.
        moments: Whether the names have `plane` or `time`.
        experiments: Whether they have an experiment.
        first_site: Number of the first site, where names do not tell it.
    """

    name: str
    path: str
    pattern: str
    by_number: bool = True
    endings: tuple[str, ...] = ("tif",)
    moments: str = ""
    experiments: bool = False
    first_site: int | None = None


_GUID = "648EE446-12C2-4D22-B14B-6EC688B0744A"


SCHEMES = (
    Scheme(
        "harmony",
        "{plate}__2020-11-08T18_18_43-Measurement1/Images/"
        "r{row1:02}c{col1:02}f{site:02}p{plane:02}-ch{k}sk{time}fk1fl1.{ext}",
        "harmony",
        endings=("tiff",),
        moments="plane time",
    ),
    Scheme(
        "imagexpress",
        "{plate}/TimePoint_{time}/{tag}_{well}_s{site}_w{k}" + _GUID + ".{ext}",
        "imagexpress",
        moments="time",
        endings=("tif", "TIF"),
    ),
    Scheme(
        "imagexpress z",
        "{plate}/TimePoint_{time}/ZStep_{plane}/{tag}_{well}_s{site}_w{k}" + _GUID + ".{ext}",
        "imagexpress",
        moments="plane time",
    ),
    Scheme(
        "cellvoyager",
        "{plate}/{tag}_{well}_T{time:04}F{site:03}L01A{k:02}Z{plane:02}C{k:02}.{ext}",
        "cellvoyager",
        moments="plane time",
    ),
    Scheme(
        "incell",
        "{plate}/{letter} - {col1:02}(fld {site:02} wv {wave} z {plane}).{ext}",
        "incell",
        by_number=False,
        moments="plane",
    ),
    Scheme("metaxpress", "{plate}/TimePoint_{time}/{tag}_{well}_s{site}_w{k}.{ext}", "imagexpress", moments="time"),
    Scheme(
        "phenix plus",
        "{plate}/Images/r{row1:02}c{col1:02}/r{row1:02}c{col1:02}f{site:02}p{plane:02}-ch{k:02}t{time:02}.{ext}",
        "harmony",
        endings=("tiff",),
        moments="plane time",
    ),
    Scheme(
        "leica",
        "{plate}/slide--S00/chamber--U{col0:02}--V{row0:02}/field--X{s:02}--Y00/"
        "image--L0000--S00--U{col0:02}--V{row0:02}--J08--E00--O00--X{s:02}--Y00--T0000--Z00--C{k:02}.{ext}",
        "leica",
        endings=("ome.tif", "tif"),
        first_site=1,
    ),
    Scheme(
        "squid",
        "{plate}/0/{letter}{col1}_{site}_{plane}_Fluorescence_{stain}_nm_Ex.{ext}",
        "squid",
        by_number=False,
        endings=("tif", "tiff"),
    ),
    Scheme(
        "scanr",
        "{plate}/{letter}{col1}--W{n:05}--P{site:05}--Z{plane:05}--T{time:05}--{stain}.{ext}",
        "scanr",
        by_number=False,
        moments="plane time",
    ),
    Scheme("arrayscan", "{plate}/{tag}_{well}f{site:02}d{k}.{ext}", "arrayscan", endings=("tif", "TIF")),
    Scheme(
        "flat",
        "{plate}_{well}_s{site}_w{stain}.{ext}",
        "{plate}_{well}_s{site}_w{channel}.{ext}",
        by_number=False,
        endings=("png", "tif"),
    ),
    Scheme(
        "folders",
        "{experiment}/{plate}/{well}/{stain}-{site}.{ext}",
        "{experiment}/{plate}/{well}/{channel}-{site}.{ext}",
        by_number=False,
        endings=("png", "tif"),
        experiments=True,
    ),
    Scheme(
        "folder of a plate",
        "{plate}/{well}_s{site}_w{k}.{ext}",
        "{well}_s{site}_w{channel}.{ext}",
        endings=("png", "tif"),
    ),
    Scheme(
        "rows and columns",
        "{plate}/row{row1}_col{col1}_f{site}_{stain}_z{plane}_t{time}.{ext}",
        "row{row}_col{column}_f{site}_{channel}_z{plane}_t{time}.{ext}",
        by_number=False,
        endings=("png", "tif"),
        moments="plane time",
    ),
    Scheme(
        "moments",
        "{experiment}/{plate}/{letter}{col1}/s{site}_t{time}_z{plane}_{stain}.{ext}",
        "{experiment}/{plate}/{well}/s{site}_t{time}_z{plane}_{channel}.{ext}",
        by_number=False,
        endings=("png", "tif"),
        moments="plane time",
        experiments=True,
    ),
)


PAGED = Scheme("pages", "{plate}/{well}_s{site}.{ext}", "{plate}/{well}_s{site}.{ext}", endings=("tif", "ome.tif"))


def way_of(rng: random.Random, ending: str) -> str:
    return "png" if ending == "png" else rng.choice(("raw", "raw", "zlib", "lzw"))


def path_of(d: Draft, scheme: Scheme, place: Place, ending: str, **changes: Any) -> str:
    """Return the path of a plane; `changes` replace true values."""
    values: dict[str, Any] = {
        "experiment": d.experiments[place.experiment],
        "plate": d.plates[place.experiment, place.plate],
        "tag": d.plates[place.experiment, place.plate].replace(" ", "-"),
        "well": well_text(place.row, place.column),
        "letter": letters(place.row),
        "row0": place.row,
        "row1": place.row + 1,
        "col0": place.column,
        "col1": place.column + 1,
        "site": d.sites[place.site],
        "s": place.site,
        "n": place.row * 48 + place.column + 1,
        "k": place.channel + 1,
        "stain": _plain(d.channels[place.channel]),
        "wave": " - ".join([_plain(d.channels[place.channel])] * 2),
        "plane": place.plane,
        "time": place.time,
        "ext": ending,
    }
    return scheme.path.format(**{**values, **changes})


def folder_screen(
    rng: random.Random, *, schemes: Sequence[Scheme] = SCHEMES, by_name: bool | None = None, **choices: Any
) -> tuple[Draft, Scheme, str]:
    """Make up a screen of named files; returns it with its scheme and ending, its files planned."""
    scheme = rng.choice(schemes)
    if scheme.experiments:
        choices.setdefault("n_experiments", rng.choice((1, 2)))
    # Folders named just 1 and 2 may be plates or times.
    choices.setdefault("first_site", scheme.first_site)
    d = draft(rng, "folder", numbered="{plate}" in scheme.pattern, **choices)
    ending = rng.choice(scheme.endings)
    compression = way_of(rng, ending)
    byteorder = rng.choice("<<>")
    for place in d.places():
        d.files[path_of(d, scheme, place, ending)] = FilePlan([place], compression, byteorder=byteorder)
    d.options["pattern"] = scheme.pattern.replace("{ext}", ending)
    if scheme.by_number:
        ask_by_number(d, scheme, by_name=rng.random() < 0.5 if by_name is None else by_name)
    elif by_name or (by_name is None and rng.random() < 0.5):
        d.options["channels"] = [f"{name}={_written(scheme, name)}" for name in d.channels]
    else:
        d.channels = [_written(scheme, name) for name in d.channels]
    if not scheme.experiments:
        d.experiments = ["all"] * len(d.experiments)
    return d, scheme, ending


def _written(scheme: Scheme, name: str) -> str:
    return {"incell": f"{name} - {name}", "squid": f"Fluorescence_{name}_nm_Ex"}.get(scheme.name, name)


def _plain(name: str) -> str:
    return name.split(" - ")[0].removeprefix("Fluorescence_").removesuffix("_nm_Ex")


def ask_by_number(d: Draft, scheme: Scheme, *, by_name: bool) -> None:
    if by_name:
        d.options["channels"] = [f"{name}={k + 1}" for k, name in enumerate(d.channels)]
    else:
        pad = 2 if scheme.name in ("cellvoyager", "phenix plus", "leica") else 1
        d.channels = [f"{k + 1:0{pad}}" for k in range(len(d.channels))]


def describe(d: Draft) -> None:
    """Give TIFF files the metadata that programs write; they add nothing to the file names.

    A file of one channel may carry the OME-XML of all of them, each in a file of its own.
    """
    whole_plate = d.rng.random() < 0.5
    imagej = d.rng.random() < 0.3
    for plan in d.files.values():
        if plan.way not in ("raw", "zlib"):
            continue
        count = len(plan.pages)
        if imagej:
            plan.description = imagej_lines(channels=count)
        elif whole_plate and count == 1:
            blocks = [{"IFD": 0, "FirstC": plan.pages[0].channel, "FirstZ": 0, "FirstT": 0, "PlaneCount": 1}]
            sizes = {"C": len(d.channels)}
            plan.description = ome_xml(d.shape, d.dtype, order="XYCZT", sizes=sizes, blocks=blocks)
        else:
            names = [d.channels[page.channel] for page in plan.pages] if d.rng.random() < 0.5 else []
            sizes = {"C": count}
            plan.description = ome_xml(d.shape, d.dtype, order="XYCZT", sizes=sizes, channels=names)


def paged_screen(rng: random.Random, **choices: Any) -> tuple[Draft, Scheme, str]:
    """Make up a screen of files that hold all channels of a site, a page each."""
    d = draft(rng, "folder", **choices)
    ending = rng.choice(PAGED.endings)
    compression = rng.choice(("raw", "zlib", "lzw"))
    for place in d.places():
        if place.channel == 0:
            pages = [place._replace(channel=c) for c in range(len(d.channels))]
            d.files[path_of(d, PAGED, place, ending)] = FilePlan(pages, compression)
    d.options.update(pattern=PAGED.pattern.replace("{ext}", ending), channels=list(d.channels))
    d.experiments = ["all"]
    return d, PAGED, ending
