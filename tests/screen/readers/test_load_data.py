"""`load_data.csv`: how its rows find their images, and which rows are refused."""

from pathlib import Path

import pytest

from distangle.errors import ScreenError
from distangle.screen import conservation_line, index
from gallery import ELSEWHERE, HEADER, Gallery, index_gallery


def test_every_bad_row_is_refused_with_table_line_and_well(gallery: Gallery) -> None:
    good = gallery.site("P1", "A01", 1)
    missing_site = gallery.site("P1", "A02", 1)
    (gallery.root / "images/B1/images/P1/Images/A02_1_2.tiff").unlink()
    rows = [
        good,
        good,  # line 3: the same again
        missing_site,  # its second file is not there
        good.replace("A01,1,", "A03,x,"),
        good.replace("A01_1_2.tiff", "").replace("A01,1,", "A04,1,"),
        good.replace("A01,1,", "A05,1,").replace("images/P1/Images", "nowhere").replace("A01_1", "A05_1"),
        "one,two",
        good.replace("A01,1,", "A06,1,").replace("A01_1_2", "A01_1_1"),
        gallery.site("P1", "A07", 1).replace(",P1,", ",,"),
        gallery.site("P1", "ZZ99", 1),
    ]
    gallery.rows("P1", *rows)
    screen = index_gallery(gallery)
    assert conservation_line(screen) == "found 10 = indexed 1 + refused 9"
    coordinates = {
        (kind, well): (file, row)
        for kind, well, file, row in screen.problems[["kind", "well", "file", "row"]].itertuples(index=False)
    }
    assert coordinates == {
        (kind, well): ("P1/load_data.csv", row)
        for kind, well, row in [
            ("duplicate row", "A01", "3"),
            ("missing channel", "A02", "4"),
            ("bad site", "A03", "5"),
            ("missing channel", "A04", "6"),
            ("path outside the source", "A05", "7"),
            ("ragged row", "", "8"),
            ("one file for two channels", "A06", "9"),
            ("no plate", "A07", "10"),
            ("well off the plate", "ZZ99", "11"),
        ]
    }
    path_problem = screen.problems.set_index("kind").loc["path outside the source"]
    assert path_problem["found"].endswith("/nowhere/A05_1_1.tiff")
    assert path_problem["fix"].endswith("in a folder of this name, or name their folder as source.")


@pytest.mark.parametrize(
    "folder",
    [
        "s3://cellpainting-gallery/cpg0016-jump/source_4/images/B1/images/P1/Images/",
        "file:///data/source_4/images/B1/images/P1/Images",
        r"D:\data\images\B1\images\P1\Images",
        "images/B1/images/P1/Images",
        "{root}/images/B1/images/P1/Images",
    ],
)
def test_folders_of_other_machines_are_found_by_how_they_end(gallery: Gallery, folder: str) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1, folder=folder.replace("{root}", str(gallery.root))))
    assert index_gallery(gallery).sites["path_1"].tolist() == ["images/B1/images/P1/Images/A01_1_1.tiff"]


def test_an_ending_that_names_no_plate_finds_no_images(gallery: Gallery) -> None:
    row = gallery.site("P1", "A01", 1)
    other = row.replace("/P1/", "/P2/").replace(",P1,", ",P2,")
    gallery.rows("P1", row, other)
    measurement = gallery.root / "images/B1/images/P1"
    screen = index(measurement, layout="cellpainting", tables=gallery.root / "workspace/load_data_csv/B1/P1")
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    assert screen.sites[["plate", "path_1"]].to_numpy().tolist() == [["P1", "Images/A01_1_1.tiff"]]
    refusal = screen.problems.iloc[0]
    assert refusal[["kind", "plate", "well"]].tolist() == ["path outside the source", "P2", "A01"]
    assert refusal["fix"].endswith("in a folder of this name, or name their folder as source.")


