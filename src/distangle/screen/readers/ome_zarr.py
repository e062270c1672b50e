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
from distangle.screen.readers.ngff import NgffImage, read_attributes, read_field
from distangle.screen.readers.ngff_channels import add_fields, choose_field_channels
from distangle.screen.readers.wells.columns import apply_controls
from distangle.screen.readers.wells.join_metadata import join_metadata
from distangle.screen.readers.wells.table_set import read_all_metadata
from distangle.screen.readers.wells.well_names import resolve_names
from distangle.screen.roles import Role

_MAX_DEPTH = 4  # folders between the source and a plate
_FIX = "Write the plate again, or copy what is missing, and index again."


@dataclasses.dataclass(frozen=True)
class _Plate:
    path: str  # relative to the source, "" for the source itself
    name: str
    metadata: dict[str, Any]
    acquisitions: Acquisitions


def find_ome_zarr(request: IndexOptions) -> ReaderResult:
    """Find the fields of every plate, and well metadata in `tables`.

    A path is the folder of an array, a page the plane of a channel in it. Fields with names from 0 get site numbers
    from 1. Plates written by `distangle pack` keep the experiment, plate and site that it recorded.

    Raises:
        ScreenError: There is no plate, the channels are ambiguous, or `tables` is not a table of wells.
    """
    source = request.source
    if request.tables_only or not source.is_dir():
        raise ScreenError(
            f"{source}: expected a plate, NAME.zarr, or a folder of plates. --tables-only does not apply to OME-Zarr."
        )
    warnings: list[Problem] = []
    plates = _find_plates(source, warnings)
    if not plates:
        hint = f" {warnings[0].file}: {warnings[0].found}." if warnings else ""
        raise ScreenError(
            f"No OME-Zarr plate in {source}.{hint} Expected a group with 'plate' in its zarr.json or .zattrs."
        )
    fields: list[tuple[SiteRecord, NgffImage]] = []
    refusals: list[Problem] = []
    for plate in plates:
        for outcome in _read_plate_fields(source, plate, request.acquisition):
            if isinstance(outcome, Problem):
                (refusals if outcome.severity == "refused" else warnings).append(outcome)
            else:
                fields.append(outcome)
    if request.acquisition:
        require_acquisition(request.acquisition, [plate.acquisitions for plate in plates])
    result = ReaderResult(
        source=source,
        n_found=len(fields) + len(refusals),
        key_columns=frozenset({"plate"} | ({"experiment"} if any(field.pack_record for _, field in fields) else set())),
        extra_columns=("acquisition",),
        duplicate_fix="List each field once in its well, and give each plate a unique name.",
        provenance={"plates": len(plates), "columns": {}},
    )
    labels = None
    if request.tables is not None:
        plate_names = {entry.plate for entry, _ in fields}
        labels = read_all_metadata(request.tables, request.mapping, plates=plate_names, missing=request.missing)
    field_of = {id(entry): field for entry, field in fields}
    reading = resolve_names(
        [entry for entry, _ in fields],
        labels,
        shared=result.key_columns & labels.keys if labels is not None else frozenset(),
        request=request,
        other_names=[name for plate in plates for name in _listed_wells(plate.metadata)],
    )
    fields = [(entry, field_of[id(entry)]) for entry in reading.places]
    result.problems += [*warnings, *reading.problems, *refusals]
    channels = choose_field_channels([field for _, field in fields], request.channels)
    result.channels = tuple(channel for _, channel in channels)
    add_fields(result, fields, channels, request)
    if reading.labels is not None:
        result.provenance["columns"] = dict(reading.labels.columns)
        join_metadata(result, reading.labels, refusals=result.refusals)
    apply_controls(result.entries, request.controls)
    result.pixel_size_um = _shared_size([field.pixel_size_um for _, field in fields])
    return result


def _shared_size(sizes: Sequence[float | None]) -> float | None:
    """Return the pixel size of all fields; None if they differ."""
    known_sizes = [size for size in sizes if size is not None]
    is_consistent = (
        bool(known_sizes)
        and len(known_sizes) == len(sizes)
        and max(known_sizes) - min(known_sizes) <= 1e-3 * max(known_sizes)
    )
    return known_sizes[0] if is_consistent else None


