"""RxRx folders with faults: what is refused, with file, line and well."""

import os
from pathlib import Path

import pytest

from distangle.screen import conservation_line
from rxrx1_lab import PLATE, RxRx1Lab, index_lab, problem


def test_a_missing_channel_refuses_the_site_by_name_and_shifts_none(rxrx1: RxRx1Lab) -> None:
    (rxrx1.root / PLATE / "B03_s2_w3.png").unlink()
    (rxrx1.root / PLATE / "B03_s2_w6.png").unlink()
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 6 = indexed 5 + refused 1"
    row = problem(screen, "missing channel")
    assert row[["severity", "experiment", "plate", "well", "site"]].tolist() == ["refused", "HUVEC-01", "1", "B03", "2"]
    assert (row["channel"], row["found"]) == ("3, 6", "channels 1, 2, 4, 5")
    assert row["expected"] == "channels 1, 2, 3, 4, 5, 6"
    assert row["fix"] == "Copy B03_s2_w3.png, B03_s2_w6.png and index again."
    site = screen.sites[(screen.sites["well"] == "B03") & (screen.sites["site"] == 1)].iloc[0]
    assert site["path_3"].endswith("B03_s1_w3.png")


def test_missing_wells_in_the_middle_move_no_other_well(rxrx1: RxRx1Lab) -> None:
    for path in (rxrx1.root / PLATE).glob("B03_*"):
        path.unlink()
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 5 = indexed 4 + refused 1"
    assert screen.sites["perturbation"].tolist() == ["UNTREATED"] * 2 + ["sirna_10"] * 2
    assert all(row["well"] in row["path_1"] for _, row in screen.sites.iterrows())
    row = problem(screen, "no image")
    assert row[["file", "row", "well", "count"]].tolist() == ["train.csv", "2", "B03", 1]
    assert row["expected"] == "train/HUVEC-01/Plate1/B03_s1_w1.png"


@pytest.mark.parametrize("top", ["images", ""])
def test_an_absent_image_is_expected_where_the_others_lie(rxrx1: RxRx1Lab, top: str) -> None:
    for path in (rxrx1.root / PLATE).glob("B03_*"):
        path.unlink()
    if top:
        (rxrx1.root / "train").rename(rxrx1.root / top)
    else:
        (rxrx1.root / "train" / "HUVEC-01").rename(rxrx1.root / "HUVEC-01")
    row = problem(index_lab(rxrx1), "no image")
    assert row["expected"] == f"{top}/HUVEC-01/Plate1/B03_s1_w1.png".removeprefix("/")


def test_a_plate_whose_table_moved_is_refused_whole_and_the_move_is_said(rxrx1: RxRx1Lab) -> None:
    wells = [(row, column) for row in "BCD" for column in (4, 5, 6, 7)]
    for row, column in wells:
        rxrx1.site("test/RPE-09/Plate2", f"{row}{column:02d}", 1)
    rows = [("RPE-09", "2", f"{row}{column + 1:02d}", f"sirna_{column}") for row, column in wells]
    rxrx1.write(
        "test.csv", [("id_code", "experiment", "plate", "well", "sirna"), *(("_".join(r[:3]), *r) for r in rows)]
    )
    screen = index_lab(rxrx1)
    assert set(screen.sites["experiment"]) == {"HUVEC-01"}  # the other plates stay
    refusals = screen.problems[screen.problems["plate"] == "2"]
    assert refusals["kind"].value_counts().to_dict() == {"plate map shifted": 9, "no table row": 3, "no image": 3}
    assert set(refusals["fix"]) == {"All wells would match if the plate map were shifted by 1 column back: correct it."}
    of_b05 = refusals[(refusals["well"] == "B05") & (refusals["kind"] == "plate map shifted")].iloc[0]
    assert of_b05["found"] == "'sirna_4' in test.csv line 2"
    assert conservation_line(screen) == "found 21 = indexed 6 + refused 15"


