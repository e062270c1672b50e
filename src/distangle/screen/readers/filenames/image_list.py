"""List files that match a pattern, with folder and instrument metadata."""

import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from distangle.core.remote import AnyPath
from distangle.core.unicode_names import normalize_name
from distangle.screen.plates import split_well
from distangle.screen.problems import Problem
from distangle.screen.readers.filenames.digits import UnmatchedFile, UnmatchedPlanes, unmatched_files
from distangle.screen.readers.filenames.folders import tokens_of
from distangle.screen.readers.filenames.image_file import ImageFile, PlateDoubt
from distangle.screen.readers.filenames.instrument_patterns import split_thumbnails, thumbnail_warning
from distangle.screen.readers.filenames.pattern import Pattern
from distangle.screen.readers.filenames.plane_and_time import plane_and_time
from distangle.screen.readers.filenames.plates import FolderFacts, read_folders, root_name
from distangle.screen.readers.filenames.scan import IMAGE_EXTENSIONS, folders_below, unmatched_names
from distangle.screen.readers.instruments.metadata_files import InstrumentRecords, find_records, is_instrument_file

_RENAME = "Check which is correct, and rename the file or the folder."


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """The image files below a folder.

    Attributes:
        images: Files that match the pattern, or differ only in the digits of a plane or time.
        problems: A warning for each folder with images that do not match.
        near_matches: Files that differ from the pattern only in literal digits.
        records: Instrument metadata.
    """

    images: list[ImageFile]
    problems: list[Problem]
    near_matches: list[UnmatchedFile]
    records: InstrumentRecords

    @property
    def has_no_match(self) -> bool:
        """Whether no file matches the pattern."""
        return all(image.unmatched_digits for image in self.images)


def list_images(
    source: AnyPath, pattern: Pattern, *, extra: tuple[str, ...] = (), named_plates: Collection[str] = ()
) -> ImageList:
    """Read the names of all files below a folder.

    Args:
        source: The folder.
        pattern: Pattern of the file names.
        extra: Fields of the pattern that become columns.
        named_plates: Plates of a table.

    Raises:
        ScreenError: Folders may be plates or times.
    """
    matched: list[tuple[str, str, dict[str, str]]] = []
    warnings: list[Problem] = []
    unmatched_paths: list[str] = []
    instruments: dict[str, list[str]] = {}
    folders, thumbnails = split_thumbnails(folders_below(source, warnings))
    if not any(_read_fields(pattern, folder, name) for folder, names in folders for name in names):
        pattern = pattern.with_any_well()
    for folder, names in folders:
        odd_names: list[str] = []
        if instrument_names := [name for name in names if is_instrument_file(name)]:
            instruments[folder] = instrument_names
        for name in names:
            path = f"{folder}/{name}".lstrip("/")
            fields = _read_fields(pattern, folder, name)
            if fields is not None:
                matched.append(
                    (_drop_time_folder(folder, fields) if pattern.has_alternatives else folder, path, fields)
                )
            elif IMAGE_EXTENSIONS.fullmatch(name):
                odd_names.append(name)
        unmatched_paths += [f"{folder}/{name}".lstrip("/") for name in odd_names]
        if odd_names:
            names_text = ", ".join(odd_names[:5]) + (", ..." if len(odd_names) > 5 else "")
            warnings.append(unmatched_names(folder or ".", names_text, pattern.text, count=len(odd_names)))
    if thumbnails:
        warnings.append(thumbnail_warning(thumbnails))
    unmatched = unmatched_files(pattern, unmatched_paths)
    all_files = [
        *matched,
        *((posixpath.dirname(file.path), file.path, file.fields) for file in unmatched if file.is_plane_or_time),
    ]
    _number_sites([fields for _, _, fields in all_files])
    digits = {file.path: file.digits for file in unmatched}
    resolved = source.resolve()
    names_above = [
        resolved.name,
        *([p.name for p in resolved.parents] if isinstance(resolved, Path) else [resolved.parent.name]),
    ]
    facts = read_folders(
        ((folder, fields) for folder, _, fields in all_files),
        root=root_name(names_above) or "all",
        pattern=pattern.text.rpartition("/")[2] if pattern.has_alternatives else pattern.text,
        named_plates=named_plates,
    )
    unnamed_planes = UnmatchedPlanes(pattern)
    images = [
        replace(
            _image_file(path, {**unnamed_planes.read(path), **fields}, facts[folder], extra),
            unmatched_digits=digits.get(path, ""),
        )
        for folder, path, fields in all_files
    ]
    return ImageList(
        images=images,
        problems=[*warnings, *_time_like_plates(images)],
        near_matches=unmatched,
        records=find_records(source, _with_images_below(instruments, facts)),
    )


