"""Cell Painting plates: `load_data.csv` or Harmony's names, and what plate maps say of the wells."""

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from distangle.errors import ScreenError
from distangle.images.readers.read import probe_image
from distangle.screen import conservation_line, index
from distangle.screen.readers import looks_like
from gallery import Gallery, index_gallery


def test_rows_find_their_images_and_maps_say_what_was_done(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "a1", 1), gallery.site("P1", "a1", 2), gallery.site("P1", "A02", 1))
    gallery.rows("P2", gallery.site("P2", "A1", 1))
    head = "well_position\tbroad_sample\n"
    gallery.maps("P1,M1\nP2,M2\n", M1=f"{head}A01\tBRD-1\nA2\t\n", M2=f"{head}A01\tBRD-2\n")
    tsv = "broad_sample\tpert_iname\tpert_type\tcontrol_type\n"
    tsv += "BRD-1\tNA\ttrt\t\n\tDMSO\tcontrol\tnegcon\nBRD-2\tx\tcontrol\tposcon_cp\n"
    gallery.write("workspace/metadata/external_metadata/X_metadata.tsv", tsv)
    screen = index_gallery(gallery, missing=[])
    assert conservation_line(screen) == "found 4 = indexed 4 + refused 0"
    columns = ["experiment", "plate", "well", "site", "perturbation", "role", "pert_iname", "Metadata_Note"]
    assert screen.sites[columns].to_numpy().tolist() == [
        ["B1", "P1", "A01", 1, "BRD-1", "treatment", "NA", "1E05"],
        ["B1", "P1", "A01", 2, "BRD-1", "treatment", "NA", "1E05"],
        ["B1", "P1", "A02", 1, "DMSO", "negative_control", "DMSO", "1E05"],
        ["B1", "P2", "A01", 1, "BRD-2", "positive_control", "x", "1E05"],
    ]
    assert screen.sites["path_2"][2] == "images/B1/images/P1/Images/A02_1_2.tiff"
    assert [channel.name for channel in screen.metadata.channels] == ["DNA", "ER"]
    assert {table["path"].rsplit("/", 1)[-1] for table in screen.metadata.provenance["tables"]} == {
        *("load_data.csv", "barcode_platemap.csv", "M1.txt", "M2.txt", "X_metadata.tsv")
    }
    subset = index_gallery(gallery, channels=["nuclei=OrigDNA"], mapping={"perturbation": "pert_iname"}, missing=[])
    assert [channel.name for channel in subset.metadata.channels] == ["nuclei"]
    assert subset.metadata.perturbations == ("DMSO", "NA", "x")


def test_jumps_table_of_all_wells_is_cut_to_the_plates_at_hand(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1), gallery.site("P1", "A02", 1))
    text = "Metadata_Source,Metadata_Plate,Metadata_Well,Metadata_JCP2022\n"
    text += "source_4,P1,A01,JCP2022_033924\nsource_4,P1,A02,JCP2022_000001\nsource_9,P9,A01,JCP2022_000002\n"
    (gallery.root / "well.csv.gz").write_bytes(gzip.compress(text.encode()))
    kinds = "Metadata_JCP2022,Metadata_pert_type,Metadata_Name\nJCP2022_033924,negcon,DMSO\n"
    gallery.write("perturbation_control.csv", kinds)
    screen = index_gallery(gallery)
    assert conservation_line(screen) == "found 2 = indexed 2 + refused 0"
    assert screen.sites[["perturbation", "role", "Metadata_Name"]].to_numpy().tolist() == [
        ["JCP2022_033924", "negative_control", "DMSO"],
        ["JCP2022_000001", "treatment", ""],
    ]


