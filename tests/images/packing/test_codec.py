"""The codec of packed images: residuals, halves, frames and their headers."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distangle.errors import ImageError
from distangle.images.packing import codec, codec_kernels, records
from distangle.images.readers.packed_image import read_packed


def test_remainders_by_hand() -> None:
    flat = codec.predict_residuals(np.full((1, 8, 8), 7, np.uint8))
    assert flat.tolist() == [[codec.ZERO_RESIDUAL + 7] + [codec.ZERO_RESIDUAL] * 63]  # the first pixel determines all
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
        value_at = lambda r, c: int(plane[r, c]) if min(r, c) >= 0 else 0  # noqa: E731
        return [
            [
                value_at(r, c) - value_at(r - 1, c) - value_at(r, c - 1) + value_at(r - 1, c - 1)
                for r in range(tall)
                for c in range(wide)
            ]
        ]
    parts: list[list[int]] = [[], [], []]
    for r in range(0, tall, 2):
        for c in range(0, wide, 2):
            below, next_column = min(r + 2, tall - 2), min(c + 2, wide - 2)
            above, previous_column = max(r - 1, 1), max(c - 1, 1)
            p = plane.astype(int)
            corners = p[r, c] + p[r, next_column] + p[below, c] + p[below, next_column]
            parts[0].append(p[r + 1, c + 1] - (corners + 2) // 4)
            parts[1].append(p[r, c + 1] - (p[r, c] + p[r, next_column] + p[r + 1, c + 1] + p[above, c + 1] + 2) // 4)
            parts[2].append(
                p[r + 1, c] - (p[r, c] + p[below, c] + p[r + 1, c + 1] + p[r + 1, previous_column] + 2) // 4
            )
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
