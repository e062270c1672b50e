"""Pixels mean the same in every codec: polarity, orientation and light."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from distangle.errors import ImageError, PixelTypeError
from distangle.images import probe_image, read_image
from distangle.images.readers.zarr import probe_array, read_planes
from distangle.screen import index

_PHOTOMETRIC, _ORIENTATION = 262, 274
zarr = pytest.importorskip("zarr")


def pixels_of(dtype: str = "uint8") -> np.ndarray:
    """Return a plane that differs from its rotations and reflections."""
    return np.random.default_rng(3).integers(20, 60, (6, 9)).astype(dtype)


def set_tag(path: Path, tag: int, value: int | None) -> Path:
    """Overwrite the value of a short tag in place; None makes the tag an unknown one."""
    with tifffile.TiffFile(path) as file:
        entry, order = file.pages.first.tags[tag], "little" if file.byteorder == "<" else "big"
    blob = bytearray(path.read_bytes())
    place = entry.offset if value is None else entry.offset + 8
    blob[place : place + 2] = (263 if value is None else value).to_bytes(2, order)  # 263: Threshholding
    path.write_bytes(blob)
    return path


def write_turned(path: Path, plane: np.ndarray, codec: str, *, orientation: int = 1) -> Path:
    """Write a plane with a codec; Pillow writes LZW."""
    if codec in ("raw", "zlib"):
        extra_tags = [(_ORIENTATION, 3, 1, 1, True)]
        tifffile.imwrite(
            path, plane, compression=None if codec == "raw" else codec, metadata=None, extratags=extra_tags
        )
    else:
        image = Image.fromarray(plane)
        image.save(path, compression=codec, tiffinfo={_ORIENTATION: 1})
    return set_tag(path, _ORIENTATION, orientation)


def read_plane(path: Path) -> np.ndarray:
    return read_image([path], [None])[0]


CODECS = ["raw", "zlib", "tiff_lzw", "packbits"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("codec", CODECS)
def test_white_is_zero_in_every_codec_and_depth(tmp_path: Path, codec: str, dtype: str) -> None:
    path = write_turned(tmp_path / "a.tif", pixels_of(dtype), codec)
    np.testing.assert_array_equal(read_plane(path), pixels_of(dtype))
    assert not probe_image(path).is_inverted
    set_tag(path, _PHOTOMETRIC, 0)
    np.testing.assert_array_equal(read_plane(path), np.iinfo(dtype).max - pixels_of(dtype))
    assert probe_image(path).is_inverted
    set_tag(path, _PHOTOMETRIC, None)  # no tag: black is zero
    np.testing.assert_array_equal(read_plane(path), pixels_of(dtype))


def test_twelve_bits_are_inverted_within_twelve_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    rows = np.array([[0x12, 0x30, 0xFF]], dtype=np.uint8)  # 0x123, 0x0FF
    tifffile.imwrite(path, np.repeat(rows, 2, axis=0), metadata=None, photometric="miniswhite", rowsperstrip=2)
    set_tag(set_tag(path, 258, 12), 256, 2)
    np.testing.assert_array_equal(read_plane(path), np.full((2, 2), 4095) - [0x123, 0x0FF])


def test_inverted_files_are_reported(tmp_path: Path) -> None:
    for k, codec in enumerate(CODECS):
        path = write_turned(tmp_path / f"A0{k + 1}_w1.tif", pixels_of(), codec)
        if codec != "raw":
            set_tag(path, _PHOTOMETRIC, 0)
    screen = index(tmp_path, layout="folder", pattern="{well}_w{channel}.tif", probe=probe_image)
    remark = screen.problems.iloc[0]
    assert (remark["severity"], remark["kind"], remark["count"], len(screen.sites)) == (
        "warning",
        "white is zero",
        3,
        4,
    )
    assert remark["found"].startswith("zero is white in 3 of 4 files; their pixels are inverted")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_are_read_upright_in_every_codec(tmp_path: Path, orientation: int) -> None:
    """Against Pillow's own reading of the tag."""
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: a[::-1, ::-1],
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].T,
        8: np.rot90,
    }[orientation]
    for codec in CODECS:
        path = write_turned(tmp_path / f"{codec}.tif", pixels_of(), codec, orientation=orientation)
        np.testing.assert_array_equal(read_plane(path), turn(pixels_of()), err_msg=codec)
        assert probe_image(path).shape == turn(pixels_of()).shape


def palette(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns).astype(np.uint16)


RAMP, NONE = np.arange(256) * 257, np.zeros(256)


