"""Tables as pandas, R, Excel and plate readers write them: read, or refused with a next step that can be typed."""

from pathlib import Path

import pytest

from distangle.errors import ScreenError
from distangle.screen.readers.wells.columns import resolve_columns
from distangle.screen.readers.wells.join_metadata import read_metadata
from distangle.screen.source_tables import SourceTable, read_table

WELLS = (("A01", "x"), ("A02", "y"), ("B01", "DMSO"))


def read_source(folder: Path, text: str, *, coding: str = "utf-8") -> SourceTable:
    path = folder / "wells.csv"
    path.write_bytes(text.encode(coding))
    return read_table(path)


def kinds(table: SourceTable) -> list[str]:
    return [problem.kind for problem in table.ragged_problems()]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("sep=;\nwell;perturbation\nA01;x\nA02;y\nB01;DMSO\n", (3, 4, 5)),
        ('"sep=,"\r\nwell,perturbation\r\nA01,x\r\nA02,y\r\nB01,DMSO\r\n', (3, 4, 5)),
        ("sep=\t\nwell\tperturbation\nA01\tx\nA02\ty\nB01\tDMSO\n", (3, 4, 5)),
        ("# made by hand, 2024\n#\n\nwell\tperturbation\nA01\tx\nA02\ty\nB01\tDMSO\n", (5, 6, 7)),
        ("well,perturbation,,,\nA01,x,,,\nA02,y\nB01,DMSO,,,\n", (2, 3, 4)),
        ("well,perturbation\nA01,x,\nA02,y,\nB01,DMSO,\n", (2, 3, 4)),
        ("\ufeff\nwell;perturbation\nA01;x\nA02;y\nB01;DMSO\n", (3, 4, 5)),
        ("well,,perturbation\nA01,,x\nA02,,y\nB01,,DMSO\n", (2, 3, 4)),
    ],
)
def test_what_says_nothing_is_no_part_of_a_table(tmp_path: Path, text: str, lines: tuple[int, ...]) -> None:
    table = read_source(tmp_path, text)
    assert (table.columns, table.rows, table.lines) == (("well", "perturbation"), WELLS, lines)
    assert (table.n_rows, table.ragged_problems()) == (3, [])


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
def test_a_table_of_any_unicode_is_read(tmp_path: Path, coding: str) -> None:
    table = read_source(tmp_path, "well,perturbation\nA01,β-Lapachon\nA02,y\n", coding=coding)
    assert table.rows == (("A01", "β-Lapachon"), ("A02", "y"))


@pytest.mark.parametrize(
    "text",
    [
        ",well,perturbation\n0,A01,x\n1,A02,y\n2,B01,DMSO\n",
        '"","well","perturbation"\n"1","A01","x"\n"2","A02","y"\n"3","B01","DMSO"\n',
        "well\tperturbation\n1\tA01\tx\n2\tA02\ty\n3\tB01\tDMSO\n",  # R's write.table gives the row names no header
        ",well,perturbation\n12,A01,x\n7,A02,y\n900,B01,DMSO\n",  # a filtered table with its old row numbers
    ],
)
def test_numbers_of_rows_are_left_out_and_said(tmp_path: Path, text: str) -> None:
    table = read_source(tmp_path, text)
    assert (table.columns, table.rows, kinds(table)) == (("well", "perturbation"), WELLS, ["column without a name"])
    assert table.remarks[0].found.startswith("row numbers, ")


def test_a_first_column_of_names_gets_one_that_can_be_typed(tmp_path: Path) -> None:
    table = read_source(tmp_path, ",perturbation\nA01,x\nA02,y\n")
    assert table.columns == ("column 1", "perturbation")
    assert "`--map 'well=column 1'`" in table.remarks[0].fix
    with pytest.raises(ScreenError, match="no column 'well'. .*Known: column 1, perturbation"):
        read_metadata(table.path, {})
    assert [row.well for row in read_metadata(table.path, {"well": "column 1"}).rows] == ["A01", "A02"]


