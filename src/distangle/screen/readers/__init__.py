"""Readers of source folders: one module and one entry of `LAYOUTS` per layout."""

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError, WellBaseError, did_you_mean
from distangle.screen.indexing.records import IndexOptions, Reader, ReaderResult
from distangle.screen.readers import cellpainting, folder, ome_zarr, rxrx, table
from distangle.screen.readers.instruments.tables import compare_with_records
from distangle.screen.reserved_columns import rename_columns, reserved_name_problems

LAYOUTS: dict[str, Reader] = {
    layout.name: layout
    for layout in (
        rxrx.LAYOUT,
        cellpainting.LAYOUT,
        ome_zarr.LAYOUT,
        folder.LAYOUT,
        table.LAYOUT,
    )
}

_FLAGS = {
    "mapping": "--map",
    "channels": "--channels",
    "pages": "--pages",
    "pattern": "--pattern",
    "planes": "--plane",
    "time": "--time",
    "cycle": "--cycle",
    "acquisition": "--acquisition",
    "well_base": "--well-base",
    "well_order": "--well-order",
    "controls": "--negative-control and --positive-control",
}


def find(name: str, request: IndexOptions) -> ReaderResult:
    """Read the entries of a source with the reader of a layout.

    Raises:
        ScreenError: The layout is unknown, does not support an option, or does not fit the source. The message names
            the layout that the source looks like.
    """
    layout = layout_named(name)
    unknown = [flag for option, flag in _FLAGS.items() if getattr(request, option) and option not in layout.options]
    if unknown:
        alternatives = [other.name for other in LAYOUTS.values() if all(_has_option(other, flag) for flag in unknown)]
        message = f"Layout {name!r} does not support {', '.join(unknown)}. Omit it"
        message += f", or use --layout {' or '.join(alternatives)}." if alternatives else "."
        raise ScreenError(message)
    try:
        result = layout.read(request)
    except WellBaseError:
        raise  # no other layout would count wells differently
    except ScreenError as error:
        advice = looks_like(request.source, exclude=name)
        if not advice:
            raise
        raise ScreenError(f"{error} {advice}") from error
    is_from_rows = name in (table.LAYOUT.name, cellpainting.LAYOUT.name) and "pattern" not in result.provenance
    if is_from_rows and not request.tables_only:
        compare_with_records(result)
    table_name = result.tables[0].name if result.tables else ""
    result.problems += reserved_name_problems(result.extra_columns, table=table_name)
    result.extra_columns = rename_columns(result.extra_columns)
    return result


def layout_named(name: str) -> Reader:
    """Return the reader of a layout.

    Raises:
        ScreenError: The layout is unknown.
    """
    if name not in LAYOUTS:
        raise ScreenError(f"Unknown layout {name!r}. {did_you_mean(name, LAYOUTS)}")
    return LAYOUTS[name]


def detect_layout(request: IndexOptions) -> tuple[str, str]:
    """Detect the layout of a source; return its name and the evidence.

    Only layouts that support every given option are candidates: `--pages` belongs to tables, `--pattern` to file names.

    Args:
        request: The options of `index`.

    Raises:
        ScreenError: No layout fits; the message lists what was looked for.
    """
    used_options = [option for option in _FLAGS if getattr(request, option)]
    candidates = [layout for layout in LAYOUTS.values() if layout.options.issuperset(used_options)]
    folders = [request.source] if request.tables is None else [request.source, request.tables]
    existing = [folder for folder in folders if folder.exists()]
    for layout in candidates:  # `table`, which any single CSV fits, comes last
        if evidence := next((evidence for evidence in map(layout.detect, existing) if evidence), ""):
            return layout.name, evidence
    if request.pattern:
        return folder.LAYOUT.name, "--pattern"
    if not request.source.exists():
        raise ScreenError(f"{request.source} does not exist. Expected a folder of images, or a table of their paths.")
    raise ScreenError(
        f"The layout of {request.source} cannot be detected: no table of RxRx1 (train.csv, metadata.csv), no "
        f"load_data*.csv, no *.zarr, no single CSV, no file names of a known pattern. Name the folder of the tables, "
        f"--tables FOLDER, or the layout: --layout {', '.join(layout.name for layout in candidates)}."
    )


def looks_like(source: AnyPath, *, exclude: str = "") -> str:
    """Return advice on the layout, such as `It looks like --layout table (a.csv).`.

    Args:
        source: A folder or table.
        exclude: The layout that failed.

    Returns:
        "" if no other layout fits.
    """
    if not source.exists():
        return ""
    for layout in LAYOUTS.values():
        evidence = layout.detect(source)
        if evidence:
            return "" if layout.name == exclude else f"It looks like --layout {layout.name} ({evidence})."
    return ""


def _has_option(layout: Reader, flag: str) -> bool:
    return any(_FLAGS[option] == flag for option in layout.options)


__all__ = ["LAYOUTS", "find", "layout_named", "looks_like", "detect_layout"]