def test_a_plate_without_any_image_is_one_row_that_counts_its_wells(rxrx1: RxRx1Lab) -> None:
    rxrx1.table(
        "test_controls.csv", [("RPE-09", "2", f"C{k:02d}", "sirna_5", "positive_control") for k in range(2, 20)]
    )
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 24 = indexed 6 + refused 18"
    row = problem(screen, "no image")
    assert row[["experiment", "plate", "well", "count"]].tolist() == ["RPE-09", "2", "", 18]
    assert row["found"] == "no image of the whole plate (18 rows)"


def test_images_without_a_row_are_refused_site_by_site_or_a_whole_plate_at_once(rxrx1: RxRx1Lab) -> None:
    rxrx1.site(PLATE, "C07", 1)
    for well in ("C08", "C09"):
        rxrx1.site("train/HUVEC-02/Plate4", well, 1)
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 9 = indexed 6 + refused 3"
    rows = screen.problems[screen.problems["kind"] == "no table row"]
    assert rows[["plate", "well", "count"]].to_numpy().tolist() == [["1", "C07", 1], ["4", "", 2]]
    assert "controls have tables of their own" in rows.iloc[0]["fix"]


def test_the_same_row_twice_counts_once(rxrx1: RxRx1Lab) -> None:
    rows = [
        ("HUVEC-01", "1", "B03", "sirna_2"),
        ("HUVEC-01", "1", "B04", "sirna_10"),
        ("HUVEC-01", "1", "B03", "sirna_2"),
    ]
    rxrx1.table("train.csv", rows)
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 7 = indexed 6 + refused 1"
    row = problem(screen, "duplicate row")
    assert (row["row"], row["found"]) == ("4", "the same as train.csv line 2")


def test_rows_in_conflict_refuse_each_other_and_their_images(rxrx1: RxRx1Lab) -> None:
    rxrx1.table("train.csv", [("HUVEC-01", "1", "B03", "sirna_2"), ("HUVEC-01", "1", "b3", "sirna_10")])
    for path in (rxrx1.root / PLATE).glob("B04_*"):
        path.unlink()
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 6 = indexed 2 + refused 4"
    rows = screen.problems[screen.problems["kind"] == "conflicting rows"]
    assert rows["row"].tolist() == ["2", "3"]
    assert rows["found"].tolist() == ["in conflict with train.csv line 3", "in conflict with train.csv line 2"]
    images = screen.problems[screen.problems["kind"] == "no table row"]
    assert images["found"].tolist() == ["images of a well whose rows were refused"] * 2


def test_images_of_a_refused_row_are_told_so_however_its_well_is_spelled(rxrx1: RxRx1Lab) -> None:
    rxrx1.table("train.csv", [("HUVEC-01", "one", "b3", "sirna_2"), ("HUVEC-01", "1", "B04", "sirna_10")])
    rxrx1.table("train_controls.csv", [("HUVEC-01", "1", "b3", "sirna_2"), ("HUVEC-01", "1", "B3", "sirna_10")])
    screen = index_lab(rxrx1)
    images = screen.problems[(screen.problems["kind"] == "no table row") & (screen.problems["well"] == "B03")]
    assert images["found"].tolist() == ["images of a well whose rows were refused"] * 2
    assert set(images["fix"]) == {"Correct the rows of this well."}


def test_one_site_in_two_folders_is_refused_twice(rxrx1: RxRx1Lab) -> None:
    rxrx1.site("images/HUVEC-01/Plate1", "B03", 1)
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 7 = indexed 5 + refused 2"
    rows = screen.problems[screen.problems["kind"] == "conflicting rows"]
    assert rows["fix"].tolist() == ["Keep each site in one folder only."] * 2
    assert "images/HUVEC-01/Plate1/B03_s1_w1.png" in "".join(rows["found"])


def test_two_files_for_a_channel_refuse_the_site(rxrx1: RxRx1Lab) -> None:
    (rxrx1.root / PLATE / "b3_s1_w2.PNG").write_text("x")
    row = problem(index_lab(rxrx1), "two files for a channel")
    assert row[["well", "site", "found"]].tolist() == ["B03", "1", "B03_s1_w2.png, b3_s1_w2.PNG"]


