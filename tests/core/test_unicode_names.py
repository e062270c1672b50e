"""Names in two Unicode forms are one name everywhere; files are opened by their own form."""

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distangle.core.unicode_names import normalize_name, path_on_disk
from distangle.screen import Screen, conservation_line, hold_out, index

Write = Callable[..., Path]
NFC, NFD = "NFC", "NFD"


def form(name: str, text: str) -> str:
    return unicodedata.normalize(name, text)  # type: ignore[arg-type]


PAIRS = [
    (form(NFC, "Céfadroxil"), form(NFD, "Céfadroxil")),
    ("10 \u00b5M taxol", "10 \u03bcM taxol"),
    ("DMSO\u00a01%", "DMSO 1% "),
    ("\u212bngström", "\u00c5ngström"),
    ("PFI\u20111", "PFI-1"),
    ("taxol\u200b", "taxol"),
    (form(NFC, "ガラス"), form(NFD, "ガラス")),
]


def index_table(path: Path, **options: Any) -> Screen:
    return index(path, layout="table", tables_only=True, **options)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_forms_of_a_name_are_one_class_and_reported(lab_table: Write, one: str, other: str) -> None:
    header = ("experiment", "plate", "well", "perturbation", "moa")
    rows = [("E1", one, "A01", one, other), ("E2", other, "A01", other, one), ("E1", other, "A02", "x", "y")]
    screen = index_table(lab_table([header, *rows]), controls={"negative_control": [other], "positive_control": ["x"]})
    plain = normalize_name(one)
    assert screen.metadata.perturbations == tuple(sorted((plain, "x"), key=str.lower))
    assert set(screen.sites["plate"]) == {plain}
    assert set(screen.sites["moa"]) == {plain, "y"}
    assert screen.sites["role"].tolist() == ["negative_control", "positive_control", "negative_control"]
    kinds = screen.problems.set_index("kind")["found"]
    assert ascii(one.strip())[1:-1] in kinds["one name in several forms"]
    folds = hold_out(screen, column="moa", values=[one], force=True)
    assert set(folds.of(screen)) == {"train", "held_out"}


def test_names_of_columns_and_what_is_typed_meet_in_any_form(lab_table: Write) -> None:
    header = ("plate", form(NFD, "Näpfchen"), "dose (\u00b5M)", form(NFD, "Färbung"))
    table = lab_table([header, ("p", "A01", "x", "images/a.tif"), ("p", "A02", "y", "images/b.tif")])
    mapping = {"well": form(NFC, "Näpfchen"), "perturbation": "dose (\u03bcM)"}
    screen = index(table, layout="table", channels=[form(NFC, "DNA=Färbung")], mapping=mapping, hash_files=False)
    assert screen.metadata.perturbations == ("x", "y")


@pytest.mark.parametrize(("name_form", "on_disk"), [(NFC, NFD), (NFD, NFC)])
def test_a_table_finds_files_of_another_form_and_keeps_theirs(lab_table: Write, name_form: str, on_disk: str) -> None:
    folder, name = "images/Größe 5 \u00b5m", "Zelle_ä.tif"
    rows = [("p", "A01", "x", form(name_form, f"{folder}/{name}"))]
    table = lab_table([("plate", "well", "perturbation", "DNA"), *rows])
    written_path = table.parent / form(name_form, f"{folder}/{name}")
    image_file = table.parent / form(on_disk, f"{folder}/{name}")
    image_file.parent.mkdir(parents=True, exist_ok=True)
    written_path.rename(image_file)
    if written_path.parent != image_file.parent:
        written_path.parent.rmdir()
    screen = index(table, layout="table", channels=["DNA"], hash_files=False)
    assert screen.sites["path_1"].tolist() == [form(on_disk, f"{folder}/{name}")]
    assert screen.image_paths(0)[0].is_file()
    assert screen.problems.empty


def test_load_data_finds_its_folder_and_files_in_another_form(tmp_path: Path) -> None:
    plate = "Plaque été"
    folder = tmp_path / "in" / "images" / form(NFD, plate)
    folder.mkdir(parents=True)
    (folder / form(NFD, "é1.tif")).write_text("x")
    head = "FileName_DNA,PathName_DNA,Metadata_Plate,Metadata_Well"
    row = form(NFC, f"é1.tif,/home/u/images/{plate},{plate},A01")
    (tmp_path / "in" / "load_data.csv").write_text(f"{head}\n{row}\n", encoding="utf-8")
    screen = index(tmp_path / "in", layout="cellpainting", hash_files=False)
    assert conservation_line(screen) == "found 1 = indexed 1 + refused 0"
    assert screen.sites["path_1"].tolist() == [f"images/{form(NFD, plate)}/{form(NFD, 'é1.tif')}"]
    assert (screen.sites["plate"][0], len(screen.problems)) == (form(NFC, plate), 0)


@pytest.mark.parametrize(("in_table", "on_disk"), [(NFC, NFD), (NFD, NFC)])
def test_a_folder_of_another_form_is_the_plate_of_the_table(tmp_path: Path, in_table: str, on_disk: str) -> None:
    folder = tmp_path / "in" / form(on_disk, "Platte_ü")
    folder.mkdir(parents=True)
    (folder / "A01_w1.tif").write_text("x")
    (tmp_path / "wells.csv").write_text(form(in_table, "plate,well,perturbation\nPlatte_ü,A01,x\n"), encoding="utf-8")
    options = {"tables": tmp_path / "wells.csv", "pattern": "{plate}/{well}_w{channel}.tif"}
    screen = index(tmp_path / "in", layout="folder", hash_files=False, **options)  # type: ignore[arg-type]
    assert (screen.sites["perturbation"].tolist(), len(screen.problems)) == (["x"], 0)
    assert screen.sites["path_1"][0] == f"{folder.name}/A01_w1.tif"


def test_of_two_files_that_differ_by_form_alone_neither_is_guessed(tmp_path: Path) -> None:
    for name in (form(NFC, "é1.tif"), form(NFD, "é1.tif"), "10\u00b5.tif"):
        (tmp_path / name).write_text(name)
    assert path_on_disk(tmp_path, form(NFD, "é1.tif")) == form(NFD, "é1.tif")
    assert path_on_disk(tmp_path, "10\u03bc.tif") == "10\u00b5.tif"
    third = "e\u0301\u200b1.tif"  # in neither of the two forms
    assert path_on_disk(tmp_path, third) == third
    assert path_on_disk(tmp_path, "gone/é.tif") == "gone/é.tif"
