"""Thousands of damaged files: none crashes or hangs the reader; no compressed file or PNG gives wrong pixels."""

import struct
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from distangle.errors import ImageError
from distangle.images.jit_threshold import JIT_THRESHOLD
from distangle.images.readers.read import MAX_PIXELS, probe_image, read_image

HANG_S = 5.0
KINDS = ("truncated", "zero tail", "bit", "header bit", "tail bit", "hole", "bytes", "doubled")
# Formats with a checksum over all pixels, and formats without.
CHECKED, UNCHECKED = ("png", "zlib"), ("raw", "lzw")


def plane(dtype: str) -> np.ndarray:
    field = np.random.default_rng(0).normal(60, 20, (96, 96))
    field[20:40, 20:60] += 80
    return np.clip(field * (1 if dtype == "uint8" else 200), 0, 60_000 if dtype == "uint16" else 250).astype(dtype)


def whole_files(folder: Path) -> dict[str, tuple[bytes, np.ndarray]]:
    files = {}
    for dtype in ("uint8", "uint16"):
        pixels, path = plane(dtype), folder / "whole"
        Image.fromarray(pixels).save(path, format="png")
        files[f"png {dtype}"] = path.read_bytes(), pixels
        for name, compression in (("raw", None), ("zlib", "zlib")):
            tifffile.imwrite(path, pixels, compression=compression, rowsperstrip=16)
            files[f"{name} {dtype}"] = path.read_bytes(), pixels
        Image.fromarray(pixels).save(path, format="tiff", compression="tiff_lzw")
        files[f"lzw {dtype}"] = path.read_bytes(), pixels
    return files