def test_names_that_nearly_fit_are_remarked_on_and_others_ignored(rxrx1: RxRx1Lab) -> None:
    for name in ("B05_s1_w7.png", "B05_s0_w1.png", "B05-s1-w1.png", "B05_s1_w1.tif", "Thumbs.db", "._B05_s1_w1.png"):
        (rxrx1.root / PLATE / name).write_text("x")
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 6 = indexed 6 + refused 0"
    assert screen.problems["severity"].unique().tolist() == ["warning"]
    assert screen.problems["found"].tolist() == ["B05-s1-w1.png", "B05_s0_w1.png", "B05_s1_w1.tif", "B05_s1_w7.png"]
    assert screen.problems["file"].tolist()[0] == f"{PLATE}/B05-s1-w1.png"


def test_a_name_with_a_line_break_or_stray_bytes_stays_one_line(rxrx1: RxRx1Lab) -> None:
    (rxrx1.root / PLATE / "B05\n_s1_w1.png").write_text("x")
    with Path(os.fsdecode(os.fsencode(rxrx1.root / PLATE) + b"/B06\xff_s1_w1.png")).open("w") as file:
        file.write("x")
    assert index_lab(rxrx1).problems["found"].tolist() == [r"B05\n_s1_w1.png", r"B06\udcff_s1_w1.png"]


def test_links_in_a_circle_are_not_followed_and_dangling_ones_are_refused(rxrx1: RxRx1Lab) -> None:
    (rxrx1.root / "train" / "HUVEC-01" / "Plate2").symlink_to("Plate2")
    (rxrx1.root / "train" / "HUVEC-01" / "again").symlink_to("..")
    (rxrx1.root / PLATE / "B03_s1_w4.png").unlink()
    (rxrx1.root / PLATE / "B03_s1_w4.png").symlink_to("nowhere.png")
    os.mkfifo(rxrx1.root / PLATE / "pipe.png")
    (rxrx1.root / PLATE / "B04_s1_w4.png").unlink()
    os.mkfifo(rxrx1.root / PLATE / "B04_s1_w4.png")
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 6 = indexed 4 + refused 2"
    assert problem(screen, "folder not listed")["found"] == "Too many levels of symbolic links"
    assert problem(screen, "missing channel")["found"] == f"no file {PLATE}/B03_s1_w4.png"
    assert problem(screen, "missing channel")["channel"] == "RNA"
    assert problem(screen, "unreadable file")["found"] == f"{PLATE}/B04_s1_w4.png: not a regular file"


@pytest.mark.parametrize(
    ("row", "kind", "value"),
    [
        (("HUVEC-01", "one", "B09", "sirna_3"), "bad plate", "'one'"),
        (("HUVEC-01", "1", "9B", "sirna_3"), "bad well", "'9B'"),
        (("", "1", "B09", "sirna_3"), "no experiment", "''"),
        (("HUVEC-01", "1", "B09", "sirna_3", "negatve"), "bad role", "'negatve'"),
    ],
)
def test_a_row_that_says_nothing_usable_is_refused_by_line(
    rxrx1: RxRx1Lab, row: tuple[str, ...], kind: str, value: str
) -> None:
    rxrx1.table("test_controls.csv", [row])
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 7 = indexed 6 + refused 1"
    assert problem(screen, kind)[["file", "row", "found"]].tolist() == ["test_controls.csv", "2", value]


def test_a_well_off_the_plate_is_refused_with_its_images(rxrx1: RxRx1Lab) -> None:
    rxrx1.table("test_controls.csv", [("HUVEC-01", "1", "Q01", "sirna_3", "positive_control")])
    rxrx1.site(PLATE, "Q01", 1)
    screen = index_lab(rxrx1, plate_rows=16, plate_columns=24)
    assert conservation_line(screen) == "found 7 = indexed 6 + refused 1"
    row = problem(screen, "well off the plate")
    assert (row["found"], row["expected"]) == ("'Q01'", "a well from A01 to P24")


def test_a_ragged_row_is_refused_with_its_line(rxrx1: RxRx1Lab) -> None:
    with (rxrx1.root / "train.csv").open("a") as file:
        file.write("HUVEC-01_1_B05,HUVEC-01,1,B05,sirna_3,\n")
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 7 = indexed 6 + refused 1"
    assert problem(screen, "ragged row")["row"] == "4"
