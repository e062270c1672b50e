"""Locate the images of a screen: where they were indexed, or a named folder."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from distangle.errors import ScreenError
from distangle.screen.screen import Screen

SAMPLE = 64  # files that are looked for; a folder that moved lost all of them
MOST_FOLDERS = 2_000  # of the images that are looked for


def with_images(screen: Screen, folder: Path) -> Screen:
    """Return a screen whose images are read from another folder.

    Args:
        screen: As it was indexed.
        folder: Stands in for the folder that was indexed; the paths below it are the same.

    Raises:
        ScreenError: None of the images lies there.
    """
    card = screen.card.model_copy(update={"source": str(folder.resolve())})
    moved = replace(screen, card=card)
    names = _sample(moved)
    if not names or any((folder / name).exists() for name in names):
        return moved
    place = f"there is no {folder / names[0]}" if folder.is_dir() else f"there is no folder {folder}"
    raise ScreenError(
        f"--images {folder}: none of the images of {_named(screen)} lies there: {place}. {_right(folder, names[0])}"
    )


def check_images(screen: Screen) -> str:
    """Check that the images are where they were indexed; report missing folders.

    Args:
        screen: A screen whose source is a URL, or that has no images, is not looked at.

    Returns:
        "" when every folder is there.

    Raises:
        ScreenError: None of the images is there any more.
    """
    source = screen.source
    names = _sample(screen)
    if not names or not isinstance(source, Path):
        return ""
    if not any((source / name).exists() for name in names):
        gone = f"{names[0]} and {len(names) - 1} others that were looked for are not in {source}"
        raise ScreenError(
            f"The images of {_named(screen)} are not there any more: "
            f"{gone if source.is_dir() else f'the folder {source} does not exist'}. If they were moved, add "
            f"`--images FOLDER`, with the folder that now holds {names[0]}."
        )
    folders = _folders(screen)
    absent = [name for name in folders if not (source / name).is_dir()]
    if not absent:
        return ""
    return (
        f"{len(absent)} of {len(folders)} folders with images of {_named(screen)} are not there any more; the first: "
        f"{source / absent[0]}. Their sites cannot be read. Put them back, or index the screen again without them."
    )


def _named(screen: Screen) -> str:
    return f"the screen {screen.folder}" if screen.folder else "the screen"


def _paths(screen: Screen, k: int) -> list[str]:
    return [str(name) for name in screen.sites[f"path_{k}"] if str(name)] if f"path_{k}" in screen.sites else []


def _sample(screen: Screen) -> list[str]:
    """Return files of the first channel, spread evenly over the screen."""
    names = _paths(screen, 1)
    chosen = np.linspace(0, len(names) - 1, min(SAMPLE, len(names))).astype(int)
    return [names[k] for k in dict.fromkeys(chosen.tolist())]


def _folders(screen: Screen) -> list[str]:
    """Return the folders of images, at most `MOST_FOLDERS`, spread evenly."""
    channels = range(1, len(screen.card.channels) + 1)
    names = list(dict.fromkeys(name.rpartition("/")[0] for k in channels for name in _paths(screen, k)))
    chosen = np.linspace(0, len(names) - 1, min(MOST_FOLDERS, len(names))).astype(int)
    return [names[k] for k in dict.fromkeys(chosen.tolist())]


def _right(folder: Path, name: str) -> str:
    """Say which folder would have been right, where a part of the path shows it."""
    inner = PurePosixPath(name)
    for depth in range(1, len(inner.parts)):
        below = PurePosixPath(*inner.parts[depth:])
        if (folder / below).exists() and folder.parts[-depth:] == inner.parts[:depth]:
            return f"Did you mean `--images {folder.parents[depth - 1]}`?"
    if folder.is_dir():
        for child in sorted(folder.iterdir()):
            if (child / name).exists():
                return f"Did you mean `--images {child}`?"
    return f"Name the folder that holds {name}."
