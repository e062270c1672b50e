"""Find the damaged file behind an unexpected error."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from distangle.core.remote import local_path
from distangle.errors import DistangleError, brief

TRACEBACK = "DISTANGLE_TRACEBACK"  # environment variable that prints the full traceback instead
MAX_LISTED = 3


def name_damaged_file(arguments: Sequence[str], error: Exception) -> str:
    """Return a message on the folder that caused an error; "" if no word names one.

    Args:
        arguments: Arguments of the command line.
        error: The unexpected error.
    """
    if os.environ.get(TRACEBACK):
        return ""
    folders = [local_path(argument) for argument in arguments if not argument.startswith("-")]
    folders = [folder for folder in folders if any((folder / name).exists() for name in ("run.json", "screen.json"))]
    if not folders:
        return ""
    for folder in folders:
        if changes := _list_changed_files(folder):
            return (
                f"{folder} is damaged: {changes} since it was written. Restore it from a copy; "
                f"`distangle verify {folder}` lists all differences."
            )
    message = brief(f"{type(error).__name__}: {error}".splitlines()[0], max_length=200)
    return (
        f"A file in {' or '.join(map(str, folders))} has unexpected contents, although its checksum is right "
        f"({message}). If the folder comes from somebody else, ask for another copy. If it is your own, this is a bug "
        f"in distangle: report the output of `{TRACEBACK}=1 {shlex.join(['distangle', *arguments])}`."
    )


def _list_changed_files(folder: Path) -> str:
    from distangle.results import RunFolder, verify_run

    if not (folder / "run.json").exists():
        return ""
    try:
        report = verify_run(RunFolder(folder))
    except DistangleError:
        return "manifest.json was changed"
    mismatches = [mismatch for mismatch in report.differences if mismatch.kind != "extra"]
    names = ", ".join(
        f"{mismatch.name} {'is gone' if mismatch.kind == 'missing' else 'was changed'}"
        for mismatch in mismatches[:MAX_LISTED]
    )
    return names + (f" and {len(mismatches) - MAX_LISTED} more" if len(mismatches) > MAX_LISTED else "")
