"""A folder in the layout of RxRx1, made of a few bytes."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from distangle.screen import Screen, index

PLATE = "train/HUVEC-01/Plate1"


class RxRx1Lab:
    """Tables and images of RxRx1, written one by one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def table(self, name: str, rows: Sequence[tuple[str, ...]]) -> None:
        header = ("id_code", "experiment", "plate", "well", "sirna", "well_type")[: len(rows[0]) + 1]
        self.write(name, [header, *[("_".join(row[:3]), *row) for row in rows]])

    def write(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    def site(self, folder: str, well: str, site: int, channels: Sequence[int] = (1, 2, 3, 4, 5, 6)) -> None:
        place = self.root / folder
        place.mkdir(parents=True, exist_ok=True)
        for channel in channels:
            name = f"{well}_s{site}_w{channel}.png"
            (place / name).write_text(f"{folder}/{name}", encoding="utf-8")


def index_lab(lab: RxRx1Lab, **options: object) -> Screen:
    return index(lab.root, layout="rxrx1", **options)  # type: ignore[arg-type]


def problem(screen: Screen, kind: str) -> pd.Series:
    """Return the only problem of a kind."""
    entries = screen.problems[screen.problems["kind"] == kind]
    assert len(entries) == 1, screen.problems["kind"].tolist()
    return entries.iloc[0]
