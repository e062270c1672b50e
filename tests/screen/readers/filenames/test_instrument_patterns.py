"""File names of microscopes, from public sources: each is read by its pattern, and recognized."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from distangle.errors import ScreenError
from distangle.screen import Screen, conservation_line, index
from distangle.screen.readers.filenames.instrument_patterns import KNOWN, is_thumbnail
from distangle.screen.readers.filenames.pattern import parse_pattern
from distangle.screen.readers.folder import infer_pattern

GUID = "836B5662-3526-47FE-A453-0D1775E08D17"


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return folder


def index_folder(folder: Path, pattern: str, **options: Any) -> Screen:
    return index(folder, layout="folder", pattern=pattern, **options)


def wells(screen: Screen) -> list[tuple[str, int]]:
    return list(zip(screen.sites["well"], screen.sites["site"], strict=True))


@pytest.mark.parametrize(
    ("instrument", "name", "fields"),
    [
        # MetaXpress's export: CellProfiler's manual of the module Metadata; Bio-Formats' MetaxpressTiffReader.
        ("imagexpress", "Plate1_A01_s1_w1.TIF", {"well": "A01", "site": "1", "channel": "1"}),
        ("imagexpress", "TE12345_A05_s1_w4.tif", {"well": "A05", "channel": "4"}),
        ("imagexpress", f"ACHN-20X-P009041_B02_s1_w1{GUID}.tif", {"well": "B02", "channel": "1"}),
        ("imagexpress", "G02_s3_w2.tif", {"well": "G02", "site": "3", "channel": "2"}),
        ("imagexpress", "PlateX_A01_w2.TIF", {"well": "A01", "channel": "2"}),
        # Phenix Plus: the paths of a public pipeline, images/r03c07/r03c07f01p01-ch01t01.tiff.
        (
            "harmony",
            "images/r03c07/r03c07f01p02-ch01t04.tiff",
            {"well": "r03c07", "site": "01", "plane": "02", "channel": "01", "time": "04"},
        ),
        ("harmony", "r01c01f01p01-ch1sk1fk1fl1.tiff", {"well": "r01c01", "channel": "1", "time": "1"}),
        # CQ1: the names of public converters, with a number for the well.
        ("cq1", "W0013F0002T0001Z003C1.tif", {"well": "0013", "site": "0002", "plane": "003", "channel": "1"}),
        # Cephla's Squid: folder of the time, {region}_{fov}_{z}_{channel}.
        ("squid", "acq/0/B2_0_3_Fluorescence_405_nm_Ex.tiff", {"well": "B2", "site": "0", "plane": "3", "time": "0"}),
        ("squid", "C5_1_0_BF_LED_matrix_full.bmp", {"well": "C5", "site": "1", "channel": "BF_LED_matrix_full"}),
        # Nikon's JOBS: names of several published data sets.
        ("nikon-jobs", "WellA01_ChannelDAPI_Seq0001.tif", {"well": "A01", "channel": "DAPI"}),
        ("nikon-jobs", "20201115_184113_906__WellA2_ChannelDAPI_Seq0003.tif", {"well": "A2", "channel": "DAPI"}),
        (
            "nikon-jobs",
            "20230303_200618_678__WellP24_ChannelMITO,PHAandWGA,SYTO,CONC,HOECHST_Seq0360xy9c5.tif",
            {"well": "P24", "site": "9", "channel": "5"},
        ),
        (
            "nikon-jobs",
            "Plate1_2000_WellM05_Point1_2000_M05_0001_ChannelDAPI_Seq2427.tiff",
            {"well": "M05", "site": "0001", "channel": "DAPI"},
        ),
        (
            "nikon-jobs",
            "sample__WellB02_PointB02_0008_ChannelFITC_Seq0000.tif",
            {"well": "B02", "site": "0008", "channel": "FITC"},
        ),
        # Leica Matrix Screener: the experiment of leicaexperiment's tests.
        (
            "leica",
            "image--L0000--S00--U01--V03--J20--E00--O00--X02--Y01--T0000--Z00--C01.ome.tif",
            {"well": "r03c01", "site_x": "02", "site_y": "01", "channel": "01"},
        ),
        # IN Cell 2000 and 6000: CellProfiler issue 3725, and names behind that of the experiment.
        ("incell", "A - 01(fld 2 wv Blue - FITC).tif", {"well": "A01", "site": "2", "channel": "Blue - FITC"}),
        (
            "incell",
            "20180328_TestAbs_G - 8(fld 4 wv Red - Cy5).tif",
            {"well": "G08", "site": "4", "channel": "Red - Cy5"},
        ),
        (
            "incell",
            "C - 6(fld 1 wv TL - Bright field - open z 01).tif",
            {"well": "C06", "channel": "TL - Bright field - open", "plane": "01"},
        ),
        (
            "incell",
            "A - 01(fld 1 wv UV - DAPI z 3 time 2 - 2636ms).tif",
            {"well": "A01", "channel": "UV - DAPI", "plane": "3", "time": "2"},
        ),
        # Olympus scanR: image.sc thread 14872.
        (
            "scanr",
            "A1--W00001--P00001--Z00000--T00000--Alexa 488.tif",
            {"well": "A1", "site": "00001", "channel": "Alexa 488"},
        ),
        # Scenes of Zeiss plates (Celldiscoverer 7) are called by position and well, and become OME-TIFF by scene.
        ("zen", "2024-08-07 25x NCOA4 647 DAPI OBL_2_1_P4-A9.ome.tif", {"well": "A9", "site": "4"}),
    ],
)
def test_a_name_is_read_by_the_pattern_of_its_instrument(instrument: str, name: str, fields: dict[str, str]) -> None:
    match = parse_pattern(instrument).read(name)
    assert match is not None
    assert match.items() >= fields.items()


@pytest.mark.parametrize(
    ("instrument", "name"),
    [
        ("imagexpress", "Plate1_A01_s1_w1_thumb.TIF"),
        ("imagexpress", f"Plate1_A01_s1_w1_thumb{GUID}.tif"),
        ("squid", "A01_1_2_DAPI.tif"),
        ("squid", "manual_0_0_Fluorescence_405_nm_Ex.tiff"),
        ("cq1", "A0001F0001T0001Z001C1.tif"),
        ("nikon-jobs", "seq0000xy01c1.tif"),
    ],
)
def test_what_an_instrument_does_not_write_is_not_taken_for_its_name(instrument: str, name: str) -> None:
    assert parse_pattern(instrument).read(name) is None


LEICA = "image--L0--S0--U0{u}--V01--J8--E0--O0--X00--Y00--T0--Z0--C0{c}.ome.tif"
EXPORTS = {
    "imagexpress": [f"P_{well}_s{site}_w{c}.TIF" for well in ("A01", "B02") for site in (1, 2) for c in (1, 2)],
    "harmony": [f"r02c0{column}f01p01-ch0{c}t01.tiff" for column in (3, 4) for c in (1, 2)],
    "nikon-jobs": [f"x__Well{well}_Channel{c}_Seq000{well[1]}.tif" for well in ("A1", "B2") for c in ("A", "B")],
    "leica": [LEICA.format(u=u, c=c) for u in (0, 3) for c in (0, 1)],
    "incell": [f"E_{well}(fld 1 wv {c}).tif" for well in ("A - 1", "H - 12") for c in ("Blue - DAPI", "Red - Cy5")],
    "squid": [f"{well}_0_0_Fluorescence_{c}_nm_Ex.tiff" for well in ("B2", "C5") for c in (405, 488)],
    "scanr": [f"{well}--W00001--P00001--Z00000--T00000--{c}.tif" for well in ("A1", "B2") for c in ("GFP", "DAPI")],
}


@pytest.mark.parametrize("instrument", EXPORTS)
def test_an_export_is_known_by_its_names_and_becomes_sites(tmp_path: Path, instrument: str) -> None:
    put(tmp_path / "P1", *EXPORTS[instrument])
    assert f"{len(EXPORTS[instrument])} names match --pattern {instrument}, which stands for" in infer_pattern(tmp_path)
    screen = index_folder(tmp_path, instrument)
    assert screen.metadata.found == screen.metadata.indexed == len(EXPORTS[instrument]) // 2
    assert screen.problems.empty


@pytest.mark.parametrize("instrument", KNOWN)
def test_every_way_of_a_known_pattern_can_be_read(instrument: str) -> None:
    for pattern in KNOWN[instrument]:
        assert set(parse_pattern(pattern).names) <= set(parse_pattern(instrument).names)


def test_thumbnails_of_metaxpress_are_counted_and_no_channel(tmp_path: Path) -> None:
    folder = tmp_path / "PlateX" / "TimePoint_1"
    images = [f"PlateX_{well}_s{s}_w{c}" for well in ("A01", "B02") for s in (1, 2) for c in (1, 2)]
    put(folder, *(f"{name}.TIF" for name in images), *(f"{name}_thumb.TIF" for name in images))
    for pattern in ("imagexpress", "{plate}_{well}_s{site}_w{channel}.tif"):
        screen = index_folder(tmp_path, pattern)
        assert conservation_line(screen) == "found 4 = indexed 4 + refused 0"
        assert [channel.name for channel in screen.metadata.channels] == ["1", "2"]
        assert screen.sites["plate"].unique().tolist() == ["PlateX"]
        (remark,) = screen.problems.to_dict("records")
        assert (remark["severity"], remark["kind"], remark["count"]) == ("warning", "thumbnails ignored", 8)
        assert remark["found"] == "8 thumbnails by name"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("P_A01_s1_w1_thumb.TIF", True),
        (f"P_A01_s1_w1_thumb{GUID}.tif", True),
        ("A01_Thumbnail.png", True),
        ("thumb_A01.jpg", True),
        ("thumbs/A01.png", True),
        ("P1/Thumbnails/x/A01.png", True),
        ("A01.thumb.jpg", True),
        ("P_A01_s1_w1.tif", False),
        ("thumbprint_A01.tif", False),
        ("A01_thumbelina.tif", False),
        ("greenthumb/A01.tif", False),
    ],
)
def test_a_thumbnail_is_known_by_its_name_alone(path: str, expected: bool) -> None:  # noqa: FBT001
    folder, _, name = path.rpartition("/")
    assert is_thumbnail(folder, name) == expected


def test_a_folder_of_thumbnails_alone_has_no_image(tmp_path: Path) -> None:
    put(tmp_path, "P_A01_s1_w1_thumb.TIF")
    with pytest.raises(ScreenError, match="There is no image, only 1 thumbnail by name"):
        index_folder(tmp_path, "imagexpress")
    assert infer_pattern(tmp_path) == ""


def leica(*places: tuple[int, int, int, int], channels: Sequence[int] = (0,)) -> list[str]:
    return [
        f"slide--S00/chamber--U{u:02d}--V{v:02d}/field--X{x:02d}--Y{y:02d}/"
        f"image--L0000--S00--U{u:02d}--V{v:02d}--J08--E00--O00--X{x:02d}--Y{y:02d}--T0000--Z00--C{c:02d}.ome.tif"
        for u, v, x, y in places
        for c in channels
    ]


def test_matrix_screener_counts_from_zero_also_where_no_zero_is_left(tmp_path: Path) -> None:
    flat = [name.rsplit("/", 1)[-1] for name in leica((1, 2, 0, 0), (1, 2, 1, 0), (1, 2, 0, 1), (3, 1, 1, 1))]
    put(tmp_path / "P1", *flat)
    screen = index_folder(tmp_path, "leica")
    assert wells(screen) == [("B04", 4), ("C02", 1), ("C02", 2), ("C02", 3)]
    assert screen.sites["path_1"].tolist()[1:3] == [f"P1/{flat[0]}", f"P1/{flat[1]}"]


def test_a_plate_by_well_number_says_what_is_open_and_how_to_tell(tmp_path: Path) -> None:
    put(tmp_path / "P1", *(f"W{k:04d}F0001T0001Z001C{c}.tif" for k in (1, 2, 14) for c in (1, 2)))
    with pytest.raises(ScreenError, match=r"well 2, A02 row by row .*B01 column by column.*--well-order rows"):
        index_folder(tmp_path, "cq1")
    screen = index_folder(tmp_path, "cq1", well_order="rows", plate_rows=8, plate_columns=12)
    assert wells(screen) == [("A01", 1), ("A02", 1), ("B02", 1)]


def test_fields_by_column_and_row_are_numbered_in_any_pattern(tmp_path: Path) -> None:
    put(tmp_path, *(f"A01_x{x}_y{y}.tif" for x in (10, 200) for y in (5, 7)))
    screen = index_folder(tmp_path, "{well}_x{site_x}_y{site_y}.tif", channels=["DNA"])
    assert screen.sites["path_1"].tolist() == ["A01_x10_y5.tif", "A01_x200_y5.tif", "A01_x10_y7.tif", "A01_x200_y7.tif"]


def test_folders_of_chambers_and_fields_are_no_plates(tmp_path: Path) -> None:
    put(tmp_path / "experiment--2024", *leica((0, 0, 0, 0), (0, 0, 1, 0), (2, 1, 0, 0), channels=(0, 1)))
    screen = index_folder(tmp_path, "leica")
    assert conservation_line(screen) == "found 3 = indexed 3 + refused 0"
    assert wells(screen) == [("A01", 1), ("A01", 2), ("B03", 1)]
    assert screen.sites["plate"].unique().tolist() == ["experiment--2024"]


def test_the_folder_of_a_time_is_no_plate(tmp_path: Path) -> None:
    wells_and_fields = [(well, fov) for well in ("B2", "C5") for fov in (0, 1)]
    names = [f"{well}_{fov}_0_Fluorescence_{c}_nm_Ex.tiff" for well, fov in wells_and_fields for c in (405, 488)]
    put(tmp_path / "acquisition", *(f"0/{name}" for name in names))
    screen = index_folder(tmp_path, "squid")
    assert conservation_line(screen) == "found 4 = indexed 4 + refused 0"
    assert screen.sites["plate"].unique().tolist() == ["acquisition"]
    assert [channel.name for channel in screen.metadata.channels] == [
        "Fluorescence_405_nm_Ex",
        "Fluorescence_488_nm_Ex",
    ]
    put(tmp_path / "acquisition", *(f"1/{name}" for name in names))
    with pytest.raises(ScreenError, match="several planes or times"):
        index_folder(tmp_path, "squid")


@pytest.mark.parametrize(
    ("instrument", "name"),
    [
        # Exports of ZEN number scenes; names of several public pipelines.
        ("ZEN (Zeiss)", "20181113_HCC_s03c1_ORG.tif"),
        ("ZEN (Zeiss)", "plate-01_s12t42c2.tif"),
        ("NIS-Elements (Nikon)", "seq0000xy01c1.tif"),
        ("Squid (Cephla)", "manual_0_0_Fluorescence_405_nm_Ex.tiff"),
    ],
)
def test_names_that_say_no_well_are_told_so(tmp_path: Path, instrument: str, name: str) -> None:
    put(tmp_path, name)
    for options in ({}, {"pattern": "{well}.tif"}):
        with pytest.raises(ScreenError) as error:
            index(tmp_path, layout="folder", **options)
        assert f"1 of 1 names, such as {name!r}, are of {instrument}: they number positions" in str(error.value)
        assert str(error.value).endswith("and use --layout table.")
