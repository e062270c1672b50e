"""Plates of OME-NGFF 0.4 and 0.5, from the metadata to the pixels."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from distangle.errors import ConfigError, ScreenError
from distangle.images import ImageCache, pack_screen, probe_image
from distangle.results.verify import verify_screen
from distangle.screen import Screen, conservation_line, index, read_screen, write_screen
from plate_maker import group, image, plate

VERSIONS: tuple[Literal["0.4"], Literal["0.5"]] = ("0.4", "0.5")


def pixels(seed: int, *, shape: tuple[int, ...] = (2, 24, 20), dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, shape).astype(dtype)


def index_zarr(source: Path, **options: Any) -> Screen:
    return index(source, layout="ome-zarr", **{"probe": probe_image, **options})


def refusals(screen: Screen) -> list[tuple[str, str, str]]:
    rows = screen.problems[screen.problems["severity"] == "refused"]
    return sorted(zip(rows["kind"], rows["well"], rows["site"], strict=True))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("axes", ["cyx", "tczyx"])
def test_a_plate_gives_back_its_pixels(tmp_path: Path, version: Literal["0.4", "0.5"], axes: str) -> None:
    shape = (2, 24, 20) if axes == "cyx" else (1, 2, 1, 24, 20)
    wells = {"B/03": [pixels(1, shape=shape), pixels(2, shape=shape)], "AA/2": [pixels(3, shape=shape)]}
    plate(tmp_path / "in" / "P1.zarr", wells, version=version, axes=axes, chunks=(*[1] * (len(shape) - 2), 16, 7))
    screen = index_zarr(tmp_path / "in")
    assert conservation_line(screen) == "found 3 = indexed 3 + refused 0"
    assert screen.problems["kind"].tolist() == ["larger plate assumed"]
    assert screen.sites[["experiment", "plate", "well", "site", "path_1", "page_2"]].to_numpy().tolist() == [
        ["all", "P1", "B03", 1, "P1.zarr/B/03/0/0", 1],
        ["all", "P1", "B03", 2, "P1.zarr/B/03/1/0", 1],
        ["all", "P1", "AA02", 1, "P1.zarr/AA/2/0/0", 1],
    ]
    assert (screen.metadata.dtype, screen.metadata.shape) == ("uint16", (24, 20))
    assert [(c.name, c.color) for c in screen.metadata.channels] == [("DNA", "#00FF00"), ("ER", "#00FF00")]
    write_screen(screen, tmp_path / "screen")
    store = ImageCache(read_screen(tmp_path / "screen"))
    for row, expected in enumerate([wells["B/03"][0], wells["B/03"][1], wells["AA/2"][0]]):
        np.testing.assert_array_equal(store.image(row), expected.reshape(2, 24, 20))
    store.close()
    assert index_zarr(tmp_path / "in" / "P1.zarr").sites["path_1"][0] == "B/03/0/0"


@pytest.mark.parametrize(
    "array",
    [
        {"dtype": "uint8"},
        {"version": "0.4", "order": "F", "chunks": (2, 9, 9)},
        {"version": "0.4", "chunk_key_encoding": {"name": "v2", "separator": "/"}},
        {"dtype": ">u2"},
        {"version": "0.4", "dtype": ">u2"},
        {"chunks": (1, 8, 4), "shards": (2, 16, 8)},
        {"chunk_key_encoding": {"name": "v2", "separator": "."}},
        {"chunk_key_encoding": {"name": "default", "separator": "."}},
    ],
)
def test_arrays_of_every_usual_kind_are_read(tmp_path: Path, array: dict[str, Any]) -> None:
    dtype, version = array.pop("dtype", "uint16"), array.pop("version", "0.5")
    expected = pixels(5, dtype=dtype)
    plate(tmp_path, {"A/1": [expected]}, version=version, **array)
    screen = index_zarr(tmp_path, channels=["ER", "dna=DNA"])
    assert screen.metadata.dtype == np.dtype(dtype).newbyteorder("=").name
    store = ImageCache(screen)
    np.testing.assert_array_equal(store.image(0), expected[[1, 0]].astype(screen.metadata.dtype))
    store.close()


@pytest.mark.parametrize("array", [{"version": "0.4"}, {"version": "0.5"}, {"version": "0.5", "shards": (2, 16, 16)}])
def test_a_chunk_that_is_not_there_is_never_black(tmp_path: Path, array: dict[str, Any]) -> None:
    version = array.pop("version")
    fields = [pixels(1), pixels(2)]
    fields[1][1, :8, 8:16] = 0
    plate(tmp_path, {"A/1": fields}, version=version, chunks=(1, 8, 8), write_empty_chunks=False, **array)
    screen = index_zarr(tmp_path)
    assert refusals(screen) == [("unreadable file", "A01", "2")]
    assert "a writer omitted it because it is constant" in screen.problems["found"][0]
    before = ImageCache(screen)
    chunk_files = sorted(
        path for path in (tmp_path / "A/1/0/0").rglob("*") if path.is_file() and path.name[0] in "0123456789"
    )
    chunk_files[0].unlink()
    with pytest.raises(Exception, match=r"well A01 site 1: .* is missing \(No such file or directory\)"):
        before.image(0)
    before.close()


def test_damage_is_named_and_a_bomb_is_refused_unopened(tmp_path: Path) -> None:
    wells = {"A/1": [pixels(1, shape=(2, 64, 64)) for _ in range(5)]}
    plate(tmp_path, wells, version="0.5")
    chunks = [tmp_path / f"A/1/{k}/0/c/0/0/0" for k in range(5)]
    screen = index_zarr(tmp_path)
    chunks[0].write_bytes(chunks[0].read_bytes()[:40])
    chunks[1].write_bytes(b"\x28\xb5\x2f\xfd\xa4\xff\xff\xff\xff" + bytes(20))  # a frame that claims 4 GB
    chunks[2].write_bytes(b"")
    array_file = tmp_path / "A/1/3/0/zarr.json"
    array = json.loads(array_file.read_text())
    array["chunk_grid"]["configuration"]["chunk_shape"] = [2, 1 << 20, 1 << 20]
    array_file.write_text(json.dumps(array))
    store = ImageCache(screen)
    messages = ["is damaged", "claims 4294967295 bytes; a chunk has 8192", "is damaged", "the limit is 1073741824"]
    for row, message in enumerate(messages):
        with pytest.raises(Exception, match=rf"well A01 site {row + 1}: .*{message}"):
            store.image(row)
    np.testing.assert_array_equal(store.image(4), wells["A/1"][4])
    store.close()


def test_every_fault_of_the_metadata_is_refused_by_well(tmp_path: Path) -> None:
    wells = {f"{row}/{column}": [pixels(1), pixels(2)] for row in "AB" for column in "1234"}
    plate(tmp_path, wells, version="0.5")
    shutil.rmtree(tmp_path / "A/2")
    shutil.rmtree(tmp_path / "A/3/1")
    (tmp_path / "A/4/zarr.json").write_text("{")
    (tmp_path / "B/1/0/zarr.json").write_text('{"attributes": {"ome": {"multiscales": []}}}')
    shutil.rmtree(tmp_path / "B/1/1/0")
    shutil.rmtree(tmp_path / "B/2/0")
    image(tmp_path / "B/2/0", pixels(3, shape=(2, 3, 24, 20)), version="0.5", axes="tcyx")
    shutil.rmtree(tmp_path / "B/2/1")
    image(tmp_path / "B/2/1", pixels(3, shape=(1, 24, 20)), version="0.5", labels=["DNA"])
    shutil.rmtree(tmp_path / "B/3/0")
    image(tmp_path / "B/3/0", pixels(3, shape=(2, 24, 9)), version="0.5", labels=["DNA", "ER"])
    metadata = json.loads((tmp_path / "zarr.json").read_text())
    well_entries = metadata["attributes"]["ome"]["plate"]["wells"]
    well_entries[7]["rowIndex"] = 0
    well_entries += [{"path": "../C"}, {"path": "ZZ/99"}, well_entries[0]]
    (tmp_path / "zarr.json").write_text(json.dumps(metadata))
    group(tmp_path / "C/7", {"well": {"images": []}}, version="0.5")
    screen = index_zarr(tmp_path)
    # 2 + 1 + 2 + 1 + 2 + 2 + 2 + 1 + 3, where a well that cannot be read counts as one.
    assert conservation_line(screen) == "found 17 = indexed 4 + refused 13"
    assert refusals(screen) == sorted(
        [
            *[("no image", "A2", ""), ("unreadable metadata", "A3", "2"), ("unreadable metadata", "A4", "")],
            *[("unreadable metadata", "B1", "1"), ("unreadable metadata", "B1", "2")],
            *[
                ("several planes or times", "B2", "1"),
                ("missing channel", "B2", "2"),
                ("size or bit depth", "B03", "1"),
            ],
            *[("well index contradicts path", "B4", ""), ("bad well", "", ""), ("no image", "ZZ99", "")],
            *[("duplicate row", "A01", "1"), ("duplicate row", "A01", "2")],
        ]
    )
    remark = screen.problems[screen.problems["kind"] == "not read"].iloc[0]
    assert (remark["file"], remark["found"]) == ("C/7", "a well that the plate does not list")


def measured_twice(
    folder: Path, acquired: dict[str, list[Any]], *, version: Literal["0.4", "0.5"] = "0.5", names: tuple[str, ...] = ()
) -> Path:
    """Write a plate; each well lists the acquisitions of its fields, None for a field without one."""
    plate(
        folder,
        {well: [pixels(k) for k, _ in enumerate(field_names)] for well, field_names in acquired.items()},
        version=version,
    )
    file = folder / ("zarr.json" if version == "0.5" else ".zattrs")
    metadata = json.loads(file.read_text())
    of_plate = (metadata["attributes"]["ome"] if version == "0.5" else metadata)["plate"]
    of_plate["acquisitions"] = [{"id": k, **({"name": names[k]} if names else {})} for k in range(2)]
    file.write_text(json.dumps(metadata))
    for well, field_names in acquired.items():
        images = [{"path": str(k), **({} if a is None else {"acquisition": a})} for k, a in enumerate(field_names)]
        group(folder / well, {"well": {"images": images, "version": version}}, version=version)
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_two_acquisitions_of_a_well_are_no_sites_of_it(tmp_path: Path, version: Literal["0.4", "0.5"]) -> None:
    acquired: dict[str, list[Any]] = {"A/1": [0, 0, 1, 1], "A/2": [0, 0], "A/3": [1]}
    measured_twice(tmp_path / "P1.zarr", acquired, version=version, names=("Monday", "Tuesday"))
    screen = index_zarr(tmp_path)
    assert conservation_line(screen) == "found 7 = indexed 3 + refused 4"
    assert refusals(screen) == [("several acquisitions", "A1", str(k)) for k in (1, 2, 3, 4)]
    problem = screen.problems[screen.problems["severity"] == "refused"].iloc[0]
    assert problem["found"] == "2 fields of acquisition 0 (Monday), 2 fields of acquisition 1 (Tuesday)"
    assert problem["fix"] == "Choose one by id or name, such as --acquisition 0."
    second_day = index_zarr(tmp_path, acquisition="tuesday")
    assert conservation_line(second_day) == "found 4 = indexed 3 + refused 1"
    assert second_day.sites[["well", "site", "acquisition"]].to_numpy().tolist() == [
        ["A01", 3, "1"],
        ["A01", 4, "1"],
        ["A03", 1, "1"],
    ]
    assert refusals(second_day) == [("no image", "A2", "")]
    unselected = second_day.problems[second_day.problems["kind"] == "acquisition not selected"].iloc[0]
    assert (unselected["severity"], unselected["file"], unselected["count"]) == ("warning", "P1.zarr/A/1", 2)
    assert index_zarr(tmp_path, acquisition="1").sites["path_1"].tolist() == second_day.sites["path_1"].tolist()
    with pytest.raises(ScreenError, match=r"--acquisition 7: no plate has .* Known: 0, 1, Monday, Tuesday"):
        index_zarr(tmp_path, acquisition="7")


@pytest.mark.parametrize("acquisitions", [[0, None], [None, None], [0, 1]])
def test_fields_that_tell_no_acquisition_are_of_none(tmp_path: Path, acquisitions: list[Any]) -> None:
    measured_twice(tmp_path, {"A/1": acquisitions, "A/2": [0]})
    screen = index_zarr(tmp_path)
    assert refusals(screen) == [("several acquisitions", "A1", "1"), ("several acquisitions", "A1", "2")]


def test_planes_of_an_array_are_chosen_by_number(tmp_path: Path) -> None:
    all_planes = pixels(7, shape=(2, 3, 4, 24, 20))  # t, c, z, y, x
    plate(tmp_path, {"A/1": [all_planes]}, version="0.5", axes="tczyx", labels=("DNA", "ER", "AGP"))
    with pytest.raises(ScreenError, match=r"several planes or times: t = 2, z = 4.*--plane 2 or --plane DNA=3,actin=5"):
        index_zarr(tmp_path)
    with pytest.raises(ScreenError, match="axis z has length 4, and --plane is 5"):
        index_zarr(tmp_path, planes=["5"], time="1")
    with pytest.raises(ScreenError, match="--plane DNA=1 has no plane for the channel ER, AGP"):
        index_zarr(tmp_path, planes=["DNA=1"], time="1")
    screen = index_zarr(tmp_path, channels=["AGP", "nuclei=DNA"], planes=["4", "nuclei=2"], time="2")
    store = ImageCache(screen)
    np.testing.assert_array_equal(store.image(0), np.stack([all_planes[1, 2, 3], all_planes[1, 0, 1]]))
    store.close()


@pytest.mark.parametrize(
    ("unit", "scale", "expected"),
    [
        ("micrometer", [1.0, 0.65, 0.65], 0.65),
        ("nanometer", [1.0, 325.0, 325.0], 0.325),
        ("", [1.0, 0.65, 0.65], None),
        ("micrometer", [1.0, 0.65, 0.9], None),
        ("micrometer", [1.0, 0.0, 0.0], None),
    ],
)
def test_the_size_of_a_pixel_goes_to_the_card(
    tmp_path: Path, unit: str, scale: list[float], expected: float | None
) -> None:
    plate(tmp_path, {"A/1": [pixels(1)], "A/2": [pixels(2)]}, version="0.4")
    for well in ("1", "2"):
        file = tmp_path / "A" / well / "0" / ".zattrs"
        metadata = json.loads(file.read_text())
        scales = metadata["multiscales"][0]
        scales["axes"] = [{"name": name, **({"unit": unit} if unit and name != "c" else {})} for name in "cyx"]
        scales["datasets"][0]["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
        file.write_text(json.dumps(metadata))
    assert index_zarr(tmp_path, hash_files=False).metadata.pixel_size_um == pytest.approx(expected)


def test_a_well_under_two_names_is_told_by_its_paths(tmp_path: Path) -> None:
    plate(tmp_path, {"A/1": [pixels(1)], "A/01": [pixels(2)], "A/2": [pixels(3)]}, version="0.5")
    screen = index_zarr(tmp_path)
    assert conservation_line(screen) == "found 3 = indexed 1 + refused 2"
    found_values = screen.problems.loc[screen.problems["kind"] == "conflicting rows", "found"].tolist()
    assert found_values == ["in conflict with A/01/0/0", "in conflict with A/1/0/0"]


def test_pixels_that_are_no_counts_are_said_in_one_sentence(tmp_path: Path) -> None:
    plate(tmp_path, {"A/1": [pixels(1).astype(np.float32)]}, version="0.5")
    with pytest.raises(ScreenError) as error:
        index_zarr(tmp_path)
    assert "expected uint8 or uint16 (8, 12 or 16 bit), expected an image. Export gray planes" in str(error.value)


def test_a_table_of_wells_names_what_was_done(tmp_path: Path) -> None:
    for name in ("P1", "P2"):
        plate(tmp_path / f"{name}.ome.zarr", {"A/1": [pixels(1)], "B/2": [pixels(2)]}, version="0.4", name=name)
    (tmp_path / "image.zarr").mkdir()
    table = tmp_path / "wells.csv"
    table.write_text("plate,well,perturbation,dose\nP1,a01,x,1\nP1,B02,DMSO,0\nP2,A1,y,1\nP3,A1,z,1\n")
    screen = index_zarr(tmp_path, tables=table, controls={"negative_control": ["DMSO"]})
    assert conservation_line(screen) == "found 5 = indexed 3 + refused 2"
    assert screen.sites[["plate", "well", "perturbation", "role", "dose"]].to_numpy().tolist() == [
        ["P1", "A01", "x", "treatment", "1"],
        ["P1", "B02", "DMSO", "negative_control", "0"],
        ["P2", "A01", "y", "treatment", "1"],
    ]
    assert sorted(screen.problems["kind"]) == ["no image", "no table row", "not read", "same bytes"]


def test_a_packed_screen_is_a_plate_that_knows_its_sites(tmp_path: Path) -> None:
    wells = {"A/1": [pixels(1), pixels(2)], "C/12": [pixels(3)]}
    plate(tmp_path / "in", wells, version="0.4", name="plate 7")
    write_screen(index_zarr(tmp_path / "in"), tmp_path / "screen")
    before = read_screen(tmp_path / "screen")
    pack_screen(before, tmp_path / "packed")
    index_of_pack = index_zarr(tmp_path / "packed")
    columns = ["experiment", "plate", "well", "site"]
    assert index_of_pack.sites[columns].to_numpy().tolist() == before.sites[columns].to_numpy().tolist()
    first, second = ImageCache(before), ImageCache(index_of_pack)
    for row in range(3):
        np.testing.assert_array_equal(first.image(row), second.image(row))
    first.close()
    second.close()


def test_a_changed_array_is_found(tmp_path: Path) -> None:
    plate(tmp_path / "in", {"A/1": [pixels(1)], "A/2": [pixels(2)]}, version="0.5")
    write_screen(index_zarr(tmp_path / "in"), tmp_path / "screen")
    screen = read_screen(tmp_path / "screen")
    assert screen.sites["size"][0] == sum(f.stat().st_size for f in (tmp_path / "in/A/1/0/0").rglob("*") if f.is_file())
    assert verify_screen(screen).differences == ()
    chunk = tmp_path / "in/A/2/0/0/c/1/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0")
    (difference,) = verify_screen(screen).differences
    assert (difference.name, difference.kind) == ("A/2/0/0", "changed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ["RNA"]}, "the plates have no channel 'RNA'. Did you mean 'DNA'? Known: DNA, ER."),
        ({"channels": ["a=ER", "b=ER"]}, "list every channel once, with a unique name"),
        ({"pages": "x"}, "Layout 'ome-zarr' does not support --pages"),
        ({"tables_only": True}, "--tables-only does not apply"),
    ],
)
def test_a_request_that_makes_no_sense_is_an_error(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    plate(tmp_path, {"A/1": [pixels(1)]}, version="0.5")
    with pytest.raises(ScreenError) as error:
        index_zarr(tmp_path, **options)
    assert message in str(error.value)


def test_a_folder_without_a_plate_is_told_so(tmp_path: Path) -> None:
    image(tmp_path / "one.zarr", pixels(1), version="0.5")
    with pytest.raises(
        ScreenError, match=r"No OME-Zarr plate in .* one.zarr: a Zarr group that is not a plate. Expected"
    ):
        index_zarr(tmp_path)
    plate(tmp_path / "P.zarr", {"A/1": [pixels(1)]}, version="0.5")
    with pytest.raises(ScreenError, match=r"It looks like --layout ome-zarr \(P.zarr\)"):
        index(tmp_path, layout="rxrx1")


def test_channels_without_names_are_counted(tmp_path: Path) -> None:
    plate(tmp_path, {"A/1": [pixels(1)]}, version="0.4", labels=())
    assert [channel.name for channel in index_zarr(tmp_path).metadata.channels] == ["1", "2"]
    screen = index_zarr(tmp_path, channels=["DNA=2"])
    assert (screen.metadata.channels[0].name, screen.pages(0)) == ("DNA", [1])


def test_without_zarr_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plate(tmp_path, {"A/1": [pixels(1)]}, version="0.5")
    store = ImageCache(index_zarr(tmp_path))
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[zarr\]'"):
        store.image(0)
    store.close()
