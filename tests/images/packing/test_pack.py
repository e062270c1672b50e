"""Packed screens: same pixels as the source, and every damage or leftover is found."""

import dataclasses
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from distangle.cli import main
from distangle.core.io import sha256_of
from distangle.errors import ConfigError, ImageError, RunError, ScreenError, StorageError
from distangle.images import Format, pack_screen, probe_image, read_image
from distangle.images.packing import records
from distangle.images.readers.packed_image import read_packed
from distangle.results.verify import verify_screen
from distangle.screen import Screen, read_screen, site_sha256, write_screen
from report_run import Plan, PlantedRun, make_run


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    return with_hashes(make_run(tmp_path_factory.mktemp("pack"), Plan(rows=4, columns=6, size=40, explained=2)))


@pytest.fixture(scope="module", params=["ome-zarr", "records"])
def pack(request: pytest.FixtureRequest, planted_run: PlantedRun, tmp_path_factory: pytest.TempPathFactory) -> Screen:
    folder = tmp_path_factory.mktemp("packed") / request.param
    pack_screen(planted_run.screen, folder, format=request.param)
    return read_screen(folder)


def with_hashes(planted_run: PlantedRun) -> PlantedRun:
    """Return the run with a screen that has the hashes of its files, like an indexed screen."""
    sites = planted_run.screen.sites.copy()
    n_channels = len(planted_run.screen.metadata.channels)
    digests = [[sha256_of(path) for path in planted_run.screen.image_paths(row)] for row in range(len(sites))]
    sites["sha256"] = [site_sha256(of_site, [-1] * n_channels) for of_site in digests]
    sites["size"] = [
        sum(path.stat().st_size for path in planted_run.screen.image_paths(row)) for row in range(len(sites))
    ]
    assert planted_run.screen.folder is not None
    write_screen(dataclasses.replace(planted_run.screen, sites=sites), planted_run.screen.folder)
    return dataclasses.replace(planted_run, screen=read_screen(planted_run.screen.folder))


def test_a_packed_screen_has_the_same_pixels_and_all_else(planted_run: PlantedRun, pack: Screen) -> None:
    identity_columns = ["experiment", "plate", "well", "row", "column", "site", "cell_type", "perturbation", "role"]
    assert pack.sites[identity_columns].equals(planted_run.screen.sites[identity_columns])
    for row in range(len(pack.sites)):
        before = read_image(planted_run.screen.image_paths(row), planted_run.screen.pages(row))
        np.testing.assert_array_equal(read_image(pack.image_paths(row), pack.pages(row)), before)
    assert probe_image(pack.image_paths(0)[0])[:3] == ("uint8", (40, 40), 6)
    two = read_image(pack.image_paths(0)[:2], [4, 1])
    np.testing.assert_array_equal(
        two, read_image(planted_run.screen.image_paths(0), planted_run.screen.pages(0))[[4, 1]]
    )
    assert verify_screen(pack).differences == ()


def test_zarr_itself_reads_the_plates(planted_run: PlantedRun, tmp_path: Path) -> None:
    pack_screen(planted_run.screen, tmp_path, format="ome-zarr")
    site = planted_run.screen.sites.iloc[3]
    plate = zarr.open_group(tmp_path / f"{site.experiment}_{site.plate}.zarr", mode="r")
    metadata = plate.attrs["ome"]["plate"]
    letters, number = site.well[0], site.well[1:]
    [well_entry] = [well for well in metadata["wells"] if well["path"] == f"{letters}/{number}"]
    assert (well_entry["rowIndex"], well_entry["columnIndex"]) == (ord(letters) - ord("A"), int(number) - 1)
    assert metadata["rows"][well_entry["rowIndex"]]["name"] == letters
    assert metadata["columns"][well_entry["columnIndex"]]["name"] == number
    fields = plate[well_entry["path"]].attrs["ome"]["well"]["images"]
    assert [field["path"] for field in fields] == [str(k) for k in range(metadata["field_count"])]
    image = plate[f"{well_entry['path']}/0"]
    assert [axis["name"] for axis in image.attrs["ome"]["multiscales"][0]["axes"]] == ["c", "y", "x"]
    first = planted_run.screen.sites[
        (planted_run.screen.sites[["experiment", "plate", "well"]] == site[["experiment", "plate", "well"]]).all(axis=1)
    ].index[0]
    np.testing.assert_array_equal(
        image["0"][:], read_image(planted_run.screen.image_paths(first), planted_run.screen.pages(first))
    )
    assert image.attrs["distangle"]["well"] == site.well


