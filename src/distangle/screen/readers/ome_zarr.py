"""Read OME-Zarr plates (OME-NGFF HCS, 0.4 and 0.5)."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from distangle.core.remote import AnyPath
from distangle.core.unicode_names import normalize_name
from distangle.errors import ScreenError
from distangle.screen.indexing.records import IndexOptions, Reader, ReaderResult, SiteRecord
from distangle.screen.problems import Problem
from distangle.screen.readers.acquisitions import Acquisitions, read_acquisitions, require_acquisition
from distangle.screen.readers.filenames.scan import scan
from distangle.screen.readers.ngff import NgffImage, attributes, read_field
from distangle.screen.readers.ngff_channels import add_fields, choose_fields_channels
from distangle.screen.readers.wells.columns import apply_controls
from distangle.screen.readers.wells.join_metadata import join_metadata
from distangle.screen.readers.wells.table_set import read_all_metadata
from distangle.screen.readers.wells.well_names import resolve_names
from distangle.screen.roles import Role

_DEEPEST = 4  # folders between the source and a plate
_FIX = "Write the plate again, or copy what is missing, and index again."


@dataclasses.dataclass(frozen=True)
class _Plate:
    path: str  # relative to the source, "" for the source itself
    name: str
    said: dict[str, Any]
    acquisitions: Acquisitions


def find_ome_zarr(request: IndexOptions) -> ReaderResult:
    """Find the fields of every plate, and their wells in the table of `tables`.

    A path is the folder of an array, a page the plane of a channel in it. Fields are counted from 1 where their names
    are numbers from 0. Of a plate that `distangle pack` wrote, experiment, plate and site are those that it noted.

    Raises:
        ScreenError: No plate, channels that cannot be told, or `tables` is no table of wells.
    """
    source = request.source
    if request.tables_only or not source.is_dir():
        raise ScreenError(
            f"{source}: expected a plate, a folder NAME.zarr, or a folder of plates; --tables-only finds none."
        )
    problems: list[Problem] = []
    plates = _plates(source, problems)
    if not plates:
        odd = f" {problems[0].file}: {problems[0].found}." if problems else ""
        raise ScreenError(
            f"No OME-Zarr plate in {source}.{odd} Expected a group with 'plate' in its zarr.json or .zattrs."
        )
    read: list[tuple[SiteRecord, NgffImage]] = []
    refused: list[Problem] = []
    for plate in plates:
        for outcome in _fields(source, plate, request.acquisition):
            if isinstance(outcome, Problem):
                (refused if outcome.severity == "refused" else problems).append(outcome)
            else:
                read.append(outcome)
    if request.acquisition:
        require_acquisition(request.acquisition, [plate.acquisitions for plate in plates])
    result = ReaderResult(
        source=source,
        n_found=len(read) + len(refused),
        key_columns=frozenset({"plate"} | ({"experiment"} if any(field.about for _, field in read) else set())),
        extra_columns=("acquisition",),
        duplicate_fix="Each field must be listed once in its well, and each plate have a name of its own.",
        provenance={"plates": len(plates), "columns": {}},
    )
    labels = None
    if request.tables is not None:
        named = {entry.plate for entry, _ in read}
        labels = read_all_metadata(request.tables, request.mapping, plates=named, missing=request.missing)
    field_of = {id(entry): field for entry, field in read}
    wells = resolve_names(
        [entry for entry, _ in read],
        labels,
        shared=result.key_columns & labels.keys if labels is not None else frozenset(),
        request=request,
        seen=[name for plate in plates for name in _listed(plate.said)],
    )
    read = [(entry, field_of[id(entry)]) for entry in wells.places]
    result.problems += [*problems, *wells.problems, *refused]
    channels = choose_fields_channels([field for _, field in read], request.channels)
    result.channels = tuple(channel for _, channel in channels)
    add_fields(result, read, channels, request)
    if wells.labels is not None:
        result.provenance["columns"] = dict(wells.labels.columns)
        join_metadata(result, wells.labels, aside=result.refusals)
    apply_controls(result.entries, request.controls)
    result.pixel_size_um = _one_size([field.pixel_size_um for _, field in read])
    return result


def _one_size(sizes: Sequence[float | None]) -> float | None:
    """Return the pixel size that all fields share; None where they do not."""
    told = [size for size in sizes if size is not None]
    alike = bool(told) and len(told) == len(sizes) and max(told) - min(told) <= 1e-3 * max(told)
    return told[0] if alike else None


def _plates(source: AnyPath, remarks: list[Problem]) -> list[_Plate]:
    said = attributes(source)
    if said is not None and "plate" in said:
        return [_plate("", _name_of(said, source.resolve().name), said["plate"])]
    found: list[_Plate] = []
    for path in _stores(source, remarks):
        try:
            said = attributes(source / path)
        except ScreenError as error:
            remarks.append(_remark(path, str(error)))
            continue
        if said is not None and "plate" in said:
            found.append(_plate(path, _name_of(said, path), said["plate"]))
        else:
            remarks.append(_remark(path, "a Zarr group that is no plate"))
    counts = Counter(plate.name for plate in found)
    return [dataclasses.replace(p, name=p.name if counts[p.name] == 1 else p.path) for p in found]


def _plate(path: str, name: str, said: Any) -> _Plate:
    return _Plate(path, name, said, read_acquisitions(said if isinstance(said, dict) else {}))


def _stores(source: AnyPath, remarks: list[Problem]) -> Iterator[str]:
    waiting = [("", 0)]
    while waiting:
        folder, depth = waiting.pop(0)
        for name, is_folder in scan(source, folder, remarks):
            path = f"{folder}/{name}".lstrip("/")
            if is_folder and name.lower().endswith(".zarr"):
                yield path
            elif is_folder and depth < _DEEPEST and not name.startswith("."):
                waiting.append((path, depth + 1))


def _name_of(said: dict[str, Any], path: str) -> str:
    plate = said["plate"]
    name = str(plate.get("name") or "") if isinstance(plate, dict) else ""
    return name or path.rsplit("/", 1)[-1].removesuffix(".zarr").removesuffix(".ome")


def _fields(source: AnyPath, plate: _Plate, acquisition: str) -> Iterator[tuple[SiteRecord, NgffImage] | Problem]:
    """Give each field of a plate or its refusal; an unreadable well is refused."""
    listed: set[str] = set()
    for k, well in enumerate(_list_of(plate.said, "wells")):
        path = str(well.get("path") or "") if isinstance(well, dict) else ""
        parts = path.split("/")
        if len(parts) != 2 or "" in parts or ".." in parts:
            found = f"well {k + 1} of the plate has the path {path!r}"
            yield _refusal(plate, "", kind="bad well", found=found, expected="a row and a column, such as B/03")
            continue
        listed.add(path)
        contradiction = _contradiction(plate.said, well, parts)
        if contradiction:
            yield _refusal(plate, path, kind="well contradicts itself", found=contradiction, expected=path)
            continue
        yield from _fields_of_well(source, plate, path, acquisition)
    there = {
        f"{row}/{column}"
        for row, is_folder in scan(source, plate.path, [])
        if is_folder
        for column, is_well in scan(source, f"{plate.path}/{row}".lstrip("/"), [])
        if is_well
    }
    for path in sorted(there - listed):
        yield _remark(f"{plate.path}/{path}".lstrip("/"), "a well that the plate does not list")


def _fields_of_well(
    source: AnyPath, plate: _Plate, well: str, acquisition: str
) -> Iterator[tuple[SiteRecord, NgffImage] | Problem]:
    inside = f"{plate.path}/{well}".lstrip("/")
    try:
        said = attributes(source / inside)
        images = _list_of(said["well"], "images") if said is not None and "well" in said else None
    except ScreenError as error:
        yield _refusal(plate, well, kind="unreadable metadata", found=str(error), expected="a well")
        return
    if not images:
        found = "no well" if images is None else "a well without fields"
        yield _refusal(plate, well, kind="no image", found=found, expected="fields in the well's metadata")
        return
    acquired = [str(image.get("acquisition", "")) if isinstance(image, dict) else "" for image in images]
    plate.acquisitions.used.update(acquired)
    chosen = [k for k, said in enumerate(acquired) if not acquisition or plate.acquisitions.is_asked(said, acquisition)]
    if not chosen:
        listed = ", ".join(map(plate.acquisitions.describe, dict.fromkeys(acquired)))
        found, expected = f"{len(images)} fields of acquisition {listed}", f"fields of acquisition {acquisition}"
        yield _refusal(plate, well, kind="no image", found=found, expected=expected)
        return
    if len(chosen) < len(images):
        yield _not_asked(inside, len(images) - len(chosen), acquisition)
    contradiction = plate.acquisitions.contradiction([acquired[k] for k in chosen])
    for k in chosen:
        image = images[k]
        name = str(image.get("path") or "") if isinstance(image, dict) else ""
        site = int(name) + 1 if name.isascii() and name.isdigit() else k + 1
        entry = SiteRecord(
            experiment="all",
            plate=normalize_name(plate.name),
            well=_written(well),
            site=site,
            paths=(f"{inside}/{name}",),
            pages=(-1,),
            extra=(acquired[k],),
        )
        if contradiction:
            fix = f"Choose one: --acquisition {next((a for a in acquired if a), 'ID')}, by its number or name."
            yield entry.problem(
                "several acquisitions", found=contradiction, expected="fields of one acquisition in a well", fix=fix
            )
            continue
        if name in ("", "..") or "/" in name:
            yield entry.problem("bad site", found=f"a field {name!r}", expected="the name of a folder", fix=_FIX)
            continue
        try:
            field = read_field(source / inside / name)
        except ScreenError as error:
            found = f"{inside}/{name}: {error}"
            yield entry.problem("unreadable metadata", found=found, expected="an image", fix=_FIX)
            continue
        entry.paths = (f"{inside}/{name}/{field.array}",)
        _remember(entry, field)
        yield entry, field


def _remember(entry: SiteRecord, field: NgffImage) -> None:
    """Take experiment, plate and site from what `distangle pack` noted."""
    about = field.about
    if {"experiment", "plate", "site"} <= set(about) and isinstance(about["site"], int) and about["site"] >= 0:
        entry.experiment, entry.plate, entry.site = str(about["experiment"]), str(about["plate"]), about["site"]


def _list_of(said: object, name: str) -> list[Any]:
    value = said.get(name) if isinstance(said, dict) else None
    if not isinstance(value, list):
        raise ScreenError(f"its metadata have no list of {name}")
    return value


def _contradiction(said: dict[str, Any], well: dict[str, Any], parts: list[str]) -> str:
    """Return what a well's indices say if it is not what its path says."""
    for part, index, names in zip(parts, ("rowIndex", "columnIndex"), ("rows", "columns"), strict=True):
        k, listed = well.get(index), said.get(names)
        if isinstance(k, int) and isinstance(listed, list):
            name = listed[k].get("name") if 0 <= k < len(listed) and isinstance(listed[k], dict) else None
            if name is None or str(name) != part:
                return f"{index} {k}, which is {name!r}"
    return ""


