import itertools
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import distangle.images.readers.png as png
from distangle.errors import ImageError, PixelTypeError
from distangle.images import probe_image, read_image
from distangle.images.jit_threshold import JitThreshold
from distangle.screen.file_pages import ImageHeader

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def paeth(a: int, b: int, c: int) -> int:
    distances = [(abs(a + b - c - value), k) for k, value in enumerate((a, b, c))]
    return (a, b, c)[min(distances)[1]]


def filter_lines(plane: np.ndarray, kinds: list[int]) -> bytes:
    """The rows of a plane, filtered as the specification says, byte by byte."""
    step = plane.itemsize
    rows = [list(line.astype(line.dtype.newbyteorder(">")).tobytes()) for line in plane]
    lines = bytearray()
    for r, (row, kind) in enumerate(zip(rows, itertools.cycle(kinds))):
        above = rows[r - 1] if r else [0] * len(row)
        lines.append(kind)
        for k, value in enumerate(row):
            a, b = row[k - step] if k >= step else 0, above[k]
            c = above[k - step] if k >= step else 0
            lines.append((value - (0, a, b, (a + b) // 2, paeth(a, b, c))[kind]) % 256)
    return bytes(lines)


def png_file(
    plane: np.ndarray, kinds: list[int], *, header: dict[int, int] | None = None, n_block_bytes: int = 10**9
) -> bytes:
    fields = [plane.shape[1], plane.shape[0], 8 * plane.itemsize, 0, 0, 0, 0]
    for place, value in (header or {}).items():
        fields[place] = value
    stream = zlib.compress(filter_lines(plane, kinds))
    parts = [stream[k : k + n_block_bytes] for k in range(0, len(stream), n_block_bytes)]
    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", *fields))
    return png.SIGNATURE + ihdr + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND", b"")


def a_plane(dtype: str, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(np.cumsum(rng.integers(-2, 3, shape), axis=0), axis=1) + rng.integers(0, 9, shape)
    return smooth.astype(dtype)  # modulo its range: also jumps from the top to zero


@pytest.fixture(params=["zlib", "isal"])
def inflate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "isal":
        pytest.importorskip("isal")
    monkeypatch.setattr(png, "_zlib_module", lambda: zlib if request.param == "zlib" else isal_zlib)
    return


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kinds=st.lists(st.sampled_from([0, 1, 2, 3, 4, 4, 4]), min_size=1, max_size=6),
    wide=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    n_block_bytes=st.integers(1, 60),
)
def test_every_filter_at_every_edge(
    shape: tuple[int, int], kinds: list[int], wide: bool, seed: int, n_block_bytes: int
) -> None:
    dtype = np.uint16 if wide else np.uint8
    plane = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.png"
        path.write_bytes(png_file(plane, kinds, n_block_bytes=n_block_bytes))
        image = png.read_pngs([path, path])
    assert image is not None
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, np.stack([plane, plane]))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kinds", [[0], [1], [2], [3], [4], [4, 4, 1, 4, 2, 3, 0]])
def test_the_same_pixels_as_pillow_and_opencv(tmp_path: Path, dtype: str, kinds: list[int], inflate: None) -> None:
    path = tmp_path / "plane.png"
    path.write_bytes(png_file(a_plane(dtype, (61, 53)), kinds))
    image = png.read_pngs([path])
    assert image is not None
    with Image.open(path) as file:
        np.testing.assert_array_equal(image[0], np.asarray(file))
    try:
        import cv2
    except ImportError:
        return
    np.testing.assert_array_equal(image[0], cv2.imread(str(path), cv2.IMREAD_UNCHANGED))


def test_files_of_the_field_are_read_quickly_and_right(real_data: Path) -> None:
    paths = sorted((real_data / "rxrx1_images" / "images" / "U2OS-01" / "Plate1").glob("B02_s1_w?.png"))
    image = png.read_pngs(paths)
    assert image is not None
    assert image.shape == (6, 512, 512)
    for plane, path in zip(image, paths, strict=True):
        with Image.open(path) as file:
            np.testing.assert_array_equal(plane, np.asarray(file))


def test_ancillary_text_is_ignored(tmp_path: Path) -> None:
    plane, path = a_plane("uint8", (9, 7)), tmp_path / "metadata.png"
    whole = png_file(plane, [4])
    metadata = chunk(b"tEXt", b"Software\0a microscope") + chunk(b"pHYs", bytes(9))
    path.write_bytes(whole[:33] + metadata + whole[33:] + b"what follows the end belongs to no image")
    image = png.read_pngs([path])
    assert image is not None
    np.testing.assert_array_equal(image[0], plane)


@pytest.fixture
def compile_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distangle.images.readers.read.JIT_THRESHOLD", JitThreshold(0))


def test_the_quick_reader_begins_when_its_start_has_paid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, fast_reads = tmp_path / "plane.png", []
    path.write_bytes(png_file(a_plane("uint8", (10, 10)), [1]))
    monkeypatch.setattr("distangle.images.readers.read.JIT_THRESHOLD", JitThreshold(600))
    monkeypatch.setattr("distangle.images.readers.read.read_pngs", lambda paths: fast_reads.append(paths))
    for _ in range(5):
        read_image([path, path, path], [None, None, None])
    assert len(fast_reads) == 3  # after twice 300 pixels


def slowly(path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray | str:
    with monkeypatch.context() as patch:
        patch.setattr("distangle.images.readers.read.read_pngs", lambda paths: None)
        return answer(path)


def answer(path: Path) -> np.ndarray | str:
    try:
        return read_image([path], [None])
    except ImageError as error:
        return str(error)


def test_no_damage_is_read_that_the_general_reader_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inflate: None, compile_at_once: None
) -> None:
    plane, path = a_plane("uint8", (11, 13)), tmp_path / "damaged.png"
    content = png_file(plane, [4, 1, 3], n_block_bytes=70)
    rng = np.random.default_rng(5)
    changes = [content[:place] for place in range(0, len(content))]
    for place in range(len(content)):
        mutant = bytearray(content)
        mutant[place] ^= 1 << int(rng.integers(8))
        changes.append(bytes(mutant))
    n_refused = 0
    for mutant in changes:
        path.write_bytes(mutant)
        assert png.read_pngs([path]) is None, "every byte is under a checksum"
        image, expected = answer(path), slowly(path, monkeypatch)
        assert type(image) is type(expected)
        assert np.array_equal(image, expected)
        n_refused += isinstance(image, str)
    assert n_refused > len(changes) - 15  # Pillow does not look at the checksum of the end


def odd(name: str, plane: np.ndarray) -> bytes:
    whole, idat = png_file(plane, [2]), 33
    stream, end = zlib.compress(filter_lines(plane, [2])), chunk(b"IEND", b"")
    ihdr = whole[:idat]
    return {
        "interlaced": png_file(plane, [2], header={6: 1}),
        "unknown deflate": png_file(plane, [2], header={4: 1}),
        "unknown filters": png_file(plane, [2], header={5: 1}),
        "a sixth filter": ihdr + chunk(b"IDAT", zlib.compress(b"\5" + filter_lines(plane, [2])[1:])) + end,
        "palette": ihdr + chunk(b"PLTE", bytes(6)) + whole[idat:],
        "transparent": ihdr + chunk(b"tRNS", bytes(2)) + whole[idat:],
        "a chunk unheard of": ihdr + chunk(b"ABCD", b"") + whole[idat:],
        "an odd resolution": ihdr + chunk(b"pHYs", bytes(3)) + whole[idat:],
        "much text": ihdr + chunk(b"tEXt", b"k\0" + bytes(1 << 20)) + whole[idat:],
        "two headers": ihdr + ihdr[8:] + whole[idat:],
        "pixels in two places": ihdr
        + chunk(b"IDAT", stream[:9]) + chunk(b"tEXt", b"k\0v") + chunk(b"IDAT", stream[9:]) + end,
        "no pixels": ihdr + end,
        "no end": whole[: -len(end)],
        "an end that says more": whole[: -len(end)] + chunk(b"IEND", b"more"),
        "a row too few": ihdr + chunk(b"IDAT", zlib.compress(filter_lines(plane[1:], [2]))) + end,
        "a row too many": ihdr + chunk(b"IDAT", zlib.compress(filter_lines(plane, [2]) + bytes(14))) + end,
        "a byte too many": ihdr + chunk(b"IDAT", zlib.compress(filter_lines(plane, [2]) + b"\0")) + end,
        "a stream that goes on": ihdr + chunk(b"IDAT", stream + b"more") + end,
        "a stream without checksum": ihdr + chunk(b"IDAT", stream[:-4]) + end,
        "a wrong checksum": ihdr + chunk(b"IDAT", stream[:-1] + bytes([stream[-1] ^ 1])) + end,
        "a bomb": ihdr + chunk(b"IDAT", zlib.compress(bytes(10**7))) + end,
        "nothing": png.SIGNATURE,
    }[name]  # fmt: skip


ODD = (
    "interlaced|unknown deflate|unknown filters|a sixth filter|palette|transparent|a chunk unheard of|"
    "an odd resolution|much text|two headers|pixels in two places|no pixels|no end|an end that says more|a row too few|"
    "a row too many|a byte too many|a stream that goes on|a stream without checksum|a wrong checksum|a bomb|nothing"
).split("|")


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_left_to_the_general_reader(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inflate: None, compile_at_once: None
) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(odd(name, a_plane("uint8", (12, 13))))
    assert png.read_pngs([path]) is None
    image, expected = answer(path), slowly(path, monkeypatch)
    assert type(image) is type(expected)
    assert np.array_equal(image, expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a row too few", r"has 154 bytes; expected 168 bytes"),
        ("a row too many", "has more bytes; expected 168 bytes"),
        ("a byte too many", "has more bytes; expected 168 bytes"),
        ("a bomb", "has more bytes; expected 168 bytes"),
        ("a stream without checksum", "has no end; expected 168 bytes"),
        ("a wrong checksum", "incorrect data check"),
        ("interlaced", r"has 168 bytes; expected \d+ bytes"),
        ("no pixels", ""),
        ("a sixth filter", ""),
    ],
)
def test_a_stream_of_another_length_is_refused_by_the_general_reader(name: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(odd(name, a_plane("uint8", (12, 13))))
    with pytest.raises(ImageError, match=rf"odd\.png is damaged or truncated .*{message}"):
        read_image([path], [None])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (4, 4), (9, 8), (13, 17)])