def test_a_row_shorter_than_the_row_numbers_make_it_is_refused_by_its_length(tmp_path: Path) -> None:
    table = read_source(tmp_path, ",well,perturbation\n0,A01,x\nA02,y\n2,B01,DMSO\n")
    assert (table.rows, table.ragged, table.n_rows) == ((WELLS[0], WELLS[2]), ((3, 2),), 3)
    (problem,) = [problem for problem in table.ragged_problems() if problem.severity == "refused"]
    assert (problem.found, problem.expected) == ("2 fields", "3 fields, as in the header")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Plate map of screen 7\nwell,perturbation\nA01,x\nA02,y\nB01,DMSO\n", "Plate map of screen 7"),
        ("Place,Drug,,\nwell,perturbation,dose,unit\nA01,x,1,uM\nA02,y,2,uM\nB01,DMSO,0,uM\n", "Place, Drug"),
        ("Plate,,Drug,\nplate,well,perturbation,dose\n1,A01,x,1\n1,A02,y,2\n1,B01,DMSO,0\n", "Plate, Drug"),
        ("Well,Drug,Drug\nwell,perturbation,dose\nA01,x,1\nA02,y,2\nB01,DMSO,0\n", "Well, Drug, Drug"),
    ],
)
def test_titles_and_merged_heads_above_the_header_are_said(tmp_path: Path, text: str, first: str) -> None:
    table = read_source(tmp_path, text)
    columns = [table.position("well"), table.position("perturbation")]
    assert tuple(tuple(row[k] for k in columns) for row in table.rows) == WELLS
    assert [(remark.kind, remark.found) for remark in table.remarks] == [("lines above the header", first)]


def test_comments_between_rows_are_no_rows_and_said(tmp_path: Path) -> None:
    table = read_source(tmp_path, "well,perturbation\nA01,x\n# repeated, as it failed, in March\n#,\n#5,y\n")
    assert table.rows == (("A01", "x"), ("#5", "y"))
    (remark,) = table.ragged_problems()
    assert (remark.severity, remark.kind, remark.count, remark.row) == ("warning", "comment line", 2, "3")


def test_decimal_commas_move_no_column(tmp_path: Path) -> None:
    table = read_source(tmp_path, "well;perturbation;dose;time\nA01;x;0,5;1,5\nA02;y, z;10,25;2,5\n")
    assert table.rows == (("A01", "x", "0,5", "1,5"), ("A02", "y, z", "10,25", "2,5"))
    table = read_source(tmp_path, "well,perturbation,dose\nA01,x,0,5\nA02,y,1\n")
    assert (table.rows, table.ragged) == ((("A02", "y", "1"),), ((2, 4),))


@pytest.mark.parametrize(
    ("text", "wells"),
    [
        (",1,2,3\nA,x,y,\nB,DMSO,,z\n", {"A01": "x", "A02": "y", "B01": "DMSO", "B03": "z"}),
        ("Plate 7;01;02;\na;x;y;\nb;DMSO;z;\n", {"A01": "x", "A02": "y", "B01": "DMSO", "B02": "z"}),
        ("map of plate 7\n\n,11,12\nG,x,y\nH,DMSO,x\n", {"G11": "x", "G12": "y", "H11": "DMSO", "H12": "x"}),
        (
            "\t1.0\t2.0\nZ\tx\ty\nAA\tDMSO\tz\nAF\t\tw\n",
            {"Z01": "x", "Z02": "y", "AA01": "DMSO", "AA02": "z", "AF02": "w"},
        ),
    ],
)
def test_a_map_of_the_plate_is_a_row_per_well(tmp_path: Path, text: str, wells: dict[str, str]) -> None:
    table = read_source(tmp_path, text)
    assert (table.columns, dict(table.rows)) == (("well", "perturbation"), wells)
    assert kinds(table) == ["map of a plate"]
    assert len(read_metadata(table.path, {}).rows) == len(wells)


