"""Folders of image files, and their screens with or without a table of wells."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from distangle.screen import Screen, index

PLAIN = "{well}_s{site}_w{channel}.tif"


def put(folder: Path, names: Iterable[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return folder


def sites_of(*wells: str, sites: Iterable[int] = (1,), channels: str = "12", below: str = "p1") -> list[str]:
    return [f"{below}/{well}_s{site}_w{c}.tif" for well in wells for site in sites for c in channels]


def index_folder(folder: Path, *, pattern: str | None = PLAIN, **options: Any) -> Screen:
    return index(folder, layout="folder", pattern=pattern, **options)


def refusals(screen: Screen) -> list[tuple[str, str]]:
    rows = screen.problems[screen.problems["severity"] == "refused"]
    return list(zip(rows["kind"], rows["well"], strict=True))


WELLS = "well,perturbation,role,dose\n"


def index_with_wells(folder: Path, text: str, **options: Any) -> Screen:
    table = folder / "wells.csv"
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    return index_folder(folder, tables=table, **options)
