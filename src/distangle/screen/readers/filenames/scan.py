"""List the folders of a source without opening files or following loops."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from distangle.core.remote import AnyPath, RemotePath
from distangle.core.unicode_names import normalize_name
from distangle.errors import RemoteError
from distangle.screen.problems import Problem

IMAGE_EXTENSIONS = re.compile(r"[^.].*\.(png|tiff?|jpe?g|jp2|bmp)", re.IGNORECASE | re.DOTALL)
"""File names of images."""

NAME_NOT_RECOGNIZED = "name not recognized"
_MAX_DEPTH = 12


def scan(source: AnyPath, folder: str, warnings: list[Problem], *, may_lack: bool = False) -> list[tuple[str, bool]]:
    """Return the sorted names in a folder, each with whether it is a folder.

    Args:
        source: The folder that `folder` is relative to.
        folder: "" for the source itself.
        warnings: Receives a warning if the folder is unreadable.
        may_lack: Do not warn about a missing folder.
    """
    try:
        if isinstance(source, RemotePath):
            return (source / folder).listing()
        with os.scandir(source / folder) as listing:
            return sorted((item.name, _is_folder(item)) for item in listing)
    except OSError as error:
        if not (may_lack and isinstance(error, FileNotFoundError)):
            warnings.append(
                Problem(
                    severity="warning",
                    kind="folder not listed",
                    file=folder or ".",
                    found=str(error) if isinstance(error, RemoteError) else error.strerror or str(error),
                    expected="a folder that can be read",
                    fix="Correct its permissions or the link, and index again.",
                )
            )
        return []


def folders_below(
    source: AnyPath, warnings: list[Problem], *, max_depth: int = _MAX_DEPTH, skip: Collection[str] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder of a source with the names of its files, from the top down.

    Args:
        source: The first folder, yielded as "".
        warnings: Receives warnings about unreadable folders.
        max_depth: Maximum depth below the source.
        skip: Lower-case names of folders to skip; hidden folders and `.zarr` are always skipped.
    """
    stack = [("", 0)]
    visited: set[tuple[int, int]] = set()
    while stack:
        folder, depth = stack.pop()
        if _is_visited(source, folder, visited):
            continue
        items = scan(source, folder, warnings)
        yield folder, [name for name, is_folder in items if not is_folder]
        subfolders = [name for name, is_folder in items if is_folder and not name.startswith(".")]
        if depth == max_depth and subfolders:
            warnings.append(_depth_warning(folder))
            continue
        for name in reversed(subfolders):
            if not name.isprintable():
                warnings.append(unmatched_names(f"{folder}/{name}".lstrip("/"), name, "a printable name"))
            elif not (name.lower().endswith(".zarr") or name.lower() in skip):
                stack.append((f"{folder}/{name}".lstrip("/"), depth + 1))


def unnamed_images(source: AnyPath, named_files: Mapping[str, Collection[str]]) -> list[Problem]:
    """Return a warning for every folder with images that are in no table row.

    Args:
        source: The source; for a URL only folders in table rows are listed.
        named_files: File names in table rows, by folder.
    """
    folders: Iterable[tuple[str, list[str]]]
    if isinstance(source, RemotePath):
        folders = ((folder, [name for name, _ in scan(source, folder, [])]) for folder in sorted(named_files))
    else:
        folders = folders_below(source, [])
    normalized: dict[str, set[str]] = {}
    for folder, row_files in named_files.items():
        normalized.setdefault(normalize_name(folder), set()).update(map(normalize_name, row_files))
    problems = []
    for folder, names in folders:
        # Files of an unreadable folder are refused one by one when they are probed.
        row_names = normalized.get(normalize_name(folder), set())
        unnamed = sorted(
            {name for name in names if IMAGE_EXTENSIONS.fullmatch(name) and normalize_name(name) not in row_names}
        )
        if unnamed:
            problems.append(
                Problem(
                    severity="warning",
                    kind="images without a table row",
                    file=folder or ".",
                    found=", ".join(unnamed[:5]) + (", ..." if len(unnamed) > 5 else ""),
                    expected="a row for every image",
                    fix="Add their rows if they belong to the screen.",
                    count=len(unnamed),
                )
            )
    return sorted(problems, key=lambda problem: problem.file)


def unmatched_names(path: str, name: str, expected: str, *, count: int = 1) -> Problem:
    """Return the warning about a name that is not recognized."""
    return Problem(
        severity="warning",
        kind=NAME_NOT_RECOGNIZED,
        file=path,
        found=name,
        expected=expected,
        fix="Rename it if it belongs to the screen.",
        count=count,
    )


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:
        return True  # a link to itself: listing it reports the error


def _is_visited(source: AnyPath, folder: str, visited: set[tuple[int, int]]) -> bool:
    if not isinstance(source, Path):
        return False
    try:
        status = (source / folder).stat()
    except OSError:
        return False  # listing it reports the error
    identity = (status.st_dev, status.st_ino)
    is_visited = identity in visited
    visited.add(identity)
    return is_visited


def _depth_warning(folder: str) -> Problem:
    return Problem(
        severity="warning",
        kind="folder not listed",
        file=folder,
        found=f"folders more than {_MAX_DEPTH} deep",
        expected="images at a smaller depth",
        fix="Name a folder closer to the images as source.",
    )
