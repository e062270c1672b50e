"""Find the damaged file behind an unexpected error."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from distangle.errors import DistangleError, brief

TRACEBACK = "DISTANGLE_TRACEBACK"  # set in the environment, the error passes with all its lines
SHOWN = 3


def name_damaged_file(words: Sequence[str], error: Exception) -> str:
    """Return a message on the folder that caused an error; "" if no word names one.

    Args:
        words: Arguments of the command line.
        error: The unexpected error.
    """
    if os.environ.get(TRACEBACK):
        return ""
    folders = [Path(word) for word in words if not word.startswith("-")]
    folders = [folder for folder in folders if any((folder / name).exists() for name in ("run.json", "screen.json"))]
    if not folders:
        return ""
    for folder in folders:
        if named := _altered(folder):
            return (
                f"{folder} cannot be used as it is: {named} since it was written. Restore it from a copy; "
                f"`distangle verify {folder}` lists all that differs."
            )
    said = brief(f"{type(error).__name__}: {error}".splitlines()[0], most=200)
    return (
        f"Something in {' or '.join(map(str, folders))} is not as distangle writes it, though nothing was changed "
        f"since it was listed ({said}). If it comes from somebody else, ask for another copy. If it is your own, this "
        f"is a fault of distangle: report what `{TRACEBACK}=1 {shlex.join(['distangle', *words])}` prints."
    )


def _altered(folder: Path) -> str:
    from distangle.results import RunFolder, verify_run

    if not (folder / "run.json").exists():
        return ""
    try:
        found = verify_run(RunFolder(folder))
    except DistangleError:
        return "manifest.json was changed"
    wrong = [one for one in found.differences if one.kind != "extra"]
    listed = ", ".join(f"{one.name} {'is gone' if one.kind == 'missing' else 'was changed'}" for one in wrong[:SHOWN])
    return listed + (f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
