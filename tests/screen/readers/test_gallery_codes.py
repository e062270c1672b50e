"""Codes of JUMP: which perturbation and role they stand for, and which are no class."""

import pytest

from distangle.screen import conservation_line
from gallery import Gallery, index_gallery, refusals


def test_jumps_codes_that_are_no_perturbations_are_no_classes(gallery: Gallery) -> None:
    codes = dict(A01="JCP2022_033924", A02="JCP2022_999999", A03="JCP2022_UNKNOWN", A04="JCP2022_900001", A05="J5")
    gallery.rows("P1", *[gallery.site("P1", well, 1) for well in codes])
    wells = "".join(f"P1,{well},{code}\n" for well, code in codes.items())
    gallery.write("well.csv", f"Metadata_Plate,Metadata_Well,Metadata_JCP2022\n{wells}P1,A06,JCP2022_UNKNOWN\n")
    screen = index_gallery(gallery)
    columns = ["well", "perturbation", "role", "Metadata_JCP2022"]
    assert screen.sites[columns].to_numpy().tolist() == [
        ["A01", "JCP2022_033924", "negative_control", "JCP2022_033924"],
        ["A02", "JCP2022_999999", "untreated", "JCP2022_999999"],
        ["A03", "", "unknown", "JCP2022_UNKNOWN"],
        ["A04", "", "unknown", "JCP2022_900001"],
        ["A05", "J5", "treatment", "J5"],
    ]
    assert screen.metadata.perturbations == ("J5", "JCP2022_033924", "JCP2022_999999")
    assert conservation_line(screen) == "found 6 = indexed 5 + refused 1"  # A06 has no image
    warnings = screen.problems[screen.problems["kind"] == "perturbation unknown"]
    assert warnings[["severity", "file", "found", "count"]].to_numpy().tolist() == [
        ["warning", "well.csv", "JCP2022_UNKNOWN", 2],
        ["warning", "well.csv", "JCP2022_900001", 1],
    ]
    assert "have no label" in warnings.iloc[0]["fix"]


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
    sites = index_gallery(gallery).sites
    assert dict(zip(sites["well"], sites["perturbation"], strict=True)) == {**codes, "B01": "JCP2022_000001"}
    role_of_name = dict(zip(sites["perturbation"], sites["role"], strict=True))
    assert role_of_name == {
        **{f"JCP2022_{code}": role for code, role in JUMP_ROLES.items()},
        "JCP2022_000001": "treatment",
    }


def test_a_code_that_no_table_of_jump_explains_is_no_class(gallery: Gallery) -> None:
    gallery.rows("P1", gallery.site("P1", "A01", 1), gallery.site("P1", "A02", 1))
    rows = "P1,A01,JCP2022_028373\nP1,A02,JCP2022_000001\n"
    gallery.write("well.csv", f"Metadata_Plate,Metadata_Well,Metadata_JCP2022\n{rows}")
    screen = index_gallery(gallery)
    assert screen.sites[["perturbation", "role"]].to_numpy().tolist() == [
        ["", "unknown"],
        ["JCP2022_000001", "treatment"],
    ]
    assert screen.metadata.perturbations == ("JCP2022_000001",)
    warnings = screen.problems[screen.problems["kind"] == "perturbation unknown"]
    assert warnings[["found", "count"]].to_numpy().tolist() == [["JCP2022_028373", 1]]


@pytest.mark.parametrize("first", ["P1", "P2"])
def test_a_code_of_jump_in_one_map_moves_no_column_of_another(gallery: Gallery, first: str) -> None:
    head = "well_position\tMetadata_JCP2022\tpert_type\tsolvent\n"
    for plate in ("P1", "P2"):
        gallery.rows(plate, gallery.site(plate, "A01", 1))
    barcodes = "P1,M1\nP2,M2\n" if first == "P1" else "P2,M2\nP1,M1\n"
    gallery.maps(barcodes, M1=f"{head}A01\tJ1\ttrt\toil\n", M2=f"{head}A01\tJCP2022_UNKNOWN\t\twater\n")
    columns = ["plate", "perturbation", "role", "solvent", "Metadata_JCP2022"]
    assert index_gallery(gallery).sites[columns].to_numpy().tolist() == [
        ["P1", "J1", "treatment", "oil", "J1"],
        ["P2", "", "unknown", "water", "JCP2022_UNKNOWN"],
    ]


def test_what_tables_and_callers_say_outranks_jumps_codes(gallery: Gallery) -> None:
    codes = dict(A01="JCP2022_033924", A02="JCP2022_999999", A03="JCP2022_UNKNOWN", A04="J4", A05="J5")
    gallery.rows("P1", *[gallery.site("P1", well, 1) for well in codes])
    wells = "".join(f"P1,{well},{code},{'' if well == 'A01' else 'trt'}\n" for well, code in codes.items())
    gallery.write("well.csv", f"Metadata_Plate,Metadata_Well,Metadata_JCP2022,mine\n{wells}")
    kinds = "JCP2022_033924,poscon\nJCP2022_999999,empty\nJ4,negcon\nJ5,empty\n"
    gallery.write("perturbation_control.csv", f"Metadata_JCP2022,Metadata_pert_type\n{kinds}")
    roles = ["positive_control", "untreated", "unknown", "negative_control"]
    screen = index_gallery(gallery)
    assert screen.sites["role"].tolist() == roles
    assert ("bad role", "P1", "A05") in refusals(screen)  # "empty" is defined for the code of JUMP only
    assert set(index_gallery(gallery, mapping={"role": "mine"}).sites["role"]) == {"treatment"}
    by_code = index_gallery(gallery, mapping={"perturbation": "Metadata_JCP2022"})
    assert by_code.sites["perturbation"].tolist() == list(codes.values())[:4]
    assert set(by_code.problems["kind"]) == {"bad role", "no table row"}
