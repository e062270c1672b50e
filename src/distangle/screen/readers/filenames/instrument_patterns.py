"""File name patterns of microscopes, and the names of their thumbnails."""

import re
from collections.abc import Iterable

from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.scan import IMAGE_EXTENSIONS

KNOWN = {
    # Opera Phenix, Operetta; Phenix Plus writes `ch01t01` for `ch1sk1fk1fl1`, in a folder per well.
    "harmony": (
        "r{row}c{column}f{site}p{plane}-ch{channel}sk{time}fk{}fl{}.tiff",
        "r{row}c{column}f{site}p{plane}-ch{channel}t{time}.tiff",
    ),
    # Stored by the microscope with a GUID after the wavelength, exported by MetaXpress without.
    "imagexpress": (
        *("{}_{well}_s{site}_w{channel:1}{:36}.tif", "{well}_s{site}_w{channel:1}{:36}.tif"),
        *("{}_{well}_w{channel:1}{:36}.tif", "{}_{well}_s{site}_w{channel:1}.tif", "{well}_s{site}_w{channel:1}.tif"),
        "{}_{well}_w{channel:1}.tif",
    ),
    "cellvoyager": ("{}_{well}_T{time}F{site}L{}A{}Z{plane}C{channel}.tif",),
    "cq1": ("W{well_number}F{site}T{time}Z{plane}C{channel}.tif",),
    "incell": (
        "{row} - {column}(fld {site} wv {channel} z {plane} time {time} - {}ms).tif",
        "{row} - {column}(fld {site} wv {channel} time {time} - {}ms).tif",
        *("{row} - {column}(fld {site} wv {channel} z {plane}).tif", "{row} - {column}(fld {site} wv {channel}).tif"),
        "{row} - {column}(wv {channel}).tif",
        "{}_{row} - {column}(fld {site} wv {channel} z {plane}).tif",
        "{}_{row} - {column}(fld {site} wv {channel}).tif",
    ),
    "arrayscan": ("{}_{well}f{site}d{channel}.tif",),
    # U and V are column and row of a well, X and Y column and row of a site: all from 0.
    "leica": (
        "{}--L{}--S{}--U{column}--V{row}--J{}--E{}--O{}--X{site_x}--Y{site_y}--T{time}--Z{plane}--C{channel}.ome.tif",
        "{}--L{}--S{}--U{column}--V{row}--J{}--E{}--O{}--X{site_x}--Y{site_y}--T{time}--Z{plane}--C{channel}.tif",
    ),
    "nikon-jobs": (
        "{}Well{well}_Point{}_{site}_Channel{channel}_Seq{}.tif",
        "{}Well{well}_Channel{}_Seq{}xy{site}c{channel}.tif",
        "{}Well{well}_Channel{channel}_Seq{}.tif",
    ),
    "scanr": ("{well}--W{}--P{site}--Z{plane}--T{time}--{channel}.tif",),
    # Each time has a folder: `0`, `1`, ...
    "squid": (
        *("{time}/{well}_{site}_{plane}_{channel}.tif", "{time}/{well}_{site}_{plane}_{channel}.bmp"),
        *("{well}_{site}_{plane}_{channel}.tif", "{well}_{site}_{plane}_{channel}.bmp"),
    ),
    # A scene is named P1-A1: the position and its well.
    "zen": ("{}P{site}-{well}.ome.tif",),
}
"""Patterns of each instrument, the most specific first."""

CHANNELS = {"squid": re.compile(r"(Fluorescence|BF|Brightfield|DF|Darkfield)_.+", re.IGNORECASE)}
"""Channel names of instruments whose pattern also matches other names."""

WELL_BASE = {"leica": 0}
"""First row and column of instruments that do not count from 1."""

WITHOUT_WELLS = {
    "ZEN (Zeiss)": re.compile(r".*_s[0-9]+(?:[tzm][0-9]+)*c[0-9]+(?:_ORG)?\.tiff?", re.IGNORECASE),
    "NIS-Elements (Nikon)": re.compile(r".*xy[0-9]+(?:[tz][0-9]+)*c[0-9]+\.tiff?", re.IGNORECASE),
    "Squid (Cephla)": re.compile(r"manual_[0-9]+_[0-9]+_.+\.(?:tiff?|bmp)", re.IGNORECASE),
}
"""File names with numbered scenes or positions, which contain no well."""


THUMBNAILS_IGNORED = "thumbnails ignored"
"""Kind of the warning."""

_GUID = r"[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}"
_FILE = re.compile(rf"(?:.*[-_. ])?thumb(?:nail)?s?(?:_?{_GUID}|[-_. ].*)?\.[a-z0-9]+", re.IGNORECASE | re.DOTALL)
_FOLDER = re.compile(r"\.?thumb(?:nail)?s?", re.IGNORECASE)


def is_thumbnail(folder: str, name: str) -> bool:
    """Test whether a file is a thumbnail, such as `P_A01_s1_w1_thumb.TIF`.

    Args:
        folder: Folder relative to the source, "" for the source itself.
        name: Name of the file.
    """
    return _FILE.fullmatch(name) is not None or any(_FOLDER.fullmatch(part) for part in folder.split("/"))


def split_thumbnails(
    folders: Iterable[tuple[str, list[str]]],
) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Separate the thumbnails from the files of folders."""
    images: list[tuple[str, list[str]]] = []
    thumbnails: list[str] = []
    for folder, names in folders:
        images.append((folder, [name for name in names if not is_thumbnail(folder, name)]))
        thumbnails += [f"{folder}/{name}".lstrip("/") for name in names if is_thumbnail(folder, name)]
    return images, [path for path in thumbnails if IMAGE_EXTENSIONS.fullmatch(path.rsplit("/", 1)[-1])]


def thumbnail_warning(paths: list[str]) -> Problem:
    """Return the warning about ignored thumbnails.

    Args:
        paths: Paths of the thumbnails, relative to the source.
    """
    return Problem(
        severity="warning",
        kind=THUMBNAILS_IGNORED,
        file=paths[0],
        found=f"{len(paths)} thumbnail{'s' if len(paths) > 1 else ''} by name",
        expected="images",
        fix="No action needed; rename them if they are images.",
        count=len(paths),
    )
