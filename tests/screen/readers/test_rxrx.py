import os
from pathlib import Path

import pandas as pd
import pytest

from distangle.errors import ScreenError
from distangle.screen import Screen, conservation_line, index
from rxrx1_lab import RxRx1Lab

PLATE = "train/HUVEC-01/Plate1"


def indexed(lab: RxRx1Lab, **options: object) -> Screen:
    return index(lab.root, layout="rxrx1", **options)  # type: ignore[arg-type]


def problem(screen: Screen, kind: str) -> pd.Series:
    found = screen.problems[screen.problems["kind"] == kind]
    assert len(found) == 1, screen.problems["kind"].tolist()
    return found.iloc[0]


def test_a_site_brings_its_perturbation_role_cell_type_and_six_files(rxrx1: RxRx1Lab) -> None:
    screen = indexed(rxrx1)
    assert conservation_line(screen) == "found 6 = indexed 6 + refused 0"
    row = screen.sites.iloc[2]
    assert (row["experiment"], row["plate"], row["well"], row["site"]) == ("HUVEC-01", "1", "B03", 1)
    assert (row["row"], row["column"]) == (1, 2)
    assert (row["cell_type"], row["perturbation"], row["role"]) == ("HUVEC", "sirna_2", "treatment")
    assert (row["split"], row["id_code"]) == ("train", "HUVEC-01_1_B03")
    assert [row[f"path_{k}"] for k in range(1, 7)] == [f"{PLATE}/B03_s1_w{k}.png" for k in range(1, 7)]
    assert screen.sites["role"].tolist() == ["negative_control"] * 2 + ["treatment"] * 4
    assert (screen.card.plate_rows, screen.card.plate_columns) == (16, 24)


@pytest.mark.parametrize("folder", ["images/HUVEC-01/Plate1", "HUVEC-01/Plate1", "test/HUVEC-01/plate01"])
def test_images_are_found_under_every_folder_that_is_in_use(tmp_path: Path, folder: str) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    lab.table("train.csv", [("HUVEC-01", "1", "B03", "sirna_2")])
    lab.site(folder, "B03", 1)
    assert indexed(lab).sites["path_6"].tolist() == [f"{folder}/B03_s1_w6.png"]


def test_tables_may_lie_elsewhere(rxrx1: RxRx1Lab, tmp_path: Path) -> None:
    elsewhere = tmp_path / "tables"
    elsewhere.mkdir()
    for name in ("train.csv", "train_controls.csv"):
        (rxrx1.root / name).rename(elsewhere / name)
    assert indexed(rxrx1, tables=elsewhere).card.indexed == 6
    only = indexed(rxrx1, tables=elsewhere / "train_controls.csv")
    assert only.sites["well"].tolist() == ["B02", "B02"]
    with pytest.raises(
        ScreenError, match=r"No table of RxRx1 in .*rxrx1: expected any of train.csv, .*--tables FOLDER"
    ):
        indexed(rxrx1)


def test_the_integers_of_kaggle_v1_name_the_controls(tmp_path: Path) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    rows = [("U2OS-03", "1", f"B0{k}", sirna) for k, sirna in enumerate(["1138", "1137", "1108", "1107", "0"], 2)]
    lab.table("train.csv", rows)
    screen = indexed(lab, tables_only=True)
    assert screen.sites["role"].tolist() == ["negative_control"] + ["positive_control"] * 2 + ["treatment"] * 2
    assert screen.card.perturbations == ("0", "1107", "1108", "1137", "1138")
    assert screen.card.provenance["sirna_coding"] == "integer"


def test_two_codings_of_the_sirna_are_never_one_class_list(rxrx1: RxRx1Lab) -> None:
    rxrx1.table("train_controls.csv", [("HUVEC-01", "1", "B02", "1138", "negative_control")])
    with pytest.raises(ScreenError) as caught:
        indexed(rxrx1)
    assert "train_controls.csv line 2 has '1138' (integers, Kaggle v1)" in str(caught.value)
    assert "train.csv line 2 has 'sirna_2' (names, v2)" in str(caught.value)


