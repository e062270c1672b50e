"""Screens of wells without images, written as a laboratory's table and indexed for real."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distangle.screen import Screen, index, well_name

HEADER = ("experiment", "plate", "well", "perturbation", "role")
Row = tuple[str, str, str, str, str]
NEGATIVE, POSITIVE = ("B02", "C07", "F05", "M20"), ("B03", "D11", "L08", "O23")


def plate_rows(
    experiment: str,
    plate: str,
    *,
    move: Callable[[int, int], tuple[int, int]] | None = None,
    seed: int = 0,
    size: tuple[int, int] = (16, 24),
) -> list[Row]:
    """The inner wells of a plate: controls in fixed wells, treatments dealt out anew on every plate."""
    rows: list[Row] = []
    for row in range(1, size[0] - 1):
        for column in range(1, size[1] - 1):
            name = well_name(row, column)
            label, role = f"t{(row * 22 + column + 37 * seed) % 300}", "treatment"
            if name in NEGATIVE:
                label, role = "DMSO", "negative_control"
            elif name in POSITIVE:
                label, role = "taxol", "positive_control"
            position = (row, column) if move is None else move(row, column)
            well = (
                well_name(*position)
                if min(position) >= 0
                else f"{'ABCDEFGHIJKLMNOPQRSTUVWX'[position[0]]}{position[1] + 1:02d}"
            )
            rows.append((experiment, plate, well, label, role))
    return rows


def write_table(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return path


def index_plates(
    folder: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER, **index_options: object
) -> Screen:
    mapping: Mapping[str, str] = {name: name for name in header if name in (*HEADER, "site", "split", "cell_type")}
    options = {"layout": "table", "tables_only": True, "mapping": mapping, **index_options}
    return index(write_table(folder / "wells.csv", rows, header), **options)  # type: ignore[arg-type]
