"""Sources that count rows and columns from 0: refused with the reason, and read with --well-base 0."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from distangle.cli import main
from distangle.errors import ScreenError
from distangle.screen import Screen, conservation_line, index, read_screen
from distangle.screen.indexing.provenance import reread_source
from plate_maker import plate as write_plate

MATRIX = "image--L0000--S00--U{column}--V{row}--J{}--E00--O00--X00--Y00--T{time}--Z{plane}--C{channel}.ome.tif"


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")


def pairs(screen: Screen) -> dict[str, str]:
    return dict(zip(screen.sites["path_1"], screen.sites["well"] + " " + screen.sites["perturbation"], strict=True))


def table(folder: Path, text: str) -> Path:
    path = folder / "wells.csv"
    path.write_text(text, encoding="utf-8")
    return path


def matrix_screener(folder: Path, rows: range, columns: range) -> None:
    """Write names as Leica Matrix Screener gives them, U for the column and V for the row, both from 0."""
    tail = "J08--E00--O00--X00--Y00--T0000--Z00--C00.ome.tif"
    put(folder, *(f"P1/image--L0000--S00--U{u:02d}--V{v:02d}--{tail}" for v in rows for u in columns))


def test_one_zero_in_the_names_refuses_the_whole_source(tmp_path: Path) -> None:
    matrix_screener(tmp_path, range(4), range(6))
    wells = table(
        tmp_path, "well,perturbation\n" + "".join(f"{r}{c:02d},x{r}{c}\n" for r in "ABCD" for c in range(1, 7))
    )
    options: dict[str, Any] = {"layout": "folder", "pattern": MATRIX, "tables": wells}
    with pytest.raises(ScreenError) as error:
        index(tmp_path, **options)
    assert "P1/image--L0000--S00--U00--V00" in str(error.value)
    assert "has row 0, column 0, so wells may count from 0" in str(error.value)
    assert "If they count from 0, use --well-base 0. Otherwise correct the error" in str(error.value)
    assert str(error.value).endswith("with --well-base 1.")  # and no advice to try another layout
    screen = index(tmp_path, well_base=0, **options)
    assert conservation_line(screen) == "found 24 = indexed 24 + refused 0"
    for path, names in pairs(screen).items():
        u, v = int(path.split("--U")[1][:2]), int(path.split("--V")[1][:2])
        assert names == f"{'ABCD'[v]}{u + 1:02d} x{'ABCD'[v]}{u + 1}"
    assert screen.metadata.provenance["options"]["well_base"] == "0"
    source = reread_source(screen)
    entries = source.entries
    assert (source.n_found, sorted({entry.well for entry in entries})[-1]) == (24, "D06")
    one_by_one = index(
        tmp_path, well_base=1, **options
    )  # 4 columns and 6 rows have a 0: refused one by one with --well-base 1
    assert one_by_one.metadata.indexed == 15


def test_a_zero_in_another_plate_of_the_source_is_enough(tmp_path: Path) -> None:
    put(tmp_path, "P1/r02c03.tif", "P1/r03c04.tif", "P2/r00c05.tif")
    with pytest.raises(ScreenError, match=r"P2/r00c05.tif has row 0, column 5"):
        index(tmp_path, pattern="{well}.tif", channels=["DNA"])
    screen = index(tmp_path, pattern="{well}.tif", channels=["DNA"], well_base="0")
    assert screen.sites["well"].tolist() == ["C04", "D05", "A06"]


def test_figures_without_a_zero_are_read_as_before(tmp_path: Path) -> None:
    put(tmp_path, "P1/r01c01.tif", "P1/r02c02.tif")
    assert index(tmp_path, pattern="{well}.tif", channels=["DNA"]).sites["well"].tolist() == ["A01", "B02"]
    screen = index(tmp_path, pattern="{well}.tif", channels=["DNA"], well_base=0)  # the user overrides the check
    assert screen.sites["well"].tolist() == ["B02", "C03"]


def test_letters_with_a_column_zero_count_their_columns_from_zero(tmp_path: Path) -> None:
    put(tmp_path, "P1/A0.tif", "P1/A1.tif", "P1/B11.tif")
    wells = table(tmp_path, "well,perturbation\nA01,a\nA02,b\nB12,c\n")
    options: dict[str, Any] = {"layout": "folder", "pattern": "{well}.tif", "channels": ["DNA"], "tables": wells}
    with pytest.raises(ScreenError, match=r"P1/A0.tif has the well 'A0', column 0"):
        index(tmp_path, **options)
    assert pairs(index(tmp_path, well_base=0, **options)) == {
        "P1/A0.tif": "A01 a",
        "P1/A1.tif": "A02 b",
        "P1/B11.tif": "B12 c",
    }


@pytest.mark.parametrize("columns", ["Row,Column", "Metadata_Row,Metadata_Col"])
def test_a_table_that_counts_from_zero_moves_no_image(tmp_path: Path, columns: str) -> None:
    """OMERO's tables and OME-XML count rows and columns from 0."""
    put(tmp_path, "P1/A01.tif", "P1/A02.tif", "P1/B02.tif")
    wells = table(tmp_path, f"{columns},perturbation\n0,0,a\n0.0,1.0,b\n1,1,c\n")
    options: dict[str, Any] = {"layout": "folder", "pattern": "{well}.tif", "channels": ["DNA"], "tables": wells}
    with pytest.raises(ScreenError, match=r"wells.csv, line 2, has row 0, column 0.*--well-base 0"):
        index(tmp_path, **options)
    assert pairs(index(tmp_path, well_base=0, **options)) == {
        "P1/A01.tif": "A01 a",
        "P1/A02.tif": "A02 b",
        "P1/B02.tif": "B02 c",
    }


