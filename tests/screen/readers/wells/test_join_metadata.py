"""A table of wells joined to the images of a folder."""

from pathlib import Path

import pytest

from distangle.errors import ScreenError
from distangle.screen import conservation_line
from image_folders import WELLS, index_folder, index_with_wells, put, refusals, sites_of


def test_a_table_of_wells_says_what_was_done(tmp_path: Path) -> None:
    put(tmp_path, sites_of("A1", "B02", sites=(1, 2)))
    text = "\ufeffplate;Well;Perturbation;Metadata_role;dose\r\np1;a01;0012;;1E05\r\np1;B2;NA;negcon;MARCH1\r\n"
    screen = index_with_wells(tmp_path, text)
    assert conservation_line(screen) == "found 4 = indexed 4 + refused 0"
    assert screen.sites[["well", "perturbation", "role", "dose"]].drop_duplicates().to_numpy().tolist() == [
        ["A01", "0012", "treatment", "1E05"],
        ["B02", "", "negative_control", "MARCH1"],  # NA is no name
    ]
    assert screen.metadata.provenance["columns"]["perturbation"] == "Perturbation"
    assert screen.metadata.provenance["tables"][0]["path"] == "wells.csv"


def test_one_table_without_plates_holds_for_all_and_controls_can_be_named(tmp_path: Path) -> None:
    put(tmp_path, [*sites_of("A01", "A02"), *sites_of("A01", below="p2")])
    screen = index_with_wells(tmp_path, WELLS + "A01,DMSO,,0\nA02,x,,1\n", controls={"negative_control": ["DMSO"]})
    assert conservation_line(screen) == "found 3 = indexed 3 + refused 0"
    assert screen.sites[["plate", "well", "role"]].to_numpy().tolist() == [
        ["p1", "A01", "negative_control"],
        ["p1", "A02", "treatment"],
        ["p2", "A01", "negative_control"],
    ]


def test_the_folder_of_a_plate_takes_the_rows_of_that_plate_only(tmp_path: Path) -> None:
    put(tmp_path, sites_of("A01", "A02", below="P1"))
    screen = index_with_wells(tmp_path, "plate,well,perturbation\nP1,A01,x\nP2,A02,y\n")
    assert conservation_line(screen) == "found 3 = indexed 1 + refused 2"
    assert screen.sites[["plate", "well", "perturbation"]].to_numpy().tolist() == [["P1", "A01", "x"]]
    assert sorted(refusals(screen)) == [("no image", ""), ("no table row", "A02")]
    screen = index_with_wells(tmp_path, "plate,well,perturbation\nP1,A01,x\nP1,A02,y\nP2,A01,z\nP2,A02,w\n")
    assert conservation_line(screen) == "found 4 = indexed 2 + refused 2"
    assert screen.sites["perturbation"].tolist() == ["x", "y"]


def test_one_plate_in_two_batches_is_told_by_its_folders(tmp_path: Path) -> None:
    put(tmp_path, [f"{batch}/P1/A01_s1_w1.tif" for batch in ("B1", "B2")] + ["B1/P1/A02_s1_w1.tif"])
    screen = index_folder(tmp_path, pattern="{plate}/{well}_s{site}_w{channel}.tif")
    problem = screen.problems.iloc[0]
    assert problem["found"] == "B1/P1/A01_s1_w1.tif, B2/P1/A01_s1_w1.tif"
    assert problem["fix"].endswith("with {plate} and {experiment} in --pattern.")
    whole_screen = index_folder(tmp_path, pattern="{experiment}/{plate}/{well}_s{site}_w{channel}.tif")
    assert conservation_line(whole_screen) == "found 3 = indexed 3 + refused 0"


def test_a_cell_type_must_not_be_two(tmp_path: Path) -> None:
    put(tmp_path, ["U2OS_A01_s1_w1.tif", "U2OS_A02_s1_w1.tif"])
    pattern = "{cell_type}_{well}_s{site}_w{channel}.tif"
    screen = index_with_wells(tmp_path, "well,perturbation,cell_type\nA01,x,HUVEC\nA02,y,\n", pattern=pattern)
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    problem = screen.problems.iloc[0]
    assert problem[["kind", "well", "found"]].tolist() == [
        *("two cell types", "A01", "U2OS in the name, HUVEC in wells.csv line 2")
    ]
    plain = index_with_wells(
        tmp_path, "well,perturbation,cell_type\nA01,x,HUVEC\nA02,y,\n", pattern="{}_{well}_s{}_w{channel}.tif"
    )
    assert plain.sites["cell_type"].tolist() == ["HUVEC", ""]


