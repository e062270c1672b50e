"""Check the source of an export, and write a whole folder or none."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from distangle.core.io import make_folder
from distangle.errors import ConfigError, ProfileError

PROFILE_FILE = "profile.json"
"""File that a folder of profiles has, as `results.profile_result.JSON_FILE`; that module loads pandas."""


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run."""
    return (folder / "run.json").is_file()


def has_profiles(folder: Path) -> bool:
    """Return whether a folder holds the results of profiles."""
    return (folder / PROFILE_FILE).is_file()


def check_source(source: Path, *, needs: Literal["network", "images", ""] = "") -> None:
    """Check that a folder is a run or a folder of profiles.

    Args:
        source: The folder.
        needs: Part of a run that is exported; "" where a folder of profiles will do.

    Raises:
        ProfileError: It is neither.
    """
    if is_run(source) or (has_profiles(source) and not needs):
        return
    if needs:
        state = "it has no run.json" if source.exists() else "it does not exist"
        raise ProfileError(f"{source} has no {needs}: {state}. Expected the folder of a run. Name a run.")
    state = f"it has neither run.json nor {PROFILE_FILE}" if source.exists() else "it does not exist"
    raise ProfileError(
        f"{source} cannot be exported: {state}. Expected the folder of a run or a folder of profiles. `distangle train "
        "SCREEN --out RUN` makes a run."
    )


def check_new(out: Path) -> None:
    """Check that a path is new or an empty folder, and lies in no run.

    Raises:
        ConfigError: A file or files are there, or the path lies in a run.
    """
    run = next((folder for folder in out.resolve().parents if is_run(folder)), None)
    if run is not None:
        raise ConfigError(
            f"{out} lies in the run {run}. Expected a folder outside of a run, whose files are its own results. Name "
            "another one with `--out`."
        )
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ConfigError(
            f"{out} exists{' and is not empty' if out.is_dir() else ''}. Expected a new folder, so that no file is "
            "replaced. Name another one with `--out`."
        )


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write into, which becomes `out` on success.

    On failure nothing is left.

    Args:
        out: A new or empty folder.

    Raises:
        ConfigError: Files are at `out`.
        StorageError: The folder cannot be made.
    """
    check_new(out)
    folder = Path(os.path.abspath(out))  # noqa: PTH100 - `resolve` would follow links
    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    make_folder(temporary)
    try:
        yield temporary
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