def _find_plates(source: AnyPath, warnings: list[Problem]) -> list[_Plate]:
    metadata = read_attributes(source)
    if metadata is not None and "plate" in metadata:
        return [_make_plate("", _name_of(metadata, source.resolve().name), metadata["plate"])]
    plates: list[_Plate] = []
    for path in _find_stores(source, warnings):
        try:
            metadata = read_attributes(source / path)
        except ScreenError as error:
            warnings.append(_unread_warning(path, str(error)))
            continue
        if metadata is not None and "plate" in metadata:
            plates.append(_make_plate(path, _name_of(metadata, path), metadata["plate"]))
        else:
            warnings.append(_unread_warning(path, "a Zarr group that is not a plate"))
    counts = Counter(plate.name for plate in plates)
    return [dataclasses.replace(p, name=p.name if counts[p.name] == 1 else p.path) for p in plates]


def _make_plate(path: str, name: str, metadata: Any) -> _Plate:
    return _Plate(path, name, metadata, read_acquisitions(metadata if isinstance(metadata, dict) else {}))


def _find_stores(source: AnyPath, warnings: list[Problem]) -> Iterator[str]:
    queue = [("", 0)]
    while queue:
        folder, depth = queue.pop(0)
        for name, is_folder in scan(source, folder, warnings):
            path = f"{folder}/{name}".lstrip("/")
            if is_folder and name.lower().endswith(".zarr"):
                yield path
            elif is_folder and depth < _MAX_DEPTH and not name.startswith("."):
                queue.append((path, depth + 1))


def _name_of(metadata: dict[str, Any], path: str) -> str:
    plate = metadata["plate"]
    name = str(plate.get("name") or "") if isinstance(plate, dict) else ""
    return name or path.rsplit("/", 1)[-1].removesuffix(".zarr").removesuffix(".ome")


def _read_plate_fields(
    source: AnyPath, plate: _Plate, acquisition: str
) -> Iterator[tuple[SiteRecord, NgffImage] | Problem]:
    """Yield each field of a plate or its refusal; refuse unreadable wells."""
    listed_wells: set[str] = set()
    for k, well in enumerate(_require_list(plate.metadata, "wells")):
        path = str(well.get("path") or "") if isinstance(well, dict) else ""
        parts = path.split("/")
        if len(parts) != 2 or "" in parts or ".." in parts:
            description = f"well {k + 1} of the plate has the path {path!r}"
            yield _refusal(
                plate, "", kind="bad well", description=description, expected="a row and a column, such as B/03"
            )
            continue
        listed_wells.add(path)
        contradiction = _index_contradiction(plate.metadata, well, parts)
        if contradiction:
            yield _refusal(plate, path, kind="well index contradicts path", description=contradiction, expected=path)
            continue
        yield from _read_well_fields(source, plate, path, acquisition)
    existing = {
        f"{row}/{column}"
        for row, is_folder in scan(source, plate.path, [])
        if is_folder
        for column, is_well in scan(source, f"{plate.path}/{row}".lstrip("/"), [])
        if is_well
    }
    for path in sorted(existing - listed_wells):
        yield _unread_warning(f"{plate.path}/{path}".lstrip("/"), "a well that the plate does not list")


def _read_well_fields(
    source: AnyPath, plate: _Plate, well: str, acquisition: str
) -> Iterator[tuple[SiteRecord, NgffImage] | Problem]:
    folder = f"{plate.path}/{well}".lstrip("/")
    try:
        metadata = read_attributes(source / folder)
        images = _require_list(metadata["well"], "images") if metadata is not None and "well" in metadata else None
    except ScreenError as error:
        yield _refusal(plate, well, kind="unreadable metadata", description=str(error), expected="a well")
        return
    if not images:
        description = "no well" if images is None else "a well without fields"
        yield _refusal(plate, well, kind="no image", description=description, expected="fields in the well's metadata")
        return
    acquisitions = [str(image.get("acquisition", "")) if isinstance(image, dict) else "" for image in images]
    plate.acquisitions.field_ids.update(acquisitions)
    selected = [
        k
        for k, identifier in enumerate(acquisitions)
        if not acquisition or plate.acquisitions.matches(identifier, acquisition)
    ]
    if not selected:
        names = ", ".join(map(plate.acquisitions.describe, dict.fromkeys(acquisitions)))
        description, expected = f"{len(images)} fields of acquisition {names}", f"fields of acquisition {acquisition}"
        yield _refusal(plate, well, kind="no image", description=description, expected=expected)
        return
    if len(selected) < len(images):
        yield _other_acquisition_warning(folder, len(images) - len(selected), acquisition)
    contradiction = plate.acquisitions.find_contradiction([acquisitions[k] for k in selected])
    for k in selected:
        image = images[k]
        name = str(image.get("path") or "") if isinstance(image, dict) else ""
        site = int(name) + 1 if name.isascii() and name.isdigit() else k + 1
        entry = SiteRecord(
            experiment="all",
            plate=normalize_name(plate.name),
            well=_well_name(well),
            site=site,
            paths=(f"{folder}/{name}",),
            pages=(-1,),
            extra=(acquisitions[k],),
        )
        if contradiction:
            fix = f"Choose one by id or name, such as --acquisition {next((a for a in acquisitions if a), 'ID')}."
            yield entry.problem(
                "several acquisitions", found=contradiction, expected="fields of one acquisition in a well", fix=fix
            )
            continue
        if name in ("", "..") or "/" in name:
            yield entry.problem("bad site", found=f"a field {name!r}", expected="the name of a folder", fix=_FIX)
            continue
        try:
            field = read_field(source / folder / name)
        except ScreenError as error:
            description = f"{folder}/{name}: {error}"
            yield entry.problem("unreadable metadata", found=description, expected="an image", fix=_FIX)
            continue
        entry.paths = (f"{folder}/{name}/{field.array}",)
        _apply_pack_record(entry, field)
        yield entry, field