def test_test_wells_are_treatments_without_a_name(rxrx1: RxRx1Lab) -> None:
    rxrx1.write("test.csv", [("id_code", "experiment", "plate", "well"), ("HUVEC-17_3_C05", "HUVEC-17", "3", "C05")])
    rxrx1.site("test/HUVEC-17/Plate3", "C05", 2)
    row = indexed(rxrx1).sites.iloc[-1]
    assert (row["perturbation"], row["role"], row["split"]) == ("", "treatment", "test")


def test_the_official_table_has_a_row_per_site(tmp_path: Path) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    header = "site_id,well_id,cell_type,dataset,experiment,plate,well,site,well_type,sirna,sirna_id".split(",")
    lab.write(
        "metadata.csv",
        [
            header,
            "a,b,HEPG2,test,HEPG2-08,1,B02,1,negative_control,EMPTY,1138".split(","),
            "a,b,HEPG2,test,HEPG2-08,1,B02,2,negative_control,EMPTY,1138".split(","),
            "a,b,HEPG2,train,HEPG2-08,1,B03,1,treatment,s21721,855".split(","),
        ],
    )
    lab.site("images/HEPG2-08/Plate1", "B02", 2)
    lab.site("images/HEPG2-08/Plate1", "B03", 1)
    screen = indexed(lab)
    assert conservation_line(screen) == "found 3 = indexed 2 + refused 1"
    assert screen.sites["site"].tolist() == [2, 1]
    assert screen.sites["sirna_id"].tolist() == ["1138", "855"]
    assert screen.sites["split"].tolist() == ["test", "train"]
    assert problem(screen, "no image")[["row", "well", "site"]].tolist() == ["2", "B02", "1"]
    lab.table("train.csv", [("HEPG2-08", "1", "B03", "s21721")])
    with pytest.raises(ScreenError, match=r"contains metadata.csv and train.csv, which list the same wells"):
        indexed(lab)


def test_one_row_in_two_splits_is_a_contradiction(tmp_path: Path) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    for name in ("train_controls.csv", "test_controls.csv"):
        lab.table(
            name,
            [
                ("RPE-01", "1", "B02", "1138", "negative_control"),
                ("RPE-01", "1", name[1] + "3", "7", "positive_control"),
            ],
        )
    lab.site("train/RPE-01/Plate1", "B02", 1)
    lab.site("train/RPE-01/Plate1", "R03", 1)
    screen = indexed(lab, plate_rows=32, plate_columns=48)
    twice = screen.problems[screen.problems["kind"] == "conflicting rows"]
    assert twice["well"].tolist() == ["B02", "B02"]


def test_images_beside_their_plates_are_named(tmp_path: Path) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    lab.table("train.csv", [("HUVEC-01", "1", "B02", "1")])
    lab.site("train/HUVEC-01/Plate1", "B02", 1)
    for stray in ("stray.png", "train/x.png", "train/HUVEC-01/y.png", "train/HUVEC-01/Plate1/sub/z.png"):
        (lab.root / stray).parent.mkdir(exist_ok=True)
        (lab.root / stray).write_text("x")
    lab.site("train/HUVEC-01/PlateX", "B02", 1)
    lab.site("validation/HUVEC-02/Plate1", "B02", 1)
    (lab.root / "train/HUVEC-01/notes").mkdir()
    screen = indexed(lab)
    strays = screen.problems[screen.problems["kind"] == "name not recognized"]
    assert set(strays["severity"]) == {"warning"}
    assert sorted(strays["file"]) == [
        *[".", "train", "train/HUVEC-01", "train/HUVEC-01/Plate1/sub", "train/HUVEC-01/PlateX", "validation/HUVEC-02"]
    ]
    assert screen.sites["path_1"].tolist() == ["train/HUVEC-01/Plate1/B02_s1_w1.png"]


