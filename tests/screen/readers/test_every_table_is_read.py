"""Several tables in one place: all are read, or the others are named with their number of rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from distangle.errors import ScreenError
from distangle.screen import Screen, conservation_line, index

HEAD = "FileName_OrigDNA,PathName_OrigDNA,Metadata_Plate,Metadata_Well,Metadata_Site"
MAP = "well_position\tbroad_sample\n"
BARCODES = "Assay_Plate_Barcode,Plate_Map_Name\n"


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def rows(plate: str, *wells: str, head: str = HEAD, suffix: str = "") -> str:
    return "\n".join([head, *(f"{well}.tif,/x/{plate},{plate},{well},1{suffix}" for well in wells), ""])


def index_gallery(root: Path, **options: Any) -> Screen:
    return index(root, layout="cellpainting", tables_only=True, **options)


def remarks_of(screen: Screen, kind: str) -> list[list[Any]]:
    remarks = screen.problems[screen.problems["kind"] == kind]
    return remarks[["severity", "file", "count"]].to_numpy().tolist()


@pytest.mark.parametrize(
    "names",
    [
        ("load_data_P1.csv", "load_data_P2.csv", "load_data_P3.csv"),
        ("load_data.csv", "load_data (2).csv", "load_data.P3.tsv"),
        ("P1/load_data.csv", "P2/load_data.csv", "P3/Load_Data.CSV"),
        ("P1_load_data.csv", "P2-loaddata.csv", "P3 load_data_with_illum.csv"),
        ("load_data_csv/B1/load_data_P1.csv", "load_data_csv/B1/load_data_P2.csv", "load_data_csv/B2/x/load_data.csv"),
    ],
)
def test_a_table_per_plate_is_read_wherever_it_lies(tmp_path: Path, names: tuple[str, ...]) -> None:
    texts = {name: rows(f"P{k}", "A01", "A02") for k, name in enumerate(names, 1)}
    tabs = {name: text.replace(",", "\t") if name.endswith("tsv") else text for name, text in texts.items()}
    screen = index_gallery(write(tmp_path / "in", tabs))
    assert conservation_line(screen) == "found 6 = indexed 6 + refused 0"
    assert sorted(set(screen.sites["plate"])) == ["P1", "P2", "P3"]
    read_paths = {table["path"] for table in screen.metadata.provenance["tables"]}
    assert read_paths == set(names)
    batches = {name.split("/")[1] for name in names if name.startswith("load_data_csv")}
    assert set(screen.sites["experiment"]) == (batches or {"all"})


def test_a_table_with_the_same_rows_and_more_columns_counts_once_and_is_named(tmp_path: Path) -> None:
    longer_header = f"{HEAD},FileName_IllumDNA,Metadata_Dose"
    wide = rows("P1", "a1", "A02", head=longer_header, suffix=",i.npy,5").replace("a1.tif", "A01.tif")
    files = {"load_data.csv": rows("P1", "A01", "A02"), "load_data_with_illum.csv": wide}
    screen = index_gallery(write(tmp_path / "in", files))
    assert conservation_line(screen) == "found 2 = indexed 2 + refused 0"
    assert remarks_of(screen, "repeated table rows") == [["warning", "in/load_data_with_illum.csv", 2]]
    fix = screen.problems.iloc[0]["fix"]
    assert fix == "No action needed without the columns 'Metadata_Dose'; otherwise keep only this table in its folder."


def test_rows_of_one_site_with_other_files_refuse_each_other(tmp_path: Path) -> None:
    files = {
        "load_data.csv": rows("P1", "A01", "A02"),
        "load_data_old.csv": rows("P1", "A01", "A03").replace("A01.tif", "x.tif"),
    }
    screen = index_gallery(write(tmp_path / "in", files))
    assert conservation_line(screen) == "found 4 = indexed 2 + refused 2"
    assert screen.sites["well"].tolist() == ["A02", "A03"]
    assert remarks_of(screen, "conflicting rows") == [
        ["refused", "in/load_data.csv", 1],
        ["refused", "in/load_data_old.csv", 1],
    ]


def test_a_load_data_table_without_images_is_refused_with_its_rows(tmp_path: Path) -> None:
    files = {
        "load_data.csv": rows("P1", "A01"),
        "load_data_notes.csv": "Metadata_Plate,Metadata_Well\nP1,A01\nP1,A02\n",
    }
    screen = index_gallery(write(tmp_path / "in", files))
    assert conservation_line(screen) == "found 3 = indexed 1 + refused 2"
    assert remarks_of(screen, "table not read") == [["refused", "in/load_data_notes.csv", 2]]


def test_maps_that_no_barcode_names_are_refused_with_their_rows(tmp_path: Path) -> None:
    files = {
        "load_data.csv": rows("P1", "A01"),
        "barcode_platemap.csv": f"{BARCODES}P1,M1\n",
        "platemap/M1.txt": f"{MAP}A01\tx\n",
        "platemap/M2.txt": f"{MAP}A01\ty\nA02\tz\n",
        "platemap/M1.csv": "well_position,broad_sample\nA01,z\n",
    }
    screen = index_gallery(write(tmp_path / "in", files))
    # Of the two files of one name the first by name is M1.csv.
    assert conservation_line(screen) == "found 4 = indexed 1 + refused 3"
    assert remarks_of(screen, "table not read") == [
        ["refused", "platemap/M2.txt", 2],
        ["refused", "platemap/M1.txt", 1],
    ]
    assert screen.sites["perturbation"].tolist() == ["z"]


def test_maps_and_wells_that_nothing_joins_are_refused_with_what_to_do(tmp_path: Path) -> None:
    files = {"load_data.csv": rows("P1", "A01"), "platemap/M1.txt": f"{MAP}A01\tx\nA02\ty\n"}
    screen = index_gallery(write(tmp_path / "a", files))
    assert conservation_line(screen) == "found 3 = indexed 1 + refused 2"
    assert "Name it in barcode_platemap.csv (Assay_Plate_Barcode,Plate_Map_Name)" in screen.problems.iloc[0]["fix"]
    wells = "Metadata_Plate,Metadata_Well,Metadata_JCP2022\nP1,A01,J1\n"
    files_with_map = {**files, "barcode_platemap.csv": f"{BARCODES}P1,M1\n", "well.csv": wells}
    screen = index_gallery(write(tmp_path / "b", files_with_map))
    assert conservation_line(screen) == "found 3 = indexed 1 + refused 2"  # A02 has no image
    assert remarks_of(screen, "table not read") == [["refused", "b/well.csv", 1]]
    with pytest.raises(ScreenError, match="plate P1 has the map 'M1', and no folder 'platemap' contains it"):
        index_gallery(
            write(tmp_path / "c", {"load_data.csv": rows("P1", "A01"), "barcode_platemap.csv": f"{BARCODES}P1,M1\n"})
        )


def test_every_table_of_barcodes_is_read(tmp_path: Path) -> None:
    files = {
        "load_data_1.csv": rows("P1", "A01"),
        "load_data_2.csv": rows("P2", "A01"),
        "barcode_platemap.csv": f"{BARCODES}P1,M1\n",
        "barcode_platemap_week2.csv": f"{BARCODES}P2,M2\n",
        "platemap/M1.txt": f"{MAP}A01\tx\n",
        "platemap/M2.txt": f"{MAP}A01\ty\n",
    }
    assert index_gallery(write(tmp_path / "in", files)).sites["perturbation"].tolist() == ["x", "y"]


def test_tables_of_no_known_name_are_named_but_for_those_of_a_screen(tmp_path: Path) -> None:
    files = {"load_data.csv": rows("P1", "A01"), "moa.csv": "compound,moa\nx,y\n", "screen/problems.csv": "a\n"}
    root = write(tmp_path / "in", {**files, "screen/screen.json": "{}"})
    screen = index_gallery(root)
    assert conservation_line(screen) == "found 1 = indexed 1 + refused 0"
    assert remarks_of(screen, "table not read") == [["warning", "in", 1]]
    assert screen.problems.iloc[0]["found"] == "moa.csv"


def index_with_platemap(root: Path, tables: Mapping[str, str], **options: Any) -> Screen:
    names = ("B1", "B2", "")
    wells = "".join(f"A0{k}\t{name}\n" for k, name in enumerate(names, 1))
    files = {
        "load_data.csv": rows("P1", "A01", "A02", "A03"),
        "barcode_platemap.csv": f"{BARCODES}P1,M1\n",
        "platemap/M1.txt": f"{MAP}{wells}",
        **{f"external_metadata/{name}": text for name, text in tables.items()},
    }
    return index_gallery(write(root, files), **options)


def test_several_targets_of_a_compound_are_kept_together_and_said(tmp_path: Path) -> None:
    text = "broad_sample,pert_iname,target\nB1,a,T1\nB1,a,T2\nB1,a,T1\nB2,b,T3\n,DMSO,\nB9,c,T1\nB9,c,T4\n"
    screen = index_with_platemap(tmp_path / "in", {"targets.csv": text})
    assert screen.sites["target"].tolist() == ["T1|T2", "T3", ""]
    (remark,) = screen.problems.to_dict("records")
    assert (remark["severity"], remark["kind"], remark["count"]) == ("warning", "several rows of one perturbation", 1)
    assert remark["found"] == "B1: target T1 and T2 (lines 2, 3, 4)"


def test_tables_of_perturbations_that_differ_are_named(tmp_path: Path) -> None:
    tables = {
        "1.tsv": "broad_sample\tpert_iname\nB1\ta\nB2\tb\n",
        "2.txt": "broad_sample\tpert_iname\tclass\nB1\tother\tk\n",
    }
    screen = index_with_platemap(tmp_path / "in", tables)
    assert screen.sites[["pert_iname", "class"]].to_numpy().tolist()[0] == ["a", "k"]
    (remark,) = screen.problems.to_dict("records")
    assert remark["found"] == "B1: pert_iname other here, a in 1.tsv"


@pytest.mark.parametrize(
    "tables",
    [
        {"1.csv": "broad_sample,control_type,pert_type\nB1,,trt\nB1,negcon,control\nB2,,trt\n"},
        {"1.csv": "broad_sample,pert_type\nB1,trt\nB2,trt\n", "2.csv": "broad_sample,control_type\nB1,poscon_cp\n"},
        {"1.csv": "broad_sample,pert_type\nB1,negcon\nB1,poscon\nB2,trt\n"},
    ],
)
def test_a_perturbation_in_two_roles_has_none(tmp_path: Path, tables: dict[str, str]) -> None:
    screen = index_with_platemap(tmp_path / "in", tables)
    assert screen.sites["well"].tolist() == ["A02", "A03"]
    assert conservation_line(screen) == "found 4 = indexed 2 + refused 2"
    refusal = screen.problems.set_index("kind").loc["perturbation in two roles"]
    assert refusal["found"].startswith("B1: ")
    assert "--map role=COLUMN" in refusal["fix"]
    free = index_with_platemap(tmp_path / "free", tables, mapping={"role": ""})
    assert free.sites["well"].tolist() == ["A01", "A02", "A03"]


def test_rows_without_a_perturbation_that_differ_name_no_well(tmp_path: Path) -> None:
    screen = index_with_platemap(tmp_path / "in", {"1.csv": "broad_sample,pert_iname\nB1,a\n,DMSO\n,water\n"})
    assert screen.sites["perturbation"].tolist() == ["B1", "B2", ""]
    assert remarks_of(screen, "several rows without a perturbation") == [["warning", "1.csv", 2]]


def test_a_table_of_perturbations_that_cannot_be_joined_is_named(tmp_path: Path) -> None:
    screen = index_with_platemap(tmp_path / "in", {"1.csv": "compound_id,moa\nB1,a\n"})
    assert remarks_of(screen, "table not read") == [["warning", "1.csv", 1]]
    assert "moa" not in screen.sites.columns


def test_a_table_of_images_may_be_csv_in_one_folder_and_parquet_in_another(tmp_path: Path) -> None:
    root = write(tmp_path / "in", {"a/load_data.csv": rows("P1", "A01")})
    (root / "b").mkdir()
    columns = dict(zip(HEAD.split(","), ("A01.tif", "/x/P2", "P2", "A01", "1"), strict=True))
    pd.DataFrame([columns]).to_parquet(root / "b/load_data.parquet")
    pd.DataFrame([columns]).to_csv(root / "b/load_data.csv", index=False)
    screen = index_gallery(root)
    assert conservation_line(screen) == "found 2 = indexed 2 + refused 0"
    assert remarks_of(screen, "repeated table rows") == [["warning", "b/load_data.parquet", 1]]
