"""Locate the images of a screen: where they were indexed, or a named folder."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from distangle.errors import ScreenError
from distangle.screen.screen import Screen

SAMPLE_SIZE = 64  # files to look for; if the folder was moved, all of them are missing
MAX_FOLDERS = 2_000  # folders to look for


def with_images(screen: Screen, folder: Path) -> Screen:
    """Return a screen whose images are read from another folder.

    Args:
        screen: The screen as indexed.
        folder: Replaces the indexed folder; the paths below it are unchanged.

    Raises:
        ScreenError: The folder has none of the images.
    """
    metadata = screen.metadata.model_copy(update={"source": str(folder.resolve())})
    moved = replace(screen, metadata=metadata)
    names = _sample(moved)
    if not names or any((folder / name).exists() for name in names):
        return moved
    reason = f"there is no {folder / names[0]}" if folder.is_dir() else f"there is no folder {folder}"
    raise ScreenError(
        f"--images {folder} has none of the images of {_screen_name(screen)}: {reason}. "
        f"{_suggest_folder(folder, names[0])}"
    )


def check_images(screen: Screen) -> str:
    """Check that the images are still where they were indexed.

    Args:
        screen: A screen; a remote one or one without images is not checked.

    Returns:
        A sentence about missing folders; "" if there are none.

    Raises:
        ScreenError: All images are missing.
    """
    source = screen.source
    names = _sample(screen)
    if not names or not isinstance(source, Path):
        return ""
    if not any((source / name).exists() for name in names):
        missing = f"{names[0]} and {len(names) - 1} other sampled files are not in {source}"
        raise ScreenError(
            f"The images of {_screen_name(screen)} are missing: "
            f"{missing if source.is_dir() else f'the folder {source} does not exist'}. If they were moved, add "
            f"`--images FOLDER`, with the folder that now holds {names[0]}."
        )
    folders = _folders(screen)
    missing_folders = [name for name in folders if not (source / name).is_dir()]
    if not missing_folders:
        return ""
    return (
        f"{len(missing_folders)} of {len(folders)} image folders of {_screen_name(screen)} are missing, such as "
        f"{source / missing_folders[0]}. Their sites cannot be read. Put them back, or "
        "index the screen again without them."
    )


def _screen_name(screen: Screen) -> str:
    return f"the screen {screen.folder}" if screen.folder else "the screen"


def _paths(screen: Screen, k: int) -> list[str]:
    return [str(name) for name in screen.sites[f"path_{k}"] if str(name)] if f"path_{k}" in screen.sites else []


def _sample(screen: Screen) -> list[str]:
    """Return files of the first channel, spread evenly over the screen."""
    names = _paths(screen, 1)
    indices = np.linspace(0, len(names) - 1, min(SAMPLE_SIZE, len(names))).astype(int)
    return [names[k] for k in dict.fromkeys(indices.tolist())]


def _folders(screen: Screen) -> list[str]:
    """Return folders of images, at most `MAX_FOLDERS`, spread evenly."""
    channels = range(1, len(screen.metadata.channels) + 1)
    names = list(dict.fromkeys(name.rpartition("/")[0] for k in channels for name in _paths(screen, k)))
    indices = np.linspace(0, len(names) - 1, min(MAX_FOLDERS, len(names))).astype(int)
    return [names[k] for k in dict.fromkeys(indices.tolist())]


def _suggest_folder(folder: Path, name: str) -> str:
    """Suggest the right folder by the parts of the path."""
    path = PurePosixPath(name)
    for depth in range(1, len(path.parts)):
        rest = PurePosixPath(*path.parts[depth:])
        if (folder / rest).exists() and folder.parts[-depth:] == path.parts[:depth]:
            return f"Did you mean `--images {folder.parents[depth - 1]}`?"
    if folder.is_dir():
        for child in sorted(folder.iterdir()):
            if (child / name).exists():
                return f"Did you mean `--images {child}`?"
    return f"Name the folder that holds {name}."
