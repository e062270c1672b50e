"""Raw TIFF files with zeroed ends are refused at indexing with their rows; plausible zeros are accepted."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from distangle.cli import main
from distangle.images import find_zeroed_rows, probe_image
from distangle.images.readers.tiff import _read_bytes
from distangle.screen import Screen, index

SHAPE = (96, 80)


def plane(dtype: str = "uint16", seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    least, most = (1, 250) if dtype == "uint8" else (1, 4000)
    return np.random.default_rng(seed).integers(least, most, shape).astype(dtype)


def zero_end(path: Path, offset: int) -> None:
    """Zero the file from a byte on: the writer puts its list of strips before the pixels."""
    blob = path.read_bytes()
    path.write_bytes(blob[:offset] + bytes(len(blob) - offset))


@pytest.mark.parametrize(
    ("dtype", "rowsperstrip", "byteorder", "bigtiff"),
    [("uint16", 1, "<", False), ("uint16", 96, ">", False), ("uint16", 7, "<", True), ("uint8", 16, "<", False)],
)
def test_the_rows_that_were_zeroed_are_named_wherever_the_copy_stopped(
    tmp_path: Path, dtype: str, rowsperstrip: int, byteorder: str, bigtiff: bool
) -> None:
    path, pixels = tmp_path / "a.tif", plane(dtype)
    row_bytes = SHAPE[1] * pixels.itemsize
    for zeroed in (0, 4095, 4096, 4097, 4096 + row_bytes, 6000, SHAPE[0] * row_bytes - row_bytes):
        tifffile.imwrite(path, pixels, rowsperstrip=rowsperstrip, byteorder=byteorder, bigtiff=bigtiff)
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            end = page.dataoffsets[-1] + page.databytecounts[-1]
        zero_end(path, end - zeroed)
        image = tifffile.imread(path)
        dark = np.flatnonzero((image == 0).all(axis=1)) + 1
        expected = {0: (int(dark[0]), SHAPE[0])} if zeroed >= 4096 else {}
        assert find_zeroed_rows(path) == expected, zeroed


def test_only_the_page_that_ends_in_zeros_is_named(tmp_path: Path) -> None:
    pixels = np.stack([plane(seed=k) for k in range(3)])
    pixels[1, 60:] = 0
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
    assert find_zeroed_rows(tmp_path / "a.tif") == {1: (61, 96)}


def test_wide_rows_and_strips_in_any_order_in_the_file(tmp_path: Path) -> None:
    """The last strip of the image is the first in the file, so zeros at the end of the file prove nothing."""
    path, wide = tmp_path / "a.tif", plane(shape=(8, 4000))
    wide[6, :2000] = 5
    wide[6, 2000:] = 0
    wide[7] = 0
    tifffile.imwrite(path, wide, rowsperstrip=2)
    assert find_zeroed_rows(path) == {0: (8, 8)}
    wide[7, :100] = 5
    tifffile.imwrite(path, wide, rowsperstrip=2)
    assert find_zeroed_rows(path) == {}  # 7,800 bytes of zeros, and no whole row


def test_black_masked_compressed_tiled_and_other_files_have_no_zeroed_tail(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    plane_with_end = plane()
    plane_with_end[40:] = 0
    tifffile.imwrite(path, np.zeros(SHAPE, np.uint16))
    assert find_zeroed_rows(path) == {}
    rows, columns = np.indices(SHAPE)
    round_mask = (rows - 40) ** 2 + (columns - 40) ** 2 < 20**2
    tifffile.imwrite(path, plane() * round_mask.astype(np.uint16))
    assert find_zeroed_rows(path) == {}
    sparse = plane() * (np.random.default_rng(1).random(SHAPE) < 0.3).astype(np.uint16)  # background subtracted
    sparse[40:] = 0
    tifffile.imwrite(path, sparse)
    assert find_zeroed_rows(path) == {}
    tifffile.imwrite(path, plane_with_end, compression="zlib")
    assert find_zeroed_rows(path) == {}
    tifffile.imwrite(path, plane_with_end, tile=(16, 16))
    assert find_zeroed_rows(path) == {}
    path.write_bytes(b"II*\x00 and no more")
    assert find_zeroed_rows(path) == {}
    path.write_bytes(b"")
    assert find_zeroed_rows(path) == {}


def test_twelve_bits_are_counted_in_their_packed_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = plane(shape=(64, 101))
    pixels[30:] = 0
    row_bytes = (101 * 12 + 7) // 8
    bytes_of_rows = np.zeros((64, row_bytes), np.uint8)
    bits = np.unpackbits(pixels.astype(">u2").view(np.uint8).reshape(64, 101, 2), axis=2)[:, :, 4:].reshape(64, -1)
    bytes_of_rows[:] = np.packbits(np.pad(bits, ((0, 0), (0, row_bytes * 8 - bits.shape[1]))), axis=1)
    write_twelve_bits(path, bytes_of_rows, height=64, width=101)
    with tifffile.TiffFile(path) as file:
        assert file.pages.first.bitspersample == 12
    assert probe_image(path)[:3] == ("uint16", (64, 101), 1)
    assert find_zeroed_rows(path) == {0: (31, 64)}


def write_twelve_bits(path: Path, row_bytes: np.ndarray, *, height: int, width: int) -> None:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 0)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, row_bytes.size)]
    offset = 8 + 2 + 12 * len(tags) + 4
    entries = [tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + (1).to_bytes(4, "little")
               + (offset if tag == 273 else value).to_bytes(4, "little") for tag, kind, value in tags]  # fmt: skip
    head = b"II*\x00" + (8).to_bytes(4, "little") + len(tags).to_bytes(2, "little")
    path.write_bytes(head + b"".join(entries) + bytes(4) + row_bytes.tobytes())


def lab(folder: Path, *, keep: bool = False, hash_files: bool = True) -> Screen:
    folder.mkdir(exist_ok=True)
    lines = ["plate,well,perturbation,dna,actin"]
    for k in range(1, 5):
        for channel in ("dna", "actin"):
            tifffile.imwrite(folder / f"B0{k}_{channel}.tif", plane(seed=10 * k + (channel == "dna")), rowsperstrip=8)
        lines.append(f"P1,B0{k},a,B0{k}_dna.tif,B0{k}_actin.tif")
    zero_end(folder / "B03_actin.tif", (folder / "B03_actin.tif").stat().st_size - 60 * SHAPE[1])
    (folder / "wells.csv").write_text("\n".join(lines) + "\n")
    return index(
        folder / "wells.csv",
        layout="table",
        channels=["dna", "actin"],
        probe=probe_image,
        find_zeroed_rows=None if keep else find_zeroed_rows,
        hash_files=hash_files,
    )


def test_the_site_is_put_aside_with_file_well_channel_rows_and_the_way_to_keep_it(tmp_path: Path) -> None:
    screen = lab(tmp_path)
    assert screen.sites["well"].tolist() == ["B01", "B02", "B04"]
    assert (screen.metadata.found, screen.metadata.indexed, screen.metadata.refused) == (4, 3, 1)
    (row,) = screen.problems.to_dict("records")
    assert (row["severity"], row["kind"], row["plate"], row["well"], row["site"], row["channel"], row["row"]) == (
        *("refused", "zeroed tail", "P1", "B03", "1", "actin"),
        "4",
    )
    assert row["found"] == "B03_actin.tif: rows 67 to 96, the last ones, hold only zeros; the image above them does not"
    assert "an incomplete copy looks like this, and raw TIFF has no checksum" in row["expected"]
    assert row["fix"] == "Copy the file again from its origin. If the images really end in zeros: --keep-zeroed-tails."
    assert len(lab(tmp_path, keep=True).sites) == 4
    assert len(lab(tmp_path, hash_files=False).sites) == 4


def test_the_command_excludes_it_unless_a_flag_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab(tmp_path)
    arguments = ["index", str(tmp_path / "wells.csv"), "--layout", "table", "--channels", "dna,actin", "--out"]
    main([*arguments, str(tmp_path / "a")])
    output = capsys.readouterr()
    assert "found 4 = indexed 3 + refused 1" in output.out
    assert "zeroed tail: 1 (1 row in" in output.err
    main([*arguments, str(tmp_path / "b"), "--keep-zeroed-tails"])
    assert "found 4 = indexed 4 + refused 0" in capsys.readouterr().out


@pytest.mark.real
def test_no_real_image_is_put_aside_and_every_copy_of_one_that_stopped_is(real_data: Path, tmp_path: Path) -> None:
    files = sorted(path for path in real_data.rglob("*") if path.suffix.lower() in (".tif", ".tiff"))
    assert len(files) >= 39
    assert {path: find_zeroed_rows(path) for path in files if find_zeroed_rows(path)} == {}
    rng, counts = np.random.default_rng(0), pd.Series(0, index=["raw", "named", "unreadable"])
    for path in files:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if page.compression != 1 or page.is_tiled or len(page.shape) != 2 or len(file.pages) > 1:
                continue
            row_bytes = page.shape[1] * page.dtype.itemsize
            first, end = page.dataoffsets[0], page.dataoffsets[-1] + page.databytecounts[-1]
        copy, blob = tmp_path / "copy.tif", path.read_bytes()
        for share in rng.uniform(0.02, 0.98, 4):
            offset = int(first + share * (end - first))
            if end - offset < 4096 + row_bytes:
                continue
            copy.write_bytes(blob[:offset] + bytes(len(blob) - offset))
            counts["raw"] += 1
            try:
                probe_image(copy)
            except ValueError:  # its list of strips stood behind the pixels
                counts["unreadable"] += 1
                continue
            counts["named"] += bool(find_zeroed_rows(copy))
    assert counts["raw"] >= 40
    assert counts["named"] + counts["unreadable"] == counts["raw"], counts.to_dict()


def test_strips_are_joined_across_their_borders(tmp_path: Path) -> None:
    blob = bytes(range(100))
    strips = [(50, 10), (10, 20), (80, 5)]
    all_bytes = b"".join(blob[offset : offset + n] for offset, n in strips)
    (tmp_path / "a").write_bytes(blob)
    with (tmp_path / "a").open("rb") as file:
        for start, end in itertools.combinations(range(36), 2):
            assert _read_bytes(file, strips, start, end) == all_bytes[start:end]
