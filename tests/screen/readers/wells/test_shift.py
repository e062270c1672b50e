"""Plate maps that are shifted or transposed against the images."""

from pathlib import Path

import pytest

from distangle.errors import ScreenError
from distangle.screen import conservation_line
from distangle.screen.readers.wells.shift import detect_shift
from image_folders import WELLS, index_folder, index_with_wells, put, sites_of


def test_a_turned_or_shifted_table_is_told_how_to_mend_it(tmp_path: Path) -> None:
    put(tmp_path, sites_of("B03", "B04", "C07"))
    with pytest.raises(ScreenError, match="match with rows and columns swapped"):
        index_with_wells(tmp_path, WELLS + "C02,x,,\nD02,y,,\nG03,z,,\n")
    with pytest.raises(ScreenError, match="plate map were shifted by 1 row on and 2 columns back"):
        index_with_wells(tmp_path, WELLS + "A05,x,,\nA06,y,,\nB09,z,,\n")


def test_moves_are_suggested_only_where_they_make_all_wells_meet() -> None:
    image_wells = {(1, 2), (1, 3), (5, 6)}
    assert not detect_shift(image_wells, image_wells | {(0, 0)})
    assert not detect_shift(image_wells, {(2, 1), (3, 1), (0, 0)})
    shift = detect_shift(image_wells, {(row + 1, column) for row, column in image_wells})
    assert shift.advice.endswith("shifted by 1 row back: correct it.")
    assert not shift.is_certain  # three wells may meet by chance
    assert not detect_shift({(0, 1)}, {(1, 0)})


def test_wells_that_meet_the_rows_of_their_neighbors_are_refused_with_the_plate(tmp_path: Path) -> None:
    wells = [(row, column) for row in "ABC" for column in range(1, 5)]
    put(tmp_path, sites_of(*(f"{row}{column:02d}" for row, column in wells)))
    put(tmp_path, sites_of("A01", "B07", below="p2"))
    rows = [f"p1,{row}{column + 2:02d},{row}{column}" for row, column in wells]
    table = tmp_path / "wells.csv"
    table.write_text("\n".join(["plate,well,perturbation", *rows, "p2,A01,x", "p2,B07,y", ""]))
    screen = index_folder(tmp_path, tables=table)
    assert screen.sites[["plate", "well", "perturbation"]].to_numpy().tolist() == [
        ["p2", "A01", "x"],
        ["p2", "B07", "y"],
    ]
    warnings = screen.problems[screen.problems["kind"] == "plate map shifted"]
    assert sorted(warnings["well"]) == [f"{row}0{column}" for row in "ABC" for column in (3, 4)]
    assert warnings["found"].tolist()[0] == "'A1' in wells.csv line 2"
    assert set(warnings["fix"]) == {
        "All wells would match if the plate map were shifted by 2 columns back: correct it."
    }
    assert conservation_line(screen) == "found 20 = indexed 2 + refused 18"
    # With an extra well in the table the shift is only advice: images may be missing.
    table.write_text(table.read_text() + "p1,H12,z\n")
    assert len(index_folder(tmp_path, tables=table).sites) == 2 + 6


@pytest.mark.parametrize("more", [0, 1])
def test_a_move_is_certain_where_every_row_and_every_well_meets(more: int) -> None:
    image_wells = {(1, 2), (1, 3), (5, 6), (6, 6)}
    table_wells = {(row, column + 1) for row, column in image_wells} | {(9, k) for k in range(more)}
    assert detect_shift(image_wells, table_wells).is_certain is (more == 0)
    transposed = {(column, row) for row, column in image_wells} | {(9, k) for k in range(more)}
    assert detect_shift(image_wells, transposed).is_certain is (more == 0)
