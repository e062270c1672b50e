import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from distangle.errors import ImageError
from distangle.images import probe_image, read_image


def gradient(dtype: str = "uint8", size: tuple[int, int] = (20, 24)) -> np.ndarray:
    top = {"uint8": 255, "uint16": 65535}[dtype]
    return np.linspace(0, top, size[0] * size[1]).reshape(size).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kind", ["png", "tif", "zlib"])
def test_every_pixel_of_8_and_16_bit_survives(tmp_path: Path, dtype: str, kind: str) -> None:
    plane = gradient(dtype)
    path = tmp_path / f"plane.{'png' if kind == 'png' else 'tif'}"
    if kind == "png":
        Image.fromarray(plane).save(path)
    else:
        tifffile.imwrite(path, plane, compression="zlib" if kind == "zlib" else None)
    assert probe_image(path)[:3] == (dtype, (20, 24), 1)
    np.testing.assert_array_equal(read_image([path, path], [None, None]), np.stack([plane, plane]))


@pytest.mark.parametrize("width", [24, 23])
def test_packed_12_bit_is_unpacked(tmp_path: Path, width: int) -> None:
    plane = np.random.default_rng(0).integers(0, 4096, (7, width)).astype(np.uint16)
    rows = []
    for line in plane:  # two samples in three bytes, by hand
        bits = "".join(f"{value:012b}" for value in line)
        bits += "0" * (-len(bits) % 8)
        rows.append(bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)))
    path = tmp_path / "packed.tif"
    path.write_bytes(packed_tiff(b"".join(rows), height=7, width=width, bits=12))
    assert probe_image(path)[:2] == ("uint16", (7, width))
    np.testing.assert_array_equal(read_image([path], [None])[0], plane)


def packed_tiff(pixels: bytes, *, height: int, width: int, bits: int) -> bytes:
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 3, height), (279, 4, len(pixels))]
    ifd = struct.pack("<H", len(tags))
    for tag, kind, value in tags:
        ifd += struct.pack("<HHI", tag, kind, 1) + (
            struct.pack("<HH", value, 0) if kind == 3 else struct.pack("<I", value)
        )
    padding = b"\0" * (len(pixels) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels) + len(padding)) + pixels + padding + ifd + b"\0\0\0\0"


def test_12_bit_values_in_16_bit_words_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "camera.png"
    Image.fromarray(np.full((4, 4), 4095, np.uint16)).save(path)
    assert read_image([path], [None]).max() == 4095


def test_a_page_of_a_multi_page_file_is_a_channel(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    pages = np.stack([gradient("uint16"), gradient("uint16")[::-1], gradient("uint16")[:, ::-1]])
    tifffile.imwrite(path, pages, photometric="minisblack")
    np.testing.assert_array_equal(read_image([path] * 3, [2, 0, 1]), pages[[2, 0, 1]])
    with pytest.raises(ImageError, match="has 3 pages; expected one plane. Name the pages when indexing"):
        read_image([path], [None])
    with pytest.raises(ImageError, match="has 3 pages, but page 3 was requested"):
        read_image([path], [3])


def test_lzw_of_the_field_is_read_without_imagecodecs(real_data: Path) -> None:
    path = next((real_data / "fixtures" / "cytodataframe_cellpainting").rglob("*ch1*.tif*"))
    dtype, shape, *_ = probe_image(path)
    image = read_image([path], [None])
    assert (dtype, shape) == ("uint16", image.shape[1:])
    assert len(np.unique(image)) > 100


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["png", "tif", "zlib"])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / f"cut.{kind}"
    noise = np.random.default_rng(1).integers(0, 256, (64, 64)).astype(np.uint8)
    if kind == "png":
        Image.fromarray(noise).save(path, format="png")
    else:
        tifffile.imwrite(path, noise, compression="zlib" if kind == "zlib" else None)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match=r"cut\.\w+ (is damaged or truncated|has a damaged header)"):
        read_image([path], [None])


def test_a_zeroed_tail_of_a_png_is_refused_where_pillow_alone_is_silent(tmp_path: Path) -> None:
    dim = np.clip(np.random.default_rng(2).normal(20, 6, (128, 128)), 0, 255).astype(np.uint8)
    path = tmp_path / "tail.png"
    Image.fromarray(dim).save(path)
    content, silent = path.read_bytes(), 0
    for share in (0.5, 0.7, 0.9, 0.97):
        n_bytes = int(len(content) * share)
        path.write_bytes(content[:n_bytes] + bytes(len(content) - n_bytes))
        try:
            with Image.open(path) as file:
                silent += not np.array_equal(np.asarray(file), dim)
        except (OSError, SyntaxError):
            pass
        with pytest.raises(ImageError, match="tail.png is damaged or truncated"):
            read_image([path], [None])
    assert silent > 0  # the reason for verify()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "does not start like an image, but with text"),
        (b"GIF89a0000", "does not start like an image, but like GIF"),
    ],
)
def test_a_file_of_another_format_is_named_by_its_bytes(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "plane.png"
    path.write_bytes(content)
    with pytest.raises(ImageError) as error:
        probe_image(path)
    assert message in str(error.value)
    assert "expected a PNG or TIFF file" in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png cannot be opened \(No such file or directory\)"):
        probe_image(tmp_path / "gone.png")


def test_color_and_float_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "rgb.png")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((4, 4, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((4, 4), np.float32))
    for name, message in [
        ("rgb.png", "is RGB of 8 bit; expected one gray channel"),
        ("rgb.tif", r"shape \(4, 4, 3\); expected gray planes"),
        ("float.tif", "holds float32 pixels; expected uint8 or uint16"),
    ]:
        with pytest.raises(ImageError, match=message):
            probe_image(tmp_path / name)


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    chunks = b""
    for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")):
        chunks += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(ImageError, match=r"bomb\.png claims 30000 x 30000 pixels; the limit is"):
        probe_image(path)


def test_channels_of_two_shapes_or_depths_are_refused(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    Image.fromarray(gradient("uint16")).save(tmp_path / "b.png")
    with pytest.raises(ImageError, match=r"b\.png is uint16 .*a\.png of the same site is uint8"):
        read_image([tmp_path / "a.png", tmp_path / "b.png"], [None, None])
