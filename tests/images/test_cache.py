"""A site whose files changed after indexing is refused, with or without a checksum in the format."""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from distangle.errors import ImageError
from distangle.images import ImageCache, VerifiedReader, pack_screen, probe_image
from distangle.screen import Screen, index, read_screen, write_screen

KINDS = ("raw", "lzw", "packbits")


def plane(k: int, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(k).integers(50, 250, (48, 48)).astype(dtype)


def save(path: Path, pixels: np.ndarray, kind: str) -> None:
    if kind == "raw":
        tifffile.imwrite(path, pixels, rowsperstrip=16)
    else:
        Image.fromarray(pixels).save(path, format="tiff", compression={"lzw": "tiff_lzw"}.get(kind, kind))


def lab(folder: Path, kind: str, *, n: int = 3, hash_files: bool = True) -> Screen:
    folder.mkdir(exist_ok=True)
    lines = ["plate,well,perturbation,dna"]
    for k in range(1, n + 1):
        save(folder / f"B{k:02d}.tif", plane(k), kind)
        lines.append(f"P1,B{k:02d},a,B{k:02d}.tif")
    (folder / "wells.csv").write_text("\n".join(lines) + "\n")
    new_screen = index(
        folder / "wells.csv", layout="table", channels=["dna"], probe=probe_image, hash_files=hash_files, plate_rows=8,
        plate_columns=24,
    )  # fmt: skip
    write_screen(new_screen, folder / "screen")
    return read_screen(folder / "screen")


def mutant(content: bytes, k: int, rng: np.random.Generator) -> bytes:
    blob, offset = bytearray(content), int(rng.integers(8, len(content)))
    if k % 4 == 0:
        blob[offset:] = bytes(len(blob) - offset)
    elif k % 4 == 1:
        blob[offset : offset + 64] = bytes(len(blob[offset : offset + 64]))
    else:
        blob[offset] ^= 1 << int(rng.integers(8))
    return bytes(blob)


@pytest.mark.filterwarnings("ignore")  # warnings of decoders do not matter here
@pytest.mark.parametrize("kind", KINDS)
def test_of_two_hundred_tiff_files_damaged_after_indexing_none_gives_other_pixels(tmp_path: Path, kind: str) -> None:
    screen = lab(tmp_path, kind)
    path, rng, outcomes = tmp_path / "B02.tif", np.random.default_rng(0), Counter[str]()
    content, pixels = path.read_bytes(), plane(2)
    for k in range(200):
        path.write_bytes(mutant(content, k, rng))
        os.utime(path, (screen.sites["mtime"][1],) * 2)  # even with the original modification time
        try:
            image = VerifiedReader(screen).read(1)[0]
        except ImageError as error:
            outcomes["refused" if "B02.tif" in str(error) else "nameless"] += 1
        else:
            outcomes["same" if np.array_equal(image, pixels) else "silent"] += 1
    assert outcomes["silent"] == outcomes["nameless"] == 0
    assert outcomes["refused"] > 180


def test_a_flipped_bit_without_checksum_is_reported_with_file_well_and_fix(tmp_path: Path) -> None:
    screen = lab(tmp_path, "raw")
    blob = bytearray((tmp_path / "B02.tif").read_bytes())
    blob[-5] ^= 1
    (tmp_path / "B02.tif").write_bytes(bytes(blob))
    store = ImageCache(screen)
    assert store.measure(range(3)) == [0, 2]
    store.close()
    message = store.reasons[1]
    assert "plate P1 well B02 site 1" in message
    assert f"{tmp_path / 'B02.tif'}: as many bytes as when it was indexed, but other ones (SHA-256)" in message
    assert "Copy it again from its source, or, if the change was intended, index the screen again" in message
    pack = pack_screen(screen, tmp_path / "packed", format="records").screen
    assert (pack.metadata.found, pack.metadata.indexed, pack.metadata.refused) == (3, 2, 1)
    assert "but other ones" in pack.problems["found"][0]


def test_a_file_rewritten_during_a_run_is_refused_at_the_next_read(tmp_path: Path) -> None:
    screen = lab(tmp_path, "raw")
    store = ImageCache(screen, memory=0)
    assert np.array_equal(store.image(0)[0], plane(1))
    modified = (tmp_path / "B01.tif").stat().st_mtime
    save(tmp_path / "B01.tif", plane(9), "raw")
    os.utime(tmp_path / "B01.tif", (modified + 60, modified + 60))
    with pytest.raises(ImageError, match=r"well B01.*but other ones"):
        store.image(0)
    store.close()


def test_another_whole_png_of_the_same_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wells.csv").write_text("plate,well,perturbation,dna\nP1,B02,a,x.png\n")
    flat, other = np.full((32, 32), 7, np.uint8), np.full((32, 32), 9, np.uint8)
    Image.fromarray(flat).save(tmp_path / "x.png", compress_level=0)
    screen = index(tmp_path / "wells.csv", layout="table", channels=["dna"], probe=probe_image)
    size = (tmp_path / "x.png").stat().st_size
    Image.fromarray(other).save(tmp_path / "x.png", compress_level=0)
    os.utime(tmp_path / "x.png", (0, 0))
    assert (tmp_path / "x.png").stat().st_size == size
    with pytest.raises(ImageError, match="but other ones"):
        VerifiedReader(screen).read(0)


def test_two_channels_exchanged_after_indexing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "wells.csv").write_text("plate,well,perturbation,dna,actin\nP1,B02,a,x.png,y.png\n")
    for name, value in (("x", 7), ("y", 9)):
        Image.fromarray(np.full((32, 32), value, np.uint8)).save(tmp_path / f"{name}.png")
    screen = index(tmp_path / "wells.csv", layout="table", channels=["dna", "actin"], probe=probe_image)
    assert VerifiedReader(screen).read(0)[:, 0, 0].tolist() == [7, 9]
    for before, after in (("x", "z"), ("y", "x"), ("z", "y")):  # sizes and times of the site stay
        (tmp_path / f"{before}.png").rename(tmp_path / f"{after}.png")
    with pytest.raises(ImageError, match=r"x\.png, .*y\.png: as many bytes .* but other ones"):
        VerifiedReader(screen).read(0)