def test_a_row_whose_id_is_that_of_another_well_is_refused(tmp_path: Path) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    ids = "site_id,well_id,cell_type,dataset,experiment,plate,well,site,well_type,sirna".split(",")
    good = ["HEPG2-08_1_B02_1", "HEPG2-08_1_B02", "HEPG2", "train", "HEPG2-08", "1", "b2", "1", "treatment", "s1"]
    wrong = [[*good], [*good], [*good]]
    wrong[0][7] = "2"  # the second site under the id of the first
    wrong[1][0], wrong[1][6] = "", "B03"
    wrong[2][0], wrong[2][5] = "", "2"
    lab.write("metadata.csv", [ids, good, *wrong])
    for plate, well, site in (("1", "B02", 1), ("1", "B02", 2), ("1", "B03", 1), ("2", "B02", 1)):
        lab.site(f"images/HEPG2-08/Plate{plate}", well, site)
    screen = indexed(lab)
    assert screen.sites[["plate", "well", "site"]].to_numpy().tolist() == [["1", "B02", 1]]
    refused = screen.problems[screen.problems["kind"] == "row contradicts its id"]
    assert refused["row"].tolist() == ["3", "4", "5"]
    assert refused["found"].tolist() == ["site_id HEPG2-08_1_B02_1", "well_id HEPG2-08_1_B02", "well_id HEPG2-08_1_B02"]


def test_rxrx2_has_treatments_with_doses_on_plates_of_1536_wells(tmp_path: Path) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    lab.write(
        "rxrx2-metadata.csv",
        [
            "site_id,well_id,cell_type,experiment,plate,well,site,treatment,treatment_conc".split(","),
            "a,b,HUVEC,HUVEC-1,1,AA02,2,IL-6,0.1".split(","),
            "a,b,HUVEC,HUVEC-1,1,B03,4,EMPTY,0".split(","),
        ],
    )
    lab.site("images/HUVEC-1/Plate1", "AA02", 2)
    lab.site("images/HUVEC-1/Plate1", "B03", 4)
    screen = index(lab.root)
    assert conservation_line(screen) == "found 2 = indexed 2 + refused 0"
    assert screen.card.provenance["recognised_by"] == "rxrx2-metadata.csv"
    assert (screen.card.plate_rows, screen.card.plate_columns) == (32, 48)
    rows = screen.sites.set_index("well")
    assert rows.loc["AA02", ["perturbation", "role", "treatment_conc", "cell_type"]].tolist() == [
        *("IL-6", "treatment", "0.1", "HUVEC")
    ]
    assert (rows.loc["B03", "role"], rows.loc["B03", "site"]) == ("negative_control", 4)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata_rxrx3.csv", "metadata_rxrx3_core.csv"])
def test_rxrx3_names_its_columns_otherwise_and_has_a_row_per_well(tmp_path: Path, name: str) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    lab.write(
        name,
        [
            "well_id,experiment_name,plate,address,gene,treatment,SMILES,concentration,perturbation_type,cell_type".split(
                ","
            ),
            ["gene-079_8_H29", "gene-079", "8", "H29", "RPLP2", "RPLP2_guide_4", "", "", "CRISPR", "HUVEC"],
            ["gene-079_8_P28", "gene-079", "8", "P28", "EMPTY_control", "EMPTY_control", "", "", "CRISPR", "HUVEC"],
            [
                "compound-1_2_AD27",
                "compound-1",
                "2",
                "AD27",
                "",
                "Narlaprevir",
                "C(=O)N,1",
                "0.25",
                "COMPOUND",
                "HUVEC",
            ],
            ["compound-1_2_B08", "compound-1", "2", "B08", "", "CRISPR_control", "", "", "COMPOUND", "HUVEC"],
        ],
    )
    for folder, well in (("gene-079/Plate8", "H29"), ("gene-079/Plate8", "P28"), ("compound-1/Plate2", "AD27"),
                         ("compound-1/Plate2", "B08")):  # fmt: skip
        lab.site(f"images/{folder}", well, 1)
    screen = index(lab.root)
    assert conservation_line(screen) == "found 4 = indexed 4 + refused 0"
    assert (screen.card.layout, screen.card.plate_rows) == ("rxrx1", 32)
    rows = screen.sites.set_index("well")
    assert rows["perturbation"].to_dict() == {
        "H29": "RPLP2_guide_4", "P28": "EMPTY_control", "AD27": "Narlaprevir", "B08": "CRISPR_control"
    }  # fmt: skip
    assert rows["role"].to_dict() == {
        "H29": "treatment", "P28": "negative_control", "AD27": "treatment", "B08": "unknown"
    }  # fmt: skip
    assert rows.loc["AD27", ["experiment", "plate", "site", "SMILES", "concentration"]].tolist() == [
        *("compound-1", "2", 1, "C(=O)N,1", "0.25")
    ]