@pytest.mark.filterwarnings("ignore")
def test_ome_zarr_py_opens_a_plate_and_a_field(planted_run: PlantedRun, tmp_path: Path) -> None:
    reader, io = pytest.importorskip("ome_zarr.reader"), pytest.importorskip("ome_zarr.io")
    pack = pack_screen(planted_run.screen, tmp_path, format="ome-zarr").screen
    chunk = pack.image_paths(3)[0]
    field, expected = chunk.parents[4], read_packed(chunk)
    [image] = list(reader.Reader(io.parse_url(field, mode="r"))())
    np.testing.assert_array_equal(np.asarray(image.data[0]), expected)
    assert image.metadata["channel_names"] == [channel.name for channel in planted_run.screen.metadata.channels]
    plate = next(iter(reader.Reader(io.parse_url(chunk.parents[7], mode="r"))()))
    site, height, width = planted_run.screen.sites.iloc[3], *expected.shape[1:]
    top, first_column = (ord(site.well[0]) - ord("A")) * height, (int(site.well[1:]) - 1) * width
    mosaic = np.asarray(plate.data[0][:, top : top + height, first_column : first_column + width])
    first = read_packed(field.parent / "0" / chunk.relative_to(field))
    np.testing.assert_array_equal(mosaic, first)


def test_sixteen_bits_and_both_formats(tmp_path: Path) -> None:
    planted_run = with_hashes(make_run(tmp_path / "run", Plan(rows=3, columns=4, size=24, bits=16, explained=2)))
    for format in ("ome-zarr", "records"):
        pack = pack_screen(planted_run.screen, tmp_path / format, format=format).screen
        image = read_image(pack.image_paths(1), pack.pages(1))
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image, read_image(planted_run.screen.image_paths(1), planted_run.screen.pages(1)))
    chunk = next((tmp_path / "ome-zarr").rglob("c/0/0/0"))
    np.testing.assert_array_equal(zarr.open_array(chunk.parents[3], mode="r")[:], read_packed(chunk))


