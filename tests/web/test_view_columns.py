"""Columns of a table that have the names of the viewer's own."""

from collections.abc import Callable
from pathlib import Path

from distangle.screen import index, write_screen
from distangle.web.index import build_index
from distangle.web.source import open_source


def test_a_column_with_a_name_of_the_viewer_is_shown_beside_it(lab_table: Callable[..., Path], tmp_path: Path) -> None:
    rows = [("experiment", "plate", "well", "perturbation", "name", "n_sites", "DNA")]
    rows += [
        ("E1", "1", f"B{k:02d}", "DMSO", "left" if k < 5 else "right", "7", f"images/{k}.tif") for k in range(2, 9)
    ]
    table = lab_table(rows)
    write_screen(index(table, layout="table", channels=("DNA",)), tmp_path / "screen")
    wells = build_index(open_source(tmp_path / "screen")).plate_table()["wells"]["columns"]
    assert wells["n_sites"]["values"] == [1] * 7
    assert wells["source_n_sites"]["values"] == [7] * 7
    assert wells["name"]["levels"] == [f"B{k:02d}" for k in range(2, 9)]
    assert wells["source_name"]["levels"] == ["left", "right"]