def test_a_missing_channel_refuses_the_site_by_name_and_shifts_none(rxrx1: RxRx1Lab) -> None:
    (rxrx1.root / PLATE / "B03_s2_w3.png").unlink()
    (rxrx1.root / PLATE / "B03_s2_w6.png").unlink()
    screen = indexed(rxrx1)
    assert conservation_line(screen) == "found 6 = indexed 5 + refused 1"
    row = problem(screen, "missing channel")
    assert row[["severity", "experiment", "plate", "well", "site"]].tolist() == ["refused", "HUVEC-01", "1", "B03", "2"]
    assert (row["channel"], row["found"]) == ("3, 6", "channels 1, 2, 4, 5")
    assert row["expected"] == "channels 1, 2, 3, 4, 5, 6"
    assert row["fix"] == "Copy B03_s2_w3.png, B03_s2_w6.png and index again."
    kept = screen.sites[(screen.sites["well"] == "B03") & (screen.sites["site"] == 1)].iloc[0]
    assert kept["path_3"].endswith("B03_s1_w3.png")


def test_missing_wells_in_the_middle_move_no_other_well(rxrx1: RxRx1Lab) -> None:
    for path in (rxrx1.root / PLATE).glob("B03_*"):
        path.unlink()
    screen = indexed(rxrx1)
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
    row = problem(indexed(rxrx1), "no image")
    assert row["expected"] == f"{top}/HUVEC-01/Plate1/B03_s1_w1.png".removeprefix("/")


def test_a_plate_whose_table_moved_is_refused_whole_and_the_move_is_said(rxrx1: RxRx1Lab) -> None:
    wells = [(row, column) for row in "BCD" for column in (4, 5, 6, 7)]
    for row, column in wells:
        rxrx1.site("test/RPE-09/Plate2", f"{row}{column:02d}", 1)
    rows = [("RPE-09", "2", f"{row}{column + 1:02d}", f"sirna_{column}") for row, column in wells]
    rxrx1.write(
        "test.csv", [("id_code", "experiment", "plate", "well", "sirna"), *(("_".join(r[:3]), *r) for r in rows)]
    )
    screen = indexed(rxrx1)
    assert set(screen.sites["experiment"]) == {"HUVEC-01"}  # the other plates stay
    refused = screen.problems[screen.problems["plate"] == "2"]
    assert refused["kind"].value_counts().to_dict() == {"plate map shifted": 9, "no table row": 3, "no image": 3}
    assert set(refused["fix"]) == {"All wells would match if the plate map were shifted by 1 column back: correct it."}
    of_b05 = refused[(refused["well"] == "B05") & (refused["kind"] == "plate map shifted")].iloc[0]
    assert of_b05["found"] == "'sirna_4' in test.csv line 2"
    assert conservation_line(screen) == "found 21 = indexed 6 + refused 15"


def test_a_plate_without_any_image_is_one_row_that_counts_its_wells(rxrx1: RxRx1Lab) -> None:
    rxrx1.table(
        "test_controls.csv", [("RPE-09", "2", f"C{k:02d}", "sirna_5", "positive_control") for k in range(2, 20)]
    )
    screen = indexed(rxrx1)
    assert conservation_line(screen) == "found 24 = indexed 6 + refused 18"
    row = problem(screen, "no image")
    assert row[["experiment", "plate", "well", "count"]].tolist() == ["RPE-09", "2", "", 18]
    assert row["found"] == "no image of the whole plate (18 rows)"


def test_images_without_a_row_are_refused_site_by_site_or_a_whole_plate_at_once(rxrx1: RxRx1Lab) -> None:
    rxrx1.site(PLATE, "C07", 1)
    for well in ("C08", "C09"):
        rxrx1.site("train/HUVEC-02/Plate4", well, 1)
    screen = indexed(rxrx1)
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
    screen = indexed(rxrx1)
    assert conservation_line(screen) == "found 7 = indexed 6 + refused 1"
    row = problem(screen, "duplicate row")
    assert (row["row"], row["found"]) == ("4", "the same as train.csv line 2")


