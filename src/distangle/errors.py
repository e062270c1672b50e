"""Every error raised on purpose, as a tree under one base.

A message says three things: what was found (with its file, plate, well, row), what was expected, and the
next step. Only the edges of the program (`cli`) catch them.
"""

import difflib
import re
from collections.abc import Iterable


class DistangleError(Exception):
    """Base of every error that distangle raises on purpose."""


class ScreenError(DistangleError, ValueError):
    """The tables or folders of a screen do not say what a screen must say."""


class ImageError(DistangleError, ValueError):
    """A file cannot be read as the image of a site."""


class PixelTypeError(ImageError):
    """A whole file that is no plane of a channel: colour, float, stack, too large."""


class FoldError(DistangleError, ValueError):
    """Wells cannot be divided into training and held-out as asked."""


class ConfigError(DistangleError, ValueError):
    """A setting has a value or a name that nothing understands."""


class WeightsError(DistangleError, ValueError):
    """A file of weights does not belong to the network."""


class RunError(DistangleError, RuntimeError):
    """A run folder lacks what the step needs, or a folder is in use."""


class WellBaseError(ScreenError):
    """A source counts rows and columns from 0, or may, and nobody said so."""


class StorageError(DistangleError, OSError):
    """A disk is full, gone, or not to be written to; what it held before is whole."""


class RemoteError(DistangleError, OSError):
    """A file behind a URL cannot be read, or a package to read it with is missing."""


class OutOfMemoryError(DistangleError, MemoryError):
    """Memory ran out; what was written before is whole."""


class StopRequested(DistangleError, RuntimeError):
    """A training was asked to stop, and did so with its state saved.

    Attributes:
        status: What the process ends with: EX_TEMPFAIL of sysexits.h, to be tried again.
    """

    status = 75


class ExplanationError(DistangleError, ValueError):
    """An explanation was asked of a layer, head or perturbation that is not there."""


def brief(text: str, *, most: int = 60) -> str:
    """Return a name for a message or a table, cut when it is very long.

    Args:
        text: The name.
        most: Characters.
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def did_you_mean(name: str, known: Iterable[str], *, n: int = 3) -> str:
    """Return the end of a message that lists the known names most like `name`.

    Args:
        name: What was given.
        known: What would have been understood.
        n: How many to offer.

    Returns:
        A sentence such as `"Did you mean 'plate'? Known: plate, well."`.
    """
    names = sorted({str(item) for item in known}, key=_by_number)
    lowered = {item.lower(): item for item in names}
    close = [lowered[item] for item in difflib.get_close_matches(name.lower(), list(lowered), n=n, cutoff=0.5)]
    listed = ", ".join(brief(item) for item in names[:40]) + (f", ... ({len(names)} in all)" if len(names) > 40 else "")
    asked = f"Did you mean {' or '.join(repr(brief(item)) for item in close)}? " if close else ""
    return f"{asked}Known: {listed}."


def _by_number(name: str) -> list[tuple[int, int, str]]:
    """Return a key that puts 2 before 10 and everything else by its letters."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
