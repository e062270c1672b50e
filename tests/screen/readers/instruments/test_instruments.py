"""Metadata files of microscopes: order of channels, pixel size, and well of each file."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from distangle.errors import ScreenError
from distangle.screen import Screen, conservation_line, index, read_screen, write_screen

V5 = "http://www.perkinelmer.com/PEHH/HarmonyV5"
V7 = "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7"
BTS = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
WELLS = ((1, 1), (2, 3))


def put(folder: Path, names: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"{folder}{name}", encoding="utf-8")


def harmony(
    plate: Path, order: Sequence[str], *, version: int = 5, size: float = 6.5e-7, name: str = "", planes: int = 1
) -> Path:
    """Write a plate with an image per well, plane and channel, and the index of it."""
    folder = plate / "Images"
    cells = [(r, c, z, k) for r, c in WELLS for z in range(1, planes + 1) for k in range(1, len(order) + 1)]
    files = [f"r{r:02d}c{c:02d}f01p{z:02d}-ch{k}sk1fk1fl1.tiff" for r, c, z, k in cells]
    put(folder, files)
    resolution = (
        f'<ImageResolutionX Unit="m">{size}</ImageResolutionX><ImageResolutionY Unit="m">{size}</ImageResolutionY>'
    )
    names = {k: f"<ChannelName>{stain}</ChannelName>{resolution}" for k, stain in enumerate(order, 1)}
    images = "".join(
        f"<Image Version='1'><id>x</id><URL>{file}</URL><Row>{r}</Row><Col>{c}</Col><FieldID>1</FieldID>"
        f"<PlaneID>{z}</PlaneID><ChannelID>{k}</ChannelID>{names[k] if version == 5 else ''}</Image>"
        for file, (r, c, z, k) in zip(files, cells, strict=True)
    )
    entries = "".join(f'<Entry ChannelID="{k}">{text}</Entry>' for k, text in names.items())
    maps = f'<Maps><Map><Entry ChannelID="1"><Flat>{{}}</Flat></Entry></Map><Map>{entries}</Map></Maps>'
    wells = "<Wells><Well><id>0101</id><Image id='q'/></Well></Wells>"
    body = f"{wells}{'' if version == 5 else maps}<Images>{images}</Images>"
    path = folder / (name or ("Index.idx.xml" if version == 5 else "Index.xml"))
    path.write_text(f'<EvaluationInputData xmlns="{V5 if version == 5 else V7}">{body}</EvaluationInputData>')
    return path


def voyager(plate: Path, targets: Mapping[int, str], *, size: float = 0.325, extra_mes: bool = False) -> None:
    """Write a plate of a CellVoyager with its three files."""
    names = {f"P_{w}_T0001F001L01A01Z01C{k:02d}.tif": (w, k) for w in ("A01", "B03") for k in targets}
    put(plate, names)
    records = "".join(
        f'<bts:MeasurementRecord bts:Type="IMG" bts:Row="{"AB".index(w[0]) + 1}" bts:Column="{int(w[1:])}" '
        f'bts:FieldIndex="1" bts:ZIndex="1" bts:TimePoint="1" bts:Ch="{k}">{name}</bts:MeasurementRecord>'
        for name, (w, k) in names.items()
    )
    records += '<bts:MeasurementRecord bts:Type="ERR" bts:Row="1" bts:Column="1">no focus</bts:MeasurementRecord>'
    (plate / "MeasurementData.mlf").write_text(f"<bts:MeasurementData {BTS}>{records}</bts:MeasurementData>")
    pixels = f'bts:HorizontalPixelDimension="{size}" bts:VerticalPixelDimension="{size}"'
    detail = "".join(f'<bts:MeasurementChannel bts:Ch="{k}" {pixels}/>' for k in targets)
    head = f'<bts:MeasurementDetail bts:MeasurementSettingFileName="S.mes" {BTS}>'
    (plate / "MeasurementDetail.mrf").write_text(f"{head}{detail}</bts:MeasurementDetail>")
    channels = "".join(f'<bts:Channel bts:Ch="{k}" bts:Target="{name}" />' for k, name in targets.items())
    setting = "<bts:MeasurementSetting {}><bts:ChannelList>{}</bts:ChannelList></bts:MeasurementSetting>"
    (plate / "S.mes").write_text(setting.format(BTS, channels))
    if extra_mes:
        (plate / "Old.mes").write_text(setting.format(BTS, '<bts:Channel bts:Ch="1" bts:Target="old" />'))


def metaxpress(plate: Path, waves: Sequence[str], *, name: str = "P", wells: str = "A01 B03", htd: str = "") -> Path:
    """Write a plate of MetaXpress, 2 x 3 wells, with its HTD."""
    put(plate, [f"{name}_{w}_s1_w{k}{'0' * 36}.tif" for w in wells.split() for k in range(1, len(waves) + 1)])
    selections = [["TRUE", "FALSE", "FALSE"], ["FALSE", "FALSE", "TRUE"]]
    lines = ['"HTSInfoFile", Version 1.0', '"Description", "a, b"', '"XWells", 3', '"YWells", 2']
    lines += [f'"WellsSelection{k}", {", ".join(row)}' for k, row in enumerate(selections, 1)]
    lines += ['"Waves", TRUE', f'"NWavelengths", {len(waves)}']
    lines += [f'"WaveName{k}", "{wave}"' for k, wave in enumerate(waves, 1)]
    path = plate / f"{htd or name}.HTD"
    path.write_text("\r\n".join([*lines, '"EndFile"', ""]), encoding="latin-1")
    return path


def index_folder(folder: Path, pattern: str = "harmony", **options: Any) -> Screen:
    return index(folder, layout="folder", pattern=pattern, **options)


def files_by_channel(screen: Screen) -> dict[str, dict[str, str]]:
    """Return the last characters of each plate's first files, by channel: `ch1`."""
    names = [channel.name for channel in screen.metadata.channels]
    first = screen.sites.drop_duplicates("plate").set_index("plate")
    tails = {
        plate: [str(row[f"path_{k}"]).rsplit("/", 1)[-1] for k in range(1, len(names) + 1)]
        for plate, row in first.iterrows()
    }
    return {str(plate): dict(zip(names, files, strict=True)) for plate, files in tails.items()}


