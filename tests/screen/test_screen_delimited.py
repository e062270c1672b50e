from pathlib import Path

import pytest

from distangle.errors import ScreenError
from distangle.screen.delimited import read_delimited, require_columns


def written(folder: Path, blob: bytes) -> Path:
    path = folder / "wells.csv"
    path.write_bytes(blob)
    return path


def test_all_is_text_nothing_is_guessed(tmp_path: Path) -> None:
    table = read_delimited(written(tmp_path, b"plate,gene,day\n0012,NA,MARCH1\n1E05,None,nan\n"))
    assert table.rows == (("0012", "NA", "MARCH1"), ("1E05", "None", "nan"))
    assert table.lines == (2, 3)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found_whatever_the_line_ends_and_the_byte_order_mark(tmp_path: Path, delimiter: str) -> None:
    text = delimiter.join(("plate", "well")) + "\r\n" + delimiter.join(("1", "B03")) + "\r\n"
    table = read_delimited(written(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert table.columns == ("plate", "well")
    assert table.rows == (("1", "B03"),)


def test_commas_inside_names_do_not_outvote_the_semicolon(tmp_path: Path) -> None:
    table = read_delimited(written(tmp_path, b'plate;well;"dose, uM"\n1;B03;0,5\n'))
    assert table.columns == ("plate", "well", "dose, uM")
    assert table.rows == (("1", "B03", "0,5"),)


def test_ragged_rows_are_set_apart_with_their_lines_and_shift_nothing(tmp_path: Path) -> None:
    table = read_delimited(written(tmp_path, b"plate,well,name\n1,B03,a\n1,B04,b,\n\n1,B05\n1,B06,c\n"))
    assert table.rows == (("1", "B03", "a"), ("1", "B06", "c"))
    assert table.lines == (2, 6)
    assert table.ragged == ((3, 4), (5, 2))
    assert table.n_rows == 4
    problem = table.ragged_problems()[0]
    assert (problem.kind, problem.file, problem.row) == ("ragged row", "wells.csv", "3")
    assert (problem.found, problem.expected) == ("4 fields", "3 fields, as in the header")


def test_a_value_over_two_lines_counts_from_its_first_line(tmp_path: Path) -> None:
    table = read_delimited(written(tmp_path, b'well,note\nB03,"two\nlines"\nB04,one\n'))
    assert table.rows[0] == ("B03", "two\nlines")
    assert table.lines == (2, 4)


def test_form_feeds_and_unicode_line_separators_break_no_row(tmp_path: Path) -> None:
    table = read_delimited(written(tmp_path, "well,note\nB03,a\x0cb\u2028c\nB04,d\n".encode()))
    assert table.rows == (("B03", "a\x0cb\u2028c"), ("B04", "d"))
    assert table.lines == (2, 3)


def test_rows_of_empty_fields_as_spreadsheets_leave_them_are_no_rows(tmp_path: Path) -> None:
    table = read_delimited(written(tmp_path, b"plate,well\n1,B03\n,\n , \n,,,\n"))
    assert table.n_rows == 1


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"\xff\xfep\x00", "is UTF-16 text"),
        (b"plate,well\n1,B\xb503\n", "line 2: not UTF-8 text (byte 0xb5)"),
        (b"plate,plate\n1,2\n", "the columns 'plate' twice"),
        (b"plate,,well\n1,2,3\n", "a column without a name"),
        (b'plate,well\n1,"B03\n2,B04\n', "line 2: unexpected end of data"),
        (b'plate,well\n1,B03\n2,"B"04\n', "line 3: ',' expected after '\"'"),
    ],
)
def test_a_file_that_is_no_table_is_refused_as_a_whole(tmp_path: Path, blob: bytes, said: str) -> None:
    with pytest.raises(ScreenError) as caught:
        read_delimited(written(tmp_path, blob))
    assert said in str(caught.value)
    assert "wells.csv" in str(caught.value)


def test_an_absent_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScreenError, match=r"none\.csv cannot be read: No such file or directory"):
        read_delimited(tmp_path / "none.csv")


def test_all_missing_columns_are_named_at_once_with_the_nearest(tmp_path: Path) -> None:
    table = read_delimited(written(tmp_path, b"Plate_,site\n1,1\n"))
    with pytest.raises(ScreenError, match="lacks the columns 'plate', 'well'. Did you mean 'Plate_'"):
        require_columns(table, ("plate", "well"))
    with pytest.raises(ScreenError, match="has no column 'sit'. Did you mean 'site'"):
        table.position("sit")
