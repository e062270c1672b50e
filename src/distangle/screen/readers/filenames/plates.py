"""Read plate, plane and time from the folders of images."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from distangle.errors import ScreenError
from distangle.screen.plates import split_well, well_name
from distangle.screen.readers.filenames.folders import (
    AXES,
    ambiguity_of,
    ending_of,
    is_channel_name,
    is_leica_folder,
    is_well_number,
    tokens_of,
    well_of,
)

NO_NAMES = frozenset({"images", "image", "orig", "original", "raw", "tif", "tiff", "tiffs", "png"})
"""Generic names of folders, which are not plates."""

_MEASUREMENT = re.compile(r"(.+?)__([0-9]{4}-[0-9]{2}-[0-9]{2}.*)", re.DOTALL)  # BR00117006__2020-11-08T18_18_43-...
_LEICA_FOLDER = re.compile(
    r"(slide|chamber|field)--[A-Z].*", re.IGNORECASE
)  # Leica Matrix Screener: folders inside a plate
_PLATE_FIELDS = ("plate", "experiment")
_NOT_PLATES = {"", "w", "well", "wells", "img", "image", "images", "site", "field", "pos"}
_MIN_WELLS = 3  # folders of one well each; two may be plates with one imaged well


@dataclass(slots=True)
class FolderFacts:
    """Facts from the folders above an image.

    Attributes:
        plate: Name of the plate.
        fields: `time`, `plane`, `cycle`, `acquisition` or `site` from folder names.
        doubt: How a folder name contradicts its images; "" if it does not.
    """

    plate: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    doubt: str = ""


@dataclass(slots=True)
class _FolderContent:
    """Wells and channels of the images in and below a folder."""

    wells: set[object] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)


def plates_of(folders: Iterable[str], *, root: str) -> dict[str, str]:
    """Return the plate of each folder: its name or the nearest name above it.

    Generic names such as `images` and names of times, planes, cycles and fields, such as `TimePoint_1`, `t0`, `z3` or
    `field_2`, are not plates. The date that a microscope adds after `__` is removed. Folders that would share a plate
    name are named by their whole path.

    Args:
        folders: Paths relative to the source, "" for the source itself.
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
    """Read plate and axis values from every folder of images.

    Args:
        images: Folder of each image, relative to the source, and the fields of its file name.
        root: Name of the source.
        pattern: Pattern of the paths; it has precedence over folder names.
        named_plates: Plates of a table: a folder with such a name is a plate.

    Raises:
        ScreenError: Folders such as `1` and `2` may be plates or times.
    """
    below: dict[tuple[str, ...], _FolderContent] = defaultdict(_FolderContent)
    folders: dict[str, None] = {}
    for folder, fields in images:
        folders[folder] = None
        parts = _split_path(folder)
        well = fields.get("well", "")
        for k in range(len(parts) + 1):
            inside = below[parts[:k]]
            inside.wells.add(split_well(well) or well)
            inside.channels.add(fields.get("channel", ""))
    reader = _FolderReader(below, pattern, named_plates)
    facts = {folder: reader.read(folder) for folder in folders}
    if not reader.names_plates:
        _merge_time_folders(facts, reader)
        _merge_well_folders(facts, reader)
        _refuse_ambiguous(facts, reader)
    bases = {folder: "/".join(reader.plate_parts[folder]) for folder in folders}
    renamed = {base: _plate_name(base, root) for base in dict.fromkeys(bases.values())}
    counts = Counter(renamed.values())
    for folder, base in bases.items():
        facts[folder].plate = renamed[base] if counts[renamed[base]] == 1 else base or root
    return facts