def kinds(screen: Screen) -> list[str]:
    return screen.problems["kind"].tolist()


@pytest.mark.parametrize("version", [5, 7])
def test_an_index_names_the_channels_and_the_size_of_a_pixel(tmp_path: Path, version: int) -> None:
    harmony(tmp_path / "P1", ["HOECHST 33342", "Alexa 488"], version=version)
    screen = index_folder(tmp_path)
    assert [channel.name for channel in screen.metadata.channels] == ["HOECHST 33342", "Alexa 488"]
    assert screen.metadata.pixel_size_um == pytest.approx(0.65)
    assert kinds(screen) == []
    write_screen(screen, tmp_path / "screen")
    assert read_screen(tmp_path / "screen").metadata.pixel_size_um == pytest.approx(0.65)
    by_name = index_folder(tmp_path, channels=["ER=alexa-488", "DNA"])
    assert files_by_channel(by_name) == {
        "P1": {"ER": "r01c01f01p01-ch2sk1fk1fl1.tiff", "DNA": "r01c01f01p01-ch1sk1fk1fl1.tiff"}
    }


@pytest.mark.parametrize("channels", [None, ["Mito", "DNA"], ["Mito=1", "DNA=3"], ["Mito=3", "DNA=1"]])
def test_plates_that_number_their_channels_differently_are_brought_together(
    tmp_path: Path, channels: list[str] | None
) -> None:
    harmony(tmp_path / "BR1", ["Mito", "AGP", "Hoechst"])
    harmony(tmp_path / "BR2", ["Hoechst", "AGP", "Mito"], version=7)
    screen = index_folder(tmp_path, channels=channels)
    assert conservation_line(screen) == "found 4 = indexed 4 + refused 0"
    nucleus = "Hoechst" if channels is None else "DNA"
    for plate, number in (("BR1", {"Mito": 1, nucleus: 3}), ("BR2", {"Mito": 3, nucleus: 1})):
        for name, k in number.items():
            assert files_by_channel(screen)[plate][name] == f"r01c01f01p01-ch{k}sk1fk1fl1.tiff"
    remark = screen.problems.set_index("kind").loc["channel order differs"]
    assert remark["severity"] == "warning"
    orders = {remark["found"].removeprefix("channels "), remark["expected"].split(", as in")[0]}
    assert orders == {"1 = Mito, 2 = AGP, 3 = Hoechst", "1 = Hoechst, 2 = AGP, 3 = Mito"}


