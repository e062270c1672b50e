"""A folder in the layout of RxRx1, made of a few bytes."""

import csv
from collections.abc import Sequence
from pathlib import Path


class RxRx1Lab:
    def __init__(self, root: Path) -> None:
        self.root = root

    def table(self, name: str, rows: Sequence[tuple[str, ...]]) -> None:
        header = ("id_code", "experiment", "plate", "well", "sirna", "well_type")[: len(rows[0]) + 1]
        self.write(name, [header, *[("_".join(row[:3]), *row) for row in rows]])

    def write(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / name).open("w", newline="", encoding="utf-8") as opened:
            csv.writer(opened, lineterminator="\n").writerows(rows)

    def site(self, folder: str, well: str, site: int, channels: Sequence[int] = (1, 2, 3, 4, 5, 6)) -> None:
        place = self.root / folder
        place.mkdir(parents=True, exist_ok=True)
        for channel in channels:
            name = f"{well}_s{site}_w{channel}.png"
            (place / name).write_text(f"{folder}/{name}", encoding="utf-8")
