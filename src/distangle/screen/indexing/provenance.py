"""Store the options of an index, so that its tables can be read again alike."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distangle.core.remote import AnyPath
from distangle.screen.indexing.records import IndexOptions, ReaderResult
from distangle.screen.indexing.validate import validate_records
from distangle.screen.readers import find
from distangle.screen.screen import Screen


def relative(path: AnyPath, source: AnyPath) -> str:
    """Return a path as seen from the source; a path below another URL stays whole."""
    if isinstance(path, Path) and isinstance(source, Path):
        return Path(os.path.relpath(path.resolve(), source.resolve())).as_posix()
    return str(path).removeprefix(f"{source}/")


def options_to_json(request: IndexOptions, plate: tuple[int, int] | None, *, folder: AnyPath) -> dict[str, Any]:
    """Return a request ready for the provenance.

    Args:
        request: What `index` was asked for.
        plate: Rows and columns that were given; None where they were left to the wells.
        folder: The folder that paths are noted from.
    """
    return {
        "source": _typed(request.source, folder),
        "tables": None if request.tables is None else _typed(request.tables, folder),
        "mapping": dict(request.mapping),
        "channels": list(request.channels),
        "pages": request.pages,
        "pattern": request.pattern,
        "controls": {role: list(names) for role, names in request.controls.items()},
        "missing": list(request.missing),
        "well_base": request.well_base,
        "well_order": request.well_order,
        "plate": None if plate is None else list(plate),
        "planes": list(request.planes),
        **request.axis_values,
    }


def rebase_paths(asked: Mapping[str, Any], before: Path, after: Path) -> dict[str, Any]:
    """Return stored options with their paths rewritten for another folder."""
    named = {
        name: _typed(Path(os.path.normpath(before / str(asked[name]))), after.resolve())
        for name in ("source", "tables")
        if asked.get(name) is not None
    }
    return {**asked, **named}


def reread_source(screen: Screen) -> ReaderResult:
    """Read the tables of a screen again, as `index` would; no image is opened.

    Args:
        screen: Of a folder, with what its index was asked for in its provenance.

    Returns:
        What the layout found, with the entries that would be looked at for a screen.

    Raises:
        ScreenError: The source cannot be understood any more.
        OSError: It cannot be read.
    """
    asked, folder = screen.card.provenance["asked"], screen.source
    if not isinstance(folder, Path):
        raise ValueError(f"{folder} is a URL; expected a folder.")
    request = IndexOptions(
        source=Path(os.path.normpath(folder / asked["source"])),
        tables=None if asked["tables"] is None else Path(os.path.normpath(folder / asked["tables"])),
        mapping=asked["mapping"],
        channels=tuple(asked["channels"]),
        pages=asked["pages"],
        pattern=asked["pattern"],
        controls=asked["controls"],
        tables_only=screen.card.tables_only,
        planes=tuple(asked.get("planes", ())),
        **{axis: asked.get(axis, "") for axis in ("time", "cycle", "acquisition")},
        missing=asked.get("missing", ()),
        plate=None if asked["plate"] is None else (asked["plate"][0], asked["plate"][1]),
        well_base=asked.get("well_base"),
        well_order=asked.get("well_order"),
    )
    found = find(screen.card.layout, request)
    validate_records(found, request.plate)
    return found


def _typed(path: AnyPath, folder: AnyPath) -> str:
    # Links stay as they were typed: absolute paths in a table may go through them.
    if isinstance(path, Path) and isinstance(folder, Path):
        return Path(os.path.relpath(os.path.normpath(path.absolute()), folder.resolve())).as_posix()
    return str(path)