def test_the_other_instruments_too(tmp_path: Path) -> None:
    voyager(tmp_path / "v" / "A", {1: "DNA", 2: "ER"}, extra_mes=True)
    voyager(tmp_path / "v" / "B", {1: "ER", 2: "DNA"})
    screen = index_folder(tmp_path / "v", "cellvoyager", channels=["DNA=1", "ER=2"])
    assert [files_by_channel(screen)[plate]["DNA"][-7:] for plate in "AB"] == ["C01.tif", "C02.tif"]
    assert screen.metadata.pixel_size_um == pytest.approx(0.325)
    metaxpress(tmp_path / "m" / "A" / "TimePoint_1", ["DAPI", "GFP"])
    (tmp_path / "m" / "A" / "TimePoint_1" / "P.HTD").rename(tmp_path / "m" / "A" / "P.HTD")
    metaxpress(tmp_path / "m" / "B", ["GFP", "DAPI"])
    screen = index_folder(tmp_path / "m", "imagexpress")
    assert [files_by_channel(screen)[plate]["GFP"][:11] for plate in "AB"] == ["P_A01_s1_w2", "P_A01_s1_w1"]
    assert screen.metadata.pixel_size_um is None


def test_two_plates_in_one_folder_have_each_their_own_file(tmp_path: Path) -> None:
    metaxpress(tmp_path, ["DAPI", "GFP"], name="P1")
    metaxpress(tmp_path, ["GFP", "DAPI"], name="P10")
    screen = index_folder(tmp_path, "{plate}_{well}_s{site}_w{channel:1}{:36}.tif")
    assert [files["GFP"].split("_w")[1][0] for files in files_by_channel(screen).values()] == ["2", "1"]


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (
            ["DNA=1", "ER=2"],
            "channel 1 is 'ER' and 'DNA' is channel 2, by BR1/Images/Index.idx.xml of the instrument",
        ),
        (["DNA=1", "ER=2"], "Correct --channels: its order is ER=1,HOECHST=2"),
        (["x=1", "y=9"], "no file has the channel '9'"),
    ],
)
def test_channels_that_contradict_every_instrument_are_refused(
    tmp_path: Path, channels: list[str], message: str
) -> None:
    harmony(tmp_path / "BR1", ["ER", "HOECHST"])
    with pytest.raises(ScreenError) as error:
        index_folder(tmp_path, channels=channels)
    assert message in str(error.value)


def test_a_number_that_means_two_stains_is_asked_by_name(tmp_path: Path) -> None:
    harmony(tmp_path / "BR1", ["Alexa 488", "Alexa 568"])
    harmony(tmp_path / "BR2", ["Alexa 568", "Alexa 488"])
    with pytest.raises(ScreenError) as error:
        index_folder(tmp_path, channels=["ER=1", "AGP=2"])
    assert "--channels ER=1: channel 1 is 'Alexa 488' in BR1/Images/Index.idx.xml and 'Alexa 568' in BR2" in str(
        error.value
    )
    assert "--channels 'ER=Alexa 488'." in str(error.value)
    screen = index_folder(tmp_path, channels=["ER=Alexa 488", "AGP=Alexa 568"])
    assert [files["ER"][13:16] for files in files_by_channel(screen).values()] == ["ch1", "ch2"]


