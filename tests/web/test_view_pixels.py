"""Levels, contrast and composites against plain loops, and a cache that stays small."""

import threading

import numpy as np
import pytest

from distangle.web.answers import AnswerError, columnar
from distangle.web.pixels import Cache, Layer, average, channel_colors, check_channel, contrast, merge, n_levels


def test_an_average_leaves_incomplete_squares_out() -> None:
    image = np.random.default_rng(0).integers(0, 65536, (2, 11, 14)).astype(np.uint16)
    small = average(image, 4)
    assert small.shape == (2, 2, 3)
    assert small.dtype == np.uint16
    for c in range(2):
        for y in range(2):
            for x in range(3):
                mean = image[c, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].astype(float).mean()
                assert abs(small[c, y, x] - mean) <= 0.51


@pytest.mark.parametrize(("shape", "levels"), [((512, 512), 5), ((64, 900), 2), ((31, 31), 1), ((1, 1), 1)])
def test_the_coarsest_level_has_32_pixels_or_more(shape: tuple[int, int], levels: int) -> None:
    assert n_levels(shape) == levels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_composite_by_a_loop_over_pixels(dtype: type) -> None:
    image = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (3, 5, 7)).astype(dtype)
    top = float(np.iinfo(dtype).max)
    layers = [Layer(0, (255, 0, 40), 3.5, top / 2, 0.4), Layer(2, (10, 200, 255), top / 4, top, 2.5)]
    picture = merge(image, layers)
    for y in range(5):
        for x in range(7):
            for k in range(3):
                total = 0.0
                for layer in layers:
                    share = (float(image[layer.channel, y, x]) - layer.low) / (layer.high - layer.low)
                    total += layer.color[k] / 255 * min(1.0, max(0.0, share)) ** layer.gamma
                assert abs(picture[y, x, k] - min(1.0, total) * 255) <= 0.51


def test_a_channel_without_contrast_is_black() -> None:
    image = np.full((1, 3, 3), 7, dtype=np.uint8)
    assert not merge(image, [Layer(0, (255, 255, 255), 7.0, 7.0)]).any()


def test_contrast_is_a_percentile_of_all_images() -> None:
    images = [np.random.default_rng(k).integers(0, 255, (2, 70, 70)).astype(np.uint8) for k in range(2)]
    for channel, (low, high) in enumerate(contrast(images)):
        values = sorted(value for image in images for value in image[channel].ravel()[::7].tolist())
        assert low == pytest.approx(np.percentile(values, 0.1))
        assert high == pytest.approx(np.percentile(values, 99.9))


def test_colors_are_those_of_the_screen_or_six_of_ours() -> None:
    assert channel_colors(["#FF0080", "", "blue"]) == [(255, 0, 128), (46, 230, 107), (255, 59, 48)]
    assert channel_colors(["#FF0080"]) == [(255, 255, 255)]


def test_a_channel_that_does_not_exist_is_named() -> None:
    with pytest.raises(AnswerError, match="No channel 3: expected 0 to 2"):
        check_channel(3, 3)


def test_a_cache_drops_the_oldest_values() -> None:
    cache: Cache[bytes] = Cache(10, len)
    calls: list[str] = []

    def make(name: str) -> bytes:
        calls.append(name)
        return name.encode() * 4

    for name in ("a", "b", "a", "c", "a", "b"):
        assert cache.get(name, lambda name=name: make(name)) == name.encode() * 4
        assert cache.n_bytes <= 10
    assert calls == ["a", "b", "c", "b"]


def test_a_value_is_made_by_one_thread_and_an_error_is_not_kept() -> None:
    cache: Cache[bytes] = Cache(100, len)
    begin, calls = threading.Barrier(8), []

    def make() -> bytes:
        calls.append(1)
        return b"x"

    def ask() -> None:
        begin.wait()
        assert cache.get("key", make) == b"x"

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]

    def fail() -> bytes:
        raise AnswerError(410, "gone")

    with pytest.raises(AnswerError):
        cache.get("other", fail)
    assert cache.get("other", make) == b"x"


def test_a_table_is_numbers_and_codes() -> None:
    import pandas as pd

    table = pd.DataFrame(
        {
            "n": [3, 1],
            "x": [0.1234567891, np.nan],
            "p": [1e-12, 0.5],
            "yes": [True, False],
            "name": ["b", ""],
            "empty": [None, None],
        }
    )
    assert columnar(table) == {
        "n": 2,
        "columns": {
            "n": {"kind": "number", "values": [3, 1]},
            "x": {"kind": "number", "values": [0.1234568, None]},
            "p": {"kind": "number", "values": [1e-12, 0.5]},
            "yes": {"kind": "number", "values": [1, 0]},
            "name": {"kind": "text", "levels": ["b"], "codes": [0, -1]},
            "empty": {"kind": "text", "levels": [], "codes": [-1, -1]},
        },
    }