def test_no_damage_passes_in_silence(pack: Screen, tmp_path: Path) -> None:
    source = pack.image_paths(0)[0]
    array = source.parents[4]
    whole_image = read_packed(source)
    rng = np.random.default_rng(1)
    if source.suffix != records.SUFFIX:
        shutil.copytree(array, tmp_path / "image")
        damaged = tmp_path / "image" / source.relative_to(array)
    else:
        damaged = tmp_path / "image.dsr"
    blob = source.read_bytes()
    n_refused = 0
    for _ in range(300):
        mutant = bytearray(blob)
        place = int(rng.integers(len(blob)))
        if rng.random() < 0.3:
            mutant = mutant[:place]
        elif rng.random() < 0.5:
            mutant[place : place + 16] = bytes(len(mutant[place : place + 16]))
        else:
            mutant[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(mutant)
        try:
            image_back = read_packed(damaged)
        except ImageError:
            n_refused += 1
            continue
        assert bytes(mutant) == blob or source.suffix != records.SUFFIX  # of a record, every byte is under a checksum
        np.testing.assert_array_equal(image_back, whole_image)
    assert n_refused > 200


def test_a_missing_chunk_is_not_read_as_black(planted_run: PlantedRun, tmp_path: Path) -> None:
    pack = pack_screen(planted_run.screen, tmp_path, format="ome-zarr").screen
    pack.image_paths(0)[0].unlink()
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image(pack.image_paths(0), pack.pages(0))


def test_packing_resumes_and_repeats_damaged_images(planted_run: PlantedRun, tmp_path: Path) -> None:
    first = pack_screen(planted_run.screen, tmp_path, format="records")
    assert (first.n_packed, first.n_reused) == (len(planted_run.screen.sites), 0)
    paths = [first.screen.image_paths(row)[0] for row in (0, 1, 2)]
    before = [path.read_bytes() for path in paths]
    paths[0].unlink()
    paths[1].write_bytes(before[1][:-9])
    paths[2].write_bytes(before[1])  # of another site
    (tmp_path / "screen.json").unlink()
    second_pack = pack_screen(planted_run.screen, tmp_path, format="records")
    assert (second_pack.n_packed, second_pack.n_reused) == (3, len(planted_run.screen.sites) - 3)
    assert [path.read_bytes() for path in paths] == before
    assert read_screen(tmp_path).sites.drop(columns="mtime").equals(first.screen.sites.drop(columns="mtime"))


def test_an_image_that_cannot_be_read_is_refused_by_name_and_the_law_holds(tmp_path: Path) -> None:
    planted_run = with_hashes(make_run(tmp_path / "run", Plan(rows=3, columns=4, size=24, explained=2)))
    site = planted_run.screen.sites.iloc[2]
    broken_file = planted_run.screen.image_paths(2)[3]
    broken_file.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    hit = [row for row in range(len(planted_run.screen.sites)) if broken_file in planted_run.screen.image_paths(row)]
    main(["pack", str(planted_run.screen.folder), "--out", str(tmp_path / "packed"), "--format", "records"])
    pack = read_screen(tmp_path / "packed")
    metadata, before = pack.metadata, planted_run.screen.metadata
    assert (metadata.found, metadata.indexed, metadata.refused) == (
        before.found, before.indexed - len(hit), before.refused + len(hit),
    )  # fmt: skip
    problems = pack.problems[pack.problems["kind"] == "unreadable file"].to_dict("records")
    assert (site.well, site.plate, str(site.site)) in {(p["well"], p["plate"], p["site"]) for p in problems}
    assert not any(str(planted_run.screen.source) in problem["found"] for problem in problems)
    assert {(p["file"], p["channel"]) for p in problems} == {
        (broken_file.relative_to(planted_run.screen.source).as_posix(), planted_run.screen.metadata.channels[3].name)
    }


def test_what_cannot_be_packed_is_refused(planted_run: PlantedRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no level 40: expected 1 .* to 22"):
        pack_screen(planted_run.screen, tmp_path / "b", format="records", level=40)
    unhashed = planted_run.screen.sites.assign(sha256="")
    with pytest.raises(ScreenError, match="indexed without hashing"):
        pack_screen(dataclasses.replace(planted_run.screen, sites=unhashed), tmp_path / "c")
    assert planted_run.screen.folder is not None
    with pytest.raises(ScreenError, match="is the screen itself"):
        pack_screen(planted_run.screen, planted_run.screen.folder)


def test_a_pack_lies_in_a_folder_of_its_own(planted_run: PlantedRun, tmp_path: Path) -> None:
    screen, folder = planted_run.screen, tmp_path / "packed"
    assert isinstance(screen.source, Path)
    for place in (screen.source, screen.source.parent):
        with pytest.raises(ScreenError, match="holds the images of the screen, .* which it might replace"):
            pack_screen(screen, place)
    first = pack_screen(screen, folder, format="records").screen
    with pytest.raises(ScreenError, match="holds a pack in the format records. Name another folder for ome-zarr"):
        pack_screen(screen, folder)
    other = with_hashes(make_run(tmp_path / "other", Plan(rows=3, columns=4, size=24, explained=2))).screen
    with pytest.raises(ScreenError, match=r"holds the pack of another screen \(.*\)\. Name another folder"):
        pack_screen(other, folder, format="records")
    nameless = [
        dataclasses.replace(one, metadata=one.metadata.model_copy(update={"sites_sha256": ""}))
        for one in (screen, other)
    ]
    pack_screen(nameless[0], tmp_path / "nameless", format="records")
    with pytest.raises(ScreenError, match="holds the pack of another screen"):
        pack_screen(nameless[1], tmp_path / "nameless", format="records")
    assert other.folder is not None
    with pytest.raises(ScreenError, match="holds a screen that was indexed, not packed, and would be lost"):
        pack_screen(screen, other.folder, format="records")
    # The pack, indexed as plates of its own, cannot be packed into itself.
    second_pack = pack_screen(first, tmp_path / "twice", format="ome-zarr").screen
    with pytest.raises(ScreenError, match="holds the images of the screen"):
        pack_screen(dataclasses.replace(second_pack, folder=None), tmp_path / "twice")
    assert read_screen(folder).sites.equals(first.sites)


def test_an_unfinished_pack_says_whose_it_is(
    planted_run: PlantedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distangle.images.packing import writer

    def full(*_: object, **__: object) -> None:
        message = "the disk is full"
        raise StorageError(message)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_bytes", full)
        with pytest.raises(StorageError, match="the disk is full"):
            pack_screen(planted_run.screen, tmp_path, format="records")
    assert [path.name for path in tmp_path.iterdir()] == ["packing.json"]
    other = with_hashes(make_run(tmp_path.parent / "another", Plan(rows=3, columns=4, size=24, explained=2))).screen
    with pytest.raises(ScreenError, match="holds the pack of another screen"):
        pack_screen(other, tmp_path, format="records")
    assert pack_screen(planted_run.screen, tmp_path, format="records").n_packed == len(planted_run.screen.sites)
    assert not (tmp_path / "packing.json").exists()


@pytest.mark.parametrize(("format", "share"), [("ome-zarr", 1.29), ("records", 0.99)])
def test_a_full_disk_is_reported_before_packing(
    planted_run: PlantedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: Format, share: float
) -> None:
    import shutil

    free = int(planted_run.screen.sites["size"].sum() * share)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10 * free, 9 * free, free))
    with pytest.raises(StorageError, match="has no room for packed images, about"):
        pack_screen(planted_run.screen, tmp_path, format=format)
    assert [path.name for path in tmp_path.iterdir()] == ["packing.json"]


def test_two_packings_at_once_into_one_folder_are_one_too_many(planted_run: PlantedRun, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from distangle.core.lock import run_lock\n"
        "with run_lock(Path(sys.argv[1]), say=print): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            with pytest.raises(RunError, match=f"is in use by process {child.pid} on"):
                pack_screen(planted_run.screen, tmp_path, format="records")
        finally:
            child.kill()
    messages: list[str] = []
    pack_screen(planted_run.screen, tmp_path, format="records", say=messages.append)
    assert messages == [f"cleared the lock of process {child.pid} on {socket.gethostname()}, since 0 min: it is dead."]


@pytest.mark.parametrize("format", ["ome-zarr", "records"])
def test_another_level_or_other_channel_names_are_packed_again(
    planted_run: PlantedRun, tmp_path: Path, format: Format
) -> None:
    screen, n = planted_run.screen, len(planted_run.screen.sites)
    assert pack_screen(screen, tmp_path, format=format, level=3).n_packed == n
    assert pack_screen(screen, tmp_path, format=format, level=3).n_reused == n
    assert pack_screen(screen, tmp_path, format=format, level=4).n_packed == n
    first, second, *rest = screen.metadata.channels
    swapped_card = screen.metadata.model_copy(update={"channels": (second, first, *rest)})
    second_pack = pack_screen(dataclasses.replace(screen, metadata=swapped_card), tmp_path, format=format, level=4)
    assert second_pack.n_packed == n
    if format == "ome-zarr":
        field = second_pack.screen.image_paths(0)[0].parents[4]
        labels = json.loads((field / "zarr.json").read_text())["attributes"]["ome"]["omero"]["channels"]
        assert [channel["label"] for channel in labels[:2]] == [second.name, first.name]


@pytest.mark.parametrize("format", ["ome-zarr", "records"])
def test_what_killed_packings_left_is_swept(planted_run: PlantedRun, tmp_path: Path, format: Format) -> None:
    pack = pack_screen(planted_run.screen, tmp_path, format=format).screen
    path = pack.image_paths(0)[0]
    temporaries = [path.with_name(f".{path.name}.tmp-4711"), tmp_path / ".screen.json.tmp-4711"]
    if format == "ome-zarr":
        plate = path.parents[7]
        temporaries += [path.parents[4] / ".zarr.json.tmp-4711", plate / ".zarr.json.tmp-4711"]
        temporaries += [path.parents[k] / ".zarr.json.tmp-4711" for k in (5, 6)]
    for file in temporaries:
        file.write_bytes(b"x")
    path.unlink()
    pack_screen(planted_run.screen, tmp_path, format=format)
    assert not any(file.exists() for file in temporaries)