def test_a_plate_without_a_channel_or_without_a_file_is_refused_where_orders_differ(tmp_path: Path) -> None:
    harmony(tmp_path / "BR1", ["Mito", "DNA"])
    harmony(tmp_path / "BR2", ["DNA", "Mito"])
    harmony(tmp_path / "BR3", ["DNA", "GFP"])
    harmony(tmp_path / "BR4", ["DNA", "DNA"])
    harmony(tmp_path / "BR5", ["DNA", "Mito"]).unlink()
    harmony(tmp_path / "BR6", ["DNA", "Mito"]).write_text("<EvaluationInputData><Images>")
    screen = index_folder(tmp_path)
    assert conservation_line(screen) == "found 12 = indexed 4 + refused 8"
    refusals = screen.problems[screen.problems["severity"] == "refused"].drop_duplicates("plate").set_index("plate")
    assert set(refusals["kind"]) == {"channel order unknown"}
    assert "channels 1 = DNA, 2 = GFP, without Mito of BR1/Images/Index.idx.xml" in refusals.loc["BR3", "found"]
    assert "two of one name" in refusals.loc["BR4", "found"]
    for plate in ("BR5", "BR6"):
        assert "no instrument file, and BR1/Images/Index.idx.xml and" in refusals.loc[plate, "found"]


def test_plates_of_one_order_need_no_file_each(tmp_path: Path) -> None:
    harmony(tmp_path / "BR1", ["Mito", "DNA"])
    harmony(tmp_path / "BR2", ["Mito", "DNA"]).unlink()
    screen = index_folder(tmp_path)
    assert conservation_line(screen) == "found 4 = indexed 4 + refused 0"
    assert [channel.name for channel in screen.metadata.channels] == ["1", "2"]


def test_files_under_another_name_than_the_instrument_gave_are_refused(tmp_path: Path) -> None:
    index_file = harmony(tmp_path / "P1", ["Mito", "DNA"], planes=1)
    text = index_file.read_text()
    index_file.write_text(text.replace("<Row>2</Row><Col>3</Col>", "<Row>2</Row><Col>4</Col>"))
    screen = index_folder(tmp_path)
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    problem = screen.problems.iloc[0]
    assert problem[["kind", "well"]].tolist() == ["instrument contradicts name", "B03"]
    assert problem["found"].endswith("lists P1/Images/r02c03f01p01-ch1sk1fk1fl1.tiff as well B04")
    for tag, instead in (("<PlaneID>1", "plane 7"), ("<FieldID>1", "field 7"), ("<ChannelID>1", "channel 7")):
        index_file.write_text(text.replace(tag, f"{tag[:-1]}7"))
        with pytest.raises(ScreenError, match=f"instrument contradicts name.*{instead}"):
            index_folder(tmp_path)


def test_a_file_of_one_plate_does_not_speak_for_another(tmp_path: Path) -> None:
    metaxpress(tmp_path / "A", ["DAPI", "GFP"]).rename(tmp_path / "P.HTD")
    metaxpress(tmp_path / "B", ["GFP", "DAPI"], wells="A02 A03").unlink()
    screen = index_folder(tmp_path, "imagexpress")
    assert conservation_line(screen) == "found 4 = indexed 4 + refused 0"
    assert [channel.name for channel in screen.metadata.channels] == ["1", "2"]
    folder = tmp_path / "C" / "Images"
    harmony(tmp_path / "C", ["Mito", "DNA"])
    for file in folder.glob("*.tiff"):  # an export to PNG, a folder for each well
        (folder / file.name[:6]).mkdir(exist_ok=True)
        file.rename(folder / file.name[:6] / f"{file.stem}.png")
    whole_screen = index_folder(tmp_path / "C", "r{row}c{column}f{site}p{plane}-ch{channel}sk{time}fk{}fl{}.png")
    assert [channel.name for channel in whole_screen.metadata.channels] == ["Mito", "DNA"]
    assert kinds(whole_screen) == []


