"""Plate maps of the gallery: which map belongs to which plate of which batch."""

import pytest

from distangle.errors import ScreenError
from distangle.screen import conservation_line
from gallery import HEADER, Gallery, index_gallery, refusals


def test_one_map_of_several_plates_counts_for_each(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    gallery.rows("P2", gallery.site("P2", "A01", 1), gallery.site("P2", "A03", 1))
    gallery.maps("P1,M\nP2,M\nP3,M\n", M="well_position\tbroad_sample\nA01\tx\nA02\ty\nragged\n")
    screen = index_gallery(gallery)
    # 3 sites; of 3 x 2 rows two met theirs; the ragged line once.
    assert conservation_line(screen) == "found 8 = indexed 2 + refused 6"
    assert refusals(screen) == [
        *[("no image", "P1", "A02"), ("no image", "P2", "A02"), ("no image", "P3", "")],
        *[("no table row", "P2", "A03"), ("ragged row", "", "")],
    ]
    plate_problem = screen.problems[screen.problems["plate"] == "P3"].iloc[0]
    assert (plate_problem["found"], plate_problem["count"]) == ("no image of the whole plate (2 rows)", 2)


def test_batches_that_share_a_barcode_keep_their_own_maps(gallery: Gallery) -> None:
    for batch, well, name in (("B1", "A01", "x"), ("B2", "A02", "y")):
        image_folder = f"images/{batch}/images/P1/Images"
        for k in (1, 2):
            gallery.write(f"{image_folder}/{well}_1_{k}.tiff", batch)
            gallery.write(f"{image_folder}/B02_1_{k}.tiff", batch)
        rows = [f"{w}_1_1.tiff,/{image_folder},{w}_1_2.tiff,/{image_folder},,,P1,{w},1," for w in (well, "B02")]
        gallery.write(f"workspace/load_data_csv/{batch}/P1/load_data.csv", "\n".join([HEADER, *rows, ""]))
        folder = f"workspace/metadata/platemaps/{batch}"
        gallery.write(f"{folder}/barcode_platemap.csv", "Assay_Plate_Barcode,Plate_Map_Name\nP1,M\n")
        gallery.write(f"{folder}/platemap/M.txt", f"well_position\tbroad_sample\n{well}\t{name}\nB02\tof {batch}\n")
    screen = index_gallery(gallery)
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
    screen = index_gallery(gallery)
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
    assert index_gallery(gallery).sites[["experiment", "perturbation"]].to_numpy().tolist() == [["B1", "x"]]


def test_a_map_of_a_plate_that_was_not_copied_may_be_absent(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    gallery.maps("P1,M1\nP3,M9\n", M1="well_position\tbroad_sample\nA01\tx\n")
    screen = index_gallery(gallery)
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
        index_gallery(gallery)
    gallery.maps("P3,M9\n")
    with pytest.raises(ScreenError, match="plate P3 has the map 'M9', and no folder 'platemap' contains it"):
        index_gallery(gallery)


def test_tables_that_do_not_fit_together_are_an_error(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1))
    gallery.maps("P1,M1\n", M2="well_position\tbroad_sample\nA01\tx\n")
    with pytest.raises(ScreenError, match=r"line 2: plate P1 has the map 'M1'.*Did you mean 'M2'"):
        index_gallery(gallery)
    gallery.maps("P1,M2,M3\n")
    with pytest.raises(ScreenError, match=r"barcode_platemap.csv, line 2: 3 fields, expected 2"):
        index_gallery(gallery)
    gallery.maps("")
    with pytest.raises(ScreenError, match="has no row. Expected a row per plate"):
        index_gallery(gallery)
    gallery.rows("P2", "x", header="FileName_OrigDNA,PathName_OrigDNA,Metadata_Plate,Metadata_Well")
    with pytest.raises(ScreenError, match=r"lacks the channels OrigER.*--channels DNA\."):
        index_gallery(gallery)
