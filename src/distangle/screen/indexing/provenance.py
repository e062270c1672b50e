"""Store the options of an index, so that its tables can be read again."""

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
    """Return a path relative to the source; a path below another URL stays whole."""
    if isinstance(path, Path) and isinstance(source, Path):
        return Path(os.path.relpath(path.resolve(), source.resolve())).as_posix()
    return str(path).removeprefix(f"{source}/")


def options_to_json(request: IndexOptions, plate: tuple[int, int] | None, *, folder: AnyPath) -> dict[str, Any]:
    """Return index options as JSON for the provenance.

    Args:
        request: Options of the index.
        plate: Rows and columns as given; None if inferred from the wells.
        folder: Base folder of the stored paths.
    """
    return {
        "source": _portable_path(request.source, folder),
        "tables": None if request.tables is None else _portable_path(request.tables, folder),
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
        **request.selected_axes,
    }


def rebase_paths(options: Mapping[str, Any], before: Path, after: Path) -> dict[str, Any]:
    """Return stored options with their paths rewritten for another folder."""
    paths = {
        name: _portable_path(Path(os.path.normpath(before / str(options[name]))), after.resolve())
        for name in ("source", "tables")
        if options.get(name) is not None
    }
    return {**options, **paths}


def reread_source(screen: Screen) -> ReaderResult:
    """Read the tables of a screen again; no image is opened.

    Args:
        screen: A local screen with the index options in its provenance.

    Returns:
        The validated result of the reader.

    Raises:
        ScreenError: The source can no longer be read.
        OSError: It cannot be read.
    """
    options, folder = screen.metadata.provenance["options"], screen.source
    if not isinstance(folder, Path):
        raise ValueError(f"{folder} is a URL; expected a folder.")
    request = IndexOptions(
        source=Path(os.path.normpath(folder / options["source"])),
        tables=None if options["tables"] is None else Path(os.path.normpath(folder / options["tables"])),
        mapping=options["mapping"],
        channels=tuple(options["channels"]),
        pages=options["pages"],
        pattern=options["pattern"],
        controls=options["controls"],
        tables_only=screen.metadata.tables_only,
        planes=tuple(options.get("planes", ())),
        **{axis: options.get(axis, "") for axis in ("time", "cycle", "acquisition")},
        missing=options.get("missing", ()),
        plate=None if options["plate"] is None else (options["plate"][0], options["plate"][1]),
        well_base=options.get("well_base"),
        well_order=options.get("well_order"),
    )
    result = find(screen.metadata.layout, request)
    validate_records(result, request.plate)
    return result


def _portable_path(path: AnyPath, folder: AnyPath) -> str:
    # Do not resolve links: absolute paths in a table may go through them.
    if isinstance(path, Path) and isinstance(folder, Path):
        return Path(os.path.relpath(os.path.normpath(path.absolute()), folder.resolve())).as_posix()
    return str(path)
