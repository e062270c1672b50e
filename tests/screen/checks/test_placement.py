from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from check_plates import index_plates, plate_rows
from distangle.errors import ScreenError
from distangle.screen.checks.placement import CORRECTIONS, check_placement


def shift(rows: int, columns: int) -> Callable[[int, int], tuple[int, int]]:
    return lambda row, column: (row + rows, column + columns)


def transpose(row: int, column: int) -> tuple[int, int]:
    return column, row


MOVED = {
    "swap rows and columns": transpose,
    "rotate the plate by 180 degrees": lambda row, column: (15 - row, 23 - column),
    "shift columns by -1": shift(0, 1),
    "shift rows by +1": shift(-1, 0),
    "shift rows by -1 and columns by +1": shift(1, -1),
}


@pytest.mark.parametrize("direction", MOVED)
def test_one_plate_of_four_that_lies_wrong_is_named_with_what_puts_it_right(tmp_path: Path, direction: str) -> None:
    rows = [row for k in (1, 2, 4) for row in plate_rows("E1", str(k), seed=k)]
    screen = index_plates(tmp_path, [*rows, *plate_rows("E1", "3", seed=3, move=MOVED[direction])])
    (finding,) = check_placement(screen)
    assert (finding.severity, finding.kind, finding.experiment, finding.plate) == (
        "error",
        "plate lies wrong",
        "E1",
        "3",
    )
    assert f"0 are not when you {direction}" in finding.what
    assert f"If this is right, {direction} in its table" in finding.fix


def test_a_plate_of_96_wells_that_was_put_in_the_wrong_way_round_is_named(tmp_path: Path) -> None:
    # Empty corner wells on every plate show the orientation of a plate.
    wells = {k: plate_rows("E1", str(k), seed=k, size=(8, 12)) for k in range(1, 5)}
    rows_in_place = [row for k in (1, 2, 4) for row in wells[k][7:]]
    rotated = plate_rows("E1", "3", seed=3, size=(8, 12), move=lambda row, column: (7 - row, 11 - column))[7:]
    for options in ({}, {"plate_rows": 8, "plate_columns": 12}):
        (finding,) = check_placement(index_plates(tmp_path, [*rows_in_place, *rotated], **options))
        assert (finding.severity, finding.plate) == ("error", "3")
        plate = "the plate" if options else "the plate of 8 x 12 wells"
        assert f"0 are not when you rotate {plate} by 180 degrees" in finding.what
        assert "(B02 becomes G11)" in finding.fix


def test_one_of_two_plates_of_96_wells_with_rows_and_columns_exchanged_is_named(tmp_path: Path) -> None:
    straight = plate_rows("E1", "1", size=(8, 12))
    (finding,) = check_placement(
        index_plates(tmp_path, [*straight, *plate_rows("E1", "2", size=(8, 12), move=transpose)])
    )
    assert (finding.severity, finding.plate) == ("warning", "2")
    assert "on a plate of 8 x 12 wells; 0 are not when you swap rows and columns" in finding.what


def fixed_layout(plate: str, name_of: Callable[[int, int], str]) -> list[tuple[str, str, str, str, str]]:
    return [
        ("E1", plate, f"{'ABCDEFGH'[row]}{column + 1:02d}", name_of(row, column), "treatment")
        for row in range(8)
        for column in range(12)
    ]


def test_a_plate_that_no_move_makes_like_the_others_is_warned_of_and_a_second_design_noted(tmp_path: Path) -> None:
    usual = [row for k in range(5) for row in fixed_layout(str(k), lambda r, c: f"t{12 * r + c}")]
    mirrored = fixed_layout("5", lambda r, c: f"t{12 * r + 11 - c}")
    (finding,) = check_placement(index_plates(tmp_path, [*usual, *mirrored]))
    assert (finding.severity, finding.kind, finding.plate) == ("warning", "plate unlike the others", "5")
    assert "check for a mirrored table or that of another plate" in finding.fix
    designs = [row for k in range(5, 8) for row in fixed_layout(str(k), lambda r, c: f"u{12 * r + c}")]
    notes = check_placement(index_plates(tmp_path, [*usual, *designs]))
    assert [(note.severity, note.plate) for note in notes] == [("note", "5"), ("note", "6"), ("note", "7")]


def test_the_fix_gives_the_first_well_before_and_after(tmp_path: Path) -> None:
    rows = [row for k in (1, 2, 4) for row in plate_rows("E1", str(k), seed=k)]
    screen = index_plates(tmp_path, [*rows, *plate_rows("E1", "3", move=shift(0, 1))])
    assert "(B03 becomes B02)" in check_placement(screen)[0].fix