def test_rows_of_sites_with_figures_from_zero(tmp_path: Path) -> None:
    put(tmp_path, "a.tif", "b.tif")
    wells = table(tmp_path, "plate,row,column,perturbation,DNA\np,1,0,x,a.tif\np,2,5,y,b.tif\n")
    with pytest.raises(ScreenError, match=r"wells.csv, line 2, has row 1, column 0"):
        index(wells, layout="table", channels=["DNA"])
    for base in ("0", "tables=0"):
        assert pairs(index(wells, layout="table", channels=["DNA"], well_base=base)) == {
            "a.tif": "B01 x",
            "b.tif": "C06 y",
        }


def test_load_data_that_counts_from_zero(tmp_path: Path) -> None:
    put(tmp_path, "images/P1/a.tif", "images/P1/b.tif")
    rows = "FileName_OrigDNA,PathName_OrigDNA,Metadata_Plate,Metadata_Row,Metadata_Column,Metadata_Site\n"
    rows += "a.tif,/x/images/P1,P1,0,1,1\nb.tif,/x/images/P1,P1,1,1,1\n"
    (tmp_path / "load_data.csv").write_text(rows)
    maps = tmp_path / "well.csv"
    maps.write_text("Metadata_Plate,Metadata_Well,Metadata_JCP2022\nP1,A02,x\nP1,B02,y\n")
    with pytest.raises(ScreenError, match=r"load_data.csv, line 2, has row 0, column 1"):
        index(tmp_path, layout="cellpainting")
    screen = index(tmp_path, layout="cellpainting", well_base=0)
    assert pairs(screen) == {"images/P1/a.tif": "A02 x", "images/P1/b.tif": "B02 y"}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ngff_plate_named_by_index(tmp_path: Path, version: Literal["0.4", "0.5"]) -> None:
    image = np.ones((1, 8, 8), dtype=np.uint16)
    write_plate(tmp_path / "P1.zarr", {"0/1": [image], "1/1": [image + 1], "1/2": [image + 2]}, version=version)
    with pytest.raises(ScreenError, match=r"has row 0, column 1, so wells may count from 0"):
        index(tmp_path, layout="ome-zarr")
    screen = index(tmp_path, layout="ome-zarr", well_base=0)
    assert screen.sites[["well", "path_1"]].to_numpy().tolist() == [
        ["A02", "P1.zarr/0/1/0/0"],
        ["B02", "P1.zarr/1/1/0/0"],
        ["B03", "P1.zarr/1/2/0/0"],
    ]