def mutate(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    blob, n = bytearray(content), len(content)
    offset = int(rng.integers(8, n))
    if kind == "truncated":
        return bytes(blob[: int(rng.integers(0, n))])
    if kind == "zero tail":
        blob[offset:] = bytes(n - offset)
    elif kind == "hole":
        blob[offset : offset + 256] = bytes(len(blob[offset : offset + 256]))
    elif kind == "bytes":
        for k in rng.integers(0, n, 8).tolist():
            blob[k] = int(rng.integers(256))
    elif kind == "doubled":
        return bytes(blob[:offset] + blob[offset : offset + 64] + blob[offset:])
    else:
        first, last = {"bit": (0, n), "header bit": (0, 300), "tail bit": (n - 400, n)}[kind]
        blob[int(rng.integers(first, last))] ^= 1 << int(rng.integers(8))
    return bytes(blob)


def n_of(counts: Counter[tuple[str, str]], name: str) -> int:
    return sum(n for (kind, _), n in counts.items() if kind == name)


def is_alike(image: np.ndarray, pixels: np.ndarray) -> bool:
    return image.dtype == pixels.dtype and image.shape == pixels.shape and np.array_equal(image, pixels)


def outcomes(folder: Path, n: int) -> tuple[Counter[tuple[str, str]], float]:
    """Read n mutants; count by format and outcome (refused, same, silent), and give the longest time."""
    files, rng, counts, longest = whole_files(folder), np.random.default_rng(1), Counter[tuple[str, str]](), 0.0
    names = list(files)
    for k in range(n):
        name = names[k % len(names)]
        content, pixels = files[name]
        path = folder / f"mutant.{'png' if name.startswith('png') else 'tif'}"
        path.write_bytes(mutate(content, KINDS[k // len(names) % len(KINDS)], rng))
        start = time.monotonic()
        try:
            image = read_image([path], [None])[0]
        except ImageError:
            outcome = "refused"
        else:
            outcome = "same" if is_alike(image, pixels) else "silent"
            # TIFF tags have no checksum: one changed bit in two of them flips or inverts the whole image.
            top = np.iinfo(pixels.dtype).max
            orientations = [np.rot90(p, k) for p in (pixels, pixels[::-1]) for k in range(4)] + [top - pixels]
            outcome = "turned" if outcome == "silent" and any(is_alike(image, p) for p in orientations) else outcome
        longest = max(longest, time.monotonic() - start)
        counts[name.split()[0], outcome] += 1
    return counts, longest


@pytest.mark.filterwarnings("ignore")  # warnings of decoders do not matter here
@pytest.mark.parametrize("patient", [False, True])
def test_two_thousand_mutants_crash_nothing_and_pass_in_silence_only_without_a_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, patient: bool
) -> None:
    monkeypatch.setattr(JIT_THRESHOLD, "_n_left", 1 << 60 if patient else 0)  # both readers of PNG
    counts, longest = outcomes(tmp_path, 2000 if patient else 500)
    print(dict(counts), f"longest {longest:.2f} s")  # noqa: T201
    assert longest < HANG_S
    for name in CHECKED:
        assert counts[name, "silent"] == 0, counts
        assert counts[name, "turned"] <= 0.005 * n_of(counts, name), counts
        assert counts[name, "refused"] > 0.8 * n_of(counts, name)
    # The documented limit: without a checksum, changes before indexing are not detected.
    assert counts["raw", "silent"] > 0
    assert counts["lzw", "silent"] > 0


def test_raw_tiff_that_was_cut_short_is_refused_all_the_same(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "raw.tif", plane("uint16"), rowsperstrip=16)
    whole = (tmp_path / "raw.tif").read_bytes()
    for n_bytes in np.random.default_rng(0).integers(0, len(whole), 60).tolist():
        (tmp_path / "raw.tif").write_bytes(whole[:n_bytes])
        with pytest.raises(ImageError, match=r"raw\.tif"):
            read_image([tmp_path / "raw.tif"], [None])


def with_size(content: bytes, height: int, width: int) -> bytes:
    """Return a TIFF file with another ImageWidth and ImageLength."""
    blob = bytearray(content)
    offset = struct.unpack_from("<I", blob, 4)[0]
    for k in range(struct.unpack_from("<H", blob, offset)[0]):
        place = offset + 2 + 12 * k
        tag = struct.unpack_from("<H", blob, place)[0]
        if tag in (256, 257):
            struct.pack_into("<HHII", blob, place, tag, 4, 1, width if tag == 256 else height)
    return bytes(blob)


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (16, 32, "does not hold 128 bytes"),
        (16, 8, "does not hold 32 bytes"),
        (12, 16, "has 4 strips or tiles; its size requires 3"),
        (20, 16, "has 4 strips or tiles; its size requires 5"),
    ],
)
def test_strips_of_another_length_or_number_than_the_size_asks_for_are_refused(
    tmp_path: Path, height: int, width: int, message: str
) -> None:
    path = tmp_path / "other.tif"
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tifffile.imwrite(path, pixels, compression="zlib", rowsperstrip=4)
    assert np.array_equal(read_image([path], [None])[0], pixels)
    path.write_bytes(with_size(path.read_bytes(), height, width))
    with pytest.raises(ImageError, match=rf"other\.tif is damaged or truncated .*{message}"):
        read_image([path], [None])


def test_raw_strips_of_another_length_than_the_size_asks_for_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.tif"
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), rowsperstrip=4)
    path.write_bytes(with_size(path.read_bytes(), 16, 8))
    with pytest.raises(ImageError, match="has 256 bytes of pixels; its size requires 128"):
        read_image([path], [None])


def with_strip(path: Path, strip: bytes, *, compression: int) -> None:
    """Replace the strip of a file that has one strip."""
    whole = bytearray(path.read_bytes())
    offset = struct.unpack_from("<I", whole, 4)[0]
    for k in range(struct.unpack_from("<H", whole, offset)[0]):
        place = offset + 2 + 12 * k
        tag = struct.unpack_from("<H", whole, place)[0]
        for code, value in ((259, compression), (273, len(whole)), (279, len(strip))):
            if tag == code:
                struct.pack_into("<HHII", whole, place, tag, 4, 1, value)
    path.write_bytes(bytes(whole) + strip)