def test_a_well_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    metaxpress(tmp_path / "P", ["DAPI", "GFP"], wells="A01 B03 A02")
    screen = index_folder(tmp_path, "imagexpress")
    assert conservation_line(screen) == "found 3 = indexed 2 + refused 1"
    assert "well A02 was not measured" in screen.problems.iloc[0]["found"]


def test_images_that_are_listed_and_absent_are_said(tmp_path: Path) -> None:
    harmony(tmp_path / "P1", ["Mito", "DNA"], planes=3)
    for file in sorted((tmp_path / "P1" / "Images").glob("r02*p0[23]*.tiff")):
        file.unlink()
    screen = index_folder(tmp_path, planes=["1"])
    assert conservation_line(screen) == "found 2 = indexed 2 + refused 0"
    remark = screen.problems.set_index("kind").loc["images of the instrument missing"]
    assert (remark["severity"], remark["count"]) == ("warning", 4)
    assert remark["found"] == "no r02c03f01p02-ch1sk1fk1fl1 and 3 more, of B03"


def test_two_magnifications_are_no_one_size(tmp_path: Path) -> None:
    harmony(tmp_path / "P1", ["DNA"])
    harmony(tmp_path / "P2", ["DNA"], size=3.25e-7)
    screen = index_folder(tmp_path)
    assert screen.metadata.pixel_size_um is None
    remark = screen.problems.set_index("kind").loc["pixel sizes differ"]
    assert (remark["found"], remark["expected"]) == ("0.65 um a pixel", "0.325 um, as in P2/Images/Index.idx.xml")


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not complete XML"),
        ("<EvaluationInputData><Images>", "it is not complete XML"),
        ("<Results/>", "its first element is 'Results', expected 'EvaluationInputData'"),
        (f"{BOMB}<EvaluationInputData>&b;</EvaluationInputData>", "it declares a document type or entities"),
        ('<!DOCTYPE E SYSTEM "file:///etc/passwd"><E/>', "it declares a document type or entities"),
        ("<EvaluationInputData>&xxe;</EvaluationInputData>", "it is not complete XML"),
        ("<EvaluationInputData>" + "<a>" * 100, "elements are nested more than 64 deep"),
        ("\x00\x01\x02", "it is not complete XML"),
    ],
)
def test_a_damaged_or_hostile_file_is_named_and_not_followed(tmp_path: Path, text: str, message: str) -> None:
    harmony(tmp_path / "P1", ["Mito", "DNA"]).write_text(text)
    screen = index_folder(tmp_path, channels=["Mito=1", "DNA=2"])
    assert conservation_line(screen) == "found 2 = indexed 2 + refused 0"
    remark = screen.problems.iloc[0]
    assert remark[["severity", "kind", "file"]].tolist() == [
        *("warning", "instrument file not read", "P1/Images/Index.idx.xml")
    ]
    assert remark["found"].startswith(message)


def test_neither_a_pipe_nor_a_cut_table_holds_us_up(tmp_path: Path) -> None:
    path = metaxpress(tmp_path / "P", ["DAPI", "GFP"])
    path.write_text(path.read_text().replace('"EndFile"', ""))
    os.mkfifo(tmp_path / "P" / "Index.xml")
    (tmp_path / "P" / "a.mes").write_text("")
    (tmp_path / "P" / "b.mes").write_text("")
    screen = index_folder(tmp_path, "imagexpress")
    found_in_file = dict(zip(screen.problems["file"], screen.problems["found"], strict=True))
    assert found_in_file["P/P.HTD"] == "it is truncated: EndFile is missing"
    assert found_in_file["P/Index.xml"] == "it is not a regular file"
    assert found_in_file["P/a.mes"] == "2 files end in .mes: a.mes, b.mes"
    assert [channel.name for channel in screen.metadata.channels] == ["1", "2"]