def test_tables_of_wells_need_not_have_their_columns_in_one_order(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    gallery.rows("P2", gallery.site("P2", "A01", 1))
    gallery.rows("P3", gallery.site("P3", "A01", 1))
    gallery.write("m1/well.csv", "Metadata_Plate,Metadata_Well,Metadata_JCP2022,dose,solvent\nP1,A01,a,7,oil\n")
    gallery.write("m2/well.csv", "Metadata_Plate,Metadata_Well,Metadata_JCP2022,solvent,dose\nP2,A01,b,water,8\n")
    gallery.write("m3/well.csv", "Metadata_Plate,Metadata_Well,Metadata_JCP2022,more\nP3,A01,c,x\n")
    columns = ["plate", "perturbation", "dose", "solvent", "more"]
    assert index_gallery(gallery).sites[columns].to_numpy().tolist() == [
        ["P1", "a", "7", "oil", ""],
        ["P2", "b", "8", "water", ""],
        ["P3", "c", "", "", "x"],
    ]


def test_every_table_of_perturbations_adds_what_it_knows(gallery: Gallery) -> None:
    gallery.rows("P1", *[gallery.site("P1", well, 1) for well in ("A01", "A02", "A03", "A04")])
    wells = "Metadata_Plate,Metadata_Well,Metadata_JCP2022,Metadata_Note2\n"
    gallery.write("well.csv", wells + "P1,A01,J1,\nP1,A02,J2,own\nP1,A03,J3,\nP1,A04,J4,\n")
    gallery.write("crispr.csv", "Metadata_JCP2022,Metadata_Symbol,Metadata_Note2\nJ1,TP53,c\nJ2,MYC,c\n")
    gallery.write("orf.csv", "Metadata_JCP2022,Metadata_Name,Metadata_Symbol\nJ2,ccsb,other\nJ3,ccsb2,KRAS\n")
    gallery.write("perturbation_control.csv", "Metadata_JCP2022,Metadata_pert_type,Metadata_Name\nJ4,negcon,DMSO\n")
    columns = ["perturbation", "role", "Metadata_Symbol", "Metadata_Name", "Metadata_Note2"]
    assert index_gallery(gallery).sites[columns].to_numpy().tolist() == [
        ["J1", "treatment", "TP53", "", "c"],
        ["J2", "treatment", "MYC", "ccsb", "own"],
        ["J3", "treatment", "KRAS", "ccsb2", ""],
        ["J4", "negative_control", "", "DMSO", ""],
    ]


def test_parquet_stands_for_csv_as_in_jump(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1), gallery.site("P1", "A02", 1))
    load_data = gallery.root / "workspace/load_data_csv/B1/P1/load_data.csv"
    by_csv = index_gallery(gallery).sites
    pd.read_csv(load_data).to_parquet(load_data.with_name("load_data_with_illum.parquet"), index=False)
    load_data.unlink()
    wells = pd.DataFrame(
        {"Metadata_Plate": ["P1", "P9"], "Metadata_Well": ["A02", "A01"], "Metadata_JCP2022": ["x", "y"]}
    )
    wells.to_parquet(gallery.root / "well.parquet", index=False)
    twin = gallery.root / "metadata/well.csv"
    gallery.write("metadata/well.csv", wells.replace({"A02": "A2"}).to_csv(index=False))
    screen = index_gallery(gallery)
    assert conservation_line(screen) == "found 3 = indexed 1 + refused 2"  # the same row, twice
    assert set(screen.problems["kind"]) == {"duplicate row", "no table row"}
    twin.unlink()
    screen = index_gallery(gallery)
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    assert screen.sites["perturbation"].tolist() == ["x"]
    paths = ["experiment", "plate", "well", "site", "path_1", "path_2"]
    assert screen.sites[paths].to_numpy().tolist() == by_csv.loc[by_csv["well"] == "A02", paths].to_numpy().tolist()
    refusal = screen.problems.iloc[0]
    assert (refusal["kind"], refusal["well"]) == ("no table row", "A01")


def test_harmonys_names_do_without_a_table(gallery: Gallery) -> None:
    for plate in ("P1__2020-11-08T18_18_43-Measurement1", "P2__2020-11-09T18_18_43-Measurement2"):
        gallery.images(plate, *[f"r16c24f09p01-ch{c}sk1fk1fl1.tiff" for c in (1, 2)])
    screen = index_gallery(gallery)
    assert screen.sites[["experiment", "plate", "well", "site"]].to_numpy().tolist() == [
        ["B1", "P1", "P24", 9],
        ["B1", "P2", "P24", 9],
    ]
    gallery.maps("P1,M\nP2,M\n", M="well_position\tbroad_sample\nP24\tx\n")
    screen = index_gallery(gallery, channels=["DNA=2"], controls={"negative_control": ["x"]})
    assert set(screen.sites["role"]) == {"negative_control"}
    wells = gallery.write("wells.csv", "plate,well,perturbation\nP1,P24,y\nP2,p24,z\n")
    assert index_gallery(gallery, tables=wells).sites["perturbation"].tolist() == ["y", "z"]
    wells = gallery.write("wells.csv", "plate,row,column,perturbation\nP1,P,24,u\nP2,16,24,v\n")
    assert index_gallery(gallery, tables=wells).sites["perturbation"].tolist() == ["u", "v"]


@pytest.mark.parametrize(
    ("options", "message"),
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
def test_a_request_that_names_nothing_is_an_error(gallery: Gallery, options: dict[str, Any], message: str) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    with pytest.raises(ScreenError) as error:
        index_gallery(gallery, **options)
    assert message in str(error.value)


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
    assert (len(screen.metadata.channels), screen.metadata.shape, screen.metadata.dtype) == (
        channels,
        (1080, 1080),
        "uint16",
    )


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
    assert [channel.name for channel in screen.metadata.channels] == ["DAPI", "Tubulin", "Actin"]
    missing = screen.problems[screen.problems["kind"] == "missing channel"].iloc[0]
    assert (missing["channel"], missing["well"]) == ("Actin", "B02")