class _FolderReader:
    """Divide the folders above an image into plate names and other facts."""

    def __init__(
        self, below: Mapping[tuple[str, ...], _FolderContent], pattern: str, named_plates: Collection[str]
    ) -> None:
        self.contents = below
        self.pattern = pattern
        self.named_plates = named_plates
        self._segments = pattern.split("/")[:-1]
        self.names_plates = "{plate" in pattern
        self.plate_parts: dict[str, tuple[str, ...]] = {}

    def read(self, folder: str) -> FolderFacts:
        """Return the facts of a folder; store the folders that may name its plate."""
        parts = _split_path(folder)
        facts, plate_parts = FolderFacts(), []
        for index, part in enumerate(parts):
            segment = self.segment(len(parts) - index)
            if any(f"{{{name}" in segment for name in _PLATE_FIELDS) or part in self.named_plates:
                plate_parts.append(part)
            elif not (_reads_well_or_plane(segment) or _LEICA_FOLDER.fullmatch(part)) and (
                rest := self._plate_part(parts[: index + 1], facts)
            ):
                plate_parts.append(rest)
        self.plate_parts[folder] = tuple(plate_parts)
        return facts

    def segment(self, height: int) -> str:
        """Return the part of the pattern that matches a folder; "" if none does.

        Args:
            height: Levels above the file; 1 for the folder of the image.
        """
        return self._segments[-height] if height <= len(self._segments) else ""

    def _plate_part(self, path: tuple[str, ...], facts: FolderFacts) -> str:
        """Return the plate part of a folder name; store the axis values of the rest."""
        name, content = path[-1], self.contents[path]
        tokens = tokens_of(name)
        if is_channel_name(name):
            value = tokens[0][1] if tokens else name
            if len(content.channels) == 1 and _is_any_of(next(iter(content.channels)), (value, name)):
                return ""
            if content.channels == {""}:
                facts.fields["channel of the folder"] = value
                return ""
        values = {axis: value for axis, value in tokens if axis != "channel"}
        if values:
            facts.fields.update(values)
            return ""
        well, is_sure = well_of(name)
        if well is not None and (is_sure or content.wells == {well}):
            if content.wells - {well, ""}:
                facts.doubt = f"folder {name}, of well {well_name(*well)}"
            return ""
        if is_leica_folder(name):
            return ""
        if is_well_number(name) and len(content.wells) == 1 and "" not in content.wells:
            return ""
        return _without_well(name, content.wells)


def _without_well(part: str, wells: Collection[object]) -> str:
    """Remove the well from a folder name: `P1_A01` to `P1`, `img A01` to ""."""
    if len(wells) != 1:
        return part
    (well,) = wells
    tokens = re.split(r"[^A-Za-z0-9]+", part)
    well_tokens = [index for index, token in enumerate(tokens) if split_well(token) == well and well is not None]
    if len(tokens) < 2 or not well_tokens:
        return part
    rest = [token for index, token in enumerate(tokens) if index != well_tokens[-1]]
    return "" if "".join(rest).lower() in _NOT_PLATES else "_".join(rest)


def _merge_well_folders(facts: Mapping[str, FolderFacts], reader: _FolderReader) -> None:
    """Merge numbered sibling folders with one distinct well each into one plate."""
    groups: dict[tuple[str, ...], dict[str, set[object]]] = defaultdict(lambda: defaultdict(set))
    for folder in facts:
        plate_parts = reader.plate_parts[folder]
        index = _plate_index(plate_parts)
        if index >= 0 and plate_parts[index] not in reader.named_plates:
            groups[plate_parts[:index]][plate_parts[index]] |= reader.contents[_split_path(folder)].wells
    for folder in facts:
        plate_parts = reader.plate_parts[folder]
        index = _plate_index(plate_parts)
        siblings = groups.get(plate_parts[:index], {}) if index >= 0 else {}
        wells = [well for folder_wells in siblings.values() for well in folder_wells]
        has_one_each = len(siblings) == len(wells) == len(set(wells)) >= _MIN_WELLS and "" not in wells
        if has_one_each and all(ambiguity_of(part) is not None for part in siblings):
            reader.plate_parts[folder] = (*plate_parts[:index], *plate_parts[index + 1 :])


