"""List files that follow a pattern, with what folders and instruments say."""

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
from distangle.screen.readers.filenames.instrument_patterns import thumbnails_ignored, without_thumbnails
from distangle.screen.readers.filenames.pattern import Pattern
from distangle.screen.readers.filenames.plane_and_time import plane_and_time
from distangle.screen.readers.filenames.plates import FolderFacts, read_folders, root_name
from distangle.screen.readers.filenames.scan import IMAGE_EXTENSIONS, folders_below, unmatched_names
from distangle.screen.readers.instruments.metadata_files import InstrumentRecords, find_records, is_instrument_file

_RENAME = "Find out which is right, and rename the file or the folder."


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """The files below a folder.

    Attributes:
        pictures: Those that follow the pattern, with those that only a plane or time in figures leaves out.
        problems: A remark for each folder with images that do not.
        lost: All files that any figures of the pattern leave out.
        records: What the instruments wrote beside them.
    """

    pictures: list[ImageFile]
    problems: list[Problem]
    lost: list[UnmatchedFile]
    records: InstrumentRecords

    @property
    def is_empty(self) -> bool:
        """No file follows the pattern."""
        return all(picture.left_out for picture in self.pictures)


def list_images(
    source: AnyPath, pattern: Pattern, *, extra: tuple[str, ...] = (), named_plates: Collection[str] = ()
) -> ImageList:
    """Read the names of all files below a folder.

    Args:
        source: The folder.
        pattern: How the names are built.
        extra: Fields of the pattern that become columns.
        named_plates: Plates that a table names.

    Raises:
        ScreenError: Nothing tells whether folders are plates or times.
    """
    read: list[tuple[str, str, dict[str, str]]] = []
    remarks: list[Problem] = []
    odd: list[str] = []
    instruments: dict[str, list[str]] = {}
    folders, thumbnails = without_thumbnails(folders_below(source, remarks))
    if not any(_fields(pattern, folder, name) for folder, names in folders for name in names):
        pattern = pattern.with_any_well()
    for folder, names in folders:
        others: list[str] = []
        if own := [name for name in names if is_instrument_file(name)]:
            instruments[folder] = own
        for name in names:
            path = f"{folder}/{name}".lstrip("/")
            fields = _fields(pattern, folder, name)
            if fields is not None:
                read.append((_without_time(folder, fields) if pattern.has_ways else folder, path, fields))
            elif IMAGE_EXTENSIONS.fullmatch(name):
                others.append(name)
        odd += [f"{folder}/{name}".lstrip("/") for name in others]
        if others:
            listed = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
            remarks.append(unmatched_names(folder or ".", listed, pattern.text, count=len(others)))
    if thumbnails:
        remarks.append(thumbnails_ignored(thumbnails))
    lost = unmatched_files(pattern, odd)
    whole = [*read, *((posixpath.dirname(file.path), file.path, file.fields) for file in lost if file.of_moment)]
    _number_sites([fields for _, _, fields in whole])
    figures = {file.path: file.figures for file in lost}
    above = source.resolve()
    names_above = [above.name, *([p.name for p in above.parents] if isinstance(above, Path) else [above.parent.name])]
    facts = read_folders(
        ((folder, fields) for folder, _, fields in whole),
        root=root_name(names_above) or "all",
        pattern=pattern.text.rpartition("/")[2] if pattern.has_ways else pattern.text,
        named_plates=named_plates,
    )
    blanks = UnmatchedPlanes(pattern)
    pictures = [
        replace(_picture(path, {**blanks.read(path), **fields}, facts[folder], extra), left_out=figures.get(path, ""))
        for folder, path, fields in whole
    ]
    return ImageList(
        pictures=pictures,
        problems=[*remarks, *_named_as_moments(pictures)],
        lost=lost,
        records=find_records(source, _above(instruments, facts)),
    )


def _fields(pattern: Pattern, folder: str, name: str) -> dict[str, str] | None:
    is_meant = name.isprintable() and not name.startswith(".")
    return pattern.read(f"{folder}/{name}".lstrip("/")) if is_meant else None


def _number_sites(read: Sequence[dict[str, str]]) -> None:
    """Number fields given by column and row, row by row over all wells, from 1."""
    placed = [fields for fields in read if "site_x" in fields or "site_y" in fields]
    places = [(int(fields.pop("site_y", "0")), int(fields.pop("site_x", "0"))) for fields in placed]
    number = {place: str(k) for k, place in enumerate(sorted(set(places)), start=1)}
    for fields, place in zip(placed, places, strict=True):
        fields["site"] = number[place]


def _without_time(folder: str, fields: Mapping[str, str]) -> str:
    """Return the folder that may name a plate: above the pattern's time folder."""
    above, _, last = folder.rpartition("/")
    return above if last and last == fields.get("time") else folder


def _named_as_moments(pictures: Sequence[ImageFile]) -> list[Problem]:
    """Report plates named like times that hold the same wells.

    A pattern may call times plates.
    """
    wells: dict[str, set[object]] = defaultdict(set)
    for picture in pictures:
        wells[picture.plate].add(split_well(picture.well) or picture.well)
    named = [plate for plate in wells if tokens_of(plate)]
    shared = [plate for plate in named if any(wells[plate] & wells[other] for other in named if other != plate)]
    if not shared:
        return []
    return [
        Problem(
            severity="warning",
            kind="plates named as moments",
            plate=shared[0],
            found=f"{', '.join(shared[:5])} hold images of the same wells",
            expected="plates, as --pattern or the table says",
            fix="Nothing, if they are plates. If they are times or cycles of one plate, a split over them leaks: write "
            "{time} or {cycle} for {plate} in --pattern.",
            count=len(shared),
        )
    ]


def _above(instruments: Mapping[str, list[str]], folders: Iterable[str]) -> dict[str, list[str]]:
    """Return the instruments' files that have images beside or below them."""
    parts = [folder.split("/") if folder else [] for folder in folders]
    above = {"/".join(part[:k]) for part in parts for k in range(len(part) + 1)}
    return {folder: names for folder, names in instruments.items() if folder in above}


def _picture(path: str, fields: dict[str, str], facts: FolderFacts, extra: tuple[str, ...]) -> ImageFile:
    return ImageFile(
        path=path,
        experiment=normalize_name(fields.get("experiment", "all")),
        plate=normalize_name(fields.get("plate", facts.plate)),
        well=fields["well"],
        site=int(fields.get("site") or facts.fields.get("site", "1")),
        channel=normalize_name(fields.get("channel", "")),
        moment=plane_and_time(facts.fields, fields, extra),
        cell_type=normalize_name(fields.get("cell_type", "")),
        extra=tuple(normalize_name(fields[name]) for name in extra),
        doubt=PlateDoubt(kind="name contradicted", found=f"{facts.doubt}: {path}", fix=_RENAME)
        if facts.doubt
        else None,
        is_of_folder=bool(facts.fields),
    )