def test_files_found_by_their_names_alone_are_said_to_be(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    images = gallery.root / "images/B1/images/P1/Images"
    screen = index(images, layout="cellpainting", tables=gallery.root / "workspace")
    assert screen.sites["path_1"].tolist() == ["A01_1_1.tiff"]
    remark = screen.problems.iloc[0]
    assert remark[["severity", "kind", "count"]].tolist() == ["warning", "files matched by name only", 2]


def test_urls_may_stand_in_one_column(gallery: Gallery) -> None:
    gallery.site("P1", "A01", 1)
    header = "URL_OrigDNA,URL_OrigER,Metadata_Batch,Metadata_Plate,Metadata_Well,Metadata_Site"
    image_folder = "https://host/cpg/images/B1/images/P1/Images"
    gallery.rows("P1", f"{image_folder}/A01_1_1.tiff,{image_folder}/A01_1_2.tiff,2021,P1,A01,3", header=header)
    row = index_gallery(gallery).sites.iloc[0]
    assert (row["experiment"], row["site"], row["path_2"]) == ("2021", 3, "images/B1/images/P1/Images/A01_1_2.tiff")


def test_frames_of_one_file_are_pages(gallery: Gallery) -> None:
    gallery.images("P1", "A01.tiff")
    header = "FileName_DNA,PathName_DNA,Frame_DNA,FileName_ER,PathName_ER,Frame_ER,Metadata_Plate,Metadata_Well"
    image_folder = f"{ELSEWHERE}/P1/Images"
    gallery.rows("P1", f"A01.tiff,{image_folder},0,A01.tiff,{image_folder},1,P1,A01", header=header)
    assert index_gallery(gallery).pages(0) == [0, 1]


def test_a_table_beside_us_is_named_as_it_was_typed(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    row = gallery.site("P1", "A01", 1)
    gallery.write("images.csv", "\n".join([HEADER, row, row.replace("A01,1,", "A01,x,"), ""]))
    monkeypatch.chdir(gallery.root)
    screen = index_gallery(gallery, tables=Path("images.csv"))
    assert screen.problems["file"].tolist() == ["images.csv"]


def test_images_that_no_row_names_are_listed_by_folder(gallery: Gallery) -> None:
    header = HEADER.replace("FileName_OrigER", "FileName_OrigAGP").replace("PathName_OrigER", "PathName_OrigAGP")
    gallery.rows(
        "P1", gallery.site("P1", "A01", 1), gallery.site("P1", "A02", 1).replace("A02,1,", "A02,x,"), header=header
    )
    gallery.images("P1", "stray.tiff")
    gallery.images("P7", "A01_1_1.tiff", "A01_1_2.tiff", "notes.txt")
    screen = index_gallery(gallery, channels=["DNA"])
    extras = screen.problems[screen.problems["kind"] == "images without a table row"]
    assert extras[["severity", "file", "found", "count"]].to_numpy().tolist() == [
        ["warning", "images/B1/images/P1/Images", "stray.tiff", 1],
        ["warning", "images/B1/images/P7/Images", "A01_1_1.tiff, A01_1_2.tiff", 2],
    ]


def test_rows_and_columns_apart_name_the_well(gallery: Gallery) -> None:
    row = gallery.site("P1", "B03", 1)
    header = HEADER.replace("Metadata_Well", "Metadata_Row") + ",Metadata_Col"
    gallery.rows("P1", row.replace(",B03,", ",2,") + ",3", header=header)
    gallery.maps("P1,M\n", M="Row\tColumn\tbroad_sample\nB\t03\tx\n")
    screen = index_gallery(gallery)
    assert conservation_line(screen) == "found 1 = indexed 1 + refused 0"
    assert screen.sites[["well", "perturbation", "Metadata_Row"]].to_numpy().tolist() == [["B03", "x", "2"]]
    gallery.rows(
        "P1", row.replace(",B03,", ",2,") + ",3", header=header.replace("Metadata_Row", "R").replace("Col", "C")
    )
    with pytest.raises(ScreenError, match=r"has no column 'well'.*--map well=COLUMN"):
        index_gallery(gallery)
    assert index_gallery(gallery, mapping={"well": "R+Metadata_C"}).sites["well"].tolist() == ["B03"]
    gallery.maps("P1,M\n", M="well_position\tRow\tColumn\tbroad_sample\nB03\t4\t5\tx\n")
    assert index_gallery(gallery, mapping={"well": "R+Metadata_C"}).sites["perturbation"].tolist() == ["x"]


def test_tables_alone_can_be_counted(gallery: Gallery) -> None:
    gallery.rows("P1", "a,/x,b,/x,,,P1,A01,1,", "a,/x,b,/x,,,P1,A01,2,")
    screen = index_gallery(gallery, tables_only=True)
    assert conservation_line(screen) == "found 2 = indexed 2 + refused 0"
