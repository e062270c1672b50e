"""All channels of a site come from one plane, time, cycle and acquisition, whose folders are no plates."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from distangle.cli import main
from distangle.errors import ScreenError
from distangle.screen import Screen, conservation_line, read_screen, write_screen
from distangle.screen.indexing.provenance import reread_source
from distangle.screen.readers.filenames.plates import plates_of
from image_folders import PLAIN, index_folder, put

CELLVOYAGER = "P1_{}_T0001F001L01A01Z{}C{}.tif"


def refusals(screen: Screen) -> list[tuple[str, str]]:
    rows = screen.problems[screen.problems["severity"] == "refused"]
    return list(zip(rows["kind"], rows["well"], strict=True))


def reasons(folder: Path, **options: Any) -> str:
    with pytest.raises(ScreenError) as error:
        index_folder(folder, **options)
    return str(error.value)


def stacks(well: str, planes: Iterable[tuple[int, int]]) -> list[str]:
    return [f"P1/P1_{well}_T0001F001L01A01Z{z:02d}C{c:02d}.tif" for z, c in planes]


WHOLE = stacks("B02", [(1, 1), (1, 2)])


def test_channels_of_different_planes_are_never_put_together(tmp_path: Path) -> None:
    half = stacks("B03", [(1, 1), (2, 1), (3, 2)])
    screen = index_folder(put(tmp_path, [*WHOLE, *half]), pattern="cellvoyager")
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    assert refusals(screen) == [("channels of several planes or times", "B03")]
    problem = screen.problems.iloc[0]
    assert problem["found"] == "plane 01 (01 only); plane 02 (01 only); plane 03 (02 only)"
    assert problem["fix"].startswith("Copy the missing files again: no plane and time has all channels.")
    assert "--plane 01=02,02=03." in problem["fix"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("harmony", ["r01c02f01p01-ch1sk1fk1fl1.tiff", "r01c02f01p01-ch2sk2fk1fl1.tiff"]),
        ("{cycle}_{well}_{channel}.tif", ["c1_A02_1.tif", "c2_A02_2.tif"]),
        ("{well}_pass{acquisition}_{channel}.tif", ["A02_pass1_1.tif", "A02_pass2_2.tif"]),
        ("{well}_{day}_{channel}.tif", ["A02_d1_1.tif", "A02_d2_2.tif"]),
        ("{well}_w{channel}.tif", ["round1/A02_w1.tif", "round2/A02_w2.tif"]),
        ("{well}_w{channel}.tif", ["P1_t0/A02_w1.tif", "P1_t1/A02_w2.tif", "P1_t1/A03_w1.tif", "P1_t0/A03_w2.tif"]),
        ("{well}_t{time}_w{channel}.tif", ["t1/A02_t0_w1.tif", "t2/A02_t0_w2.tif"]),
        ("imagexpress", [f"P1/ZStep_{k}/x_A02_s1_w{k}{'0' * 36}.tif" for k in (1, 2)]),
    ],
)
def test_nor_those_of_two_times_cycles_or_acquisitions(tmp_path: Path, pattern: str, names: list[str]) -> None:
    message = reasons(put(tmp_path, names), pattern=pattern)
    assert "all refused" in message
    assert "channels of several planes or times" in message


def test_a_column_that_tells_images_of_a_site_apart_is_no_column_of_the_site(tmp_path: Path) -> None:
    names = [f"A01_{dose}_{c}.tif" for dose, c in (("lo", 1), ("hi", 2))] + ["A02_lo_1.tif", "A02_lo_2.tif"]
    names += ["A03_hi_1.tif", "A03_hi_2.tif"]
    screen = index_folder(put(tmp_path, names), pattern="{well}_{dose}_{channel}.tif")
    assert refusals(screen) == [("channels of several planes or times", "A01")]
    assert "Write {} for {dose} in --pattern" in screen.problems.iloc[0]["fix"]
    assert screen.sites[["well", "dose"]].to_numpy().tolist() == [["A02", "lo"], ["A03", "hi"]]


def test_a_column_that_belongs_to_the_channel_is_none_of_the_moment(tmp_path: Path) -> None:
    names = [f"{well}_{ms}ms_{c}.tif" for well in ("A01", "A02") for ms, c in ((50, "DNA"), (100, "ER"))]
    screen = index_folder(put(tmp_path, names), pattern="{well}_{exposure}ms_{channel}.tif")
    assert screen.sites["exposure"].tolist() == ["50, 100"] * 2


def test_several_whole_moments_are_listed_and_can_be_chosen(tmp_path: Path) -> None:
    names = [f"r01c0{w}f01p0{z}-ch{c}sk{t}fk1fl1.tiff" for w in (1, 2) for z in (1, 2) for c in (1, 2) for t in (1, 2)]
    put(tmp_path, [name for name in names if "c02f01p02-ch2sk2" not in name])
    message = reasons(tmp_path, pattern="harmony")
    assert "found plane 01, time 1; plane 01, time 2; plane 02, time 1" in message
    assert "Select one, such as --plane 01 --time 1 (a plane per channel: --plane DNA=3,actin=5)" in message
    screen = index_folder(tmp_path, pattern="harmony", planes=["2"], time="2")
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    assert screen.sites["path_2"].tolist() == ["r01c01f01p02-ch2sk2fk1fl1.tiff"]
    missing = screen.problems.iloc[0]
    assert missing[["kind", "well", "channel"]].tolist() == ["missing channel", "A02", "2"]
    assert missing["found"] == "2 of plane 01, time 1 and plane 01, time 2 and plane 02, time 1"
    assert missing["expected"] == "channels 1, 2 of plane 2, time 2"
    unselected = screen.problems[screen.problems["kind"] == "plane or time not selected"].iloc[0]
    assert (unselected["severity"], unselected["count"], unselected["expected"]) == ("warning", 12, "plane 2, time 2")


def test_each_channel_can_have_a_plane_of_its_own(tmp_path: Path) -> None:
    put(tmp_path, [name for w in ("B03", "B04") for name in stacks(w, [(1, 1), (2, 1), (3, 1), (1, 2)])])
    screen = index_folder(tmp_path, pattern="cellvoyager", channels=["DNA=1", "actin=2"], planes=["DNA=3", "actin=1"])
    assert conservation_line(screen) == "found 2 = indexed 2 + refused 0"
    assert screen.sites.loc[0, ["path_1", "path_2"]].tolist() == stacks("B03", [(3, 1), (1, 2)])
    assert index_folder(tmp_path, pattern="cellvoyager", planes=["2", "02=1"]).sites["path_1"][1].endswith("Z02C01.tif")
    write_screen(screen, tmp_path / "screen")
    entries = reread_source(read_screen(tmp_path / "screen")).entries
    assert [entry.paths for entry in entries] == [tuple(stacks(w, [(3, 1), (1, 2)])) for w in ("B03", "B04")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"planes": ["2"]},
            "--plane 2: no image of channel '02' has plane 2; it has plane 01. Set a plane per channel",
        ),
        ({"planes": ["2"]}, "such as --plane 01=2,02=01, or exclude the channel with --channels."),
        ({"planes": ["01=2"]}, "has no plane for the channel 02. Name the plane of each channel: --plane 01=2,02=...;"),
        ({"planes": ["ER=2"]}, "--plane ER=2: no channel 'ER'. Known: 01, 02."),
        (
            {"planes": ["1", "2"]},
            "write one plane for all channels, --plane 2, or one for each, --plane DNA=3,actin=5.",
        ),
        (
            {"planes": ["1"], "time": "7"},
            "--time 7: no image of channel '01' has time 7; it has time 0001. Known: 0001.",
        ),
        ({"cycle": "1"}, "--cycle 1: no file name and no folder contains a cycle. Write {cycle} at its"),
    ],
)
def test_a_moment_that_loses_a_channel_is_an_error_by_name(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    put(tmp_path, stacks("B03", [(1, 1), (2, 1), (3, 1), (1, 2)]))
    assert message in reasons(tmp_path, pattern="cellvoyager", **options)


@pytest.mark.parametrize(
    ("pattern", "names", "message"),
    [
        (
            "{}_{well}_T{time}F{site}L{}A{}Z02C{channel}.tif",
            stacks("B03", [(1, 1), (2, 1), (1, 2)]),
            "excludes the channel '02': 1 files such as P1_B03_T0001F001L01A01Z01C02.tif have Z01 where the pattern",
        ),
        (
            "{well}_z3_{channel}.tif",
            ["A01_z3_DNA.tif", "A01_z1_ER.tif"],
            "--plane DNA=3,ER=1; or name the wanted channels",
        ),
        ("{well}_t0_{channel}.tif", ["A01_t0_DNA.tif", "A01_t1_ER.tif"], "Write {time} or {cycle} there"),
        (
            "{well}_A01_{channel}.tif",
            ["B01_A01_DNA.tif", "B01_A02_ER.tif"],
            "Write {} there; or name the wanted channels",
        ),
    ],
)
def test_figures_in_a_pattern_lose_no_channel(tmp_path: Path, pattern: str, names: list[str], message: str) -> None:
    put(tmp_path, names)
    assert message in reasons(tmp_path, pattern=pattern)
    first = "01" if "C{channel}" in pattern else "DNA"
    assert len(index_folder(tmp_path, pattern=pattern, channels=[first]).sites) == 1


def test_nor_a_well(tmp_path: Path) -> None:
    put(tmp_path, [*stacks("B03", [(1, 1), (2, 1)]), *stacks("B04", [(1, 1)])])
    screen = index_folder(tmp_path, pattern="{}_{well}_T{time}F{site}L{}A{}Z02C{channel}.tif")
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    assert screen.problems.iloc[0][["kind", "well", "found"]].tolist() == ["no image", "B04", "01 of Z01"]
    other = put(tmp_path / "o", ["A_P1_A01_w1.tif", "A_P2_A02_w1.tif"])  # the plate is chosen, not a plane
    assert (
        conservation_line(index_folder(other, pattern="A_P1_{well}_w{channel}.tif"))
        == "found 1 = indexed 1 + refused 0"
    )


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["P1/t0", "P1/t1", "P2/T0001"], ["P1", "P1", "P2"]),
        (["x/TimePoint_1/ZStep_2", "x/timepoint 2"], ["x", "x"]),
        (["P1/z3", "P1/plane_4", "P1/z-slice 5", "P1/t1_z2"], ["P1"] * 4),
        (["P1/cycle1", "P1/Round_2", "P1/hyb03"], ["P1"] * 3),
        (["P1/field_3", "P1/FOV 4", "P1/Position_5", "P1/xy01"], ["P1"] * 4),
        (["E1/P1/Measurement 1/Images", "E1/P2/Measurement 1/Images"], ["P1", "P2"]),
        (["t0", "t1"], ["lab"] * 2),
        (["P1", "P2", "P10"], ["P1", "P2", "P10"]),
        (["BR00117035", "BR00117036/Images"], ["BR00117035", "BR00117036"]),
        (["plate_1", "Plate2", "rep1", "rep2"], ["plate_1", "Plate2", "rep1", "rep2"]),
        (["24278", "110000295584", "Week1_22123"], ["24278", "110000295584", "Week1_22123"]),
        (["HUVEC-1/Plate1", "HUVEC-2/Plate1"], ["HUVEC-1/Plate1", "HUVEC-2/Plate1"]),
        (["P1/slide--S00/chamber--U00--V01/field--X00--Y01"], ["P1"]),
        (["RAC1", "ch1_t0", "row A col 3"], ["RAC1", "lab", "lab"]),
        (["T47D", "Z310", "MCF7", "timeline"], ["T47D", "lab", "MCF7", "timeline"]),
    ],
)
def test_folders_of_moments_and_fields_name_no_plate(folders: list[str], names: list[str]) -> None:
    assert list(plates_of(folders, root="lab").values()) == names


def site(well: str, channels: str = "12") -> list[str]:
    return [f"{well}_s1_w{c}.tif" for c in channels]


def plates_in(screen: Screen) -> dict[str, int]:
    return screen.sites.groupby("plate")["well"].nunique().to_dict()


@pytest.mark.parametrize(
    "folders", [("t0", "t1"), ("cycle_1", "cycle_2"), ("scan1", "scan2"), ("z1", "z2"), ("P_T1", "P_T2")]
)
def test_siblings_with_the_same_wells_are_moments_of_one_plate(tmp_path: Path, folders: tuple[str, str]) -> None:
    put(tmp_path, [f"lab/{folder}/{name}" for folder in folders for w in ("A01", "A02") for name in site(w)])
    message = reasons(tmp_path)
    assert "found 2, all refused" in message
    assert "If these folders are plates, write {plate}/ in --pattern." in message
    axis = {"t": "time", "c": "cycle", "s": "acquisition", "z": "planes", "P": "time"}[folders[0][0]]
    screen = index_folder(tmp_path, **{axis: ["2"] if axis == "planes" else folders[1][-1]})
    assert plates_in(screen) == {"P" if folders[0][0] == "P" else "lab": 2}
    assert screen.sites["path_1"].str.contains(folders[1]).all()
    assert plates_in(index_folder(tmp_path, pattern="{plate}/" + PLAIN)) == dict.fromkeys(folders, 2)


def test_two_measurements_of_a_plate_are_two_acquisitions(tmp_path: Path) -> None:
    folders = [f"BR1__2020-11-0{k}T18_18_43-Measurement{k}" for k in (1, 2)]
    put(tmp_path, [f"{folder}/Images/r01c01f01p01-ch{c}sk1fk1fl1.tiff" for folder in folders for c in (1, 2)])
    message = reasons(tmp_path, pattern="harmony")
    assert "several planes, times or cycles" in message
    assert "--acquisition '2020-11-01T18_18_43-Measurement1'" in message
    screen = index_folder(tmp_path, pattern="harmony", acquisition="2020-11-02T18_18_43-Measurement2")
    assert screen.sites[["plate", "path_1"]].to_numpy().tolist() == [
        ["BR1", f"{folders[1]}/Images/r01c01f01p01-ch1sk1fk1fl1.tiff"]
    ]


@pytest.mark.parametrize("below", ["{}", "Well_{}", "well {}", "W-{}", "P1_{}", "{}_images"])
def test_a_folder_of_one_well_is_no_plate(tmp_path: Path, below: str) -> None:
    put(tmp_path, [f"P1/{below.format(w)}/{name}" for w in ("A01", "B12") for name in site(w)])
    assert plates_in(index_folder(tmp_path)) == {"P1": 2}


def test_nor_is_one_named_by_rows_and_columns_or_read_by_the_pattern(tmp_path: Path) -> None:
    names = [f"P1/Images/r02c0{k}/r02c0{k}f01p01-ch1sk1fk1fl1.tiff" for k in (5, 6)]
    assert plates_in(index_folder(put(tmp_path / "a", names), pattern="harmony")) == {"P1": 2}
    put(tmp_path / "b", [f"P1/{w}/field_{f}/{c}.tif" for w in ("A01", "A02") for f in (1, 2) for c in ("DNA", "ER")])
    screen = index_folder(tmp_path / "b", pattern="{well}/field_{site}/{channel}.tif")
    assert (plates_in(screen), len(screen.sites)) == ({"P1": 2}, 4)
    put(tmp_path / "c", [f"P1/field_{f}/{w}_{c}.tif" for w in ("A01", "A02") for f in (1, 2) for c in ("DNA", "ER")])
    screen = index_folder(tmp_path / "c", pattern="{well}_{channel}.tif")
    assert sorted(screen.sites["site"]) == [1, 1, 2, 2]
    put(tmp_path / "d", [f"P1/{n:03d}/{name}" for n, w in enumerate(("A01", "A02", "A03")) for name in site(w)])
    assert plates_in(index_folder(tmp_path / "d")) == {"P1": 3}
    put(tmp_path / "e", [f"BR{n}/{name}" for n, w in enumerate(("A01", "A02", "A03")) for name in site(w)])
    assert plates_in(index_folder(tmp_path / "e")) == {"BR0": 1, "BR1": 1, "BR2": 1}


def test_a_folder_of_another_well_than_its_name_is_refused(tmp_path: Path) -> None:
    put(tmp_path, [f"P1/Well_A01/{name}" for name in site("A01")] + [f"P1/Well_A02/{name}" for name in site("A03")])
    screen = index_folder(tmp_path)
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    problem = screen.problems.iloc[0]
    assert problem[["kind", "well"]].tolist() == ["name contradicts folder", "A03"]
    assert problem["found"] == "folder Well_A02, of well A02: P1/Well_A02/A03_s1_w1.tif"


def test_a_plate_with_a_name_like_a_well_stays_one(tmp_path: Path) -> None:
    put(tmp_path, [f"{plate}/{name}" for plate in ("A1", "B2") for w in ("A01", "B02") for name in site(w)])
    assert plates_in(index_folder(tmp_path)) == {"A1": 2, "B2": 2}


def test_folders_of_channels_are_no_plates(tmp_path: Path) -> None:
    put(tmp_path, [f"P1/{c}/A0{k}_{c}.tif" for c in ("DAPI", "GFP") for k in (1, 2)])
    assert plates_in(index_folder(tmp_path, pattern="{well}_{channel}.tif")) == {"P1": 2}
    assert plates_in(index_folder(tmp_path, pattern="{channel}/{well}_{}.tif")) == {"P1": 2}
    message = reasons(tmp_path, pattern="{well}_{}.tif", channels=["DNA"])
    assert "Folders are named like channels: read them with {channel} in --pattern" in message


@pytest.mark.parametrize(
    ("folders", "text"),
    [
        (("1", "2"), "are they plates, or times of one plate?"),
        (("24h", "48h"), "are they plates, or times of one plate?"),
        (
            ("d1", "d3"),
            "--pattern '{plate}/{well}_s{site}_w{channel}.tif' for plates, '{time}/{well}_s{site}_w{channel}",
        ),
        (("S1", "S2"), "are they plates, or fields of one plate?"),
        (("R1/Images", "R2/Images"), "'{plate}/{}/{well}_s{site}_w{channel}.tif' for plates, '{cycle}/{}/{well}"),
    ],
)
def test_folders_that_may_be_either_have_to_be_named(tmp_path: Path, folders: tuple[str, str], text: str) -> None:
    put(tmp_path, [f"{folder}/{name}" for folder in folders for w in ("A01", "A02") for name in site(w)])
    message = reasons(tmp_path)
    assert "contain images of the same wells, such as A01" in message
    assert text in message
    between = "{}/" if "/" in folders[0] else ""
    whole_screen = index_folder(tmp_path, pattern=f"{{plate}}/{between}{PLAIN}")
    assert plates_in(whole_screen) == dict.fromkeys([folder.split("/")[0] for folder in folders], 2)
    table = tmp_path / "wells.csv"
    plates = [folder.split("/")[0] for folder in folders]
    table.write_text("plate,well,perturbation\n" + "".join(f"{p},A0{k},x\n" for p in plates for k in (1, 2)))
    assert plates_in(index_folder(tmp_path, tables=table)) == dict.fromkeys(plates, 2)


def test_where_they_share_no_well_or_are_alone_they_stay_plates(tmp_path: Path) -> None:
    put(tmp_path / "a", [f"{p}/{name}" for p, w in (("1", "A01"), ("2", "B01")) for name in site(w)])
    assert plates_in(index_folder(tmp_path / "a")) == {"1": 1, "2": 1}
    put(tmp_path / "b", [f"7/{name}" for w in ("A01", "B01") for name in site(w)])
    assert plates_in(index_folder(tmp_path / "b")) == {"7": 2}


def test_the_source_itself_may_be_a_time(tmp_path: Path) -> None:
    put(tmp_path / "BR7" / "t1", site("A01"))
    assert plates_in(index_folder(tmp_path / "BR7" / "t1")) == {"BR7": 1}


def test_no_control_is_missed_where_nothing_is_left(tmp_path: Path) -> None:
    put(tmp_path, [f"t{k}/{name}" for k in (0, 1) for name in site("A01")])
    (tmp_path / "w.csv").write_text("well,perturbation\nA01,DMSO\n")
    message = reasons(tmp_path, tables=tmp_path / "w.csv", controls={"negative_control": ["DMSO"]})
    assert "several planes or times" in message


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{}_{well}_T{}F{site}L{}A{}Z{}C{channel}.tif", stacks("B03", [(1, 1), (2, 2)])),
        (
            "r{row}c{column}f{site}p{}-ch{channel}sk{}fk1fl1.tiff",
            [f"r01c02f01p0{k}-ch{k}sk1fk1fl1.tiff" for k in (1, 2)],
        ),
        ("{well}_t{}_{channel}.tif", ["A01_t0_1.tif", "A01_t1_2.tif"]),
        ("{well}_cycle{:2}_{channel}.tif", ["A01_cycle01_1.tif", "A01_cycle02_2.tif"]),
    ],
)
def test_a_moment_that_a_pattern_does_not_want_is_still_one(tmp_path: Path, pattern: str, names: list[str]) -> None:
    message = reasons(put(tmp_path, names), pattern=pattern)
    assert "channels of several planes or times" in message
    if "--plane" in message:
        keys = ["01", "02"] if "Z{}" in pattern else ["1", "2"]
        screen = index_folder(tmp_path, pattern=pattern, planes=[f"{keys[0]}=1", f"{keys[1]}=2"])
        assert len(screen.sites) == 1


def test_plates_by_the_pattern_that_look_like_times_are_remarked_on(tmp_path: Path) -> None:
    put(tmp_path, [f"t{k}/{name}" for k in (0, 1) for name in site("A01")] + [f"P3/{name}" for name in site("A01")])
    screen = index_folder(tmp_path, pattern="{plate}/" + PLAIN)
    remark = screen.problems.iloc[0]
    assert remark[["severity", "kind", "count"]].tolist() == ["warning", "plate names look like times", 2]
    assert remark["found"] == "t0, t1 contain images of the same wells"
    assert index_folder(put(tmp_path / "P3", ()), pattern=PLAIN).problems.empty


def test_the_options_are_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png = np.full((8, 8), 9, np.uint8)
    for name in [
        *stacks("B03", [(1, 1), (2, 1), (1, 2)]),
        *(n.replace("T0001", "T0002") for n in stacks("B03", [(1, 1)])),
    ]:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(png).save(tmp_path / "in" / name)
    command = ["index", str(tmp_path / "in"), "--pattern", "cellvoyager", "--out", str(tmp_path / "screen")]
    main([*command, "--plane", "DNA=2, actin=1", "--time", "1", "--channels", "DNA=1,actin=2"])
    assert "found 1 = indexed 1 + refused 0" in capsys.readouterr().out
    screen = read_screen(tmp_path / "screen")
    assert screen.sites.loc[0, ["path_1", "path_2"]].tolist() == stacks("B03", [(2, 1), (1, 2)])
    assert screen.metadata.provenance["options"]["planes"] == ["DNA=2", "actin=1"]