@pytest.mark.parametrize(
    "colors", [palette(RAMP, RAMP, RAMP), palette(NONE, RAMP, NONE), palette(NONE, RAMP // 2, RAMP)]
)
def test_a_palette_of_shades_is_the_intensity(tmp_path: Path, colors: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels_of(), photometric="palette", colormap=colors)
    np.testing.assert_array_equal(read_plane(tmp_path / "a.tif"), pixels_of())
    probe_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "colors",
    [
        palette(RAMP, RAMP[::-1], RAMP),
        palette(RAMP[::-1], RAMP[::-1], RAMP[::-1]),
        palette(np.minimum(RAMP * 3, 65535), np.maximum(RAMP - 20000, 0), NONE),
        palette(NONE, NONE, NONE),
    ],
)
def test_any_other_palette_is_refused(tmp_path: Path, colors: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels_of(), photometric="palette", colormap=colors)
    for reader in (probe_image, read_plane):
        with pytest.raises(PixelTypeError, match=r"a\.tif has a palette that is not a ramp of one color"):
            reader(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("plane", "options", "message"),
    [
        (pixels_of("int16"), {}, "holds int16 pixels"),
        (pixels_of("int8"), {}, "holds int8 pixels"),
        (pixels_of("float32"), {}, "holds float32 pixels"),
        (pixels_of("uint32"), {}, "holds uint32 pixels"),
        (
            pixels_of(),
            {"photometric": "cfa", "extratags": [(33421, 3, 2, (2, 2), True)]},
            "PhotometricInterpretation 32803",
        ),
        (np.zeros((8, 8), dtype=bool), {}, "holds bool pixels"),
    ],
)
def test_other_than_gray_of_8_to_16_bit_is_refused(
    tmp_path: Path, plane: np.ndarray, options: dict[str, Any], message: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", plane, **options)
    with pytest.raises(PixelTypeError, match=message):
        probe_image(tmp_path / "a.tif")


@pytest.mark.parametrize("bits", [4, 10, 14])
def test_packed_bits_that_cannot_be_read_are_refused_at_the_header(tmp_path: Path, bits: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels_of(), metadata=None)
    set_tag(tmp_path / "a.tif", 258, bits)
    with pytest.raises(PixelTypeError, match=f"holds {bits}-bit samples; expected 8 or 16 bit, or 12 bit uncompressed"):
        probe_image(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["P", "RGB", "LA", "1"])
def test_a_png_of_colors_is_refused(tmp_path: Path, mode: str) -> None:
    Image.fromarray(pixels_of()).convert(mode).save(tmp_path / "a.png")
    with pytest.raises(PixelTypeError, match="expected one gray channel of 8 or 16 bit per file"):
        probe_image(tmp_path / "a.png")


HEADS = {
    "blosc": [2, 1, 33, 1, 255, 255, 255, 127, 0, 0, 0, 0, 9, 9, 9, 9],
    "zstd": [0x28, 0xB5, 0x2F, 0xFD, 0xA4, 255, 255, 255, 255],
    "lz4": [255, 255, 255, 127],
}


@pytest.mark.parametrize("codec_name", HEADS)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_raw_chunk_that_begins_like_a_codec_is_raw(tmp_path: Path, zarr_format: Any, codec_name: str) -> None:
    pixels = np.ones((1, 8, 8), dtype=np.uint8)
    pixels.ravel()[: len(HEADS[codec_name])] = HEADS[codec_name]
    path = tmp_path / "a"
    array = zarr.create_array(
        str(path), shape=pixels.shape, chunks=pixels.shape, dtype="uint8", zarr_format=zarr_format, compressors=None
    )
    array[:] = pixels
    assert probe_array(path) == ("uint8", (8, 8), 1)
    np.testing.assert_array_equal(read_planes(path, [0]), pixels)
    (chunk,) = [file for file in path.rglob("*") if file.is_file() and file.name[0].isdigit()]
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(ImageError, match="holds 63 bytes; a chunk has 64. Copy it again."):
        probe_array(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("codec", ["blosc", "zstd"])
def test_a_chunk_is_held_to_what_its_own_codec_claims(tmp_path: Path, zarr_format: Any, codec: str) -> None:
    if zarr_format == 3:
        compressor: Any = zarr.codecs.BloscCodec() if codec == "blosc" else zarr.codecs.ZstdCodec()
    else:
        numcodecs = pytest.importorskip("numcodecs")
        compressor = numcodecs.Blosc() if codec == "blosc" else numcodecs.Zstd()
    path = tmp_path / "a"
    array = zarr.create_array(
        str(path), shape=(1, 8, 8), chunks=(1, 8, 8), dtype="uint8", zarr_format=zarr_format, compressors=compressor
    )
    array[:] = 7
    assert probe_array(path) == ("uint8", (8, 8), 1)
    (chunk,) = [file for file in path.rglob("*") if file.is_file() and file.name[0].isdigit()]
    chunk.write_bytes(bytes(HEADS[codec]) + bytes(40))
    with pytest.raises(ImageError, match=r"claims \d+ bytes; a chunk has 64. Copy it again."):
        probe_array(path)
