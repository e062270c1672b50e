import dataclasses
import json
import shutil
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from distangle.cli import main
from distangle.core.io import sha256_of
from distangle.errors import ConfigError, ImageError, RunError, ScreenError, StorageError
from distangle.images import Format, pack_screen, probe_image, read_image
from distangle.images.packing import codec, codec_kernels, records
from distangle.images.readers.packed_image import read_packed
from distangle.results.verify import verify_screen
from distangle.screen import Screen, read_screen, site_sha256, write_screen
from report_run import Made, Plan, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return hashed(make_run(tmp_path_factory.mktemp("pack"), Plan(rows=4, columns=6, size=40, explained=2)))


@pytest.fixture(scope="module", params=["ome-zarr", "records"])
def packed(request: pytest.FixtureRequest, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Screen:
    folder = tmp_path_factory.mktemp("packed") / request.param
    pack_screen(made.screen, folder, format=request.param)
    return read_screen(folder)


def hashed(made: Made) -> Made:
    """The same run with a screen that knows the hashes of its files, as an index makes it."""
    sites = made.screen.sites.copy()
    n_channels = len(made.screen.card.channels)
    digests = [[sha256_of(path) for path in made.screen.image_paths(row)] for row in range(len(sites))]
    sites["sha256"] = [site_sha256(of_site, [-1] * n_channels) for of_site in digests]
    sites["size"] = [sum(path.stat().st_size for path in made.screen.image_paths(row)) for row in range(len(sites))]
    assert made.screen.folder is not None
    write_screen(dataclasses.replace(made.screen, sites=sites), made.screen.folder)
    return dataclasses.replace(made, screen=read_screen(made.screen.folder))


def test_remainders_by_hand() -> None:
    flat = codec.predict_residuals(np.full((1, 8, 8), 7, np.uint8))
    assert flat.tolist() == [[codec.ZERO_RESIDUAL + 7] + [codec.ZERO_RESIDUAL] * 63]  # one pixel tells all
    ramp = np.tile(np.arange(0, 80, 10, dtype=np.uint8), (1, 8, 1))
    values = (codec.predict_residuals(ramp)[0].astype(int) - codec.ZERO_RESIDUAL).reshape(4, 4, 4)
    # The finest middles lie between 0 and 20: 10, and so on; the last has no neighbor on its right: 60, not 70.
    assert values[1].tolist() == [[0, 0, 0, 10]] * 4
    # To the right of 0 lie 20 on one side and the middles 10 above and below: (0 + 20 + 10 + 10 + 2) // 4 = 10.
    assert values[2].tolist() == [[0, 0, 0, 70 - (60 + 60 + 70 + 70 + 2) // 4]] * 4
    # Below 20 lie 20 and 20, and the middles 10 and 30; below 0 the middle on the left is the one on the right.
    assert values[3].tolist() == [[0 - (0 + 0 + 10 + 10 + 2) // 4, 0, 0, 60 - (60 + 60 + 50 + 70 + 2) // 4]] * 4


def by_definition(plane: np.ndarray, depth: int) -> list[list[int]]:
    """Every pixel minus the mean of the four around it on the next coarser lattice, in plain loops."""
    tall, wide = plane.shape
    if depth == 0:
        at = lambda r, c: int(plane[r, c]) if min(r, c) >= 0 else 0  # noqa: E731
        return [[at(r, c) - at(r - 1, c) - at(r, c - 1) + at(r - 1, c - 1) for r in range(tall) for c in range(wide)]]
    parts: list[list[int]] = [[], [], []]
    for r in range(0, tall, 2):
        for c in range(0, wide, 2):
            below, right = min(r + 2, tall - 2), min(c + 2, wide - 2)
            above, left = max(r - 1, 1), max(c - 1, 1)
            p = plane.astype(int)
            corners = p[r, c] + p[r, right] + p[below, c] + p[below, right]
            parts[0].append(p[r + 1, c + 1] - (corners + 2) // 4)
            parts[1].append(p[r, c + 1] - (p[r, c] + p[r, right] + p[r + 1, c + 1] + p[above, c + 1] + 2) // 4)
            parts[2].append(p[r + 1, c] - (p[r, c] + p[below, c] + p[r + 1, c + 1] + p[r + 1, left] + 2) // 4)
    return by_definition(plane[::2, ::2], depth - 1) + parts


def test_remainders_are_what_their_definition_says() -> None:
    planes = np.random.default_rng(3).integers(0, 65536, (2, 16, 24)).astype(np.uint16)
    expected = [sum(by_definition(plane, codec.DEPTH), []) for plane in planes]
    np.testing.assert_array_equal(codec.predict_residuals(planes), (np.array(expected) + codec.ZERO_RESIDUAL) % 65536)


def test_halves_by_hand() -> None:
    flat = np.array([[0x81, 0x82, 0x83, 0x84]], np.uint8)
    halves, halved = codec.split_nibbles(flat)
    assert halved.tolist() == [[True]]
    assert [[hex(value) for value in row] for row in halves[0]] == [["0x31", "0x42", "0x88", "0x88"]]
    assert codec.join_nibbles(halves, halved).tolist() == flat.tolist()
    noise = np.random.default_rng(0).integers(0, 2, (1, 4096)).astype(np.uint8) * 0xF1  # two values, eight bits apart
    noise = np.concatenate([noise, np.random.default_rng(1).integers(0, 256, (1, 4096)).astype(np.uint8)])
    parts, halved = codec.split_nibbles(noise)
    assert halved.tolist() == [[False, True]]  # 0x00 and 0xF1 are one bit as a byte, and two as halves
    np.testing.assert_array_equal(codec.join_nibbles(parts, halved), noise)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 21), st.integers(1, 21)),
    seed=st.integers(0, 2**32 - 1),
    wide=st.booleans(),
    loud=st.booleans(),
)
def test_any_image_comes_back(shape: tuple[int, int, int], seed: int, wide: bool, loud: bool) -> None:
    dtype = np.uint16 if wide else np.uint8
    most = np.iinfo(dtype).max if loud else 20
    image = np.random.default_rng(seed).integers(0, most, shape, dtype=dtype, endpoint=True)
    channels, height, width = shape
    for restore in (codec_kernels.restore_with_numba, records.restore_with_numpy):
        planes = np.empty((channels, codec.pad(height), codec.pad(width)), dtype=dtype)
        restore(*codec.split_nibbles(codec.predict_residuals(image)), planes)
        np.testing.assert_array_equal(planes[:, :height, :width], image)
    blob = records.encode_record(image, level=3, about={"well": "Bµ2"})
    image_back = records.decode_record(blob, path=Path("x"))
    assert image_back.dtype == dtype
    np.testing.assert_array_equal(image_back, image)
    assert records.record_header(blob, path=Path("x"))[0]["well"] == "Bµ2"


def test_a_packed_screen_has_the_same_pixels_and_all_else(made: Made, packed: Screen) -> None:
    same = ["experiment", "plate", "well", "row", "column", "site", "cell_type", "perturbation", "role"]
    assert packed.sites[same].equals(made.screen.sites[same])
    for row in range(len(packed.sites)):
        before = read_image(made.screen.image_paths(row), made.screen.pages(row))
        np.testing.assert_array_equal(read_image(packed.image_paths(row), packed.pages(row)), before)
    assert probe_image(packed.image_paths(0)[0])[:3] == ("uint8", (40, 40), 6)
    two = read_image(packed.image_paths(0)[:2], [4, 1])
    np.testing.assert_array_equal(two, read_image(made.screen.image_paths(0), made.screen.pages(0))[[4, 1]])
    assert verify_screen(packed).differences == ()


def test_zarr_itself_reads_the_plates(made: Made, tmp_path: Path) -> None:
    pack_screen(made.screen, tmp_path, format="ome-zarr")
    site = made.screen.sites.iloc[3]
    plate = zarr.open_group(tmp_path / f"{site.experiment}_{site.plate}.zarr", mode="r")
    metadata = plate.attrs["ome"]["plate"]
    letters, number = site.well[0], site.well[1:]
    [listed] = [well for well in metadata["wells"] if well["path"] == f"{letters}/{number}"]
    assert (listed["rowIndex"], listed["columnIndex"]) == (ord(letters) - ord("A"), int(number) - 1)
    assert metadata["rows"][listed["rowIndex"]]["name"] == letters
    assert metadata["columns"][listed["columnIndex"]]["name"] == number
    fields = plate[listed["path"]].attrs["ome"]["well"]["images"]
    assert [field["path"] for field in fields] == [str(k) for k in range(metadata["field_count"])]
    image = plate[f"{listed['path']}/0"]
    assert [axis["name"] for axis in image.attrs["ome"]["multiscales"][0]["axes"]] == ["c", "y", "x"]
    first = made.screen.sites[
        (made.screen.sites[["experiment", "plate", "well"]] == site[["experiment", "plate", "well"]]).all(axis=1)
    ].index[0]
    np.testing.assert_array_equal(image["0"][:], read_image(made.screen.image_paths(first), made.screen.pages(first)))
    assert image.attrs["distangle"]["well"] == site.well


@pytest.mark.filterwarnings("ignore")
def test_ome_zarr_py_opens_a_plate_and_a_field(made: Made, tmp_path: Path) -> None:
    reader, io = pytest.importorskip("ome_zarr.reader"), pytest.importorskip("ome_zarr.io")
    packed = pack_screen(made.screen, tmp_path, format="ome-zarr").screen
    chunk = packed.image_paths(3)[0]
    field, expected = chunk.parents[4], read_packed(chunk)
    [image] = list(reader.Reader(io.parse_url(field, mode="r"))())
    np.testing.assert_array_equal(np.asarray(image.data[0]), expected)
    assert image.metadata["channel_names"] == [channel.name for channel in made.screen.card.channels]
    plate = next(iter(reader.Reader(io.parse_url(chunk.parents[7], mode="r"))()))
    site, height, width = made.screen.sites.iloc[3], *expected.shape[1:]
    top, left = (ord(site.well[0]) - ord("A")) * height, (int(site.well[1:]) - 1) * width
    mosaic = np.asarray(plate.data[0][:, top : top + height, left : left + width])
    first = read_packed(field.parent / "0" / chunk.relative_to(field))
    np.testing.assert_array_equal(mosaic, first)


def test_sixteen_bits_and_both_formats(tmp_path: Path) -> None:
    made = hashed(make_run(tmp_path / "run", Plan(rows=3, columns=4, size=24, bits=16, explained=2)))
    for format in ("ome-zarr", "records"):
        packed = pack_screen(made.screen, tmp_path / format, format=format).screen
        image = read_image(packed.image_paths(1), packed.pages(1))
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image, read_image(made.screen.image_paths(1), made.screen.pages(1)))
    chunk = next((tmp_path / "ome-zarr").rglob("c/0/0/0"))
    np.testing.assert_array_equal(zarr.open_array(chunk.parents[3], mode="r")[:], read_packed(chunk))


def test_no_damage_passes_in_silence(packed: Screen, tmp_path: Path) -> None:
    source = packed.image_paths(0)[0]
    array = source.parents[4]
    whole = read_packed(source)
    rng = np.random.default_rng(1)
    if source.suffix != records.SUFFIX:
        shutil.copytree(array, tmp_path / "image")
        damaged = tmp_path / "image" / source.relative_to(array)
    else:
        damaged = tmp_path / "image.dsr"
    blob = source.read_bytes()
    refused = 0
    for _ in range(300):
        changed = bytearray(blob)
        place = int(rng.integers(len(blob)))
        if rng.random() < 0.3:
            changed = changed[:place]
        elif rng.random() < 0.5:
            changed[place : place + 16] = bytes(len(changed[place : place + 16]))
        else:
            changed[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(changed)
        try:
            image_back = read_packed(damaged)
        except ImageError:
            refused += 1
            continue
        assert bytes(changed) == blob or source.suffix != records.SUFFIX  # of a record, every byte is under a checksum
        np.testing.assert_array_equal(image_back, whole)
    assert refused > 200


def test_a_missing_chunk_is_not_read_as_black(made: Made, tmp_path: Path) -> None:
    packed = pack_screen(made.screen, tmp_path, format="ome-zarr").screen
    packed.image_paths(0)[0].unlink()
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image(packed.image_paths(0), packed.pages(0))


def test_packing_resumes_and_repeats_damaged_images(made: Made, tmp_path: Path) -> None:
    first = pack_screen(made.screen, tmp_path, format="records")
    assert (first.n_packed, first.n_reused) == (len(made.screen.sites), 0)
    paths = [first.screen.image_paths(row)[0] for row in (0, 1, 2)]
    before = [path.read_bytes() for path in paths]
    paths[0].unlink()
    paths[1].write_bytes(before[1][:-9])
    paths[2].write_bytes(before[1])  # of another site
    (tmp_path / "screen.json").unlink()
    again = pack_screen(made.screen, tmp_path, format="records")
    assert (again.n_packed, again.n_reused) == (3, len(made.screen.sites) - 3)
    assert [path.read_bytes() for path in paths] == before
    assert read_screen(tmp_path).sites.drop(columns="mtime").equals(first.screen.sites.drop(columns="mtime"))


def test_an_image_that_cannot_be_read_is_refused_by_name_and_the_law_holds(tmp_path: Path) -> None:
    made = hashed(make_run(tmp_path / "run", Plan(rows=3, columns=4, size=24, explained=2)))
    site = made.screen.sites.iloc[2]
    broken = made.screen.image_paths(2)[3]
    broken.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    hit = [row for row in range(len(made.screen.sites)) if broken in made.screen.image_paths(row)]
    main(["pack", str(made.screen.folder), "--out", str(tmp_path / "packed"), "--format", "records"])
    packed = read_screen(tmp_path / "packed")
    card, before = packed.card, made.screen.card
    assert (card.found, card.indexed, card.refused) == (
        before.found, before.indexed - len(hit), before.refused + len(hit),
    )  # fmt: skip
    problems = packed.problems[packed.problems["kind"] == "unreadable file"].to_dict("records")
    assert (site.well, site.plate, str(site.site)) in {(p["well"], p["plate"], p["site"]) for p in problems}
    assert not any(str(made.screen.source) in problem["found"] for problem in problems)
    assert {(p["file"], p["channel"]) for p in problems} == {
        (broken.relative_to(made.screen.source).as_posix(), made.screen.card.channels[3].name)
    }


def test_what_cannot_be_packed_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no level 40: expected 1 .* to 22"):
        pack_screen(made.screen, tmp_path / "b", format="records", level=40)
    unhashed = made.screen.sites.assign(sha256="")
    with pytest.raises(ScreenError, match="indexed without hashing"):
        pack_screen(dataclasses.replace(made.screen, sites=unhashed), tmp_path / "c")
    assert made.screen.folder is not None
    with pytest.raises(ScreenError, match="is the screen itself"):
        pack_screen(made.screen, made.screen.folder)


def test_a_pack_lies_in_a_folder_of_its_own(made: Made, tmp_path: Path) -> None:
    screen, folder = made.screen, tmp_path / "packed"
    assert isinstance(screen.source, Path)
    for place in (screen.source, screen.source.parent):
        with pytest.raises(ScreenError, match="holds the images of the screen, .* which it might replace"):
            pack_screen(screen, place)
    first = pack_screen(screen, folder, format="records").screen
    with pytest.raises(ScreenError, match="holds a pack in the format records. Name another folder for ome-zarr"):
        pack_screen(screen, folder)
    other = hashed(make_run(tmp_path / "other", Plan(rows=3, columns=4, size=24, explained=2))).screen
    with pytest.raises(ScreenError, match=r"holds the pack of another screen \(.*\)\. Name another folder"):
        pack_screen(other, folder, format="records")
    nameless = [
        dataclasses.replace(one, card=one.card.model_copy(update={"sites_sha256": ""})) for one in (screen, other)
    ]
    pack_screen(nameless[0], tmp_path / "nameless", format="records")
    with pytest.raises(ScreenError, match="holds the pack of another screen"):
        pack_screen(nameless[1], tmp_path / "nameless", format="records")
    assert other.folder is not None
    with pytest.raises(ScreenError, match="holds a screen that was indexed, not packed, and would be lost"):
        pack_screen(screen, other.folder, format="records")
    # The pack, indexed as plates of its own, cannot be packed into itself.
    again = pack_screen(first, tmp_path / "twice", format="ome-zarr").screen
    with pytest.raises(ScreenError, match="holds the images of the screen"):
        pack_screen(dataclasses.replace(again, folder=None), tmp_path / "twice")
    assert read_screen(folder).sites.equals(first.sites)


def test_an_unfinished_pack_says_whose_it_is(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distangle.images.packing import writer

    def full(*_: object, **__: object) -> None:
        message = "the disk is full"
        raise StorageError(message)

    with monkeypatch.context() as patched:
        patched.setattr(writer, "write_bytes", full)
        with pytest.raises(StorageError, match="the disk is full"):
            pack_screen(made.screen, tmp_path, format="records")
    assert [path.name for path in tmp_path.iterdir()] == ["packing.json"]
    other = hashed(make_run(tmp_path.parent / "another", Plan(rows=3, columns=4, size=24, explained=2))).screen
    with pytest.raises(ScreenError, match="holds the pack of another screen"):
        pack_screen(other, tmp_path, format="records")
    assert pack_screen(made.screen, tmp_path, format="records").n_packed == len(made.screen.sites)
    assert not (tmp_path / "packing.json").exists()


@pytest.mark.parametrize(("format", "share"), [("ome-zarr", 1.29), ("records", 0.99)])
def test_a_full_disk_is_reported_before_packing(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: Format, share: float
) -> None:
    import shutil

    free = int(made.screen.sites["size"].sum() * share)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10 * free, 9 * free, free))
    with pytest.raises(StorageError, match="has no room for packed images, about"):
        pack_screen(made.screen, tmp_path, format=format)
    assert [path.name for path in tmp_path.iterdir()] == ["packing.json"]


def test_two_packings_at_once_into_one_folder_are_one_too_many(made: Made, tmp_path: Path) -> None:
    holding = (
        "import sys, time; from pathlib import Path; from distangle.core.lock import run_lock\n"
        "with run_lock(Path(sys.argv[1]), say=print): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", holding, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            with pytest.raises(RunError, match=f"is in use by process {child.pid} on"):
                pack_screen(made.screen, tmp_path, format="records")
        finally:
            child.kill()
    messages: list[str] = []
    pack_screen(made.screen, tmp_path, format="records", say=messages.append)
    assert messages == [f"cleared the lock of process {child.pid} on {socket.gethostname()}, since 0 min: it is dead."]


@pytest.mark.parametrize("format", ["ome-zarr", "records"])
def test_another_level_or_other_channel_names_are_packed_again(made: Made, tmp_path: Path, format: Format) -> None:
    screen, n = made.screen, len(made.screen.sites)
    assert pack_screen(screen, tmp_path, format=format, level=3).n_packed == n
    assert pack_screen(screen, tmp_path, format=format, level=3).n_reused == n
    assert pack_screen(screen, tmp_path, format=format, level=4).n_packed == n
    first, second, *rest = screen.card.channels
    renamed = screen.card.model_copy(update={"channels": (second, first, *rest)})
    anew = pack_screen(dataclasses.replace(screen, card=renamed), tmp_path, format=format, level=4)
    assert anew.n_packed == n
    if format == "ome-zarr":
        field = anew.screen.image_paths(0)[0].parents[4]
        labels = json.loads((field / "zarr.json").read_text())["attributes"]["ome"]["omero"]["channels"]
        assert [channel["label"] for channel in labels[:2]] == [second.name, first.name]


@pytest.mark.parametrize("format", ["ome-zarr", "records"])
def test_what_killed_packings_left_is_swept(made: Made, tmp_path: Path, format: Format) -> None:
    done = pack_screen(made.screen, tmp_path, format=format).screen
    path = done.image_paths(0)[0]
    left = [path.with_name(f".{path.name}.tmp-4711"), tmp_path / ".screen.json.tmp-4711"]
    if format == "ome-zarr":
        plate = path.parents[7]
        left += [path.parents[4] / ".zarr.json.tmp-4711", plate / ".zarr.json.tmp-4711"]
        left += [path.parents[k] / ".zarr.json.tmp-4711" for k in (5, 6)]
    for file in left:
        file.write_bytes(b"x")
    path.unlink()
    pack_screen(made.screen, tmp_path, format=format)
    assert not any(file.exists() for file in left)


FRAME = codec.compress(b"\0" * 4, level=3)


@pytest.mark.parametrize(
    ("header", "pattern"),
    [
        ({"dtype": "float32", "shape": [1, 2, 2]}, "claims float32"),
        ({"dtype": "uint8", "shape": [1, 2]}, r"claims uint8 \[1, 2\]"),
        ({"dtype": "uint8", "shape": [1, 1000000, 1000000]}, r"claims uint8 \[1, 1000000, 1000000\]"),
        ({"dtype": "uint8", "shape": [1, 2, 2], "halved": [[1], [1]]}, r"names \[1, 1\] channels for uint8"),
        ({"dtype": "uint8", "shape": [1, 2, 2], "halved": [[1]]}, "its frame holds 4 bytes, expected 64"),
        ({"dtype": "uint8"}, "damaged"),
    ],
)
def test_a_false_header_is_refused_before_memory_is_allocated(header: dict, pattern: str, tmp_path: Path) -> None:
    content = json.dumps(header).encode()
    path = tmp_path / "x.dsr"
    path.write_bytes(records._HEAD.pack(records.MAGIC, len(content), zlib.crc32(content)) + content + FRAME)
    with pytest.raises(ImageError, match=pattern):
        read_packed(path)


def test_the_size_of_a_frame_is_read_as_the_standard_says() -> None:
    for n in (0, 1, 255, 256, 257, 65_791, 65_792, 1_000_000):
        assert codec.content_size(codec.compress(bytes(n), level=3)) == n
    assert codec.content_size(b"no frame at all, no frame") is None
