from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distangle.errors import ScreenError
from distangle.screen.source_tables import read_table, require_columns


def source_file(folder: Path, blob: bytes) -> Path:
    path = folder / "wells.csv"
    path.write_bytes(blob)
    return path


def test_all_is_text_nothing_is_guessed(tmp_path: Path) -> None:
    table = read_table(source_file(tmp_path, b"plate,gene,day\n0012,NA,MARCH1\n1E05,None,nan\n"))
    assert table.rows == (("0012", "NA", "MARCH1"), ("1E05", "None", "nan"))
    assert table.lines == (2, 3)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found_whatever_the_line_ends_and_the_byte_order_mark(tmp_path: Path, delimiter: str) -> None:
    text = delimiter.join(("plate", "well")) + "\r\n" + delimiter.join(("1", "B03")) + "\r\n"
    table = read_table(source_file(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert table.columns == ("plate", "well")
    assert table.rows == (("1", "B03"),)


def test_commas_inside_names_do_not_outvote_the_semicolon(tmp_path: Path) -> None:
    table = read_table(source_file(tmp_path, b'plate;well;"dose, uM"\n1;B03;0,5\n'))
    assert table.columns == ("plate", "well", "dose, uM")
    assert table.rows == (("1", "B03", "0,5"),)


def test_ragged_rows_are_set_apart_with_their_lines_and_shift_nothing(tmp_path: Path) -> None:
    table = read_table(source_file(tmp_path, b"plate,well,name\n1,B03,a\n1,B04,b,\n\n1,B05\n1,B06,c\n"))
    assert table.rows == (("1", "B03", "a"), ("1", "B06", "c"))
    assert table.lines == (2, 6)
    assert table.ragged == ((3, 4), (5, 2))
    assert table.n_rows == 4
    problem = table.ragged_problems()[0]
    assert (problem.kind, problem.file, problem.row) == ("ragged row", "wells.csv", "3")
    assert (problem.found, problem.expected) == ("4 fields", "3 fields, as in the header")


def test_a_value_over_two_lines_counts_from_its_first_line(tmp_path: Path) -> None:
    table = read_table(source_file(tmp_path, b'well,note\nB03,"two\nlines"\nB04,one\n'))
    assert table.rows[0] == ("B03", "two\nlines")
    assert table.lines == (2, 4)


def test_form_feeds_and_unicode_line_separators_break_no_row(tmp_path: Path) -> None:
    table = read_table(source_file(tmp_path, "well,note\nB03,a\x0cb\u2028c\nB04,d\n".encode()))
    assert table.rows == (("B03", "a\x0cb\u2028c"), ("B04", "d"))
    assert table.lines == (2, 3)


def test_rows_of_empty_fields_as_spreadsheets_leave_them_are_no_rows(tmp_path: Path) -> None:
    table = read_table(source_file(tmp_path, b"plate,well\n1,B03\n,\n , \n,,,\n"))
    assert table.n_rows == 1


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"\xff\xfep\x00\x00\xd8\n\x00", "line 1: not UTF-16 text (byte 0x00)"),
        (b"# plate map\n# of 2024\n", "holds only comments"),
        (b"sep=;\n", "is empty"),
        (b"plate,well\n1,B\xb503\n", "line 2: not UTF-8 text (byte 0xb5)"),
        (b"plate,plate\n1,2\n", "the columns 'plate' twice"),
        (b"plate,,well\n1,2,3\n", "a column without a name"),
        (b'plate,well\n1,"B03\n2,B04\n', "line 2: unexpected end of data"),
        (b'plate,well\n1,B03\n2,"B"04\n', "line 3: ',' expected after '\"'"),
    ],
)
def test_a_file_that_is_no_table_is_refused_as_a_whole(tmp_path: Path, blob: bytes, message: str) -> None:
    with pytest.raises(ScreenError) as error:
        read_table(source_file(tmp_path, blob))
    assert message in str(error.value)
    assert "wells.csv" in str(error.value)


def test_an_absent_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScreenError, match=r"none\.csv cannot be read: No such file or directory"):
        read_table(tmp_path / "none.csv")


def test_all_missing_columns_are_named_at_once_with_the_nearest(tmp_path: Path) -> None:
    table = read_table(source_file(tmp_path, b"Plate_,site\n1,1\n"))
    with pytest.raises(ScreenError, match="lacks the columns 'plate', 'well'. Did you mean 'Plate_'"):
        require_columns(table, ("plate", "well"))
    with pytest.raises(ScreenError, match="has no column 'sit'. Did you mean 'site'"):
        table.position("sit")