def _refusal(plate: _Plate, well: str, *, kind: str, found: str, expected: str) -> Problem:
    entry = SiteRecord(experiment="all", plate=plate.name, well=_written(well), site=0, role=Role.UNKNOWN)
    problem = entry.problem(kind, found=found, expected=expected, fix=_FIX)
    return dataclasses.replace(problem, file=f"{plate.path}/{well}".strip("/"))


def _written(well: str) -> str:
    """Return the name of a well from its path, `B/03`; of numbered rows `r1c3`."""
    row, _, column = well.partition("/")
    return f"r{row}c{column}" if row.isdigit() else f"{row}{column}"


def _listed(said: dict[str, Any]) -> Iterator[str]:
    """Give a well name for every row and column that a plate lists."""
    for names, well in (("rows", "{}/1"), ("columns", "A/{}")):
        listed = said.get(names) if isinstance(said, dict) else None
        for item in listed if isinstance(listed, list) else ():
            yield _written(well.format(item.get("name", "") if isinstance(item, dict) else ""))


def _remark(path: str, found: str) -> Problem:
    return Problem(
        severity="warning",
        kind="not read",
        file=path,
        found=found,
        expected="a plate and the wells that it lists",
        fix="List it in the plate's metadata if it belongs to the screen.",
    )


def _not_asked(path: str, count: int, acquisition: str) -> Problem:
    return Problem(
        severity="warning",
        kind="acquisition not asked for",
        file=path,
        found=f"{count} fields of another acquisition",
        expected=f"acquisition {acquisition}",
        fix="Nothing: --acquisition left them out.",
        count=count,
    )


def _sign(source: AnyPath) -> str:
    if not source.is_dir():
        return ""
    try:
        said = attributes(source)
    except ScreenError:
        return ""
    if said is not None and "plate" in said:
        return "the metadata of a plate"
    return next((name for name, is_folder in scan(source, "", []) if is_folder and name.lower().endswith(".zarr")), "")


LAYOUT = Reader(
    name="ome-zarr",
    read=find_ome_zarr,
    detect=_sign,
    options=frozenset({"mapping", "channels", "controls", "planes", "time", "acquisition", "well_base", "well_order"}),
)