def test_an_interlaced_image_is_read_and_a_short_one_refused(
    tmp_path: Path, dtype: str, shape: tuple[int, int]
) -> None:
    plane, path = a_plane(dtype, shape), tmp_path / "adam7.png"
    # The pattern of 8 x 8 as the specification prints it.
    pattern = ["16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777"]
    rows: list[bytes] = []
    for number in "1234567":
        for line in range(shape[0]):
            pixels = [plane[line, k] for k in range(shape[1]) if pattern[line % 8][k % 8] == number]
            if pixels:
                rows.append(b"\0" + np.array(pixels).astype(plane.dtype.newbyteorder(">")).tobytes())
    ihdr = png_file(plane, [0], header={6: 1})[:33]
    for n_rows in (len(rows), len(rows) - 1):
        path.write_bytes(ihdr + chunk(b"IDAT", zlib.compress(b"".join(rows[:n_rows]))) + chunk(b"IEND", b""))
        if n_rows == len(rows):
            np.testing.assert_array_equal(read_image([path], [None])[0], plane)
        else:
            with pytest.raises(ImageError, match="damaged or truncated"):
                read_image([path], [None])


def test_channels_that_disagree_are_left_to_the_reader_that_says_so(tmp_path: Path, compile_at_once: None) -> None:
    for name, plane in (
        ("a", a_plane("uint8", (5, 6))),
        ("b", a_plane("uint16", (5, 6))),
        ("c", a_plane("uint8", (6, 5))),
    ):
        (tmp_path / f"{name}.png").write_bytes(png_file(plane, [1]))
    for other in ("b", "c"):
        paths = [tmp_path / "a.png", tmp_path / f"{other}.png"]
        assert png.read_pngs(paths) is None
        with pytest.raises(ImageError, match=rf"{other}\.png is uint\d+ .*a\.png of the same site is uint8"):
            read_image(paths, [None, None])