def test_a_zero_byte_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ScreenError, match=r"wells\.csv, line 3: a zero byte, which is not text"):
        read_table(source_file(tmp_path, b"plate,well\n1,B03\n\0\0\0\0\0\n"))


def parquet(folder: Path, table: pa.Table | pd.DataFrame) -> Path:
    path = folder / "wells.parquet"
    pq.write_table(
        pa.Table.from_pandas(table, preserve_index=False) if isinstance(table, pd.DataFrame) else table, path
    )
    return path


def test_parquet_reads_as_the_text_its_csv_would_hold(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "Metadata_Plate": ["0012", "1E05"],
            "Metadata_Well": pd.Categorical(["A01", "A02"]),
            "Metadata_Site": [1.0, None],  # pandas makes whole numbers floats where one is missing
            "n": np.array([1, 2], dtype=np.int64),
            "dose": [0.1, 10.0],
            "gene": ["NA", None],
            "raw": [b"B\xc3\xa4r", None],
            "is_control": [True, False],
        }
    )
    table = read_table(parquet(tmp_path, frame))
    assert table.columns == tuple(frame.columns)
    assert table.rows == (
        ("0012", "A01", "1", "1", "0.1", "NA", "Bär", "True"),
        ("1E05", "A02", "", "2", "10", "", "", "False"),
    )
    assert (table.lines, table.ragged, table.n_rows) == ((2, 3), (), 2)


def test_what_is_no_number_is_a_missing_value(tmp_path: Path) -> None:
    table = read_table(parquet(tmp_path, pa.table({"plate": ["1", "2"], "dose": [float("nan"), 2.5]})))
    assert table.rows == (("1", ""), ("2", "2.5"))


def test_rows_of_parquet_that_are_empty_are_no_rows(tmp_path: Path) -> None:
    table = read_table(parquet(tmp_path, pd.DataFrame({"plate": ["1", None, "2"], "well": ["A01", " ", "A02"]})))
    assert (table.rows, table.lines) == ((("1", "A01"), ("2", "A02")), (2, 4))


def test_parquet_that_is_no_table_of_wells_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wells.parquet"
    path.write_bytes(b"plate,well\n1,A01\n")
    with pytest.raises(ScreenError, match=r"wells\.parquet is not a Parquet table, or is damaged \("):
        read_table(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ScreenError, match="is a Git LFS pointer"):
        read_table(path)
    with pytest.raises(ScreenError, match="the column 'sites' holds lists or tables"):
        read_table(parquet(tmp_path, pa.table({"sites": [[1, 2]]})))
    with pytest.raises(ScreenError, match="a column without a name"):
        read_table(parquet(tmp_path, pa.table({"plate": ["1"], " ": ["x"]})))
    with pytest.raises(ScreenError, match=r"not UTF-8 text \(b'B\\xe4r'\)"):
        read_table(parquet(tmp_path, pa.table({"plate": [b"B\xe4r"]})))
    with pytest.raises(ScreenError, match="is empty"):
        read_table(parquet(tmp_path, pa.table({})))


def test_a_small_parquet_file_of_endless_rows_is_refused_from_its_footer(tmp_path: Path) -> None:
    null_table = pa.table({f"column {k}": pa.nulls(1 << 22) for k in range(64)})
    path = tmp_path / "wells.parquet"
    with pq.ParquetWriter(path, null_table.schema) as writer:
        for _ in range(5):
            writer.write_table(null_table)
    assert path.stat().st_size < 1 << 22
    with pytest.raises(ScreenError, match="unpacks to more than 1024 MiB by its metadata"):
        read_table(path)


def test_a_flipped_byte_of_parquet_with_checksums_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "wells.parquet"
    names = [f"BRD-{k:06d}" for k in range(1000)]
    pq.write_table(pa.table({"well": names}), path, write_page_checksum=True, compression="none", use_dictionary=False)
    blob = bytearray(path.read_bytes())
    blob[blob.index(b"BRD-000500") + 4] ^= 1
    path.write_bytes(bytes(blob))
    with pytest.raises(ScreenError, match="is not a Parquet table, or is damaged"):
        read_table(path)