@pytest.mark.parametrize(
    ("strip", "is_whole"),
    [
        (b"\x0f" + bytes(range(16)), True),
        (b"\xf1\x07", True),  # 16 times 7
        (b"\x80\xf9\x07\x80\x07" + bytes(range(8)) + b"\0", True),  # nothing, 8 times 7, nothing, 8 bytes; one over
        (b"\x0e" + bytes(range(15)), False),
        (b"\x10" + bytes(range(17)), False),
        (b"\x0f" + bytes(range(15)), False),
        (b"\xf2\x07", False),
        (b"\x81\x07", False),
        (b"\x81\x07" * 500_000, False),  # one megabyte that unpacks to 64
        (b"\xf1\x07" + bytes(1000), True),
        (b"\xf1\x07" + bytes(1030), False),  # too much behind its end
    ],
)
def test_packbits_hold_just_the_bytes_that_the_size_asks_for(tmp_path: Path, strip: bytes, is_whole: bool) -> None:
    path = tmp_path / "packed.tif"
    tifffile.imwrite(path, np.zeros((4, 4), np.uint8))
    with_strip(path, strip, compression=32773)
    start = time.monotonic()
    if is_whole:
        expected = {15: [*range(16)], 241: [7] * 16, 128: [7] * 8 + [*range(8)]}[strip[0]]
        assert read_image([path], [None]).ravel().tolist() == expected
    else:
        with pytest.raises(ImageError, match=r"packed\.tif is damaged or truncated"):
            read_image([path], [None])
    assert time.monotonic() - start < 1


def test_a_strip_of_lzw_is_no_longer_than_its_plane_may_need(tmp_path: Path) -> None:
    path = tmp_path / "packed.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    Image.fromarray(pixels).save(path, compression="tiff_lzw")
    np.testing.assert_array_equal(read_image([path], [None])[0], pixels)  # compression makes noise larger
    with_strip(path, bytes(3_000_000), compression=5)
    with pytest.raises(ImageError, match="page 0 has 3000000 bytes of packed pixels for a plane of 4096"):
        read_image([path], [None])


@pytest.mark.filterwarnings("ignore")
def test_a_plane_without_the_predictor_that_it_was_packed_with_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predicted.tif"
    tifffile.imwrite(path, plane("uint16"), compression="zlib", predictor=True)
    np.testing.assert_array_equal(read_image([path], [None])[0], plane("uint16"))
    whole = path.read_bytes()
    offset = struct.unpack_from("<I", whole, 4)[0]
    places = [offset + 2 + 12 * k for k in range(struct.unpack_from("<H", whole, offset)[0])]
    [place_of_tag] = [place for place in places if struct.unpack_from("<H", whole, place)[0] == 317]
    for offset_of_value, value, message in (
        (place_of_tag + 2, 4096, "its tag 317 cannot be read"),
        (place_of_tag, 61, "are not in order"),
    ):
        mutant = bytearray(whole)
        struct.pack_into("<H", mutant, offset_of_value, value)
        path.write_bytes(mutant)
        for reader in (lambda: read_image([path], [None]), lambda: probe_image(path)):
            with pytest.raises(ImageError, match=message):
                reader()


@pytest.mark.parametrize("kind", ["png", "tiff", "second page", "deflated"])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, kind: str) -> None:
    import tracemalloc

    path, side = tmp_path / "bomb.tif", 30_000
    page: int | None = None
    if kind == "png":
        chunks = b""
        for name, body in ((b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
                           (b"IDAT", zlib.compress(bytes(1 << 20), 9)), (b"IEND", b"")):  # fmt: skip
            chunks += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    elif kind == "deflated":  # one strip of 16 rows holds a gigabyte of zeros
        tifffile.imwrite(path, np.zeros((16, 4096), np.uint8), compression="zlib")
        compressor = zlib.compressobj(9)
        strip = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(256)) + compressor.flush()
        with_strip(path, strip, compression=8)
    elif kind == "tiff":
        tifffile.imwrite(path, np.zeros((16, 16), np.uint8), compression="zlib")
        path.write_bytes(with_size(path.read_bytes(), side, side))
    else:
        with tifffile.TiffWriter(path) as writer:
            writer.write(np.zeros((16, 16), np.uint8))
            writer.write(np.zeros((9000, 9000), np.uint8), compression="zlib")
        page = 1
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    start_time = time.monotonic()
    with pytest.raises(ImageError, match="bomb") as error:
        read_image([path], [page])
    seconds, (_, peak) = time.monotonic() - start_time, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 1
    assert peak < 50 << 20
    if kind != "deflated":
        assert f"the limit is {MAX_PIXELS} per plane" in str(error.value)
