"""Read plates and moments from the folders of images."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from distangle.errors import ScreenError
from distangle.screen.plates import split_well, well_name
from distangle.screen.readers.filenames.folders import (
    MOMENT,
    doubt_of,
    ending_of,
    is_channel_name,
    is_of_leica,
    is_well_number,
    tokens_of,
    well_of,
)

NO_NAMES = frozenset({"images", "image", "orig", "original", "raw", "tif", "tiff", "tiffs", "png"})
"""Folders that say nothing of what lies in them."""

_MEASUREMENT = re.compile(r"(.+?)__([0-9]{4}-[0-9]{2}-[0-9]{2}.*)", re.DOTALL)  # BR00117006__2020-11-08T18_18_43-...
_INSIDE = re.compile(r"(slide|chamber|field)--[A-Z].*", re.IGNORECASE)  # Leica Matrix Screener: folders in a plate
_OWN = ("plate", "experiment")
_NO_PLATE = {"", "w", "well", "wells", "img", "image", "images", "site", "field", "pos"}
_FEWEST_WELLS = 3  # folders of one well each: two may be plates that have hardly begun


@dataclass(slots=True)
class FolderFacts:
    """What the folders above an image say.

    Attributes:
        plate: Its name.
        fields: `time`, `plane`, `cycle`, `acquisition` or `site`, as far as folders are named so.
        doubt: How a folder's name contradicts the images in it; "" if it does not.
    """

    plate: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    doubt: str = ""


@dataclass(slots=True)
class _Below:
    """What lies in a folder and below it."""

    wells: set[object] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)


def plates_of(folders: Iterable[str], *, root: str) -> dict[str, str]:
    """Return the plate of each folder: its name or the first name above it.

    `images`, `orig` and the like are no names, nor are times, planes, cycles and fields, such as `TimePoint_1`, `t0`,
    `z3` or `field_2`; the date that a microscope adds behind `__` is left out. Folders that would have one plate
    between them have their whole path for a name.

    Args:
        folders: Relative to the source, "" for the source itself.
        root: Name of the source.
    """
    return {
        folder: facts.plate for folder, facts in read_folders([(folder, {}) for folder in folders], root=root).items()
    }


def read_folders(
    images: Iterable[tuple[str, Mapping[str, str]]],
    *,
    root: str,
    pattern: str = "",
    named_plates: Collection[str] = (),
) -> dict[str, FolderFacts]:
    """Return what every folder says of its images.

    Args:
        images: The folder of each image, relative to the source, and the fields that its name says.
        root: Name of the source.
        pattern: How paths are built: the folders that it reads say what it says.
        named_plates: Plates that a table names: a folder of this name is one, whatever it looks like.

    Raises:
        ScreenError: Folders of which nothing tells whether they are plates or times, such as `1` and `2`.
    """
    below: dict[tuple[str, ...], _Below] = defaultdict(_Below)
    folders: dict[str, None] = {}
    for folder, fields in images:
        folders[folder] = None
        parts = _parts(folder)
        well = fields.get("well", "")
        for k in range(len(parts) + 1):
            inside = below[parts[:k]]
            inside.wells.add(split_well(well) or well)
            inside.channels.add(fields.get("channel", ""))
    reader = _Reader(below, pattern, named_plates)
    facts = {folder: reader.read(folder) for folder in folders}
    if not reader.names_plates:
        _take_siblings_apart(facts, reader)
        _take_wells_apart(facts, reader)
        _refuse_doubtful(facts, reader)
    bases = {folder: "/".join(reader.base[folder]) for folder in folders}
    renamed = {base: _name(base, root) for base in dict.fromkeys(bases.values())}
    counts = Counter(renamed.values())
    for folder, base in bases.items():
        facts[folder].plate = renamed[base] if counts[renamed[base]] == 1 else base or root
    return facts


class _Reader:
    """Divide the folders above an image into plate names and other facts."""

    def __init__(self, below: Mapping[tuple[str, ...], _Below], pattern: str, named_plates: Collection[str]) -> None:
        self.below = below
        self.pattern = pattern
        self.named_plates = named_plates
        self._segments = pattern.split("/")[:-1]
        self.names_plates = "{plate" in pattern
        self.base: dict[str, tuple[str, ...]] = {}

    def read(self, folder: str) -> FolderFacts:
        """Return what a folder says, and note the folders that may name its plate."""
        parts = _parts(folder)
        facts, kept = FolderFacts(), []
        for k, part in enumerate(parts):
            segment = self.segment(len(parts) - k)
            if any(f"{{{name}" in segment for name in _OWN) or part in self.named_plates:
                kept.append(part)
            elif not (_reads_place(segment) or _INSIDE.fullmatch(part)) and (rest := self._rest(parts[: k + 1], facts)):
                kept.append(rest)
        self.base[folder] = tuple(kept)
        return facts

    def segment(self, height: int) -> str:
        """Return the part of the pattern that reads a folder; "" if none does.

        Args:
            height: 1 for the folder that the image lies in.
        """
        return self._segments[-height] if height <= len(self._segments) else ""

    def _rest(self, path: tuple[str, ...], facts: FolderFacts) -> str:
        """Return what of a folder's name may name a plate, and note what the rest says."""
        part, inside = path[-1], self.below[path]
        tokens = tokens_of(part)
        if is_channel_name(part):
            value = tokens[0][1] if tokens else part
            if len(inside.channels) == 1 and _alike(next(iter(inside.channels)), (value, part)):
                return ""
            if inside.channels == {""}:
                facts.fields["channel of the folder"] = value
                return ""
        said = {axis: value for axis, value in tokens if axis != "channel"}
        if said:
            facts.fields.update(said)
            return ""
        well, is_sure = well_of(part)
        if well is not None and (is_sure or inside.wells == {well}):
            if inside.wells - {well, ""}:
                facts.doubt = f"folder {part}, of well {well_name(*well)}"
            return ""
        if is_of_leica(part):
            return ""
        if is_well_number(part) and len(inside.wells) == 1 and "" not in inside.wells:
            return ""
        return _without_well(part, inside.wells)


