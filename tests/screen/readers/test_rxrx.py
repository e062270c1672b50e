"""RxRx folders: their tables, names and images."""

from pathlib import Path

import pytest

from distangle.errors import ScreenError
from distangle.screen import conservation_line, index
from rxrx1_lab import PLATE, RxRx1Lab, index_lab, problem


def test_a_site_brings_its_perturbation_role_cell_type_and_six_files(rxrx1: RxRx1Lab) -> None:
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 6 = indexed 6 + refused 0"
    row = screen.sites.iloc[2]
    assert (row["experiment"], row["plate"], row["well"], row["site"]) == ("HUVEC-01", "1", "B03", 1)
    assert (row["row"], row["column"]) == (1, 2)
    assert (row["cell_type"], row["perturbation"], row["role"]) == ("HUVEC", "sirna_2", "treatment")
    assert (row["split"], row["id_code"]) == ("train", "HUVEC-01_1_B03")
    assert [row[f"path_{k}"] for k in range(1, 7)] == [f"{PLATE}/B03_s1_w{k}.png" for k in range(1, 7)]
    assert screen.sites["role"].tolist() == ["negative_control"] * 2 + ["treatment"] * 4
    assert (screen.metadata.plate_rows, screen.metadata.plate_columns) == (16, 24)


@pytest.mark.parametrize("folder", ["images/HUVEC-01/Plate1", "HUVEC-01/Plate1", "test/HUVEC-01/plate01"])
def test_images_are_found_under_every_folder_that_is_in_use(tmp_path: Path, folder: str) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    lab.table("train.csv", [("HUVEC-01", "1", "B03", "sirna_2")])
    lab.site(folder, "B03", 1)
    assert index_lab(lab).sites["path_6"].tolist() == [f"{folder}/B03_s1_w6.png"]


def test_tables_may_lie_elsewhere(rxrx1: RxRx1Lab, tmp_path: Path) -> None:
    table_folder = tmp_path / "tables"
    table_folder.mkdir()
    for name in ("train.csv", "train_controls.csv"):
        (rxrx1.root / name).rename(table_folder / name)
    assert index_lab(rxrx1, tables=table_folder).metadata.indexed == 6
    control_screen = index_lab(rxrx1, tables=table_folder / "train_controls.csv")
    assert control_screen.sites["well"].tolist() == ["B02", "B02"]
    with pytest.raises(
        ScreenError, match=r"No table of RxRx1 in .*rxrx1: expected any of train.csv, .*--tables FOLDER"
    ):
        index_lab(rxrx1)


def test_the_integers_of_kaggle_v1_name_the_controls(tmp_path: Path) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    rows = [("U2OS-03", "1", f"B0{k}", sirna) for k, sirna in enumerate(["1138", "1137", "1108", "1107", "0"], 2)]
    lab.table("train.csv", rows)
    screen = index_lab(lab, tables_only=True)
    assert screen.sites["role"].tolist() == ["negative_control"] + ["positive_control"] * 2 + ["treatment"] * 2
    assert screen.metadata.perturbations == ("0", "1107", "1108", "1137", "1138")
    assert screen.metadata.provenance["sirna_coding"] == "integer"


def test_two_codings_of_the_sirna_are_never_one_class_list(rxrx1: RxRx1Lab) -> None:
    rxrx1.table("train_controls.csv", [("HUVEC-01", "1", "B02", "1138", "negative_control")])
    with pytest.raises(ScreenError) as error:
        index_lab(rxrx1)
    assert "train_controls.csv line 2 has '1138' (integers, Kaggle v1)" in str(error.value)
    assert "train.csv line 2 has 'sirna_2' (names, v2)" in str(error.value)


def test_test_wells_are_treatments_without_a_name(rxrx1: RxRx1Lab) -> None:
    rxrx1.write("test.csv", [("id_code", "experiment", "plate", "well"), ("HUVEC-17_3_C05", "HUVEC-17", "3", "C05")])
    rxrx1.site("test/HUVEC-17/Plate3", "C05", 2)
    row = index_lab(rxrx1).sites.iloc[-1]
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
    screen = index_lab(lab)
    assert conservation_line(screen) == "found 3 = indexed 2 + refused 1"
    assert screen.sites["site"].tolist() == [2, 1]
    assert screen.sites["sirna_id"].tolist() == ["1138", "855"]
    assert screen.sites["split"].tolist() == ["test", "train"]
    assert problem(screen, "no image")[["row", "well", "site"]].tolist() == ["2", "B02", "1"]
    lab.table("train.csv", [("HEPG2-08", "1", "B03", "s21721")])
    with pytest.raises(ScreenError, match=r"contains metadata.csv and train.csv, which list the same wells"):
        index_lab(lab)


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
    screen = index_lab(lab, plate_rows=32, plate_columns=48)
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
    screen = index_lab(lab)
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
    bad_rows = [[*good], [*good], [*good]]
    bad_rows[0][7] = "2"  # the second site under the id of the first
    bad_rows[1][0], bad_rows[1][6] = "", "B03"
    bad_rows[2][0], bad_rows[2][5] = "", "2"
    lab.write("metadata.csv", [ids, good, *bad_rows])
    for plate, well, site in (("1", "B02", 1), ("1", "B02", 2), ("1", "B03", 1), ("2", "B02", 1)):
        lab.site(f"images/HEPG2-08/Plate{plate}", well, site)
    screen = index_lab(lab)
    assert screen.sites[["plate", "well", "site"]].to_numpy().tolist() == [["1", "B02", 1]]
    refusals = screen.problems[screen.problems["kind"] == "row contradicts its id"]
    assert refusals["row"].tolist() == ["3", "4", "5"]
    assert refusals["found"].tolist() == [
        "site_id HEPG2-08_1_B02_1",
        "well_id HEPG2-08_1_B02",
        "well_id HEPG2-08_1_B02",
    ]


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
    assert screen.metadata.provenance["recognised_by"] == "rxrx2-metadata.csv"
    assert (screen.metadata.plate_rows, screen.metadata.plate_columns) == (32, 48)
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
    assert (screen.metadata.layout, screen.metadata.plate_rows) == ("rxrx1", 32)
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


def test_columns_that_are_missing_are_named(rxrx1: RxRx1Lab) -> None:
    rxrx1.write("train.csv", [("experiment", "plate", "wel", "siRNA"), ("HUVEC-01", "1", "B03", "sirna_2")])
    with pytest.raises(ScreenError, match=r"train.csv lacks the columns 'well', 'sirna'. Did you mean 'wel'"):
        index_lab(rxrx1)


def test_options_of_the_other_layout_are_not_swallowed(rxrx1: RxRx1Lab) -> None:
    with pytest.raises(
        ScreenError,
        match="does not support --map. Omit it, or use --layout cellpainting or ome-zarr or folder or table",
    ):
        index_lab(rxrx1, mapping={"well": "well"})


def test_tables_only_gives_a_row_per_well_without_looking_at_images(rxrx1: RxRx1Lab) -> None:
    rxrx1.table("test_controls.csv", [("RPE-09", "2", "C03", "sirna_5", "positive_control")])
    screen = index_lab(rxrx1, tables_only=True)
    assert conservation_line(screen) == "found 4 = indexed 4 + refused 0"
    assert screen.sites["site"].tolist() == [0] * 4
    assert set(screen.sites["path_1"]) == {""}
    assert screen.metadata.tables_only
    assert screen.problems.empty