def test_a_copied_folder_has_other_times_and_is_read(tmp_path: Path) -> None:
    screen = lab(tmp_path, "lzw")
    for k in (1, 2, 3):
        whole_file = tmp_path / f"B0{k}.tif"
        shutil.copy(whole_file, tmp_path / "copy")
        (tmp_path / "copy").replace(whole_file)
    reader = VerifiedReader(screen)
    assert all(np.array_equal(reader.read(row)[0], plane(row + 1)) for row in range(3))


def test_verified_bytes_are_hashed_again_only_after_a_rewrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, hashes = lab(tmp_path, "raw"), []
    from distangle.images import cache

    real = cache.sha256_of_site
    monkeypatch.setattr(cache, "sha256_of_site", lambda paths, pages: hashes.append(paths) or real(paths, pages))
    reader = VerifiedReader(screen)
    for row in (0, 0, 1, 0):
        reader.read(row)
    assert len(hashes) == 2
    os.utime(tmp_path / "B01.tif", (1, 1))
    reader.read(0)
    reader.read(0)
    assert len(hashes) == 3


def test_a_bit_of_a_chunk_of_zarr_without_checksum_is_seen(tmp_path: Path) -> None:
    for k in (1, 2):
        array = zarr.create_array(
            str(tmp_path / f"B0{k}"), shape=(1, 48, 48), chunks=(1, 48, 48), dtype="uint16", compressors=None
        )
        array[:] = plane(k)[None]
    (tmp_path / "wells.csv").write_text("plate,well,perturbation,file\nP1,B01,a,B01\nP1,B02,a,B02\n")
    screen = index(tmp_path / "wells.csv", layout="table", pages="file", channels=["dna"], probe=probe_image)
    chunk = next(path for path in (tmp_path / "B02" / "c").rglob("*") if path.is_file())
    blob = bytearray(chunk.read_bytes())
    modified = chunk.stat().st_mtime
    blob[100] ^= 4
    chunk.write_bytes(bytes(blob))
    os.utime(chunk, (modified, modified))
    reader = VerifiedReader(screen)
    assert np.array_equal(reader.read(0)[0], plane(1))
    with pytest.raises(ImageError, match="but other ones"):
        reader.read(1)


def test_without_hashes_only_the_size_is_compared(tmp_path: Path) -> None:
    screen = lab(tmp_path, "raw", hash_files=False)
    save(tmp_path / "B01.tif", plane(9), "raw")
    assert np.array_equal(VerifiedReader(screen).read(0)[0], plane(9))
    (tmp_path / "B02.tif").write_bytes((tmp_path / "B02.tif").read_bytes() + b"\0")
    with pytest.raises(ImageError, match=r"B02\.tif: \d+ bytes now, \d+ when it was indexed"):
        VerifiedReader(screen).read(1)