def _merge_time_folders(facts: Mapping[str, FolderFacts], reader: _FolderReader) -> None:
    """Merge siblings that differ only in time, such as `P1_t0` and `P1_t1`."""
    groups: dict[tuple[tuple[str, ...], str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for folder in facts:
        index = _plate_index(reader.plate_parts[folder])
        if index < 0 or reader.plate_parts[folder][index] in reader.named_plates:
            continue
        part = reader.plate_parts[folder][index]
        name, tokens = ending_of(part)
        match = _MEASUREMENT.fullmatch(part)
        if tokens or match:
            kind = "__" if match else tokens[0][0]
            groups[reader.plate_parts[folder][:index], match[1] if match else name, kind][part].append(folder)
    for (above, name, kind), siblings in groups.items():
        wells = Counter(
            well
            for folders_of_part in siblings.values()
            for well in set().union(*(reader.contents[_split_path(folder)].wells for folder in folders_of_part))
        )
        if len(siblings) < 2 or (kind != "__" and max(wells.values()) < 2):
            continue
        for part, folders_of_part in siblings.items():
            match = _MEASUREMENT.fullmatch(part)
            values = {"acquisition": match[2]} if match and kind == "__" else dict(ending_of(part)[1])
            for folder in folders_of_part:
                facts[folder].fields.update(values)
                plate_parts = reader.plate_parts[folder]
                reader.plate_parts[folder] = (*above, name, *plate_parts[len(above) + 1 :])


def _refuse_ambiguous(facts: Mapping[str, FolderFacts], reader: _FolderReader) -> None:
    """Refuse siblings with the same wells that may be plates or times."""
    groups: dict[tuple[tuple[str, ...], str], dict[str, str]] = defaultdict(dict)
    for folder in facts:
        index = _plate_index(reader.plate_parts[folder])
        part = reader.plate_parts[folder][index] if index >= 0 else ""
        ambiguity = ambiguity_of(part)
        if ambiguity is not None and part not in reader.named_plates:
            groups[reader.plate_parts[folder][:index], ambiguity[1]].setdefault(part, folder)
    for (above, field_name), siblings in groups.items():
        wells = Counter(well for folder in siblings.values() for well in reader.contents[_split_path(folder)].wells)
        shared = [well for well, count in wells.items() if count > 1 and isinstance(well, tuple)]
        if len(siblings) < 2 or not shared:
            continue
        part, folder = next(iter(siblings.items()))
        parts = _split_path(folder)
        height = len(parts) - parts.index(part)
        if reader.segment(height):
            options = f"write {{plate}} or {{{field_name}}} for this folder in --pattern"
        else:
            rest = "{}/" * (height - 1 - reader.pattern.count("/")) + (reader.pattern or "...")
            options = f"--pattern '{{plate}}/{rest}' for plates, '{{{field_name}}}/{rest}' for the other"
        meaning = ambiguity_of(part)
        names = ", ".join(list(siblings)[:5]) + (", ..." if len(siblings) > 5 else "")
        raise ScreenError(
            f"The folders {names} in {'/'.join(above) or 'the source'} contain images of the same wells, such as "
            f"{well_name(*min(shared))}: are they plates, or {meaning[0] if meaning else 'times'} of one plate? "
            f"Wells of one plate must not be on both sides of a split. Specify one: {options}."
        )


def _reads_well_or_plane(segment: str) -> bool:
    """Test whether a part of a pattern reads a well, site, channel, plane or time."""
    return any(f"{{{name}" in segment for name in ("well", "row", "column", "site", "channel", *AXES))


def is_below_a_plate(part: str) -> bool:
    """Test whether a folder is inside a plate: a time, field, well, or `Images`."""
    well, _ = well_of(part)
    return part.lower() in NO_NAMES or bool(tokens_of(part)) or well is not None or is_well_number(part)


def _plate_index(plate_parts: Sequence[str]) -> int:
    """Return the index of the folder that names the plate; -1 if none does."""
    return next(
        (index for index in range(len(plate_parts) - 1, -1, -1) if plate_parts[index].lower() not in NO_NAMES), -1
    )


def _plate_name(folder: str, root: str) -> str:
    parts = _split_path(folder)
    index = _plate_index(parts)
    last = parts[index] if index >= 0 else root
    match = _MEASUREMENT.fullmatch(last)
    return match[1] if match else last


def _is_any_of(channel: str, names: Iterable[str]) -> bool:
    return any(is_same_value(channel, name) for name in names)


def is_same_value(first: str, second: str) -> bool:
    """Test whether two values are equal: `01` and `1`, `dapi` and `DAPI`."""
    numbers = [int(text) for text in (first, second) if text.isascii() and text.isdigit()]
    return first.casefold() == second.casefold() or (len(numbers) == 2 and numbers[0] == numbers[1])


def _split_path(folder: str) -> tuple[str, ...]:
    return tuple(part for part in folder.split("/") if part)


def root_name(names: Sequence[str]) -> str:
    """Return the name of a source, or of the first parent that is not a time.

    Args:
        names: Names of the source and its parents, from the bottom up.
    """
    return next((name for name in names if name and not tokens_of(name)), names[0] if names else "")