def _apply_pack_record(entry: SiteRecord, field: NgffImage) -> None:
    """Set experiment, plate and site from the record of `distangle pack`."""
    record = field.pack_record
    if {"experiment", "plate", "site"} <= set(record) and isinstance(record["site"], int) and record["site"] >= 0:
        entry.experiment, entry.plate, entry.site = str(record["experiment"]), str(record["plate"]), record["site"]


def _require_list(metadata: object, name: str) -> list[Any]:
    value = metadata.get(name) if isinstance(metadata, dict) else None
    if not isinstance(value, list):
        raise ScreenError(f"its metadata contain no list of {name}")
    return value


def _index_contradiction(metadata: dict[str, Any], well: dict[str, Any], parts: list[str]) -> str:
    """Return how the indices of a well contradict its path; "" if they agree."""
    for part, index, names in zip(parts, ("rowIndex", "columnIndex"), ("rows", "columns"), strict=True):
        k, items = well.get(index), metadata.get(names)
        if isinstance(k, int) and isinstance(items, list):
            name = items[k].get("name") if 0 <= k < len(items) and isinstance(items[k], dict) else None
            if name is None or str(name) != part:
                return f"{index} {k}, which has the name {name!r}"
    return ""


def _refusal(plate: _Plate, well: str, *, kind: str, description: str, expected: str) -> Problem:
    entry = SiteRecord(experiment="all", plate=plate.name, well=_well_name(well), site=0, role=Role.UNKNOWN)
    problem = entry.problem(kind, found=description, expected=expected, fix=_FIX)
    return dataclasses.replace(problem, file=f"{plate.path}/{well}".strip("/"))


def _well_name(well: str) -> str:
    """Return the well of a path: `B03` of `B/03`, `r1c3` of `1/3`."""
    row, _, column = well.partition("/")
    return f"r{row}c{column}" if row.isdigit() else f"{row}{column}"


def _listed_wells(metadata: dict[str, Any]) -> Iterator[str]:
    """Yield a well name for every row and column in the metadata of a plate."""
    for names, well in (("rows", "{}/1"), ("columns", "A/{}")):
        items = metadata.get(names) if isinstance(metadata, dict) else None
        for item in items if isinstance(items, list) else ():
            yield _well_name(well.format(item.get("name", "") if isinstance(item, dict) else ""))


def _unread_warning(path: str, description: str) -> Problem:
    return Problem(
        severity="warning",
        kind="not read",
        file=path,
        found=description,
        expected="a plate, and only wells that it lists",
        fix="List it in the metadata of the plate if it belongs to the screen.",
    )


def _other_acquisition_warning(path: str, count: int, acquisition: str) -> Problem:
    return Problem(
        severity="warning",
        kind="acquisition not selected",
        file=path,
        found=f"{count} fields of another acquisition",
        expected=f"acquisition {acquisition}",
        fix="No action needed: --acquisition excludes them.",
        count=count,
    )


def _detect(source: AnyPath) -> str:
    if not source.is_dir():
        return ""
    try:
        metadata = read_attributes(source)
    except ScreenError:
        return ""
    if metadata is not None and "plate" in metadata:
        return "metadata of a plate"
    return next((name for name, is_folder in scan(source, "", []) if is_folder and name.lower().endswith(".zarr")), "")


LAYOUT = Reader(
    name="ome-zarr",
    read=find_ome_zarr,
    detect=_detect,
    options=frozenset({"mapping", "channels", "controls", "planes", "time", "acquisition", "well_base", "well_order"}),
)
