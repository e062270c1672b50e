"""Check and lock the folder of a packed screen; one process writes at a time."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distangle.commit import commit_json, make_folder, sweep
from distangle.errors import ScreenError
from distangle.lock import locked
from distangle.screen import Screen, read_screen
from distangle.screen.table import CARD

UNFINISHED = "packing.json"  # says whose pack a folder holds that has no card yet


@contextlib.contextmanager
def held_for(screen: Screen, folder: Path, *, format: str, say: Callable[[str], None]) -> Iterator[None]:
    """Lock the folder of a packed screen and remove files of killed packings.

    Args:
        screen: That is packed.
        folder: New, or of an earlier packing of this screen in this format.
        format: Of the pack.
        say: Told when the lock of a dead process is cleared.

    Raises:
        RunError: Another process packs into it.
        ScreenError: It holds the screen, its images, or something else than an earlier packing of it.
        StorageError: It cannot be written to.
    """
    _check_apart(screen, folder)
    make_folder(folder)
    own = mark_of(screen, folder, format=format)
    with locked(folder, say=say):
        _check_former(folder, own)
        sweep(folder)
        commit_json(folder / UNFINISHED, own)
        yield
        (folder / UNFINISHED).unlink()


def mark_of(screen: Screen, folder: Path, *, format: str) -> dict[str, str]:
    """Return what identifies a packing: its format, and the images it is made of."""
    source = screen.source
    if isinstance(source, Path):
        source = Path(os.path.relpath(source.resolve(), folder.resolve()))
    return {
        "format": format,
        "source_before": source.as_posix() if isinstance(source, Path) else str(source),
        "sites_sha256_before": screen.card.sites_sha256,
    }


def _check_apart(screen: Screen, folder: Path) -> None:
    there = folder.resolve()
    if screen.folder is not None and there == screen.folder.resolve():
        raise ScreenError(f"{folder} is the screen itself. Name another folder for the packed one.")
    source = screen.source
    if isinstance(source, Path) and there in (source.resolve(), *source.resolve().parents):
        raise ScreenError(
            f"{folder} holds the images of the screen, {source}, which it might replace. Name another folder."
        )


def _check_former(folder: Path, own: Mapping[str, str]) -> None:
    """Check what a folder holds already.

    Raises:
        ScreenError: A screen that was indexed, or the pack of another one.
    """
    if (folder / CARD).exists():
        said = read_screen(folder).card.provenance.get("packed")
        if said is None:
            raise ScreenError(
                f"{folder} holds a screen that was indexed, not packed, and would be lost. Name another folder."
            )
    else:
        said = _read(folder / UNFINISHED)
    if said is None:
        return
    if said.get("format") != own["format"]:
        raise ScreenError(
            f"{folder} holds a pack in the format {said.get('format')}. Name another folder for {own['format']}."
        )
    known_by = [own["source_before"], own["sites_sha256_before"] or "nothing"]
    if not {said.get("source_before"), said.get("sites_sha256_before")} & set(known_by):
        raise ScreenError(
            f"{folder} holds the pack of another screen ({said.get('source_before')}). Name another folder."
        )


def _read(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        said = json.loads(path.read_text(encoding="utf-8"))
        return said if isinstance(said, dict) else None
    return None