def _without_well(part: str, wells: Collection[object]) -> str:
    """Return a folder's name without its well: `P1` of `P1_A01`, "" of `img A01`."""
    if len(wells) != 1:
        return part
    (well,) = wells
    words = re.split(r"[^A-Za-z0-9]+", part)
    named = [k for k, word in enumerate(words) if split_well(word) == well and well is not None]
    if len(words) < 2 or not named:
        return part
    rest = [word for k, word in enumerate(words) if k != named[-1]]
    return "" if "".join(rest).lower() in _NO_PLATE else "_".join(rest)


def _take_wells_apart(facts: Mapping[str, FolderFacts], reader: _Reader) -> None:
    """Make one plate of numbered sibling folders that hold one distinct well each."""
    groups: dict[tuple[str, ...], dict[str, set[object]]] = defaultdict(lambda: defaultdict(set))
    for folder in facts:
        base = reader.base[folder]
        at = _naming(base)
        if at >= 0 and base[at] not in reader.named_plates:
            groups[base[:at]][base[at]] |= reader.below[_parts(folder)].wells
    for folder in facts:
        base = reader.base[folder]
        at = _naming(base)
        siblings = groups.get(base[:at], {}) if at >= 0 else {}
        wells = [well for inside in siblings.values() for well in inside]
        is_one_each = len(siblings) == len(wells) == len(set(wells)) >= _FEWEST_WELLS and "" not in wells
        if is_one_each and all(doubt_of(part) is not None for part in siblings):
            reader.base[folder] = (*base[:at], *base[at + 1 :])


