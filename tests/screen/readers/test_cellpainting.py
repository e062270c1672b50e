"""Cell Painting plates: `load_data.csv` or Harmony's names, and what plate maps say of the wells."""

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from distangle.errors import ScreenError
from distangle.images.readers.read import probe_image
from distangle.screen import Screen, conservation_line, index
from distangle.screen.readers import looks_like

HEADER = "FileName_OrigDNA,PathName_OrigDNA,FileName_OrigER,PathName_OrigER,FileName_IllumDNA,PathName_IllumDNA,"
HEADER += "Metadata_Plate,Metadata_Well,Metadata_Site,Metadata_Note"
ELSEWHERE = "/home/ubuntu/bucket/projects/cpg/images/B1/images"


class Gallery:
    """A folder as the Cell Painting Gallery has it: batch B1, plates P1 and P2."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> Path:
        whole = self.root / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(text, encoding="utf-8", newline="")
        return whole

    def images(self, plate: str, *names: str) -> None:
        for name in names:
            self.write(f"images/B1/images/{plate}/Images/{name}", f"{plate}/{name}")

    def rows(self, plate: str, *rows: str, header: str = HEADER) -> None:
        self.write(f"workspace/load_data_csv/B1/{plate}/load_data.csv", "\n".join([header, *rows]) + "\n")

    def site(self, plate: str, well: str, site: int, *, folder: str | None = None) -> str:
        """Write both images of a site; return its row."""
        files = [f"{well}_{site}_{k}.tiff" for k in (1, 2)]
        self.images(plate, *files)
        where = folder or f"{ELSEWHERE}/{plate}/Images"
        return f"{files[0]},{where},{files[1]},{where},P_IllumDNA.npy,/illum,{plate},{well},{site},1E05"

    def maps(self, barcodes: str, **maps: str) -> None:
        self.write(
            "workspace/metadata/platemaps/B1/barcode_platemap.csv", "Assay_Plate_Barcode,Plate_Map_Name\n" + barcodes
        )
        for name, text in maps.items():
            self.write(f"workspace/metadata/platemaps/B1/platemap/{name}.txt", text)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path / "source_4")


def indexed(gallery: Gallery, **options: Any) -> Screen:
    return index(gallery.root, layout="cellpainting", **options)


def refusals(screen: Screen) -> list[tuple[str, str, str]]:
    refused = screen.problems[screen.problems["severity"] == "refused"]
    return sorted(zip(refused["kind"], refused["plate"], refused["well"], strict=True))


def test_rows_find_their_images_and_maps_say_what_was_done(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "a1", 1), gallery.site("P1", "a1", 2), gallery.site("P1", "A02", 1))
    gallery.rows("P2", gallery.site("P2", "A1", 1))
    head = "well_position\tbroad_sample\n"
    gallery.maps("P1,M1\nP2,M2\n", M1=f"{head}A01\tBRD-1\nA2\t\n", M2=f"{head}A01\tBRD-2\n")
    tsv = "broad_sample\tpert_iname\tpert_type\tcontrol_type\n"
    tsv += "BRD-1\tNA\ttrt\t\n\tDMSO\tcontrol\tnegcon\nBRD-2\tx\tcontrol\tposcon_cp\n"
    gallery.write("workspace/metadata/external_metadata/X_metadata.tsv", tsv)
    screen = indexed(gallery, missing=[])
    assert conservation_line(screen) == "found 4 = indexed 4 + refused 0"
    columns = ["experiment", "plate", "well", "site", "perturbation", "role", "pert_iname", "Metadata_Note"]
    assert screen.sites[columns].to_numpy().tolist() == [
        ["B1", "P1", "A01", 1, "BRD-1", "treatment", "NA", "1E05"],
        ["B1", "P1", "A01", 2, "BRD-1", "treatment", "NA", "1E05"],
        ["B1", "P1", "A02", 1, "DMSO", "negative_control", "DMSO", "1E05"],
        ["B1", "P2", "A01", 1, "BRD-2", "positive_control", "x", "1E05"],
    ]
    assert screen.sites["path_2"][2] == "images/B1/images/P1/Images/A02_1_2.tiff"
    assert [channel.name for channel in screen.card.channels] == ["DNA", "ER"]
    assert {table["path"].rsplit("/", 1)[-1] for table in screen.card.provenance["tables"]} == {
        *("load_data.csv", "barcode_platemap.csv", "M1.txt", "M2.txt", "X_metadata.tsv")
    }
    chosen = indexed(gallery, channels=["nuclei=OrigDNA"], mapping={"perturbation": "pert_iname"}, missing=[])
    assert [channel.name for channel in chosen.card.channels] == ["nuclei"]
    assert chosen.card.perturbations == ("DMSO", "NA", "x")


def test_one_map_of_several_plates_counts_for_each(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    gallery.rows("P2", gallery.site("P2", "A01", 1), gallery.site("P2", "A03", 1))
    gallery.maps("P1,M\nP2,M\nP3,M\n", M="well_position\tbroad_sample\nA01\tx\nA02\ty\nragged\n")
    screen = indexed(gallery)
    # 3 sites; of 3 x 2 rows two met theirs; the ragged line once.
    assert conservation_line(screen) == "found 8 = indexed 2 + refused 6"
    assert refusals(screen) == [
        *[("no image", "P1", "A02"), ("no image", "P2", "A02"), ("no image", "P3", "")],
        *[("no table row", "P2", "A03"), ("ragged row", "", "")],
    ]
    whole = screen.problems[screen.problems["plate"] == "P3"].iloc[0]
    assert (whole["found"], whole["count"]) == ("no image of the whole plate (2 rows)", 2)


def test_every_bad_row_is_refused_with_table_line_and_well(gallery: Gallery) -> None:
    good = gallery.site("P1", "A01", 1)
    gone = gallery.site("P1", "A02", 1)
    (gallery.root / "images/B1/images/P1/Images/A02_1_2.tiff").unlink()
    rows = [
        good,
        good,  # line 3: the same again
        gone,  # its second file is not there
        good.replace("A01,1,", "A03,x,"),
        good.replace("A01_1_2.tiff", "").replace("A01,1,", "A04,1,"),
        good.replace("A01,1,", "A05,1,").replace("images/P1/Images", "nowhere").replace("A01_1", "A05_1"),
        "one,two",
        good.replace("A01,1,", "A06,1,").replace("A01_1_2", "A01_1_1"),
        gallery.site("P1", "A07", 1).replace(",P1,", ",,"),
        gallery.site("P1", "ZZ99", 1),
    ]
    gallery.rows("P1", *rows)
    screen = indexed(gallery)
    assert conservation_line(screen) == "found 10 = indexed 1 + refused 9"
    said = {
        (kind, well): (file, row)
        for kind, well, file, row in screen.problems[["kind", "well", "file", "row"]].itertuples(index=False)
    }
    assert said == {
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
    outside = screen.problems.set_index("kind").loc["path outside the source"]
    assert outside["found"].endswith("/nowhere/A05_1_1.tiff")
    assert outside["fix"].endswith("in a folder of this name, or name their folder as source.")


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
    assert indexed(gallery).sites["path_1"].tolist() == ["images/B1/images/P1/Images/A01_1_1.tiff"]


def test_an_ending_that_names_no_plate_finds_no_images(gallery: Gallery) -> None:
    row = gallery.site("P1", "A01", 1)
    other = row.replace("/P1/", "/P2/").replace(",P1,", ",P2,")
    gallery.rows("P1", row, other)
    measurement = gallery.root / "images/B1/images/P1"
    screen = index(measurement, layout="cellpainting", tables=gallery.root / "workspace/load_data_csv/B1/P1")
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    assert screen.sites[["plate", "path_1"]].to_numpy().tolist() == [["P1", "Images/A01_1_1.tiff"]]
    refused = screen.problems.iloc[0]
    assert refused[["kind", "plate", "well"]].tolist() == ["path outside the source", "P2", "A01"]
    assert refused["fix"].endswith("in a folder of this name, or name their folder as source.")


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
    where = "https://host/cpg/images/B1/images/P1/Images"
    gallery.rows("P1", f"{where}/A01_1_1.tiff,{where}/A01_1_2.tiff,2021,P1,A01,3", header=header)
    row = indexed(gallery).sites.iloc[0]
    assert (row["experiment"], row["site"], row["path_2"]) == ("2021", 3, "images/B1/images/P1/Images/A01_1_2.tiff")


def test_frames_of_one_file_are_pages(gallery: Gallery) -> None:
    gallery.images("P1", "A01.tiff")
    header = "FileName_DNA,PathName_DNA,Frame_DNA,FileName_ER,PathName_ER,Frame_ER,Metadata_Plate,Metadata_Well"
    where = f"{ELSEWHERE}/P1/Images"
    gallery.rows("P1", f"A01.tiff,{where},0,A01.tiff,{where},1,P1,A01", header=header)
    assert indexed(gallery).pages(0) == [0, 1]


def test_jumps_table_of_all_wells_is_cut_to_the_plates_at_hand(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1), gallery.site("P1", "A02", 1))
    text = "Metadata_Source,Metadata_Plate,Metadata_Well,Metadata_JCP2022\n"
    text += "source_4,P1,A01,JCP2022_033924\nsource_4,P1,A02,JCP2022_000001\nsource_9,P9,A01,JCP2022_000002\n"
    (gallery.root / "well.csv.gz").write_bytes(gzip.compress(text.encode()))
    kinds = "Metadata_JCP2022,Metadata_pert_type,Metadata_Name\nJCP2022_033924,negcon,DMSO\n"
    gallery.write("perturbation_control.csv", kinds)
    screen = indexed(gallery)
    assert conservation_line(screen) == "found 2 = indexed 2 + refused 0"
    assert screen.sites[["perturbation", "role", "Metadata_Name"]].to_numpy().tolist() == [
        ["JCP2022_033924", "negative_control", "DMSO"],
        ["JCP2022_000001", "treatment", ""],
    ]


def test_jumps_codes_that_are_no_perturbations_are_no_classes(gallery: Gallery) -> None:
    codes = dict(A01="JCP2022_033924", A02="JCP2022_999999", A03="JCP2022_UNKNOWN", A04="JCP2022_900001", A05="J5")
    gallery.rows("P1", *[gallery.site("P1", well, 1) for well in codes])
    wells = "".join(f"P1,{well},{code}\n" for well, code in codes.items())
    gallery.write("well.csv", f"Metadata_Plate,Metadata_Well,Metadata_JCP2022\n{wells}P1,A06,JCP2022_UNKNOWN\n")
    screen = indexed(gallery)
    columns = ["well", "perturbation", "role", "Metadata_JCP2022"]
    assert screen.sites[columns].to_numpy().tolist() == [
        ["A01", "JCP2022_033924", "negative_control", "JCP2022_033924"],
        ["A02", "JCP2022_999999", "untreated", "JCP2022_999999"],
        ["A03", "", "unknown", "JCP2022_UNKNOWN"],
        ["A04", "", "unknown", "JCP2022_900001"],
        ["A05", "J5", "treatment", "J5"],
    ]
    assert screen.card.perturbations == ("J5", "JCP2022_033924", "JCP2022_999999")
    assert conservation_line(screen) == "found 6 = indexed 5 + refused 1"  # A06 has no image
    warned = screen.problems[screen.problems["kind"] == "perturbation unknown"]
    assert warned[["severity", "file", "found", "count"]].to_numpy().tolist() == [
        ["warning", "well.csv", "JCP2022_UNKNOWN", 2],
        ["warning", "well.csv", "JCP2022_900001", 1],
    ]
    assert "have no label" in warned.iloc[0]["fix"]


JUMP_ROLES = {
    "033924": "negative_control",  # DMSO
    "800001": "negative_control",  # no-guide
    "800002": "negative_control",  # non-targeting
    "915128": "negative_control",  # BFP
    "915129": "negative_control",  # HcRed
    "915130": "negative_control",  # LUCIFERASE
    "915131": "negative_control",  # LacZ
    "012818": "positive_control",  # TC-S-7004
    "025848": "positive_control",  # dexamethasone
    "035095": "positive_control",  # LY2109761
    "037716": "positive_control",  # AMG900
    "046054": "positive_control",  # FK-866
    "050797": "positive_control",  # quinidine
    "064022": "positive_control",  # NVS-PAK1-1
    "085227": "positive_control",  # aloxistatin
    "805264": "positive_control",  # PLK1
    "915132": "positive_control",  # eGFP
    "999999": "untreated",
}


def test_jumps_18_control_codes_have_their_role_without_a_table(gallery: Gallery) -> None:
    assert len(JUMP_ROLES) == 18
    codes = {f"A{k:02}": f"JCP2022_{code}" for k, code in enumerate(JUMP_ROLES, start=1)}
    gallery.rows("P1", *[gallery.site("P1", well, 1) for well in [*codes, "B01"]])
    rows = "".join(f"P1,{well},{code}\n" for well, code in codes.items())
    gallery.write("well.csv", f"Metadata_Plate,Metadata_Well,Metadata_JCP2022\n{rows}P1,B01,JCP2022_000001\n")
    sites = indexed(gallery).sites
    assert dict(zip(sites["well"], sites["perturbation"], strict=True)) == {**codes, "B01": "JCP2022_000001"}
    found = dict(zip(sites["perturbation"], sites["role"], strict=True))
    assert found == {**{f"JCP2022_{code}": role for code, role in JUMP_ROLES.items()}, "JCP2022_000001": "treatment"}


def test_a_code_that_no_table_of_jump_explains_is_no_class(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1), gallery.site("P1", "A02", 1))
    rows = "P1,A01,JCP2022_028373\nP1,A02,JCP2022_000001\n"
    gallery.write("well.csv", f"Metadata_Plate,Metadata_Well,Metadata_JCP2022\n{rows}")
    screen = indexed(gallery)
    assert screen.sites[["perturbation", "role"]].to_numpy().tolist() == [
        ["", "unknown"],
        ["JCP2022_000001", "treatment"],
    ]
    assert screen.card.perturbations == ("JCP2022_000001",)
    warned = screen.problems[screen.problems["kind"] == "perturbation unknown"]
    assert warned[["found", "count"]].to_numpy().tolist() == [["JCP2022_028373", 1]]


def test_tables_of_wells_need_not_have_their_columns_in_one_order(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    gallery.rows("P2", gallery.site("P2", "A01", 1))
    gallery.rows("P3", gallery.site("P3", "A01", 1))
    gallery.write("m1/well.csv", "Metadata_Plate,Metadata_Well,Metadata_JCP2022,dose,solvent\nP1,A01,a,7,oil\n")
    gallery.write("m2/well.csv", "Metadata_Plate,Metadata_Well,Metadata_JCP2022,solvent,dose\nP2,A01,b,water,8\n")
    gallery.write("m3/well.csv", "Metadata_Plate,Metadata_Well,Metadata_JCP2022,more\nP3,A01,c,x\n")
    columns = ["plate", "perturbation", "dose", "solvent", "more"]
    assert indexed(gallery).sites[columns].to_numpy().tolist() == [
        ["P1", "a", "7", "oil", ""],
        ["P2", "b", "8", "water", ""],
        ["P3", "c", "", "", "x"],
    ]


@pytest.mark.parametrize("first", ["P1", "P2"])
def test_a_code_of_jump_in_one_map_moves_no_column_of_another(gallery: Gallery, first: str) -> None:
    head = "well_position\tMetadata_JCP2022\tpert_type\tsolvent\n"
    for plate in ("P1", "P2"):
        gallery.rows(plate, gallery.site(plate, "A01", 1))
    barcodes = "P1,M1\nP2,M2\n" if first == "P1" else "P2,M2\nP1,M1\n"
    gallery.maps(barcodes, M1=f"{head}A01\tJ1\ttrt\toil\n", M2=f"{head}A01\tJCP2022_UNKNOWN\t\twater\n")
    columns = ["plate", "perturbation", "role", "solvent", "Metadata_JCP2022"]
    assert indexed(gallery).sites[columns].to_numpy().tolist() == [
        ["P1", "J1", "treatment", "oil", "J1"],
        ["P2", "", "unknown", "water", "JCP2022_UNKNOWN"],
    ]


def test_batches_that_share_a_barcode_keep_their_own_maps(gallery: Gallery) -> None:
    for batch, well, name in (("B1", "A01", "x"), ("B2", "A02", "y")):
        where = f"images/{batch}/images/P1/Images"
        for k in (1, 2):
            gallery.write(f"{where}/{well}_1_{k}.tiff", batch)
            gallery.write(f"{where}/B02_1_{k}.tiff", batch)
        rows = [f"{w}_1_1.tiff,/{where},{w}_1_2.tiff,/{where},,,P1,{w},1," for w in (well, "B02")]
        gallery.write(f"workspace/load_data_csv/{batch}/P1/load_data.csv", "\n".join([HEADER, *rows, ""]))
        folder = f"workspace/metadata/platemaps/{batch}"
        gallery.write(f"{folder}/barcode_platemap.csv", "Assay_Plate_Barcode,Plate_Map_Name\nP1,M\n")
        gallery.write(f"{folder}/platemap/M.txt", f"well_position\tbroad_sample\n{well}\t{name}\nB02\tof {batch}\n")
    screen = indexed(gallery)
    assert conservation_line(screen) == "found 4 = indexed 4 + refused 0"
    assert screen.sites[["experiment", "plate", "well", "perturbation"]].to_numpy().tolist() == [
        *[["B1", "P1", "A01", "x"], ["B1", "P1", "B02", "of B1"]],
        *[["B2", "P1", "A02", "y"], ["B2", "P1", "B02", "of B2"]],
    ]


def test_the_map_of_another_batch_is_taken_and_said(gallery: Gallery) -> None:
    gallery.rows("P2", gallery.site("P2", "A01", 1))
    barcodes = "Assay_Plate_Barcode,Plate_Map_Name\n"
    gallery.maps("P1,M\n", M="well_position\tbroad_sample\nA01\tx\n")
    gallery.write("workspace/metadata/platemaps/B2/barcode_platemap.csv", f"{barcodes}P2,M\n")
    screen = indexed(gallery)
    assert screen.sites["perturbation"].tolist() == ["x"]
    of_maps = screen.problems["kind"] == "plate map of another batch"
    (remark,) = screen.problems[of_maps].to_dict("records")
    assert (remark["severity"], remark["plate"]) == ("warning", "P2")
    assert (remark["file"], remark["row"]) == ("B2/barcode_platemap.csv", "2")
    assert (remark["found"], remark["expected"]) == ("B1/platemap/M.txt", "a map 'M' of batch B2")
    assert remark["fix"].startswith("No action needed if the batches have one design; otherwise copy")


def test_a_batch_need_not_have_one_name_everywhere(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    gallery.write(
        "workspace/metadata/platemaps/first/barcode_platemap.csv", "Assay_Plate_Barcode,Plate_Map_Name\nP1,M\n"
    )
    gallery.write("workspace/metadata/platemaps/first/platemap/M.txt", "well_position\tbroad_sample\nA01\tx\n")
    assert indexed(gallery).sites[["experiment", "perturbation"]].to_numpy().tolist() == [["B1", "x"]]


def test_a_map_of_a_plate_that_was_not_copied_may_be_absent(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    gallery.maps("P1,M1\nP3,M9\n", M1="well_position\tbroad_sample\nA01\tx\n")
    screen = indexed(gallery)
    assert conservation_line(screen) == "found 1 = indexed 1 + refused 0"
    remark = screen.problems.iloc[0]
    assert (remark["severity"], remark["kind"], remark["plate"], remark["row"]) == (
        "warning",
        "no plate map",
        "P3",
        "3",
    )
    gallery.maps("P1,M2\nP2,M1\n")
    with pytest.raises(ScreenError, match="plate P1 has the map 'M2', and no folder 'platemap' contains it"):
        indexed(gallery)
    gallery.maps("P3,M9\n")
    with pytest.raises(ScreenError, match="plate P3 has the map 'M9', and no folder 'platemap' contains it"):
        indexed(gallery)


def test_what_tables_and_callers_say_outranks_jumps_codes(gallery: Gallery) -> None:
    codes = dict(A01="JCP2022_033924", A02="JCP2022_999999", A03="JCP2022_UNKNOWN", A04="J4", A05="J5")
    gallery.rows("P1", *[gallery.site("P1", well, 1) for well in codes])
    wells = "".join(f"P1,{well},{code},{'' if well == 'A01' else 'trt'}\n" for well, code in codes.items())
    gallery.write("well.csv", f"Metadata_Plate,Metadata_Well,Metadata_JCP2022,mine\n{wells}")
    kinds = "JCP2022_033924,poscon\nJCP2022_999999,empty\nJ4,negcon\nJ5,empty\n"
    gallery.write("perturbation_control.csv", f"Metadata_JCP2022,Metadata_pert_type\n{kinds}")
    roles = ["positive_control", "untreated", "unknown", "negative_control"]
    screen = indexed(gallery)
    assert screen.sites["role"].tolist() == roles
    assert ("bad role", "P1", "A05") in refusals(screen)  # what an empty well is elsewhere is not known
    assert set(indexed(gallery, mapping={"role": "mine"}).sites["role"]) == {"treatment"}
    named = indexed(gallery, mapping={"perturbation": "Metadata_JCP2022"})
    assert named.sites["perturbation"].tolist() == list(codes.values())[:4]
    assert set(named.problems["kind"]) == {"bad role", "no table row"}


def test_a_table_beside_us_is_named_as_it_was_typed(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    row = gallery.site("P1", "A01", 1)
    gallery.write("images.csv", "\n".join([HEADER, row, row.replace("A01,1,", "A01,x,"), ""]))
    monkeypatch.chdir(gallery.root)
    screen = indexed(gallery, tables=Path("images.csv"))
    assert screen.problems["file"].tolist() == ["images.csv"]


def test_images_that_no_row_names_are_listed_by_folder(gallery: Gallery) -> None:
    header = HEADER.replace("FileName_OrigER", "FileName_OrigAGP").replace("PathName_OrigER", "PathName_OrigAGP")
    gallery.rows(
        "P1", gallery.site("P1", "A01", 1), gallery.site("P1", "A02", 1).replace("A02,1,", "A02,x,"), header=header
    )
    gallery.images("P1", "stray.tiff")
    gallery.images("P7", "A01_1_1.tiff", "A01_1_2.tiff", "notes.txt")
    screen = indexed(gallery, channels=["DNA"])
    listed = screen.problems[screen.problems["kind"] == "images without a table row"]
    assert listed[["severity", "file", "found", "count"]].to_numpy().tolist() == [
        ["warning", "images/B1/images/P1/Images", "stray.tiff", 1],
        ["warning", "images/B1/images/P7/Images", "A01_1_1.tiff, A01_1_2.tiff", 2],
    ]


def test_every_table_of_perturbations_adds_what_it_knows(gallery: Gallery) -> None:
    gallery.rows("P1", *[gallery.site("P1", well, 1) for well in ("A01", "A02", "A03", "A04")])
    wells = "Metadata_Plate,Metadata_Well,Metadata_JCP2022,Metadata_Note2\n"
    gallery.write("well.csv", wells + "P1,A01,J1,\nP1,A02,J2,own\nP1,A03,J3,\nP1,A04,J4,\n")
    gallery.write("crispr.csv", "Metadata_JCP2022,Metadata_Symbol,Metadata_Note2\nJ1,TP53,c\nJ2,MYC,c\n")
    gallery.write("orf.csv", "Metadata_JCP2022,Metadata_Name,Metadata_Symbol\nJ2,ccsb,other\nJ3,ccsb2,KRAS\n")
    gallery.write("perturbation_control.csv", "Metadata_JCP2022,Metadata_pert_type,Metadata_Name\nJ4,negcon,DMSO\n")
    columns = ["perturbation", "role", "Metadata_Symbol", "Metadata_Name", "Metadata_Note2"]
    assert indexed(gallery).sites[columns].to_numpy().tolist() == [
        ["J1", "treatment", "TP53", "", "c"],
        ["J2", "treatment", "MYC", "ccsb", "own"],
        ["J3", "treatment", "KRAS", "ccsb2", ""],
        ["J4", "negative_control", "", "DMSO", ""],
    ]


def test_parquet_stands_for_csv_as_in_jump(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1), gallery.site("P1", "A02", 1))
    written = gallery.root / "workspace/load_data_csv/B1/P1/load_data.csv"
    by_csv = indexed(gallery).sites
    pd.read_csv(written).to_parquet(written.with_name("load_data_with_illum.parquet"), index=False)
    written.unlink()
    wells = pd.DataFrame(
        {"Metadata_Plate": ["P1", "P9"], "Metadata_Well": ["A02", "A01"], "Metadata_JCP2022": ["x", "y"]}
    )
    wells.to_parquet(gallery.root / "well.parquet", index=False)
    twin = gallery.root / "metadata/well.csv"
    gallery.write("metadata/well.csv", wells.replace({"A02": "A2"}).to_csv(index=False))
    screen = indexed(gallery)
    assert conservation_line(screen) == "found 3 = indexed 1 + refused 2"  # the same row, twice
    assert set(screen.problems["kind"]) == {"duplicate row", "no table row"}
    twin.unlink()
    screen = indexed(gallery)
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    assert screen.sites["perturbation"].tolist() == ["x"]
    paths = ["experiment", "plate", "well", "site", "path_1", "path_2"]
    assert screen.sites[paths].to_numpy().tolist() == by_csv.loc[by_csv["well"] == "A02", paths].to_numpy().tolist()
    refused = screen.problems.iloc[0]
    assert (refused["kind"], refused["well"]) == ("no table row", "A01")


def test_rows_and_columns_apart_name_the_well(gallery: Gallery) -> None:
    row = gallery.site("P1", "B03", 1)
    header = HEADER.replace("Metadata_Well", "Metadata_Row") + ",Metadata_Col"
    gallery.rows("P1", row.replace(",B03,", ",2,") + ",3", header=header)
    gallery.maps("P1,M\n", M="Row\tColumn\tbroad_sample\nB\t03\tx\n")
    screen = indexed(gallery)
    assert conservation_line(screen) == "found 1 = indexed 1 + refused 0"
    assert screen.sites[["well", "perturbation", "Metadata_Row"]].to_numpy().tolist() == [["B03", "x", "2"]]
    gallery.rows(
        "P1", row.replace(",B03,", ",2,") + ",3", header=header.replace("Metadata_Row", "R").replace("Col", "C")
    )
    with pytest.raises(ScreenError, match=r"has no column 'well'.*--map well=COLUMN"):
        indexed(gallery)
    assert indexed(gallery, mapping={"well": "R+Metadata_C"}).sites["well"].tolist() == ["B03"]
    gallery.maps("P1,M\n", M="well_position\tRow\tColumn\tbroad_sample\nB03\t4\t5\tx\n")
    assert indexed(gallery, mapping={"well": "R+Metadata_C"}).sites["perturbation"].tolist() == ["x"]


def test_harmonys_names_do_without_a_table(gallery: Gallery) -> None:
    for plate in ("P1__2020-11-08T18_18_43-Measurement1", "P2__2020-11-09T18_18_43-Measurement2"):
        gallery.images(plate, *[f"r16c24f09p01-ch{c}sk1fk1fl1.tiff" for c in (1, 2)])
    screen = indexed(gallery)
    assert screen.sites[["experiment", "plate", "well", "site"]].to_numpy().tolist() == [
        ["B1", "P1", "P24", 9],
        ["B1", "P2", "P24", 9],
    ]
    gallery.maps("P1,M\nP2,M\n", M="well_position\tbroad_sample\nP24\tx\n")
    screen = indexed(gallery, channels=["DNA=2"], controls={"negative_control": ["x"]})
    assert set(screen.sites["role"]) == {"negative_control"}
    wells = gallery.write("wells.csv", "plate,well,perturbation\nP1,P24,y\nP2,p24,z\n")
    assert indexed(gallery, tables=wells).sites["perturbation"].tolist() == ["y", "z"]
    wells = gallery.write("wells.csv", "plate,row,column,perturbation\nP1,P,24,u\nP2,16,24,v\n")
    assert indexed(gallery, tables=wells).sites["perturbation"].tolist() == ["u", "v"]


def test_tables_alone_can_be_counted(gallery: Gallery) -> None:
    gallery.rows("P1", "a,/x,b,/x,,,P1,A01,1,", "a,/x,b,/x,,,P1,A01,2,")
    screen = indexed(gallery, tables_only=True)
    assert conservation_line(screen) == "found 2 = indexed 2 + refused 0"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": ["RNA"]}, "load_data.csv has no channel 'RNA'."),
        ({"channels": ["a=DNA", "b=DNA"]}, "every channel needs a unique name"),
        (
            {"mapping": {"perturbation": "Metadata_Noet"}},
            "no table has a column 'Metadata_Noet'. Did you mean 'Metadata_Note'",
        ),
        ({"mapping": {"plat": "Metadata_Plate"}}, "unknown field 'plat'. Did you mean 'plate'"),
        ({"controls": {"negative_control": ["DMSO"]}}, "no row has the perturbation 'DMSO'"),
    ],
)
def test_a_request_that_names_nothing_is_an_error(gallery: Gallery, options: dict[str, Any], said: str) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    with pytest.raises(ScreenError) as caught:
        indexed(gallery, **options)
    assert said in str(caught.value)


def test_tables_that_do_not_fit_together_are_an_error(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    gallery.maps("P1,M1\n", M2="well_position\tbroad_sample\nA01\tx\n")
    with pytest.raises(ScreenError, match=r"line 2: plate P1 has the map 'M1'.*Did you mean 'M2'"):
        indexed(gallery)
    gallery.maps("P1,M2,M3\n")
    with pytest.raises(ScreenError, match=r"barcode_platemap.csv, line 2: 3 fields, expected 2"):
        indexed(gallery)
    gallery.maps("")
    with pytest.raises(ScreenError, match="has no row. Expected a row per plate"):
        indexed(gallery)
    gallery.rows("P2", "x", header="FileName_OrigDNA,PathName_OrigDNA,Metadata_Plate,Metadata_Well")
    with pytest.raises(ScreenError, match=r"lacks the channels OrigER.*--channels DNA\."):
        indexed(gallery)


def test_a_folder_without_either_is_told_what_is_expected(tmp_path: Path, gallery: Gallery) -> None:
    (tmp_path / "x.png").write_text("x")
    with pytest.raises(ScreenError, match="No load_data.csv and no image that matches 'r{row}c{column}"):
        index(tmp_path, layout="cellpainting")
    with pytest.raises(ScreenError, match="does not exist. Expected a folder of Cell Painting plates"):
        index(tmp_path / "gone", layout="cellpainting")
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    assert looks_like(gallery.root) == "It looks like --layout cellpainting (workspace/load_data_csv)."


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "well", "site", "channels"),
    [("JUMP_plate_BR00117006", "A01", 1, 3), ("pediatric_cancer_atlas_profiling", "C03", 3, 6)],
)
def test_real_plates_of_harmony(real_data: Path, name: str, well: str, site: int, channels: int) -> None:
    folder = real_data / "fixtures" / "cytodataframe_cellpainting" / name
    screen = index(folder, layout="cellpainting", probe=probe_image)
    row = screen.sites.iloc[0]
    assert (len(screen.sites), row["plate"], row["well"], row["site"]) == (1, name, well, site)
    assert (len(screen.card.channels), screen.card.shape, screen.card.dtype) == (channels, (1080, 1080), "uint16")


@pytest.mark.real
def test_the_real_table_of_bbbc021_finds_the_two_fields_that_are_here(real_data: Path) -> None:
    folder = real_data / "bbbc021_singlecell"
    metadata = {
        name: f"Image_Metadata_{column}" for name, column in {"plate": "Plate_DAPI", "well": "Well_DAPI"}.items()
    }
    screen = index(
        folder / "fov_tif",
        layout="cellpainting",
        tables=folder / "meta" / "BBBC021_v1_image.csv",
        mapping={**metadata, "perturbation": "Image_Metadata_Compound", "site": "ImageNumber"},
        controls={"negative_control": ["DMSO"]},
        probe=probe_image,
    )
    assert conservation_line(screen) == "found 13200 = indexed 2 + refused 13198"
    assert set(screen.sites["plate"]) == {"Week2_24381"}
    assert set(screen.sites["perturbation"]) == {"DMSO"}
    assert [channel.name for channel in screen.card.channels] == ["DAPI", "Tubulin", "Actin"]
    missing = screen.problems[screen.problems["kind"] == "missing channel"].iloc[0]
    assert (missing["channel"], missing["well"]) == ("Actin", "B02")