def test_without_numba_the_pixels_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plane, path = a_plane("uint16", (15, 14)), tmp_path / "plane.png"
    path.write_bytes(png_file(plane, [4, 3]))
    monkeypatch.setattr(png, "_load_unfilter", lambda: None)
    assert png.read_pngs([path]) is None
    np.testing.assert_array_equal(read_image([path], [None])[0], plane)


@pytest.mark.parametrize("n_text", [0, 3000, 4060, 4200, 9000])
def test_frames_are_counted_wherever_they_are_announced(n_text: int, tmp_path: Path) -> None:
    plane, path = a_plane("uint8", (9, 7)), tmp_path / "image.png"
    whole = png_file(plane, [4])
    text = chunk(b"tEXt", b"Comment\0" + b"x" * n_text)
    for n_frames in (1, 2):
        frames = chunk(b"acTL", struct.pack(">II", n_frames, 0))
        path.write_bytes(whole[:33] + text + frames + whole[33:])
        if n_frames == 1:
            assert probe_image(path).shape == (9, 7)
        else:
            with pytest.raises(PixelTypeError, match=r"image\.png is an animation of 2 frames; expected one plane\."):
                probe_image(path)
    path.write_bytes(whole[:33] + text + whole[33:])
    assert probe_image(path) == ImageHeader("uint8", (9, 7), 1)