def test_rows_in_conflict_refuse_each_other_and_their_images(rxrx1: RxRx1Lab) -> None:
    rxrx1.table("train.csv", [("HUVEC-01", "1", "B03", "sirna_2"), ("HUVEC-01", "1", "b3", "sirna_10")])
    for path in (rxrx1.root / PLATE).glob("B04_*"):
        path.unlink()
    screen = indexed(rxrx1)
    assert conservation_line(screen) == "found 6 = indexed 2 + refused 4"
    rows = screen.problems[screen.problems["kind"] == "conflicting rows"]
    assert rows["row"].tolist() == ["2", "3"]
    assert rows["found"].tolist() == ["in conflict with train.csv line 3", "in conflict with train.csv line 2"]
    images = screen.problems[screen.problems["kind"] == "no table row"]
    assert images["found"].tolist() == ["images of a well whose rows were refused"] * 2


def test_images_of_a_refused_row_are_told_so_however_its_well_is_spelled(rxrx1: RxRx1Lab) -> None:
    rxrx1.table("train.csv", [("HUVEC-01", "one", "b3", "sirna_2"), ("HUVEC-01", "1", "B04", "sirna_10")])
    rxrx1.table("train_controls.csv", [("HUVEC-01", "1", "b3", "sirna_2"), ("HUVEC-01", "1", "B3", "sirna_10")])
    screen = indexed(rxrx1)
    images = screen.problems[(screen.problems["kind"] == "no table row") & (screen.problems["well"] == "B03")]
    assert images["found"].tolist() == ["images of a well whose rows were refused"] * 2
    assert set(images["fix"]) == {"Correct the rows of this well."}


def test_one_site_in_two_folders_is_refused_twice(rxrx1: RxRx1Lab) -> None:
    rxrx1.site("images/HUVEC-01/Plate1", "B03", 1)
    screen = indexed(rxrx1)
    assert conservation_line(screen) == "found 7 = indexed 5 + refused 2"
    rows = screen.problems[screen.problems["kind"] == "conflicting rows"]
    assert rows["fix"].tolist() == ["Keep each site in one folder only."] * 2
    assert "images/HUVEC-01/Plate1/B03_s1_w1.png" in "".join(rows["found"])


def test_two_files_for_a_channel_refuse_the_site(rxrx1: RxRx1Lab) -> None:
    (rxrx1.root / PLATE / "b3_s1_w2.PNG").write_text("x")
    row = problem(indexed(rxrx1), "two files for a channel")
    assert row[["well", "site", "found"]].tolist() == ["B03", "1", "B03_s1_w2.png, b3_s1_w2.PNG"]


def test_names_that_nearly_fit_are_remarked_on_and_others_ignored(rxrx1: RxRx1Lab) -> None:
    for name in ("B05_s1_w7.png", "B05_s0_w1.png", "B05-s1-w1.png", "B05_s1_w1.tif", "Thumbs.db", "._B05_s1_w1.png"):
        (rxrx1.root / PLATE / name).write_text("x")
    screen = indexed(rxrx1)
    assert conservation_line(screen) == "found 6 = indexed 6 + refused 0"
    assert screen.problems["severity"].unique().tolist() == ["warning"]
    assert screen.problems["found"].tolist() == ["B05-s1-w1.png", "B05_s0_w1.png", "B05_s1_w1.tif", "B05_s1_w7.png"]
    assert screen.problems["file"].tolist()[0] == f"{PLATE}/B05-s1-w1.png"


def test_a_name_with_a_line_break_or_stray_bytes_stays_one_line(rxrx1: RxRx1Lab) -> None:
    (rxrx1.root / PLATE / "B05\n_s1_w1.png").write_text("x")
    with Path(os.fsdecode(os.fsencode(rxrx1.root / PLATE) + b"/B06\xff_s1_w1.png")).open("w") as opened:
        opened.write("x")
    assert indexed(rxrx1).problems["found"].tolist() == [r"B05\n_s1_w1.png", r"B06\udcff_s1_w1.png"]


