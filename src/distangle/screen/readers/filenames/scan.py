"""List the folders of a source: names only, no file opened, no circular link."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from distangle.core.remote import AnyPath, RemotePath
from distangle.core.unicode_names import normalize_name
from distangle.errors import RemoteError
from distangle.screen.problems import Problem

IMAGE_EXTENSIONS = re.compile(r"[^.].*\.(png|tiff?|jpe?g|jp2|bmp)", re.IGNORECASE | re.DOTALL)
"""Names that look like images."""

NOT_UNDERSTOOD = "name not understood"
_DEEPEST = 12


def scan(source: AnyPath, folder: str, remarks: list[Problem], *, may_lack: bool = False) -> list[tuple[str, bool]]:
    """Return sorted names in a folder and which are folders; report unreadable ones.

    Args:
        source: The folder that `folder` is relative to.
        folder: "" for the source itself.
        remarks: Where a remark is added.
        may_lack: An absent folder is no remark.
    """
    try:
        if isinstance(source, RemotePath):
            return (source / folder).listing()
        with os.scandir(source / folder) as listing:
            return sorted((item.name, _is_folder(item)) for item in listing)
    except OSError as error:
        if not (may_lack and isinstance(error, FileNotFoundError)):
            remarks.append(
                Problem(
                    severity="warning",
                    kind="folder not listed",
                    file=folder or ".",
                    found=str(error) if isinstance(error, RemoteError) else error.strerror or str(error),
                    expected="a folder that can be read",
                    fix="Mend its permissions or the link, and index again.",
                )
            )
        return []


def folders_below(
    source: AnyPath, remarks: list[Problem], *, deepest: int = _DEEPEST, closed: Collection[str] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Give every folder of a source with the names of its files, from the top down.

    Args:
        source: The folder to begin with, which is given as "".
        remarks: Where remarks on folders that cannot be listed are added.
        deepest: How many folders below each other are entered.
        closed: Names of folders, in small letters, that are not entered, as hidden ones and `.zarr` are not.
    """
    waiting = [("", 0)]
    seen: set[tuple[int, int]] = set()
    while waiting:
        folder, depth = waiting.pop()
        if _was_seen(source, folder, seen):
            continue
        items = scan(source, folder, remarks)
        yield folder, [name for name, is_folder in items if not is_folder]
        below = [name for name, is_folder in items if is_folder and not name.startswith(".")]
        if depth == deepest and below:
            remarks.append(_too_deep(folder))
            continue
        for name in reversed(below):
            if not name.isprintable():
                remarks.append(unmatched_names(f"{folder}/{name}".lstrip("/"), name, "a printable name"))
            elif not (name.lower().endswith(".zarr") or name.lower() in closed):
                waiting.append((f"{folder}/{name}".lstrip("/"), depth + 1))


def unnamed_images(source: AnyPath, named: Mapping[str, Collection[str]]) -> list[Problem]:
    """Return a warning for every folder with images that no row of a table names.

    Args:
        source: Behind a URL only the folders that rows name are looked into.
        named: Folder to the names of its files that rows name.
    """
    folders: Iterable[tuple[str, list[str]]]
    if isinstance(source, RemotePath):
        folders = ((folder, [name for name, _ in scan(source, folder, [])]) for folder in sorted(named))
    else:
        folders = folders_below(source, [])
    spelled: dict[str, set[str]] = {}
    for folder, rows in named.items():
        spelled.setdefault(normalize_name(folder), set()).update(map(normalize_name, rows))
    problems = []
    for folder, names in folders:
        # Each file of a folder that cannot be listed is refused by name when it is looked at.
        known = spelled.get(normalize_name(folder), set())
        others = sorted(
            {name for name in names if IMAGE_EXTENSIONS.fullmatch(name) and normalize_name(name) not in known}
        )
        if others:
            problems.append(
                Problem(
                    severity="warning",
                    kind="images that no row names",
                    file=folder or ".",
                    found=", ".join(others[:5]) + (", ..." if len(others) > 5 else ""),
                    expected="a row for every image",
                    fix="Add their rows if they belong to the screen.",
                    count=len(others),
                )
            )
    return sorted(problems, key=lambda problem: problem.file)


def unmatched_names(path: str, name: str, expected: str, *, count: int = 1) -> Problem:
    """Return the remark on a name that does not say what it is."""
    return Problem(
        severity="warning",
        kind=NOT_UNDERSTOOD,
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
        return True  # a link to itself: listing it says so


def _was_seen(source: AnyPath, folder: str, seen: set[tuple[int, int]]) -> bool:
    if not isinstance(source, Path):
        return False
    try:
        found = (source / folder).stat()
    except OSError:
        return False  # listing it says why
    mark = (found.st_dev, found.st_ino)
    was_seen = mark in seen
    seen.add(mark)
    return was_seen


def _too_deep(folder: str) -> Problem:
    return Problem(
        severity="warning",
        kind="folder not listed",
        file=folder,
        found=f"folders more than {_DEEPEST} deep",
        expected="images nearer to the source",
        fix="Name a folder nearer to the images as source.",
    )
