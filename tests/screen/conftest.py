import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rxrx1_lab import RxRx1Lab


@pytest.fixture
def rxrx1(tmp_path: Path) -> RxRx1Lab:
    """A folder as Kaggle gives it: two wells of treatments and a control, two sites each."""
    lab = RxRx1Lab(tmp_path / "rxrx1")
    lab.table("train.csv", [("HUVEC-01", "1", "B03", "sirna_2"), ("HUVEC-01", "1", "B04", "sirna_10")])
    lab.table("train_controls.csv", [("HUVEC-01", "1", "B02", "UNTREATED", "negative_control")])
    for well in ("B02", "B03", "B04"):
        for site in (1, 2):
            lab.site("train/HUVEC-01/Plate1", well, site)
    return lab


@pytest.fixture
def lab_table(tmp_path: Path) -> Callable[..., Path]:
    """Write a table of text and every file below `images/` that it names; return the table's path."""

    def write(rows: Sequence[Sequence[str]], *, delimiter: str = ",", name: str = "wells.csv") -> Path:
        table = tmp_path / "lab" / name
        table.parent.mkdir(parents=True, exist_ok=True)
        with table.open("w", newline="", encoding="utf-8") as opened:
            csv.writer(opened, delimiter=delimiter, lineterminator="\n").writerows(rows)
        for row in rows[1:]:
            for value in row:
                if value.startswith("images/"):
                    path = table.parent / value
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(value, encoding="utf-8")
        return table

    return write
