"""How kinds of source folders are read: one file per layout, one line here."""

from distangle.errors import ScreenError, nearest
from distangle.screen.entry import Layout
from distangle.screen.layouts.rxrx1 import find_rxrx1
from distangle.screen.layouts.table import find_table

LAYOUTS: dict[str, Layout] = {"rxrx1": find_rxrx1, "table": find_table}


def layout_named(name: str) -> Layout:
    """Return the layout of a name.

    Raises:
        ScreenError: There is none of this name.
    """
    if name not in LAYOUTS:
        message = f"No layout {name!r}. {nearest(name, LAYOUTS)}"
        raise ScreenError(message)
    return LAYOUTS[name]


__all__ = ["LAYOUTS", "find_rxrx1", "find_table", "layout_named"]
