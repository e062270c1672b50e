"""The command line as it was typed, for the run that it makes."""

import contextvars
import shlex
from collections.abc import Sequence

_line: contextvars.ContextVar[str] = contextvars.ContextVar("command line", default="")


def keep(words: Sequence[str]) -> None:
    """Take the words after `distangle`."""
    _line.set(shlex.join(["distangle", *words]))


def line() -> str:
    """Return the whole line, quoted for a shell."""
    return _line.get()
