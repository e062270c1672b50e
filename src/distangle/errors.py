"""Define every error that distangle raises on purpose, below one base class.

A message states the value that was found (with its file, plate, well, row), what was expected, and the next step.
Only the entry points (`cli`) catch these errors.
"""

import difflib
import re
from collections.abc import Iterable


class DistangleError(Exception):
    """Base of every error that distangle raises on purpose."""


class ScreenError(DistangleError, ValueError):
    """The tables or folders of a screen are incomplete or contradictory."""


class ImageError(DistangleError, ValueError):
    """A file cannot be read as the image of a site."""


class PixelTypeError(ImageError):
    """An intact file is not a plane of one channel: color, float, stack, too large."""


class ProfileError(DistangleError, ValueError):
    """A table of features is incomplete or contradictory."""


class FoldError(DistangleError, ValueError):
    """Wells cannot be split into training and held-out wells as requested."""


class ConfigError(DistangleError, ValueError):
    """A setting has an unknown name or an invalid value."""


class WeightsError(DistangleError, ValueError):
    """A file of weights does not fit the network."""


class RunError(DistangleError, RuntimeError):
    """A run folder is incomplete for the next step, or a folder is in use."""


class WellBaseError(ScreenError):
    """It is not clear whether a source counts rows and columns from 0 or from 1."""


class StorageError(DistangleError, OSError):
    """A disk is full, unmounted or not writable; earlier files are intact."""


class RemoteError(DistangleError, OSError):
    """A file behind a URL cannot be read, or the package for its scheme is missing."""


class OutOfMemoryError(DistangleError, MemoryError):
    """Memory ran out; files that were written before are intact."""


class StoppedError(DistangleError, RuntimeError):
    """A training stopped on request, with its state saved.

    Attributes:
        status: Exit status of the process: EX_TEMPFAIL of sysexits.h, "try again later".
    """

    status = 75


class ExplanationError(DistangleError, ValueError):
    """The layer, head or perturbation to explain does not exist."""


def brief(text: str, *, max_length: int = 60) -> str:
    """Return a name for a message or a table, shortened when it is very long.

    Args:
        text: The name.
        max_length: Characters of the result at most.
    """
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def did_you_mean(name: str, known: Iterable[str], *, n: int = 3) -> str:
    """Return the end of a message that lists the known names most like `name`.

    Args:
        name: The unknown name.
        known: All valid names.
        n: Number of suggestions.

    Returns:
        A sentence such as `"Did you mean 'plate'? Known: plate, well."`.
    """
    names = sorted({str(item) for item in known}, key=_natural_key)
    by_lowercase = {item.lower(): item for item in names}
    close = [
        by_lowercase[item] for item in difflib.get_close_matches(name.lower(), list(by_lowercase), n=n, cutoff=0.5)
    ]
    names_text = ", ".join(brief(item) for item in names[:40]) + (
        f", ... ({len(names)} in all)" if len(names) > 40 else ""
    )
    question = f"Did you mean {' or '.join(repr(brief(item)) for item in close)}? " if close else ""
    return f"{question}Known: {names_text}."


def _natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts 2 before 10 and sorts other text by its letters."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