def test_a_whole_screen_with_rows_and_columns_exchanged_is_seen_by_wells_that_the_plate_has_not(tmp_path: Path) -> None:
    rows = [row for k in range(3) for row in plate_rows("E1", str(k), seed=k, move=transpose)]
    for options in ({}, {"plate_rows": 16, "plate_columns": 24}):
        findings = check_placement(index_plates(tmp_path, rows, **options))
        assert [finding.plate for finding in findings] == ["0", "1", "2"]
        assert all(finding.severity == "warning" for finding in findings)  # nothing to compare with
        assert "0 are not when you swap rows and columns" in findings[0].what


def test_a_single_plate_counted_from_zero_is_seen(tmp_path: Path) -> None:
    rows = plate_rows("E1", "1", move=shift(0, -2))
    assert any(row[2] == "B00" for row in rows)
    with pytest.raises(ScreenError, match=r"wells.csv, line 2, has the well 'B0', column 0.*use --well-base 0"):
        index_plates(tmp_path, rows)
    (finding,) = check_placement(index_plates(tmp_path, rows, well_base=1))
    assert "14 wells are not on a plate of 16 x 24 wells; 0 are not when you count its columns from 0" in finding.what
    assert "it counts from 0 (B01 becomes B02): index again with --well-base 0" in finding.fix
    assert check_placement(index_plates(tmp_path, rows, well_base=0)) == []


def test_a_small_plate_counted_from_zero_is_not_to_be_turned(tmp_path: Path) -> None:
    # Turned by 180 degrees as a plate of 8 x 12, wells of column 0 would lie on a plate of 16 x 24 too.
    rows = [("E1", "1", f"{letter}{column:02d}", "t", "treatment") for letter in "ABCDEFGH" for column in range(12)]
    (finding,) = check_placement(index_plates(tmp_path, rows, well_base="1"))
    assert "index again with --well-base 0" in finding.fix
    assert "rotate" not in finding.what + finding.fix


def test_rows_and_columns_from_zero_in_figures_are_told_apart_from_a_turned_plate(tmp_path: Path) -> None:
    header = ("experiment", "plate", "Row", "Column", "perturbation", "role")
    rows = [("E1", "1", str(row), str(column), "t", "treatment") for row in range(8) for column in range(12)]
    columns = {name: name for name in ("experiment", "plate", "perturbation", "role")}
    screen = index_plates(tmp_path, rows, header, mapping=columns, well_base=1)
    (finding,) = check_placement(screen)
    assert "0 are not when you count its rows and columns from 0" in finding.what
    assert "it counts from 0 (A01 becomes B02): index again with --well-base 0" in finding.fix


def test_one_plate_of_four_that_counts_from_zero_is_named(tmp_path: Path) -> None:
    rows = [row for k in (1, 2, 4) for row in plate_rows("E1", str(k), seed=k)]
    screen = index_plates(tmp_path, [*rows, *plate_rows("E1", "3", seed=3, move=shift(-1, -1))])
    (finding,) = check_placement(screen)
    assert (finding.severity, finding.plate) == ("error", "3")
    assert "--well-base 0" in finding.fix


def test_fifty_clean_layouts_raise_no_alarm(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for draw in range(50):
        rows = []
        for plate in range(int(rng.integers(1, 6))):
            wells = plate_rows("E", str(plate), seed=int(rng.integers(100)), size=(8, 12))
            if draw % 2:  # the controls lie elsewhere on every plate
                order = rng.permutation(len(wells))
                wells = [(*wells[k][:3], *wells[order[k]][3:]) for k in range(len(wells))]
            has_label = rng.random(len(wells)) > draw / 100  # up to half of the wells failed
            rows += [well for well, is_labelled in zip(wells, has_label, strict=True) if is_labelled]
        assert check_placement(index_plates(tmp_path, rows, plate_rows=8, plate_columns=12)) == [], draw


def test_a_few_slips_of_the_pen_are_no_plate_that_lies_wrong(tmp_path: Path) -> None:
    rows = [row for k in range(3) for row in plate_rows("E1", str(k), seed=k)]
    rows[5] = ("E1", "0", "Q30", "t1", "treatment")
    assert check_placement(index_plates(tmp_path, rows, plate_rows=16, plate_columns=24)) == []


def test_every_move_is_undone_by_another(tmp_path: Path) -> None:
    wells = np.array([[3, 4], [7, 20]])
    for correction in CORRECTIONS:
        shifted = correction.transform.apply(wells, (16, 24))
        back = [other.transform.apply(shifted, (16, 24)) for other in CORRECTIONS]
        assert any((other == wells).all() for other in back), correction
