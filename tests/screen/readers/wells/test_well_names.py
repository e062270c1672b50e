"""Wells written as letters, digits or numbers: one reading per plate, or a refusal."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from distangle.errors import ScreenError
from distangle.screen import Screen, conservation_line, index
from distangle.screen.readers.wells.numbering import Numbering, possible_numberings, prefer_whole_plates
from distangle.screen.readers.wells.spelling import spelling_of

NAME = "{well}_s{site}.tif"


def put(folder: Path, *wells: str, below: str = "P1") -> None:
    for well in wells:
        path = folder / below / f"{well}_s1.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{below}{well}", encoding="utf-8")


def index_folder(folder: Path, rows: str | None = None, **options: Any) -> Screen:
    """Index a folder with a table of `well,perturbation`, or with `plate` before them."""
    if rows is not None:
        head = "plate,well,perturbation\n" if rows.startswith(("P1,", "P2,")) else "well,perturbation\n"
        (folder / "wells.csv").write_text(head + rows.replace(" ", "\n") + "\n")
        options["tables"] = folder / "wells.csv"
    return index(folder, layout="folder", **{"pattern": NAME, "channels": ["DNA"], **options})


def meant(screen: Screen) -> dict[str, tuple[str, str]]:
    names = screen.sites["path_1"].str.removesuffix("_s1.tif")
    return dict(zip(names, zip(screen.sites["well"], screen.sites["perturbation"], strict=True), strict=True))


def error_of(folder: Path, rows: str | None = None, **options: Any) -> str:
    with pytest.raises(ScreenError) as error:
        index_folder(folder, rows, **options)
    return str(error.value)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        *[("A-01", "A01"), ("B_2", "B02"), ("h 12", "H12"), ("C 3", "C03"), ("Well D4", "D04"), ("well_P24", "P24")],
        *[("R2C7", "B07"), ("r02c07", "B07"), ("row 3 col 11", "C11"), ("Row16_Column24", "P24"), ("r27c48", "AA48")],
        *[("AA01", "AA01"), ("aa1", "AA01"), ("AF48", "AF48")],
    ],
)
def test_one_well_has_one_name_however_images_and_table_write_it(tmp_path: Path, spelling: str, name: str) -> None:
    put(tmp_path, spelling)
    assert meant(index_folder(tmp_path, f"{name},x")) == {f"P1/{spelling}": (name, "x")}
    plain = tmp_path / "plain"
    put(plain, name)
    (plain / "wells.csv").write_text(f"well,perturbation\n{spelling},x\n")
    assert meant(index_folder(plain, tables=plain / "wells.csv")) == {f"P1/{name}": (name, "x")}


@pytest.mark.parametrize("name", ["", "B", "1A", "A01B", "B3.0", "A:B", "Ä1", "A١", "A012345", "-3", "2-7", "1E05"])
def test_what_is_no_well_has_no_spelling(name: str) -> None:
    assert spelling_of(name) is None


def test_small_letters_beside_all_of_a_to_z_are_rows_27_to_32(tmp_path: Path) -> None:
    wells = ["A01", "P24", "Q30", "Z48", "a01", "b25", "f48"]
    put(tmp_path, *wells)
    screen = index_folder(tmp_path, " ".join(f"{well},x{well}" for well in wells))
    assert conservation_line(screen) == "found 7 = indexed 7 + refused 0"
    two_letter_names = {"a01": "AA01", "b25": "AB25", "f48": "AF48"}
    assert meant(screen) == {f"P1/{well}": (two_letter_names.get(well, well), f"x{well}") for well in wells}
    assert (screen.metadata.plate_rows, screen.metadata.plate_columns) == (32, 48)


def test_small_rows_of_one_plate_are_read_as_those_of_the_others(tmp_path: Path) -> None:
    put(tmp_path, "A01", "Z48", "c05")
    put(tmp_path, "a01", "f02", below="P2")
    rows = "P1,A01,1 P1,Z48,2 P1,AC05,3 P2,AA01,4 P2,AF02,5"
    assert meant(index_folder(tmp_path, rows))["P2/f02"] == ("AF02", "5")


def test_the_lower_half_alone_may_be_the_upper_half_too(tmp_path: Path) -> None:
    put(tmp_path, "a01", "b02", "c03")
    rows = "A01,u1 B02,u2 C03,u3 AA01,l1 AB02,l2 AC03,l3"
    message = error_of(tmp_path, rows)
    assert "9 x ambiguous well names" in message
    assert "found 'a01', row A in lower case or row 27 (AA01)" in message
    assert (
        "If it is A01: --plate-rows 16 --plate-columns 24. If it is AA01: --plate-rows 32 --plate-columns 48."
        in message
    )
    upper = index_folder(tmp_path, rows, plate_rows=16, plate_columns=24)
    assert [label for _, label in meant(upper).values()] == ["u1", "u2", "u3"]
    lower = index_folder(tmp_path, rows, plate_rows=32, plate_columns=48)
    assert [label for _, label in meant(lower).values()] == ["l1", "l2", "l3"]


def test_a_plate_of_which_the_case_is_open_is_refused_whole_and_the_others_are_kept(tmp_path: Path) -> None:
    put(tmp_path, "A01", "B02", "b02", "d04")
    put(tmp_path, "A01", "B02", below="P2")
    screen = index_folder(tmp_path, "P1,A01,1 P1,B02,2 P1,b02,3 P1,d04,4 P2,A01,5 P2,B02,6")
    assert conservation_line(screen) == "found 10 = indexed 2 + refused 8"
    assert set(screen.sites["plate"]) == {"P2"}
    rows = screen.problems[screen.problems["severity"] == "refused"]
    assert rows[["kind", "plate", "count"]].to_numpy().tolist() == [["ambiguous well names", "P1", 4]] * 2


def test_an_odd_small_letter_that_only_one_well_can_be_is_no_matter(tmp_path: Path) -> None:
    put(tmp_path, "A01", "B02")
    assert meant(index_folder(tmp_path, "a01,x B02,y")) == {"P1/A01": ("A01", "x"), "P1/B02": ("B02", "y")}
    other = tmp_path / "other"
    put(other, "A01", "b02")
    assert meant(index_folder(other, "A01,x B02,y")) == {"P1/A01": ("A01", "x"), "P1/b02": ("B02", "y")}


@pytest.mark.parametrize("rows", ["abcdefgh", "abcd"])
@pytest.mark.parametrize("table", [str.lower, str.upper])
def test_a_plate_wholly_in_small_letters_is_read_as_ever(tmp_path: Path, rows: str, table: Any) -> None:
    wells = [f"{row}{column:02d}" for row in rows for column in (1, 12)]
    put(tmp_path, *wells)
    screen = index_folder(tmp_path, " ".join(f"{table(well)},x{well}" for well in wells))
    assert meant(screen) == {f"P1/{well}": (well.upper(), f"x{well}") for well in wells}


def test_small_letters_where_row_27_is_written_aa_are_only_small(tmp_path: Path) -> None:
    put(tmp_path, "b03", "C04", "AA02")
    assert [well for well, _ in meant(index_folder(tmp_path)).values()] == ["B03", "C04", "AA02"]


def test_small_letters_of_a_large_plate_in_a_table_alone_are_asked_about(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).write_text(name)
    table = tmp_path / "wells.csv"
    table.write_text("plate,well,perturbation,DNA\np,a25,x,a.tif\np,b30,y,b.tif\n")
    options: dict[str, Any] = {"layout": "table", "channels": ["DNA"]}
    with pytest.raises(ScreenError, match=r"'a25', row A in lower case or row 27 \(AA25\)"):
        index(table, **options)
    assert index(table, plate_rows=32, plate_columns=48, **options).sites["well"].tolist() == ["AA25", "AB30"]


def test_a_part_of_a_well_is_a_field_or_a_well_of_a_larger_plate(tmp_path: Path) -> None:
    put(tmp_path, "A01.a1", "A01.a2", "A01.b1")
    message = error_of(tmp_path)
    assert "3 x ambiguous well names" in message
    assert "'A01.a1', a site of a well, or a well of a larger plate" in message
    plain = tmp_path / "plain"
    put(plain, "A01", "A02")
    assert "A01.a1" in error_of(plain, "A01.a1,x A01.b1,y A02.a1,z")
    put(plain, "A01", below="P2")
    (plain / "wells.csv").write_text("plate,well,perturbation\nP1,A01/a1,x\nP1,A02,y\nP2,A01,z\n")
    screen = index_folder(plain, tables=plain / "wells.csv")
    assert conservation_line(screen) == "found 5 = indexed 1 + refused 4"
    assert set(screen.problems["kind"]) == {"ambiguous well names"}


# Wells by number.


def test_numbers_that_only_one_order_brings_together_are_read_so_and_it_is_said(tmp_path: Path) -> None:
    wells = [f"A{k:02d}" for k in range(1, 7)]
    put(tmp_path, *wells)
    screen = index_folder(tmp_path, " ".join(f"{k},c{k}" for k in range(1, 7)))
    assert meant(screen) == {f"P1/{well}": (well, f"c{k}") for k, well in enumerate(wells, start=1)}
    (remark,) = screen.problems.to_dict("records")
    assert (remark["severity"], remark["kind"]) == ("warning", "wells by number")
    assert "row by row" in remark["expected"]
    down = tmp_path / "down"
    put(down, *(f"{row}01" for row in "ABCDEF"))
    assert meant(index_folder(down, " ".join(f"{k},c{k}" for k in range(1, 7))))["P1/F01"] == ("F01", "c6")


def test_numbers_of_a_whole_plate_may_be_read_by_row_or_by_column(tmp_path: Path) -> None:
    wells = [f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 13)]
    put(tmp_path, *wells)
    rows = " ".join(f"{k},c{k}" for k in range(1, 97))
    message = error_of(tmp_path, rows)
    assert "well 2, A02 row by row on 8 x 12 wells, B01 column by column on 8 x 12 wells" in message
    assert "Specify it with --well-order rows (or columns)." in message
    assert meant(index_folder(tmp_path, rows, well_order="rows"))["P1/B01"] == ("B01", "c13")
    screen = index_folder(tmp_path, rows, well_order="columns")
    assert meant(screen)["P1/B01"] == ("B01", "c2")
    assert screen.metadata.provenance["options"]["well_order"] == "columns"


def test_numbers_of_half_a_plate_leave_its_size_open(tmp_path: Path) -> None:
    put(tmp_path, *(f"{k:04d}" for k in (1, 13, 40)))
    message = error_of(tmp_path, well_order="rows")
    assert "well 13, " in message
    assert "B01 row by row on 8 x 12 wells, A13 row by row on 16 x 24 wells" in message
    assert "--plate-rows 8 --plate-columns 12 (or those of another plate)" in message
    screen = index_folder(tmp_path, well_order="rows", plate_rows=16, plate_columns=24)
    assert [well for well, _ in meant(screen).values()] == ["A01", "A13", "B16"]
    assert screen.problems.empty


@pytest.mark.parametrize(("size", "last"), [((16, 24), "P24"), ((32, 48), "AF48")])
def test_numbers_to_384_and_1536(tmp_path: Path, size: tuple[int, int], last: str) -> None:
    put(tmp_path, last, "A02")
    n_wells = size[0] * size[1]
    assert meant(index_folder(tmp_path, f"2,c2 {n_wells},last")) == {
        f"P1/{last}": (last, "last"),
        "P1/A02": ("A02", "c2"),
    }


def test_numbers_from_zero(tmp_path: Path) -> None:
    put(tmp_path, "0", "1", "13")
    assert "has well 0, so wells may count from 0" in error_of(tmp_path)
    screen = index_folder(tmp_path, well_base=0, well_order="rows", plate_rows=8, plate_columns=12)
    assert [well for well, _ in meant(screen).values()] == ["A01", "A02", "B02"]


def test_names_and_table_by_number_meet_and_the_plate_has_to_be_told(tmp_path: Path) -> None:
    put(tmp_path, "001", "002")
    assert "Specify it with --well-order rows (or columns) and --plate-rows" in error_of(tmp_path, "1,x 2.0,y")
    screen = index_folder(tmp_path, "1,x 2.0,y", well_order="columns", plate_rows=8, plate_columns=12)
    assert meant(screen) == {"P1/001": ("A01", "x"), "P1/002": ("B01", "y")}


def test_a_number_among_names_is_a_slip_and_refused_alone(tmp_path: Path) -> None:
    put(tmp_path, "A01", "A02")
    screen = index_folder(tmp_path, "A01,x A02,y 17,z")
    assert conservation_line(screen) == "found 3 = indexed 2 + refused 1"
    assert screen.problems[["kind", "found"]].to_numpy().tolist() == [["bad well", "'17'"]]


def test_an_order_that_is_none_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "1")
    assert error_of(tmp_path, well_order="diagonal").startswith("--well-order diagonal: expected rows")


def test_numberings_are_one_to_one_on_every_plate() -> None:
    for numbering in possible_numberings([{0}], plate=None, order=None):
        rows, columns = numbering.plate
        wells = {numbering.position(k) for k in range(rows * columns)}
        assert wells == set(itertools.product(range(rows), range(columns)))
    assert Numbering("columns", (8, 12)).name(9) == "B02"
    several = possible_numberings([set(range(96))], plate=None, order="rows")
    assert [one.plate for one in several] == [(8, 12), (16, 24), (32, 48)]
    assert [one.plate for one in prefer_whole_plates(several, [set(range(96))])] == [(8, 12)]
    assert prefer_whole_plates(several, [set(range(95))]) == several
    assert possible_numberings([{400}], plate=(16, 24), order=None) == []


def test_found_is_indexed_plus_refused_however_wells_are_written(tmp_path: Path) -> None:
    spellings = ["A01", "a01", "A-02", "r1c3", "17", "A01.a1", "AA01", "Z48", "x"]
    for n, spelling_set in enumerate(list(itertools.combinations(spellings, 3))[::4]):
        folder = tmp_path / str(n)
        put(folder, *spelling_set)
        put(folder, "C03", below="P2")
        rows = "P2,C03,z " + " ".join(f"P1,{well},c{well}" for well in spelling_set[:2])
        screen = index_folder(folder, rows, plate_rows=None)
        refused_in_all = screen.problems.loc[screen.problems["severity"] == "refused", "count"].sum()
        assert screen.metadata.found == len(screen.sites) + refused_in_all, spelling_set
        for path, (_, label) in meant(screen).items():
            assert label == f"c{path.removeprefix('P1/')}" or (path, label) == ("P2/C03", "z"), spelling_set
