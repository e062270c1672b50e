"""Parse folder names: time, plane, cycle, acquisition, field, channel or well."""

import re

from distangle.screen.plates import row_of

AXES = ("plane", "time", "cycle", "acquisition")
"""Axes that distinguish images of one site and one channel."""

_AXIS_WORDS = {
    "time": r"t|tp|time|time[ _-]?point|frame",
    "plane": r"z|z[ _-]?(?:step|plane|slice|stack|pos|level)|plane|slice|focus",
    "cycle": r"cycle|cyc|round|hyb|hybridi[sz]ation|staining",
    "acquisition": r"acq|acquisition|pass|measurement|scan",
    "site": r"field|fld|fov|site|pos|position|xy|point|tile|field[ _-]of[ _-]view",
    "channel": r"ch|channel|wave|wavelength",
}
_NAMED_AXIS = "|".join(f"(?P<{axis}>{words})" for axis, words in _AXIS_WORDS.items())
_TOKEN = re.compile(rf"(?:{_NAMED_AXIS})[ _.=-]*(?P<value>[0-9]+)[ _.-]*", re.IGNORECASE)
_ANY_AXIS = "|".join(_AXIS_WORDS.values())
_TOKENS = re.compile(rf"(?:(?:{_ANY_AXIS})[ _.=-]*[0-9]+[ _.-]*)+", re.IGNORECASE)
_ENDING = re.compile(rf"(?P<name>.+?)[ _.-]+(?P<token>(?:{_ANY_AXIS})[ _.=-]*[0-9]+)", re.IGNORECASE | re.DOTALL)

_CHANNEL_NAME = re.compile(
    r"dapi|hoechst[ _-]?[0-9]*|e?gfp|yfp|rfp|mcherry|fitc|tritc|cy[357]|texas[ _-]?red|bf|bright[ _-]?field|phase|dic|"
    r"dna|rna|er|agp|mito|actin|tubulin|alexa[ _-]?(?:fluor[ _-]?)?[0-9]{3}",
    re.IGNORECASE,
)
_WELL = re.compile(r"(?P<word>well[ _-]*)?(?P<row>[A-Z]{1,2})[ _-]*(?P<column>[0-9]{1,2})", re.IGNORECASE)
_ROW_AND_COLUMN = re.compile(
    r"(?:well[ _-]*)?(?:r[ _-]*(?P<r>[0-9]{1,2})[ _-]*c[ _-]*(?P<c>[0-9]{1,2})|"
    r"row[ _-]*(?P<row>[0-9]{1,2}|[A-Z]{1,2})[ _-]*col(?:umn)?[ _-]*(?P<column>[0-9]{1,2}))",
    re.IGNORECASE,
)
_LEICA = re.compile(r"(?:slide|chamber|field)--[A-Z].*", re.IGNORECASE | re.DOTALL)
_WELL_NUMBER = re.compile(r"w(?:ell)?[ _-]*[0-9]{1,4}", re.IGNORECASE)
_AMBIGUOUS = re.compile(
    r"(?P<number>[0-9]{1,3}|0[0-9]{3,})|(?P<before>d|day|h|hrs?|hours?|min|s|f|r)[ _-]?[0-9]+|"
    r"[0-9]+[ _-]?(?P<after>d|days?|h|hrs?|hours?|min)",
    re.IGNORECASE,
)
_MEANINGS = {"s": ("fields", "site"), "f": ("fields", "site"), "r": ("cycles", "cycle")}


def tokens_of(part: str) -> list[tuple[str, str]]:
    """Parse a folder name of axis values, such as `TimePoint_1`.

    Returns:
        Axes and values, such as `[("time", "1")]`; empty for any other name.
    """
    if not _TOKENS.fullmatch(part):
        return []
    return [(next(axis for axis in _AXIS_WORDS if match[axis]), match["value"]) for match in _TOKEN.finditer(part)]


def ending_of(part: str) -> tuple[str, list[tuple[str, str]]]:
    """Split an axis value from a name: `P1_t0` into `P1` and `[("time", "0")]`.

    Both are empty if the name has no axis value.
    """
    match = _ENDING.fullmatch(part)
    tokens = tokens_of(match["token"]) if match else []
    return (match["name"], tokens) if match and tokens and tokens[0][0] in AXES else ("", [])


def is_channel_name(part: str) -> bool:
    """Test whether a folder has the name of a channel, such as `DAPI` or `ch1`."""
    return bool(_CHANNEL_NAME.fullmatch(part)) or [axis for axis, _ in tokens_of(part)] == ["channel"]


def well_of(part: str) -> tuple[tuple[int, int] | None, bool]:
    """Return the well in a folder name, and whether it is unambiguous.

    Returns:
        Zero-based row and column, None for other names and for numbered wells; `r02c06` and `Well_A01` are unambiguous,
        `A01` may be a plate of this name.
    """
    match = _ROW_AND_COLUMN.fullmatch(part) or _WELL.fullmatch(part)
    if match is None:
        return None, False
    by_number = match.re is _ROW_AND_COLUMN
    row = (match["r"] or match["row"]) if by_number else match["row"]
    column = int((match["c"] or match["column"]) if by_number else match["column"]) - 1
    number = int(row) - 1 if row.isdigit() else row_of(row)
    is_sure = by_number or bool(match["word"])
    return ((number, column) if number >= 0 and column >= 0 else None), is_sure


def is_well_number(part: str) -> bool:
    """Test whether a folder is a numbered well, such as `Well 12` or `W0012`."""
    return bool(_WELL_NUMBER.fullmatch(part))


def is_leica_folder(part: str) -> bool:
    """Test whether Leica Matrix Screener named a folder (`chamber--U00--V00`)."""
    return bool(_LEICA.fullmatch(part))


def ambiguity_of(part: str) -> tuple[str, str] | None:
    """Return what a folder may be besides a plate, as text and as a field.

    Plates and times are both numbered `1`, `2`; `24h` may be a plate fixed at 24 hours or a time of a movie. The result
    is None for a name that can only be a plate.
    """
    match = _AMBIGUOUS.fullmatch(part)
    if match is None:
        return None
    return _MEANINGS.get((match["before"] or "").lower(), ("times", "time"))
