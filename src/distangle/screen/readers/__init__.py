"""How kinds of source folders are read: one file per layout, one line here."""

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
    """Find every entry of a source in the layout of a name.

    Raises:
        ScreenError: No such layout, an option that it does not know, or a source that it does not understand; the
            message says which other layout the source looks like.
    """
    layout = layout_named(name)
    unknown = [flag for option, flag in _FLAGS.items() if getattr(request, option) and option not in layout.options]
    if unknown:
        know = [other.name for other in LAYOUTS.values() if all(_knows(other, flag) for flag in unknown)]
        message = f"Layout {name!r} does not know {', '.join(unknown)}. Leave it away"
        message += f", or use --layout {' or '.join(know)}." if know else "."
        raise ScreenError(message)
    try:
        found = layout.read(request)
    except WellBaseError:
        raise  # no other layout would count from elsewhere
    except ScreenError as error:
        others = looks_like(request.source, but=name)
        if not others:
            raise
        raise ScreenError(f"{error} {others}") from error
    of_rows = name in (table.LAYOUT.name, cellpainting.LAYOUT.name) and "pattern" not in found.provenance
    if of_rows and not request.tables_only:
        compare_with_records(found)
    found.problems += reserved_name_problems(found.extra_columns, table=found.tables[0].name if found.tables else "")
    found.extra_columns = rename_columns(found.extra_columns)
    return found


def layout_named(name: str) -> Reader:
    """Return the layout of a name.

    Raises:
        ScreenError: There is none of this name.
    """
    if name not in LAYOUTS:
        raise ScreenError(f"No layout {name!r}. {did_you_mean(name, LAYOUTS)}")
    return LAYOUTS[name]


def detect_layout(request: IndexOptions) -> tuple[str, str]:
    """Return the layout of a source and what shows it, where no layout was named.

    Only layouts that know every option given are asked: `--pages` is of a table, `--pattern` of names of files.

    Args:
        request: What is to be indexed.

    Returns:
        A name of `LAYOUTS`, and the sign.

    Raises:
        ScreenError: Nothing tells; the message says what was looked for.
    """
    given = [option for option in _FLAGS if getattr(request, option)]
    able = [layout for layout in LAYOUTS.values() if layout.options.issuperset(given)]
    places = [request.source] if request.tables is None else [request.source, request.tables]
    there = [where for where in places if where.exists()]
    for layout in able:  # `table`, of which any single CSV is a sign, comes last
        if sign := next((sign for sign in map(layout.detect, there) if sign), ""):
            return layout.name, sign
    if request.pattern:
        return folder.LAYOUT.name, "--pattern"
    if not request.source.exists():
        raise ScreenError(f"{request.source} does not exist. Expected a folder of images, or a table of their paths.")
    raise ScreenError(
        f"Nothing in {request.source} tells its layout: no table of RxRx1 (train.csv, metadata.csv), no "
        f"load_data*.csv, no *.zarr, no single CSV, no names of a known pattern. Say where the tables lie, "
        f"--tables FOLDER, or name the layout: --layout {', '.join(layout.name for layout in able)}."
    )


def looks_like(source: AnyPath, *, but: str = "") -> str:
    """Return the layout that a source looks like, as advice.

    Such as `It looks like --layout rxrx1 (train.csv).`

    Args:
        source: A folder or table.
        but: The layout that was tried.

    Returns:
        "" if it looks like none, or like the one that was tried.
    """
    if not source.exists():
        return ""
    for layout in LAYOUTS.values():
        sign = layout.detect(source)
        if sign:
            return "" if layout.name == but else f"It looks like --layout {layout.name} ({sign})."
    return ""


def _knows(layout: Reader, flag: str) -> bool:
    return any(_FLAGS[option] == flag for option in layout.options)


__all__ = ["LAYOUTS", "find", "layout_named", "looks_like", "detect_layout"]
