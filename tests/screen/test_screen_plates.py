import pytest
from hypothesis import given
from hypothesis import strategies as st

from distangle.errors import ScreenError
from distangle.screen import parse_well, smallest_plate, well_name
from distangle.screen.plates import PlateTransform, location_name


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("A1", (0, 0)),
        ("a01", (0, 0)),
        ("P24", (15, 23)),
        ("B003", (1, 2)),
        (" C4 ", (2, 3)),
        ("O23", (14, 22)),
        ("r02c03", (1, 2)),
        ("R16C24", (15, 23)),
    ],
)
def test_a_well_has_one_position_however_it_is_spelled(name: str, position: tuple[int, int]) -> None:
    assert parse_well(name, rows=16, columns=24) == position


def test_double_letters_follow_z() -> None:
    assert parse_well("Z48", rows=32, columns=48) == (25, 47)
    assert parse_well("AA01", rows=32, columns=48) == (26, 0)
    assert parse_well("af48", rows=32, columns=48) == (31, 47)
    assert well_name(26, 6) == "AA07"


@given(st.integers(0, 27 * 26 - 1), st.integers(0, 999))
def test_names_and_positions_are_inverse(row: int, column: int) -> None:
    assert parse_well(well_name(row, column), rows=702, columns=1000) == (row, column)


@pytest.mark.parametrize(
    "name", ["", "B", "03", "B0", "B00", "03B", "Q01", "A25", "AA01", "B-3", "B3.0", "r0c1", "r1c0", "r1", "Ä1", "A١"]
)
def test_what_is_no_well_of_a_384_plate_is_named_with_what_would_be(name: str) -> None:
    with pytest.raises(ScreenError) as error:
        parse_well(name, rows=16, columns=24)
    assert str(error.value).startswith(f"No well {name!r} on a plate of 16 x 24 wells.")
    assert "from 'A01' to 'P24'" in str(error.value)


def test_a_negative_position_has_no_name() -> None:
    with pytest.raises(ScreenError, match="No well at row -1, column 0"):
        well_name(-1, 0)


def test_the_smallest_standard_plate_is_chosen_and_the_largest_when_none_is_large_enough() -> None:
    assert smallest_plate(1, 1) == (2, 3)
    assert smallest_plate(8, 12) == (8, 12)
    assert smallest_plate(8, 13) == (16, 24)
    assert smallest_plate(17, 24) == (32, 48)
    assert smallest_plate(40, 1) == (32, 48)


def test_a_place_is_written_as_far_as_it_is_known() -> None:
    assert location_name("HUVEC-01", "2", "B03", 0) == "HUVEC-01 plate 2 well B03 site 0"
    assert location_name("HUVEC-01", "2", "B03") == "HUVEC-01 plate 2 well B03"
    assert location_name("HUVEC-01", "2") == "HUVEC-01 plate 2"


def test_a_transform_transposes_then_rotates_then_shifts() -> None:
    transform = PlateTransform(transposed=True, rotated=True, rows=1, columns=-2)
    assert transform.apply_to_set({(0, 3), (1, 2)}, (8, 12)) == {(8 - 1 - 3 + 1, 12 - 1 - 0 - 2), (6, 8)}
    assert PlateTransform(rotated=True, size=(4, 6)).apply_to_set({(0, 0)}, (8, 12)) == {(3, 5)}
    assert PlateTransform().apply_to_set(set()) == set()
