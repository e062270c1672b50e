"""The verb that tells whether a folder is still what it was."""

import sys
from pathlib import Path

from distangle.cli.console import remark, tell, tell_table
from distangle.cli.opening import open_screen
from distangle.commit import in_bytes
from distangle.errors import ConfigError
from distangle.progress import by_percent, doing, progress

SHOWN = 200  # rows of the table; the rest is counted


def verify(folder: Path, *, images: Path | None = None) -> None:
    """Check every file of a run, or every image of a screen, against the SHA-256 it was written with.

    The runs of a cross-validation are checked with their run. Ends with status 1 when a file is missing, changed or
    extra.

    Args:
        folder: A run or a screen.
        images: Of a screen: where its images are now, when they were moved after `distangle index`.
    """
    from distangle.results import RunFolder, verify_run, verify_screen

    if (folder / "run.json").exists() or (folder / "manifest.json").exists():
        doing("reading every file of the run")
        found = verify_run(RunFolder(folder))
    elif (folder / "screen.json").exists():
        with progress("verify", 100, unit="%") as advance:
            found = verify_screen(open_screen(folder, images), progress=by_percent(advance))
    else:
        raise ConfigError(f"{folder} is neither a run (no run.json) nor a screen (no screen.json). Name one of them.")
    if found.differences:
        rows = [(one.kind, one.name, one.words) for one in found.differences[:SHOWN]]
        tell_table(("", "file", "found"), rows)
        if len(found.differences) > SHOWN:
            remark(f"... {len(found.differences) - SHOWN} more")
    for note in found.notes:
        remark(note)
    wrong = len(found.differences)
    tell(
        f"{found.n_files} files ({in_bytes(found.n_bytes)}) checked: {f'{wrong} differ' if wrong else 'all as written'}"
    )
    if wrong:
        sys.exit(1)