@pytest.mark.parametrize(("n_rows", "n_columns"), [(8, 12), (16, 24), (32, 48)])
def test_a_map_without_heads_has_the_shape_of_a_plate(tmp_path: Path, n_rows: int, n_columns: int) -> None:
    cells = [[f"c{(row * n_columns + column) % 90}" for column in range(n_columns)] for row in range(n_rows)]
    table = read_source(tmp_path, "\n".join(",".join(row) for row in cells) + "\n\n\n")
    last = {8: "H12", 16: "P24", 32: "AF48"}[n_rows]
    assert (table.rows[0], table.rows[n_columns + 1], table.rows[-1]) == (
        ("A01", cells[0][0]),
        ("B02", cells[1][1]),
        (last, cells[-1][-1]),
    )
    assert (len(table.rows), table.lines[-1]) == (n_rows * n_columns, n_rows)


def test_a_map_turned_on_its_side_is_read_by_its_heads(tmp_path: Path) -> None:
    rows = [[str(column), *(f"{letter}-{column}" for letter in "ABCDEFGH")] for column in range(1, 13)]
    table = read_source(tmp_path, "\n".join(",".join(row) for row in [["", *"ABCDEFGH"], *rows]) + "\n")
    assert dict(table.rows)["H03"] == "H-3"
    assert len(table.rows) == 96


def test_a_shape_alone_makes_no_map_of_a_table(tmp_path: Path) -> None:
    names = ["plate", "well", *(f"column_{k}" for k in range(10))]
    rows = [["p1", f"A{k:02d}", *"abcdefghij"] for k in range(1, 8)]
    table = read_source(tmp_path, "\n".join(",".join(row) for row in [names, *rows]) + "\n")
    assert (table.columns[:2], len(table.rows)) == (("plate", "well"), 7)
    unlike = "\n".join(",".join(f"c{row}-{column}" for column in range(12)) for row in range(8)) + "\n"
    table = read_source(tmp_path, unlike)
    with pytest.raises(ScreenError, match=r"If it is a plate map, write 1, 2, 3, \.\.\. above its columns"):
        resolve_columns(table, {})
    letters = "".join(f"\n{'ABCDEFGH'[row]},{line}" for row, line in enumerate(unlike.splitlines()))
    assert dict(read_source(tmp_path, "," + ",".join(map(str, range(1, 13))) + letters).rows)["H12"] == "c7-11"


@pytest.mark.parametrize(
    "text",
    ["Row,Column,Site\nA,1,2\nB,1,2\n", "id,A,B\n1,x,y\n2,x,z\n", "well,1,2\nA01,a.tif,b.tif\nA02,c.tif,d.tif\n"],
)
def test_tables_with_letters_and_numbers_are_no_maps(tmp_path: Path, text: str) -> None:
    assert kinds(read_source(tmp_path, text)) == []
    assert len(read_source(tmp_path, text).rows) == 2


def test_a_map_of_numbers_must_be_told_to_be_of_perturbations(tmp_path: Path) -> None:
    table = read_source(tmp_path, ",1,2\nA,0.5,1e3\nB,0,10\n")
    with pytest.raises(ScreenError, match="no column 'perturbation'. Known: value, well. .*--map perturbation=COLUMN"):
        read_metadata(table.path, {})
    labels = read_metadata(table.path, {"perturbation": "value"})
    assert [row.perturbation for row in labels.rows] == ["0.5", "1e3", "0", "10"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",1,2\nA,x,y\n\n,1,2\nA,z,w\n", r"holds 2 plate maps \(lines 1, 4\). Save each as a separate table"),
        (",0,1\nA,x,y\nB,x,y\n", "the columns of this map count from 0. Number them from 1"),
        (",1,2\nA,x,y\nA,z,w\n", "line 3: this line follows the plate map, but is not a row of it"),
        (",1,2\nA,x,y\nB,z,w,v\n", "line 3: this line follows the plate map"),
    ],
)
def test_what_is_no_single_map_is_refused_with_what_to_do(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ScreenError, match=message):
        read_source(tmp_path, text)
