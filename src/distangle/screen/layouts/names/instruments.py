"""Patterns of file names that microscopes write."""

import re

KNOWN = {
    # Opera Phenix, Operetta; Phenix Plus writes `ch01t01` for `ch1sk1fk1fl1`, in a folder per well.
    "harmony": (
        "r{row}c{column}f{site}p{plane}-ch{channel}sk{time}fk{}fl{}.tiff",
        "r{row}c{column}f{site}p{plane}-ch{channel}t{time}.tiff",
    ),
    # As the microscope stores them, with a GUID behind the wavelength, and as MetaXpress exports them, without.
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
    # U is the column of a well, V its row, X and Y the column and row of a field: all from 0.
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
    # A time has a folder, `0`, `1`, ...
    "squid": (
        *("{time}/{well}_{site}_{plane}_{channel}.tif", "{time}/{well}_{site}_{plane}_{channel}.bmp"),
        *("{well}_{site}_{plane}_{channel}.tif", "{well}_{site}_{plane}_{channel}.bmp"),
    ),
    # A scene of a plate is called P1-A1: the position and its well.
    "zen": ("{}P{site}-{well}.ome.tif",),
}
"""Patterns of a name, the most telling first."""

CHANNELS = {"squid": re.compile(r"(Fluorescence|BF|Brightfield|DF|Darkfield)_.+", re.IGNORECASE)}
"""What channels are called, where a pattern alone would fit the names of others."""

WELL_BASE = {"leica": 0}
"""What rows and columns count from, where it is not 1."""

WITHOUT_WELLS = {
    "ZEN (Zeiss)": re.compile(r".*_s[0-9]+(?:[tzm][0-9]+)*c[0-9]+(?:_ORG)?\.tiff?", re.IGNORECASE),
    "NIS-Elements (Nikon)": re.compile(r".*xy[0-9]+(?:[tz][0-9]+)*c[0-9]+\.tiff?", re.IGNORECASE),
    "Squid (Cephla)": re.compile(r"manual_[0-9]+_[0-9]+_.+\.(?:tiff?|bmp)", re.IGNORECASE),
}
"""Names that number scenes or positions: no pattern finds a well in them."""