def _take_siblings_apart(facts: Mapping[str, FolderFacts], reader: _Reader) -> None:
    """Make one plate of siblings that differ only in time, as `P1_t0` and `P1_t1`."""
    groups: dict[tuple[tuple[str, ...], str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for folder in facts:
        at = _naming(reader.base[folder])
        if at < 0 or reader.base[folder][at] in reader.named_plates:
            continue
        part = reader.base[folder][at]
        name, tokens = ending_of(part)
        match = _MEASUREMENT.fullmatch(part)
        if tokens or match:
            kind = "__" if match else tokens[0][0]
            groups[reader.base[folder][:at], match[1] if match else name, kind][part].append(folder)
    for (above, name, kind), siblings in groups.items():
        wells = Counter(
            well
            for inside in siblings.values()
            for well in set().union(*(reader.below[_parts(folder)].wells for folder in inside))
        )
        if len(siblings) < 2 or (kind != "__" and max(wells.values()) < 2):
            continue
        for part, inside in siblings.items():
            match = _MEASUREMENT.fullmatch(part)
            said = {"acquisition": match[2]} if match and kind == "__" else dict(ending_of(part)[1])
            for folder in inside:
                facts[folder].fields.update(said)
                base = reader.base[folder]
                reader.base[folder] = (*above, name, *base[len(above) + 1 :])


def _refuse_doubtful(facts: Mapping[str, FolderFacts], reader: _Reader) -> None:
    """Refuse siblings that may be plates or times and hold the same wells."""
    groups: dict[tuple[tuple[str, ...], str], dict[str, str]] = defaultdict(dict)
    for folder in facts:
        at = _naming(reader.base[folder])
        part = reader.base[folder][at] if at >= 0 else ""
        doubt = doubt_of(part)
        if doubt is not None and part not in reader.named_plates:
            groups[reader.base[folder][:at], doubt[1]].setdefault(part, folder)
    for (above, reading), siblings in groups.items():
        wells = Counter(well for folder in siblings.values() for well in reader.below[_parts(folder)].wells)
        shared = [well for well, n in wells.items() if n > 1 and isinstance(well, tuple)]
        if len(siblings) < 2 or not shared:
            continue
        part, folder = next(iter(siblings.items()))
        parts = _parts(folder)
        height = len(parts) - parts.index(part)
        if reader.segment(height):
            ways = f"write {{plate}} or {{{reading}}} for this folder in --pattern"
        else:
            rest = "{}/" * (height - 1 - reader.pattern.count("/")) + (reader.pattern or "...")
            ways = f"--pattern '{{plate}}/{rest}' for plates, '{{{reading}}}/{rest}' for the other"
        words = doubt_of(part)
        listed = ", ".join(list(siblings)[:5]) + (", ..." if len(siblings) > 5 else "")
        raise ScreenError(
            f"The folders {listed} in {'/'.join(above) or 'the source'} hold images of the same wells, such as "
            f"{well_name(*min(shared))}: are they plates, or {words[0] if words else 'times'} of one plate? "
            f"Wells of one plate must not stand on both sides of a split. Say which: {ways}."
        )


def _reads_place(segment: str) -> bool:
    """Tell whether a part of a pattern reads a well, a field, a channel or a moment."""
    return any(f"{{{name}" in segment for name in ("well", "row", "column", "site", "channel", *MOMENT))


def is_below_a_plate(part: str) -> bool:
    """Tell whether a folder names no plate: a time, a field, a well, or `Images`."""
    well, _ = well_of(part)
    return part.lower() in NO_NAMES or bool(tokens_of(part)) or well is not None or is_well_number(part)


def _naming(base: Sequence[str]) -> int:
    """Return which of the folders names the plate; -1 if none."""
    return next((k for k in range(len(base) - 1, -1, -1) if base[k].lower() not in NO_NAMES), -1)


def _name(folder: str, root: str) -> str:
    parts = _parts(folder)
    at = _naming(parts)
    last = parts[at] if at >= 0 else root
    match = _MEASUREMENT.fullmatch(last)
    return match[1] if match else last


def _alike(channel: str, names: Iterable[str]) -> bool:
    return any(is_same_value(channel, name) for name in names)


def is_same_value(first: str, second: str) -> bool:
    """Tell whether two values of a name are one: `01` and `1`, `dapi` and `DAPI`."""
    numbers = [int(text) for text in (first, second) if text.isascii() and text.isdigit()]
    return first.casefold() == second.casefold() or (len(numbers) == 2 and numbers[0] == numbers[1])


def _parts(folder: str) -> tuple[str, ...]:
    return tuple(part for part in folder.split("/") if part)


def root_name(names: Sequence[str]) -> str:
    """Return the name of a source, or of the first folder above that is no time.

    Args:
        names: Of the source and the folders above it, from the bottom up.
    """
    return next((name for name in names if name and not tokens_of(name)), names[0] if names else "")