def test_the_gallery_reads_them_too(tmp_path: Path) -> None:
    harmony(tmp_path / "images" / "B1" / "images" / "BR1__2020-11-08T18_18_43-Measurement1", ["Mito", "DNA"])
    harmony(tmp_path / "images" / "B1" / "images" / "BR2__2020-11-08T18_18_43-Measurement1", ["DNA", "Mito"])
    screen = index(tmp_path, layout="cellpainting")
    assert [files["DNA"][13:16] for files in files_by_channel(screen).values()] == ["ch2", "ch1"]
    assert screen.metadata.pixel_size_um == pytest.approx(0.65)


def rows_of(plate: str, order: Mapping[str, int], wells: Sequence[str] = ("A01", "B03")) -> list[str]:
    cells = [f"r{r:02d}c{c:02d}f01p01-ch{{}}sk1fk1fl1.tiff" for r, c in WELLS]
    paths = [",".join(f"{plate}/Images/{cell.format(k)}" for k in order.values()) for cell in cells]
    return [f"{plate},{well},x,{path}" for well, path in zip(wells, paths, strict=True)]


@pytest.mark.parametrize(
    ("order", "wells", "n_refused", "message"),
    [
        ({"DNA": 2, "Mito": 1}, ("A01", "B03"), 0, ""),
        ({"DNA": 1, "Mito": 2}, ("A01", "B03"), 2, "channel 1, Mito"),
        ({"DNA": 2, "Mito": 1}, ("A01", "B04"), 1, "well B03"),
        ({"stain 1": 1, "stain 2": 2}, ("A01", "B03"), 0, ""),
    ],
)
def test_rows_that_contradict_the_instrument_are_refused(
    tmp_path: Path, order: dict[str, int], wells: Sequence[str], n_refused: int, message: str
) -> None:
    harmony(tmp_path / "P1", ["Mito", "Hoechst"])
    harmony(tmp_path / "P2", ["Mito", "Hoechst"])
    lines = [",".join(["plate", "well", "perturbation", *order]), *rows_of("P1", order, wells)]
    lines += rows_of("P2", {"DNA": 2, "Mito": 1} if "DNA" in order else order)
    (tmp_path / "t.csv").write_text("\n".join([*lines, ""]))
    screen = index(tmp_path, layout="table", tables=tmp_path / "t.csv", channels=list(order))
    assert conservation_line(screen) == f"found 4 = indexed {4 - n_refused} + refused {n_refused}"
    assert screen.metadata.pixel_size_um == pytest.approx(0.65)
    refusals = screen.problems[screen.problems["severity"] == "refused"]
    assert set(refusals["kind"]) == ({"instrument contradicts table"} if n_refused else set())
    assert all(message in text for text in refusals["found"])


def test_a_load_data_too(tmp_path: Path) -> None:
    harmony(tmp_path / "P1", ["Mito", "Hoechst"])
    lines = ["Metadata_Plate,Metadata_Well,PathName_OrigDNA,FileName_OrigDNA,PathName_OrigMito,FileName_OrigMito"]
    for well, (dna, mito) in {"A01": (2, 1), "B03": (1, 2)}.items():
        cell = f"r{'AB'.index(well[0]) + 1:02d}c{well[1:]}f01p01-ch{{}}sk1fk1fl1.tiff"
        lines.append(f"P1,{well},P1/Images,{cell.format(dna)},P1/Images,{cell.format(mito)}")
    (tmp_path / "load_data.csv").write_text("\n".join([*lines, ""]))
    screen = index(tmp_path, layout="cellpainting")
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    problem = screen.problems.iloc[0]
    assert problem[["kind", "well", "channel"]].tolist() == ["instrument contradicts table", "B03", "DNA"]
    assert problem["expected"] == "channel 2, Hoechst, for DNA"