def _read_fields(pattern: Pattern, folder: str, name: str) -> dict[str, str] | None:
    is_visible = name.isprintable() and not name.startswith(".")
    return pattern.read(f"{folder}/{name}".lstrip("/")) if is_visible else None


def _number_sites(all_fields: Sequence[dict[str, str]]) -> None:
    """Number sites given by column and row: row by row over all wells, from 1."""
    with_position = [fields for fields in all_fields if "site_x" in fields or "site_y" in fields]
    positions = [(int(fields.pop("site_y", "0")), int(fields.pop("site_x", "0"))) for fields in with_position]
    number = {position: str(k) for k, position in enumerate(sorted(set(positions)), start=1)}
    for fields, position in zip(with_position, positions, strict=True):
        fields["site"] = number[position]


def _drop_time_folder(folder: str, fields: Mapping[str, str]) -> str:
    """Return the folder that may name a plate: the parent of a time folder."""
    above, _, name = folder.rpartition("/")
    return above if name and name == fields.get("time") else folder


def _time_like_plates(images: Sequence[ImageFile]) -> list[Problem]:
    """Report plates that are named like times and contain the same wells.

    A pattern may read times as plates.
    """
    wells: dict[str, set[object]] = defaultdict(set)
    for image in images:
        wells[image.plate].add(split_well(image.well) or image.well)
    time_like = [plate for plate in wells if tokens_of(plate)]
    overlapping = [
        plate for plate in time_like if any(wells[plate] & wells[other] for other in time_like if other != plate)
    ]
    if not overlapping:
        return []
    return [
        Problem(
            severity="warning",
            kind="plate names look like times",
            plate=overlapping[0],
            found=f"{', '.join(overlapping[:5])} contain images of the same wells",
            expected="plates, by --pattern or the table",
            fix="No action needed if they are plates. If they are times or cycles of one plate, a split over them "
            "leaks: write {time} or {cycle} for {plate} in --pattern.",
            count=len(overlapping),
        )
    ]


def _with_images_below(instruments: Mapping[str, list[str]], folders: Iterable[str]) -> dict[str, list[str]]:
    """Return the instrument files with images in their folder or below."""
    parts = [folder.split("/") if folder else [] for folder in folders]
    above = {"/".join(part[:k]) for part in parts for k in range(len(part) + 1)}
    return {folder: names for folder, names in instruments.items() if folder in above}


def _image_file(path: str, fields: dict[str, str], facts: FolderFacts, extra: tuple[str, ...]) -> ImageFile:
    return ImageFile(
        path=path,
        experiment=normalize_name(fields.get("experiment", "all")),
        plate=normalize_name(fields.get("plate", facts.plate)),
        well=fields["well"],
        site=int(fields.get("site") or facts.fields.get("site", "1")),
        channel=normalize_name(fields.get("channel", "")),
        axis_values=plane_and_time(facts.fields, fields, extra),
        cell_type=normalize_name(fields.get("cell_type", "")),
        extra=tuple(normalize_name(fields[name]) for name in extra),
        doubt=PlateDoubt(kind="name contradicts folder", description=f"{facts.doubt}: {path}", fix=_RENAME)
        if facts.doubt
        else None,
        is_from_folder=bool(facts.fields),
    )
