"""Several tables of wells or of sites in one folder, one per plate perhaps."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from distangle.errors import ScreenError
from distangle.screen import Screen, conservation_line, index

Write = Callable[..., Path]


def lab(root: Path, tables: Mapping[str, str], *, plates: tuple[str, ...] = ("P1", "P2", "P12")) -> Path:
    """Write an image of A01 for each plate, and tables in a folder beside them."""
    for plate in plates:
        (root / "images" / plate).mkdir(parents=True)
        (root / "images" / plate / "A01_w1.tif").write_text(plate)
    (root / "tables").mkdir()
    for name, text in tables.items():
        (root / "tables" / name).write_text(text, encoding="utf-8")
    return root


def index_images(root: Path, **options: Any) -> Screen:
    options = {"tables": root / "tables", "pattern": "{plate}/{well}_w{channel}.tif", **options}
    return index(root / "images", layout="folder", hash_files=False, **options)


def test_a_table_per_plate_with_its_plate_is_read(tmp_path: Path) -> None:
    tables = {
        "a.csv": "plate,well,perturbation,dose\nP1,A01,x,1\n",
        "b.tsv": "Metadata_Plate\tWell\tperturbation\tbatch\nP2\ta1\ty\tW2\n",
        "c.csv": "plate,well,perturbation\nP12,A01,z\n",
    }
    screen = index_images(lab(tmp_path, tables))
    assert conservation_line(screen) == "found 3 = indexed 3 + refused 0"
    columns = ["plate", "perturbation", "dose", "batch"]
    assert screen.sites[columns].to_numpy().tolist() == [
        ["P1", "x", "1", ""],
        ["P2", "y", "", "W2"],
        ["P12", "z", "", ""],
    ]
    assert len(screen.metadata.provenance["tables"]) == 3


@pytest.mark.parametrize("names", [("P1", "P2", "P12"), ("map P1", "2024-P2_x", "P12.final"), ("p1", "p2-1", "X_P12")])
def test_a_table_without_a_plate_is_of_the_plate_in_its_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    tables = {f"{name}.csv": f"well,perturbation\nA01,of {k}\n" for k, name in enumerate(names)}
    screen = index_images(lab(tmp_path, tables))
    assert screen.sites[["plate", "perturbation"]].to_numpy().tolist() == [
        ["P1", "of 0"],
        ["P2", "of 1"],
        ["P12", "of 2"],
    ]


def test_maps_of_plates_tell_theirs_by_their_names_too(tmp_path: Path) -> None:
    screen = index_images(lab(tmp_path, {f"{plate}.csv": f",1,2\nA,{plate} drug,\n" for plate in ("P1", "P2", "P12")}))
    assert screen.sites["perturbation"].tolist() == ["P1 drug", "P2 drug", "P12 drug"]


@pytest.mark.parametrize("name", ["third.csv", "P1_P2.csv", "P121.csv", "XP1.csv"])
def test_a_table_of_an_unknown_plate_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    tables = {"P1.csv": "well,perturbation\nA01,x\n", name: "well,perturbation\nA01,y\n"}
    with pytest.raises(ScreenError, match=r"has no plate column, .*add a column 'plate', or put .* \(P1, P2, P12\)"):
        index_images(lab(tmp_path, tables))


def test_one_table_in_a_folder_is_as_if_it_were_named(tmp_path: Path) -> None:
    screen = index_images(lab(tmp_path, {"any.csv": "well,perturbation\nA01,x\n", "notes.txt": "x"}))
    assert screen.sites["perturbation"].tolist() == ["x"] * 3


def test_a_table_of_something_else_is_named(tmp_path: Path) -> None:
    tables = {"P1.csv": "plate,well,perturbation\nP1,A01,x\n", "moa.csv": "compound,moa\nx,y\n"}
    screen = index_images(lab(tmp_path, tables, plates=("P1",)))
    (remark,) = screen.problems.to_dict("records")
    assert (remark["severity"], remark["kind"], remark["file"]) == ("warning", "table not read", "moa.csv")
    assert remark["found"].startswith("has no column 'well'")
    with pytest.raises(ScreenError, match=r"moa\.csv has no column 'well'"):
        index_images(lab(tmp_path / "two", {"moa.csv": "compound,moa\nx,y\n"}))
    with pytest.raises(ScreenError, match=r"contains no \.csv, \.tsv or \.parquet file. Name the table of wells"):
        index_images(lab(tmp_path / "none", {}))


def test_two_tables_that_contradict_each_other_refuse_the_well(tmp_path: Path) -> None:
    tables = {"a.csv": "plate,well,perturbation\nP1,A01,x\n", "b.csv": "plate,well,perturbation\nP1,A01,y\n"}
    screen = index_images(
        lab(tmp_path, {**tables, "c.csv": "plate,well,perturbation\nP2,A01,z\n"}, plates=("P1", "P2"))
    )
    assert conservation_line(screen) == "found 4 = indexed 1 + refused 3"
    assert set(screen.problems["kind"]) == {"conflicting rows", "no table row"}


def test_tables_among_the_images_that_nobody_named_are_named(tmp_path: Path) -> None:
    root = lab(tmp_path, {}, plates=("P1", "P2"))
    for plate in ("P1", "P2"):
        (root / "images" / plate / "wells.csv").write_text("well,perturbation\nA01,x\n")
    (root / "images" / "screen").mkdir()
    for name in ("screen.json", "problems.csv"):
        (root / "images" / "screen" / name).write_text("{}")
    screen = index_images(root, tables=None)
    (remark,) = screen.problems.to_dict("records")
    assert (remark["kind"], remark["found"], remark["count"]) == ("table not read", "P1/wells.csv, P2/wells.csv", 2)
    assert remark["fix"].endswith(f"use --tables {root / 'images' / 'P1' / 'wells.csv'}.")


def test_tables_of_sites_with_one_header_are_read_as_one(lab_table: Write) -> None:
    header = ("plate", "well", "perturbation", "DNA", "dose")
    for plate in ("P1", "P2", "P3"):
        rows = [(plate, well, f"{plate} {well}", f"images/{plate}{well}.tif", "1") for well in ("A01", "A02")]
        folder = lab_table([header, *rows], name=f"{plate}.csv").parent
    screen = index(folder, layout="table", channels=["DNA"], hash_files=False)
    assert conservation_line(screen) == "found 6 = indexed 6 + refused 0"
    assert screen.sites["perturbation"].tolist() == [f"P{k} A0{n}" for k in (1, 2, 3) for n in (1, 2)]
    assert [table["path"] for table in screen.metadata.provenance["tables"]] == ["P1.csv", "P2.csv", "P3.csv"]
    (folder / "P3.csv").write_text((folder / "P3.csv").read_text().replace("P3,A02", "P1,A02"))
    screen = index(folder, layout="table", channels=["DNA"], hash_files=False)
    assert conservation_line(screen) == "found 6 = indexed 4 + refused 2"
    refusals = screen.problems[screen.problems["severity"] == "refused"]
    assert refusals[["kind", "file", "row"]].to_numpy().tolist() == [
        ["conflicting rows", "P1.csv", "3"],
        ["conflicting rows", "P3.csv", "3"],
    ]
    (folder / "other.csv").write_text("plate,well\nP1,A01\n")
    with pytest.raises(ScreenError, match=r"several tables: P1.csv, P2.csv, P3.csv, other.csv. Name the table"):
        index(folder, layout="table", channels=["DNA"])