def test_links_in_a_circle_are_not_followed_and_dangling_ones_are_refused(rxrx1: RxRx1Lab) -> None:
    (rxrx1.root / "train" / "HUVEC-01" / "Plate2").symlink_to("Plate2")
    (rxrx1.root / "train" / "HUVEC-01" / "again").symlink_to("..")
    (rxrx1.root / PLATE / "B03_s1_w4.png").unlink()
    (rxrx1.root / PLATE / "B03_s1_w4.png").symlink_to("nowhere.png")
    os.mkfifo(rxrx1.root / PLATE / "pipe.png")
    (rxrx1.root / PLATE / "B04_s1_w4.png").unlink()
    os.mkfifo(rxrx1.root / PLATE / "B04_s1_w4.png")
    screen = indexed(rxrx1)
    assert conservation_line(screen) == "found 6 = indexed 4 + refused 2"
    assert problem(screen, "folder not listed")["found"] == "Too many levels of symbolic links"
    assert problem(screen, "missing channel")["found"] == f"no file {PLATE}/B03_s1_w4.png"
    assert problem(screen, "missing channel")["channel"] == "RNA"
    assert problem(screen, "unreadable file")["found"] == f"{PLATE}/B04_s1_w4.png: not a regular file"


@pytest.mark.parametrize(
    ("row", "kind", "found"),
    [
        (("HUVEC-01", "one", "B09", "sirna_3"), "bad plate", "'one'"),
        (("HUVEC-01", "1", "9B", "sirna_3"), "bad well", "'9B'"),
        (("", "1", "B09", "sirna_3"), "no experiment", "''"),
        (("HUVEC-01", "1", "B09", "sirna_3", "negatve"), "bad role", "'negatve'"),
    ],
)
def test_a_row_that_says_nothing_usable_is_refused_by_line(
    rxrx1: RxRx1Lab, row: tuple[str, ...], kind: str, found: str
) -> None:
    rxrx1.table("test_controls.csv", [row])
    screen = indexed(rxrx1)
    assert conservation_line(screen) == "found 7 = indexed 6 + refused 1"
    assert problem(screen, kind)[["file", "row", "found"]].tolist() == ["test_controls.csv", "2", found]


def test_a_well_off_the_plate_is_refused_with_its_images(rxrx1: RxRx1Lab) -> None:
    rxrx1.table("test_controls.csv", [("HUVEC-01", "1", "Q01", "sirna_3", "positive_control")])
    rxrx1.site(PLATE, "Q01", 1)
    screen = indexed(rxrx1, plate_rows=16, plate_columns=24)
    assert conservation_line(screen) == "found 7 = indexed 6 + refused 1"
    row = problem(screen, "well off the plate")
    assert (row["found"], row["expected"]) == ("'Q01'", "a well from A01 to P24")


def test_a_ragged_row_is_refused_with_its_line(rxrx1: RxRx1Lab) -> None:
    with (rxrx1.root / "train.csv").open("a") as opened:
        opened.write("HUVEC-01_1_B05,HUVEC-01,1,B05,sirna_3,\n")
    screen = indexed(rxrx1)
    assert conservation_line(screen) == "found 7 = indexed 6 + refused 1"
    assert problem(screen, "ragged row")["row"] == "4"


def test_columns_that_are_missing_are_named(rxrx1: RxRx1Lab) -> None:
    rxrx1.write("train.csv", [("experiment", "plate", "wel", "siRNA"), ("HUVEC-01", "1", "B03", "sirna_2")])
    with pytest.raises(ScreenError, match=r"train.csv lacks the columns 'well', 'sirna'. Did you mean 'wel'"):
        indexed(rxrx1)


def test_options_of_the_other_layout_are_not_swallowed(rxrx1: RxRx1Lab) -> None:
    with pytest.raises(
        ScreenError,
        match="does not support --map. Omit it, or use --layout cellpainting or ome-zarr or folder or table",
    ):
        indexed(rxrx1, mapping={"well": "well"})


def test_tables_only_gives_a_row_per_well_without_looking_at_images(rxrx1: RxRx1Lab) -> None:
    rxrx1.table("test_controls.csv", [("RPE-09", "2", "C03", "sirna_5", "positive_control")])
    screen = indexed(rxrx1, tables_only=True)
    assert conservation_line(screen) == "found 4 = indexed 4 + refused 0"
    assert screen.sites["site"].tolist() == [0] * 4
    assert set(screen.sites["path_1"]) == {""}
    assert screen.card.tables_only
    assert screen.problems.empty
