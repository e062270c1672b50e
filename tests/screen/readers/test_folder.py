"""A folder of files whose names follow a pattern, with a table of wells or without."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distangle.errors import ScreenError
from distangle.images.readers.read import probe_image
from distangle.screen import conservation_line, index
from distangle.screen.readers import LAYOUTS, looks_like
from distangle.screen.readers.filenames.pattern import parse_pattern
from distangle.screen.readers.filenames.plates import plates_of
from image_folders import PLAIN, index_folder, index_with_wells, put, refusals, sites_of


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("{well}_{site}_{channel}.tif", "x/B03_2_DAPI.TIFF", {"well": "B03", "site": "2", "channel": "DAPI"}),
        ("harmony", "r03c12f05p01-ch4sk1fk1fl1.tiff", {"well": "r03c12", "site": "05", "channel": "4"}),
        ("harmony", "r28c48f1p01-ch4sk1fk1fl1.tiff", {"well": "r28c48"}),
        ("harmony", "r00c12f05p01-ch4sk1fk1fl1.tiff", {"well": "r00c12"}),
        (
            "imagexpress",
            "Week2_180607_B02_s1_w1648EE446-12C2-4D22-B14B-6EC688B0744A.tif",
            {"well": "B02", "site": "1", "channel": "1"},
        ),
        ("imagexpress", "g10_s1_w1648EE446-12C2-4D22-B14B-6EC688B0744A.tif", {"well": "g10"}),
        ("imagexpress", "W_B02_s1_w1_thumb648EE446-12C2-4D22-B14B-6EC688B0744A.tif", None),
        (
            "cellvoyager",
            "AssayPlate_B02_T0001F003L01A02Z01C05.tif",
            {"well": "B02", "site": "003", "channel": "05", "plane": "01", "time": "0001"},
        ),
        ("imagexpress", "W_B02_w2648EE446-12C2-4D22-B14B-6EC688B0744A.tif", {"well": "B02", "channel": "2"}),
        ("incell", "A - 01(fld 3 wv 390 - Blue).tif", {"well": "A01", "site": "3", "channel": "390 - Blue"}),
        ("incell", "b - 2(fld 1 wv Green - dsRed z 3).tif", {"well": "b02", "channel": "Green - dsRed", "plane": "3"}),
        ("incell", "A - 1(wv Cy5 - Cy5).tif", {"well": "A01", "channel": "Cy5 - Cy5"}),
        ("arrayscan", "AS_09125_050116030001_D03f00d2.TIF", {"well": "D03", "site": "00", "channel": "2"}),
        ("{plate}/{plate}_{well}.png", "deep/P7/P7_a1.png", {"plate": "P7", "well": "a1"}),
        ("{plate}/{plate}_{well}.png", "P7/P8_a1.png", None),
        ("{row}-{column}.png", "AF-48.png", {"well": "AF48"}),
        ("{well=A01}{dose}_{site}.png", "0.5_2.png", {"well": "A01", "dose": "0.5", "site": "2"}),
        ("{well}w{channel:1}{}.png", "A01w34.png", {"channel": "3"}),
        ("{well}.png", "A01.png.bak", None),
    ],
)
def test_a_pattern_reads_names(pattern: str, path: str, expected: dict[str, str] | None) -> None:
    fields = parse_pattern(pattern).read(path)
    assert (fields is None) == (expected is None)
    assert expected is None or (fields or {}).items() >= expected.items()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("harmoni", "Did you mean 'harmony'? Known: arrayscan, cellvoyager, cq1, harmony, imagexpress"),
        ("{wel}_{site}.tif", "has no field for the well. Expected {well}, or {row} and {column}. Did you"),
        ("{row}_{site}.tif", "has only one of {row} and {column}. Write both, or {well}."),
        ("{well}{row}{column}.tif", "names the well twice"),
        ("{well}_{site:x}.tif", "{site:x} is not a field. Write {name}, {name:3}, {name=value} or {}."),
        ("{well}_{site.tif", "an unpaired brace"),
        (
            "{perturbation}/{well}.tif",
            "read from a table, not from file names. Write {} for {perturbation}, and name a table",
        ),
        ("{plate=}/{well}.tif", "{plate=} has no value. Write a value, such as {plate=1}."),
        ("{well}{site}{site=2}.tif", "must fix a field that occurs nowhere else"),
        ("{well}{site=2}{site}.tif", "site is both fixed and read"),
    ],
)
def test_a_pattern_that_cannot_be_read_is_an_error_with_the_next_step(pattern: str, message: str) -> None:
    with pytest.raises(ScreenError) as error:
        parse_pattern(pattern)
    assert message in str(error.value)
    assert f"--pattern {pattern!r}" in str(error.value)


def test_plates_are_named_by_the_folders_that_have_names() -> None:
    folders = ["", "BR1__2020-11-08T18_18_43-Measurement1/Images", "a/images", "b/images/orig", "c/x", "d/x"]
    plate_names = {"": "lab", folders[1]: "BR1", "a/images": "a", "b/images/orig": "b", "c/x": "c/x", "d/x": "d/x"}
    assert plates_of(folders, root="lab") == plate_names


def test_a_folder_without_a_table_becomes_sites_of_unknown_wells(tmp_path: Path) -> None:
    put(tmp_path, [*sites_of("b3", "A01", sites=(2, 1)), *sites_of("AA2", below="q/images")])
    screen = index_folder(tmp_path, channels=["DNA=2", "actin=1"])
    assert conservation_line(screen) == "found 5 = indexed 5 + refused 0"
    sites = screen.sites
    assert sites[["experiment", "plate", "well", "site"]].to_numpy().tolist() == [
        ["all", "p1", "A01", 1],
        ["all", "p1", "A01", 2],
        ["all", "p1", "B03", 1],
        ["all", "p1", "B03", 2],
        ["all", "q", "AA02", 1],
    ]
    assert sites.loc[2, ["path_1", "path_2"]].tolist() == ["p1/b3_s1_w2.tif", "p1/b3_s1_w1.tif"]
    assert [channel.name for channel in screen.metadata.channels] == ["DNA", "actin"]
    assert (set(sites["role"]), set(sites["perturbation"])) == ({"unknown"}, {""})
    assert (screen.metadata.plate_rows, screen.metadata.plate_columns) == (32, 48)
    assert screen.metadata.provenance["pattern"] == PLAIN


def test_folders_name_experiment_plate_and_cell_type_and_the_rest_becomes_columns(tmp_path: Path) -> None:
    put(tmp_path, ["raw/E1/HUVEC-P7/d3/B02-DAPI.png", "raw/E1/HUVEC-P7/d3/B02-GFP.png"])
    screen = index_folder(tmp_path, pattern="{experiment}/{cell_type}-{plate}/{day}/{well}-{channel}.png")
    row = screen.sites.iloc[0]
    assert (row["experiment"], row["cell_type"], row["plate"], row["day"], row["site"]) == (
        "E1",
        "HUVEC",
        "P7",
        "d3",
        1,
    )
    assert screen.metadata.extra_columns == ("day",)


def test_files_of_many_pages_have_their_channels_named(tmp_path: Path) -> None:
    put(tmp_path, ["A01.tif", "A02.tif"])
    screen = index_folder(tmp_path, pattern="{well}.tif", channels=["DNA", "actin"])
    assert screen.pages(0) == [0, 1]
    assert index_folder(tmp_path, pattern="{well}.tif", channels=["DNA"]).pages(1) == [None]
    with pytest.raises(ScreenError, match="has no {channel}, so each file contains all channels. Name its pages"):
        index_folder(tmp_path, pattern="{well}.tif")


def test_faults_in_files_are_refused_by_well_and_move_no_other(tmp_path: Path) -> None:
    names = sites_of("C10", "C11", "C15", "C16", sites=(1, 2))  # C12-C14 were never taken
    missing_names = {"p1/C10_s1_w2.tif", "p1/C16_s2_w1.tif", "p1/C16_s2_w2.tif"}
    put(
        tmp_path,
        [name for name in names if name not in missing_names] + ["p1/C011_s2_w1.tif", "p1/notes.png", "p1/R99.tif"],
    )
    (tmp_path / "p1" / "C15_s1_w1.tif").write_bytes(b"")
    screen = index_folder(tmp_path)
    assert conservation_line(screen) == "found 7 = indexed 4 + refused 3"
    assert sorted(refusals(screen)) == [
        ("missing channel", "C10"),
        ("two files for a channel", "C011"),
        ("unreadable file", "C15"),
    ]
    indexed_rows = screen.sites[["well", "site", "path_1"]].to_numpy().tolist()
    assert indexed_rows == [[w, s, f"p1/{w}_s{s}_w1.tif"] for w, s in [("C10", 2), ("C11", 1), ("C15", 2), ("C16", 1)]]
    remark = screen.problems[screen.problems["kind"] == "name not recognized"].iloc[0]
    assert (remark["file"], remark["found"], remark["count"]) == ("p1", "R99.tif, notes.png", 2)
    missing = screen.problems[screen.problems["kind"] == "missing channel"].iloc[0]
    assert (missing["file"], missing["channel"], missing["site"]) == ("p1/C10_s1_w1.tif", "2", "1")
    assert "Copy the missing files" in missing["fix"]


def test_planes_are_never_chosen_in_silence(tmp_path: Path) -> None:
    put(tmp_path, [f"r01c01f01p{plane:02d}-ch{c}sk1fk1fl1.tiff" for plane in (1, 2) for c in (1, 2)])
    put(tmp_path, [f"r01c02f01p01-ch{c}sk1fk1fl1.tiff" for c in (1, 2)])
    screen = index_folder(tmp_path, pattern="harmony")
    assert refusals(screen) == [("several planes or times", "A01")]
    assert screen.problems.iloc[0]["found"] == "plane 01; plane 02"
    assert screen.problems.iloc[0]["fix"].startswith(
        "Select one, such as --plane 01 (a plane per channel: --plane DNA=3"
    )
    assert index_folder(tmp_path, pattern="harmony", planes=["1"]).sites["well"].tolist() == ["A01", "A02"]
    second = index_folder(tmp_path, pattern="r{row}c{column}f{site}p02-ch{channel}sk1fk1fl1.tiff")
    assert second.sites["path_1"].tolist() == ["r01c01f01p02-ch1sk1fk1fl1.tiff"]


def test_a_channel_that_few_sites_have_has_to_be_chosen(tmp_path: Path) -> None:
    put(tmp_path, [*sites_of("A01", "A02", "A03"), "p1/A01_s1_w7.tif"])
    with pytest.raises(ScreenError, match=r"sites have the channel '7' \(1 in 3, 2 in 3, 7 in 1\).*--channels 1,2"):
        index_folder(tmp_path)
    screen = index_folder(tmp_path, channels=["1", "DNA=02"])
    assert conservation_line(screen) == "found 3 = indexed 3 + refused 0"
    remark = screen.problems.iloc[0]
    assert (remark["severity"], remark["kind"], remark["channel"]) == ("warning", "channel not selected", "7")
    with pytest.raises(ScreenError, match="no file has the channel '3'. Known: 1, 2, 7"):
        index_folder(tmp_path, channels=["3"])
    with pytest.raises(ScreenError, match="every channel once"):
        index_folder(tmp_path, channels=["a=1", "b=1"])


def test_strange_folders_and_names_neither_hang_nor_get_in(tmp_path: Path) -> None:
    put(tmp_path, sites_of("A01", "A02"))
    plate = tmp_path / "p1"
    (plate / "round").symlink_to(tmp_path)
    (plate / "self").symlink_to(plate / "self")
    (plate / "A03_s1_w1.tif").symlink_to(tmp_path / "gone.tif")
    (plate / "A03_s1_w2.tif").symlink_to(tmp_path / "gone.tif")
    os.mkfifo(plate / "A04_s1_w1.tif")
    put(plate, ["A04_s1_w2.tif", "=cmd_s1_w1.tif", "A05\n_s1_w1.tif"])
    Path(os.fsdecode(os.fsencode(plate) + b"/A06\xff_s1_w1.tif")).write_bytes(b"x")
    screen = index_folder(tmp_path)
    assert conservation_line(screen) == "found 4 = indexed 2 + refused 2"
    assert sorted(refusals(screen)) == [("no image", "A03"), ("unreadable file", "A04")]
    names = screen.problems.loc[screen.problems["kind"] == "name not recognized", "found"].tolist()
    assert names == ["=cmd_s1_w1.tif, A05\\n_s1_w1.tif, A06\\udcff_s1_w1.tif"]
    assert (screen.problems["kind"] == "folder not listed").sum() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": None}, "2 of 2 names match --pattern harmony"),
        (
            {"pattern": "{well}.png"},
            "An example is p1/r01c01f01p01-ch1sk1fk1fl1.tiff. 2 of 2 names match",
        ),
        ({"pattern": "harmony", "pages": "x"}, "does not support --pages. Omit it, or use --layout table."),
        ({"pattern": "harmony", "tables_only": True}, "Omit --tables-only"),
        ({"pattern": "harmony", "mapping": {"well": "W"}}, "there is no table. Name it with --tables FILE"),
        ({"pattern": "harmony", "controls": {"negative_control": ["DMSO"]}}, "no row has the perturbation 'DMSO'"),
    ],
)
def test_a_request_that_makes_no_sense_is_an_error(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    put(tmp_path, [f"p1/r01c01f01p01-ch{c}sk1fk1fl1.tiff" for c in (1, 2)])
    with pytest.raises(ScreenError) as error:
        index_folder(tmp_path, **options)
    assert message in str(error.value)


def test_a_folder_of_another_layout_is_told_which(tmp_path: Path) -> None:
    put(tmp_path, ["p1/r01c01f01p01-ch1sk1fk1fl1.tiff"])
    with pytest.raises(ScreenError, match="It looks like --layout folder .1 of 1 names match --pattern harmony"):
        index(tmp_path, layout="rxrx1")
    (tmp_path / "train.csv").write_text("experiment,plate,well,sirna\n")
    with pytest.raises(ScreenError, match=r"It looks like --layout rxrx1 \(train.csv\)"):
        index_folder(tmp_path, pattern="{well}.png")
    assert looks_like(tmp_path / "gone") == ""
    assert all(layout.name == name for name, layout in LAYOUTS.items())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(
        st.tuples(st.sampled_from(["A1", "A01", "B2", "AF48", "ZZ9"]), st.integers(1, 2), st.sampled_from("123")),
        max_size=12,
    ),
    rows=st.lists(
        st.tuples(st.sampled_from(["A01", "B02", "AF48", "B0", ""]), st.sampled_from(["x", "y", ""]), st.booleans()),
        max_size=6,
    ),
)
def test_nothing_is_ever_lost(files: list[tuple[str, int, str]], rows: list[tuple[str, str, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        put(
            Path(folder),
            {f"p/{well}_s{site}_w{c}.tif" for well, site, c in files} | {"p/C03_s1_w1.tif", "p/C03_s1_w2.tif"},
        )
        text = "well,perturbation\nC03,x\n" + "".join(f"{w},{p}{',' * extra}\n" for w, p, extra in rows)
        screen = index_with_wells(Path(folder), text, channels=["1", "2"], well_base=1)
        metadata = screen.metadata
        assert metadata.found == metadata.indexed + metadata.refused
        wells = {(w.upper().replace("0", ""), s) for w, s, _ in files} | {("C3", 1)}
        n_rows = 1 + sum(1 for w, p, extra in rows if w or p or extra)
        assert len(wells) <= metadata.found <= len(wells) + n_rows


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "options", "line", "shape"),
    [
        (
            "cytodataframe_cellpainting/NF1_cellpainting_data_shrunken",
            {"pattern": "{well}_01_{}_{site}_{channel}_001.tif"},
            "found 5 = indexed 5 + refused 0",
            (904, 1224),
        ),
        (
            "cellprofiler_examples/ExampleHuman",
            {"pattern": "arrayscan", "channels": ["DNA=0", "PH3=1", "cells=2"]},
            "found 1 = indexed 1 + refused 0",
            (512, 512),
        ),
        (
            "cellprofiler_examples/ExampleVitraImages",
            {"pattern": "Channel {channel}-{}-{row}-{column}-{site}.tif"},
            "found 2 = indexed 2 + refused 0",
            None,
        ),
        (
            "cellprofiler_examples/ExampleColocalization",
            {"pattern": "{well=A01}{dose}_{site}_N_{channel}.png"},
            "found 2 = indexed 2 + refused 0",
            None,
        ),
        (
            "../bbbc021_singlecell/fov_tif",
            {"pattern": "imagexpress", "channels": ["DAPI=1", "tubulin=2", "actin=4"]},
            "found 3 = indexed 2 + refused 1",
            (1024, 1280),
        ),
    ],
)
def test_real_folders_index_with_one_pattern_each(
    real_data: Path, folder: str, options: dict[str, Any], line: str, shape: tuple[int, int] | None
) -> None:
    screen = index_folder(real_data / "fixtures" / folder, probe=probe_image, **options)
    assert conservation_line(screen) == line
    assert shape is None or screen.metadata.shape == shape
    assert set(screen.problems["severity"]) <= {"refused"}