def test_imagexpress_keeps_planes_and_times_in_folders_that_are_no_plates(tmp_path: Path) -> None:
    names = [f"exp_{well}_s1_w1{'0' * 36}.tif" for well in ("A01", "A02")]
    put(tmp_path, [f"{plate}/TimePoint_1/{name}" for plate in ("P1", "P2") for name in names])
    screen = index_with_wells(
        tmp_path, "plate,well,perturbation\nP1,A01,x\nP1,A02,y\nP2,A01,z\nP2,A02,w\n", pattern="imagexpress"
    )
    assert screen.sites[["plate", "perturbation"]].to_numpy().tolist() == [
        ["P1", "x"],
        ["P1", "y"],
        ["P2", "z"],
        ["P2", "w"],
    ]
    put(tmp_path, [f"P1/TimePoint_1/ZStep_{k}/{names[0]}" for k in (1, 2)] + [f"P2/TimePoint_2/{names[0]}"])
    screen = index_with_wells(
        tmp_path, "plate,well,perturbation\nP1,A01,x\nP1,A02,y\nP2,A01,z\nP2,A02,w\n", pattern="imagexpress"
    )
    assert refusals(screen) == [("several planes or times", "A01")] * 2
    one_plane = index_folder(tmp_path / "P1", pattern="ZStep_2/{}_{well}_s{site}_w{channel:1}{:36}.tif")
    assert one_plane.sites["path_1"].tolist() == [f"TimePoint_1/ZStep_2/{names[0]}"]


def test_its_wells_may_be_rows_and_columns(tmp_path: Path) -> None:
    put(tmp_path, sites_of("A01", "B02"))
    screen = index_with_wells(tmp_path, "row,col,perturbation\nA,1,x\n2,2,y\n")
    assert screen.sites[["well", "perturbation"]].to_numpy().tolist() == [["A01", "x"], ["B02", "y"]]


def test_what_only_the_table_knows_is_taken_from_it(tmp_path: Path) -> None:
    put(tmp_path, ["A01_s1_w1.tif", "A02_s1_w1.tif"])
    screen = index_with_wells(tmp_path, "experiment,plate,well,perturbation\nE5,P9,A01,x\nE5,P9,A02,y\n")
    assert set(screen.sites["plate"]) == {"P9"}
    assert set(screen.sites["experiment"]) == {"E5"}
    remark = screen.problems.iloc[0]
    assert remark[["severity", "kind", "plate"]].tolist() == ["warning", "plate name taken from table", "P9"]
    with pytest.raises(
        ScreenError, match=r"wells.csv names 2 plates \(P8, P9\).*Fix the plate.*\{plate=P8\} in --pattern"
    ):
        index_with_wells(
            tmp_path, "experiment,plate,well,perturbation\nE5,P9,A01,x\nE5,P8,A01,y\nE5,P9,A02,x\nE5,P8,A02,y\n"
        )


def test_rows_and_images_that_do_not_meet_are_refused_by_name(tmp_path: Path) -> None:
    put(tmp_path, [*sites_of("A01", "A02", "A04", "A05"), "p1/A06_s1_w1.tif"])
    rows = "A01,x,,\nA03,y,,\nA04,x,,1\nA04,z,,2\nA05,x,bad,\nA06,x,,\nA0,q,,\nA07,too,,many,fields\nA01,x,,\n"
    screen = index_with_wells(tmp_path, WELLS + rows, well_base=1)
    # 5 sites; of 9 rows those of A01 and A06 have met theirs.
    assert conservation_line(screen) == "found 12 = indexed 1 + refused 11"
    assert sorted(refusals(screen)) == sorted(
        [
            *[("no table row", "A02"), ("no image", "A03"), ("conflicting rows", "A04"), ("conflicting rows", "A04")],
            *[("no table row", "A04"), ("bad role", "A05"), ("no table row", "A05"), ("missing channel", "A06")],
            *[("bad well", "A0"), ("ragged row", ""), ("duplicate row", "A01")],
        ]
    )
    by_kind_and_well = screen.problems.set_index(["kind", "well"]).sort_index()
    assert by_kind_and_well.loc[[("conflicting rows", "A04")], "row"].tolist() == ["4", "5"]
    assert "wells.csv line 5" in by_kind_and_well.loc[[("conflicting rows", "A04")], "found"].iloc[0]
    assert by_kind_and_well.loc[[("no table row", "A04")], "fix"].iloc[0] == "Correct the rows of this well."
    assert by_kind_and_well.loc[[("no table row", "A02")], "fix"].iloc[0].startswith("Add the row that names this well")
    assert by_kind_and_well.loc[[("no image", "A03")], ["file", "row"]].iloc[0].tolist() == ["wells.csv", "3"]


def test_a_table_with_a_row_per_site_belongs_to_another_layout(tmp_path: Path) -> None:
    put(tmp_path, sites_of("A01"))
    with pytest.raises(ScreenError, match="has a row per site .'s'.. Use --layout table"):
        index_with_wells(tmp_path, "well,s,perturbation\nA01,1,x\n", mapping={"site": "s"})