def test_a_zero_in_the_lists_of_an_ngff_plate_is_enough(tmp_path: Path) -> None:
    image = np.ones((1, 8, 8), dtype=np.uint16)
    wells = {"1/1": [image], "2/2": [image + 1]}
    write_plate(tmp_path / "P1.zarr", wells, version="0.4")
    assert index(tmp_path, layout="ome-zarr").sites["well"].tolist() == ["A01", "B02"]
    attributes = tmp_path / "P1.zarr" / ".zattrs"
    attributes.write_text(attributes.read_text().replace('"rows": [', '"rows": [{"name": "0"}, '))
    with pytest.raises(ScreenError, match=r"the metadata of the plate"):
        index(tmp_path, layout="ome-zarr")


def test_rxrx1_counts_from_one(tmp_path: Path) -> None:
    put(tmp_path, "train/HUVEC-01/Plate1/B02_s1_w1.png")
    (tmp_path / "train.csv").write_text(
        "id_code,experiment,plate,well,sirna\nx,HUVEC-01,1,B00,s1\ny,HUVEC-01,1,B02,s2\n"
    )
    with pytest.raises(ScreenError, match=r"train.csv, line 2 has the well 'B00': column 0, and RxRx1 counts from 1"):
        index(tmp_path, layout="rxrx1")


def test_where_it_is_open_which_side_counts_from_zero_it_is_asked(tmp_path: Path) -> None:
    put(tmp_path, "P1/r00c01.tif", "P1/r01c01.tif")
    wells = table(tmp_path, "row,column,perturbation\n1,1,a\n1,2,b\n2,2,c\n")
    options: dict[str, Any] = {"layout": "folder", "pattern": "{well}.tif", "channels": ["DNA"], "tables": wells}
    with pytest.raises(ScreenError, match=r"the table may also count from 0, and contain no 0.*images=0,tables=1"):
        index(tmp_path, well_base=0, **options)
    assert pairs(index(tmp_path, well_base="images=0,tables=1", **options)) == {
        "P1/r00c01.tif": "A02 b",
        "P1/r01c01.tif": "B02 c",
    }
    put(tmp_path, "Q/A01.tif", "Q/B02.tif")
    wells.write_text("well,perturbation\nA02,b\nB03,c\n")
    with pytest.raises(ScreenError, match="no well has a column 0, neither in the image names nor in the table"):
        index(tmp_path / "Q", well_base=0, **options)
    assert pairs(index(tmp_path / "Q", well_base="images=0", **options)) == {"A01.tif": "A02 b", "B02.tif": "B03 c"}


@pytest.mark.parametrize("base", ["2", "images", "rows=0", "images=0,images=1", "0,images=1", ""])
def test_what_is_no_base_is_refused(tmp_path: Path, base: str) -> None:
    put(tmp_path, "A01.tif")
    with pytest.raises(ScreenError, match=r"--well-base .*expected 0 or 1.*images=0,tables=1"):
        index(tmp_path, pattern="{well}.tif", channels=["DNA"], well_base=base)


def test_a_step_of_one_between_names_and_table_is_offered_as_the_base(tmp_path: Path) -> None:
    put(tmp_path, "P1/r01c01.tif", "P1/r02c02.tif", "P1/r03c05.tif", "P1/r04c04.tif")
    wells = table(tmp_path, "well,perturbation\nB02,a\nC03,b\nD06,c\nE05,d\n")
    options: dict[str, Any] = {"layout": "folder", "pattern": "{well}.tif", "channels": ["DNA"], "tables": wells}
    with pytest.raises(ScreenError, match="If the image names count from 0, use --well-base images=0 instead"):
        index(tmp_path, **options)
    assert index(tmp_path, well_base="images=0", **options).metadata.indexed == 4


def test_the_command_line_reads_from_zero_and_the_screen_remembers_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((8, 8), 7, dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "wells.csv").write_text("plate,row,column,perturbation,DNA\np,0,0,x,a.png\n")
    command = [
        "index",
        str(tmp_path / "wells.csv"),
        "--layout",
        "table",
        "--channels",
        "DNA",
        "--out",
        str(tmp_path / "s"),
    ]
    with pytest.raises(SystemExit) as exit_info:
        main(command)
    assert exit_info.value.code == 1
    assert "If they count from 0, use --well-base 0." in capsys.readouterr().err
    main([*command, "--well-base", "0"])
    screen = read_screen(tmp_path / "s")
    assert screen.sites["well"].tolist() == ["A01"]
    assert screen.metadata.provenance["options"]["well_base"] == "0"
