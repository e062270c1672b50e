import numpy as np
import pandas as pd
import pytest

from distangle.errors import ConfigError
from distangle.images import channel_statistics, pooled_statistics, preprocessing, standardize, statistics_by_site
from distangle.images.jit_threshold import JitThreshold, pixel_kernels
from distangle.images.preprocessing import bin_pixels, binning_for
from tests_support import screen_of


def test_statistics_of_one_channel_by_hand() -> None:
    image = np.array([[[1, 3], [1, 3]], [[0, 0], [0, 4]]], dtype=np.uint8)
    np.testing.assert_allclose(channel_statistics(image), [[2, 1], [1, np.sqrt(3)]])
    np.testing.assert_allclose(channel_statistics(image, transform="sqrt")[0, 1], 0.5)


def test_statistics_of_bright_16_bit_images_do_not_cancel() -> None:
    image = np.random.default_rng(0).integers(60000, 60010, (2, 64, 64)).astype(np.uint16)
    expected = np.stack([image.reshape(2, -1).mean(1), image.reshape(2, -1).std(1)])
    np.testing.assert_allclose(channel_statistics(image), expected, rtol=1e-4)


@pytest.mark.parametrize("transform", ["none", "sqrt"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_statistics_are_the_same_to_the_last_bit_in_loops_and_in_arrays(
    dtype: str, transform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = np.iinfo(dtype).max
    images = np.random.default_rng(4).integers(0, top, (5, 3, 37, 41), dtype=dtype, endpoint=True)
    images[1] = top
    images[2, :, 1:] = 0
    statistics = []
    for pixels in (0, 10**12):
        monkeypatch.setattr("distangle.images.jit_threshold.JIT_THRESHOLD", JitThreshold(pixels))
        assert (pixel_kernels() is None) == (pixels > 0)
        rotation = [channel_statistics(image.transpose(0, 2, 1), transform=transform) for image in images]
        statistics.append([channel_statistics(image, transform=transform) for image in images])
        np.testing.assert_array_equal(statistics[-1], rotation)
    np.testing.assert_array_equal(statistics[0], statistics[1])
    pixels_of = images.astype(float) if transform == "none" else np.sqrt(images.astype(float))
    np.testing.assert_array_equal(np.array(statistics[0])[:, 0], pixels_of.mean((2, 3)).astype(np.float32))
    np.testing.assert_allclose(np.array(statistics[0])[:, 1], pixels_of.std((2, 3)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65535)])
def test_sums_of_many_bright_pixels_are_exact(dtype: str, top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((1, 3, 1 << 20), top, dtype)  # 16 bit: the sum of the squares is beyond 2^53
    image[0, 1, 7] = top - 1
    for pixels in (0, 10**12):
        monkeypatch.setattr("distangle.images.jit_threshold.JIT_THRESHOLD", JitThreshold(pixels))
        [(plain, squared)] = preprocessing._power_sums(image, pixel_kernels())
        assert plain == 3 * (1 << 20) * top - 1
        assert squared == (3 * (1 << 20) - 1) * top**2 + (top - 1) ** 2


def test_pooled_statistics_are_those_of_all_pixels_together() -> None:
    images = np.random.default_rng(1).integers(0, 200, (5, 3, 8, 8)).astype(np.uint8)
    images[2] //= 4
    pooled = pooled_statistics(np.stack([channel_statistics(image) for image in images]))
    pixels = images.transpose(1, 0, 2, 3).reshape(3, -1).astype(float)
    np.testing.assert_allclose(pooled, [pixels.mean(1), pixels.std(1)], rtol=1e-5)


def test_standardised_images_have_mean_zero_and_spread_one_and_a_constant_channel_is_zero() -> None:
    images = np.random.default_rng(2).integers(0, 255, (2, 2, 16, 16)).astype(np.uint8)
    images[1, 1] = 7
    statistics = np.stack([channel_statistics(image) for image in images])
    normalized = standardize(images, statistics, out=np.empty(images.shape, np.float32))
    np.testing.assert_allclose(normalized[0].mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(normalized[0].std((1, 2)), 1, atol=1e-5)
    assert np.array_equal(normalized[1, 1], np.zeros((16, 16)))


def test_only_the_region_is_written() -> None:
    images = np.ones((1, 1, 6, 6), np.uint8)
    out = np.full((1, 1, 6, 6), 9.0, np.float32)
    standardize(images, np.array([[[0.0], [1.0]]], np.float32), out=out, region=(1, 2, 3, 5))
    assert (out == 1).sum() == 6
    assert out[0, 0, 1, 2] == 1
    assert out[0, 0, 0, 0] == 9


TABLE = pd.DataFrame(
    {
        "experiment": ["A", "A", "A", "B"],
        "plate": ["1", "1", "2", "1"],
        "role": ["negative_control", "treatment", "negative_control", "negative_control"],
    }
)
MEASURED = np.array([[[1], [1]], [[3], [1]], [[10], [2]], [[100], [5]]], np.float32)


@pytest.mark.parametrize(
    ("by", "means"),
    [
        ("image", [1, 3, 10, 100]),
        ("plate", [2, 2, 10, 100]),
        ("experiment", [14 / 3, 14 / 3, 14 / 3, 100]),
        ("controls", [1, 1, 10, 100]),
        ("experiment_controls", [14 / 3, 14 / 3, 14 / 3, 100]),  # two control images are too few: all of A
    ],
)
def test_each_choice_pools_what_it_says(by: str, means: list[float]) -> None:
    statistics = statistics_by_site(screen_of(TABLE), MEASURED, by=by)  # type: ignore[arg-type]
    np.testing.assert_allclose(statistics[:, 0, 0], means)


def test_three_controls_stand_for_their_experiment() -> None:
    table = pd.DataFrame({"experiment": ["A"] * 4, "plate": ["1", "1", "2", "2"], "role": ["negative_control"] * 4})
    table.loc[1, "role"] = "treatment"
    statistics = statistics_by_site(screen_of(table), MEASURED, by="experiment_controls")
    np.testing.assert_allclose(statistics[:, 0, 0], [(1 + 10 + 100) / 3] * 4)


def test_a_plate_without_negative_control_is_named() -> None:
    table = TABLE.assign(role=["treatment", "treatment", "negative_control", "negative_control"])
    with pytest.raises(ConfigError, match="Plate A 1 has no negative control"):
        statistics_by_site(screen_of(table), MEASURED, by="controls")


def test_a_plate_that_is_not_needed_needs_no_control() -> None:
    table = TABLE.assign(role=["treatment", "treatment", "negative_control", "negative_control"])
    statistics = statistics_by_site(screen_of(table), MEASURED, by="controls", rows=[2])
    assert statistics[2, 0, 0] == 10


def test_an_unread_site_is_left_out_of_its_plate() -> None:
    rows = MEASURED.copy()
    rows[1] = np.nan
    assert statistics_by_site(screen_of(TABLE), rows, by="plate")[0, 0, 0] == 1


def test_binning_is_the_mean_and_cuts_what_is_left_over() -> None:
    image = np.arange(2 * 5 * 4, dtype=np.uint16).reshape(2, 5, 4)
    binned = bin_pixels(image, 2)
    assert binned.shape == (2, 2, 2)
    assert binned.dtype == np.uint16
    assert binned[0, 0, 0] == round((0 + 1 + 4 + 5) / 4)
    assert bin_pixels(image, 1) is image


@pytest.mark.parametrize(("side", "binning"), [(68, 1), (128, 1), (191, 1), (192, 2), (512, 4), (2048, 16)])
def test_the_size_decides_the_binning(side: int, binning: int) -> None:
    assert binning_for(side, side) == binning


@pytest.mark.parametrize(("dtype", "n"), [(np.uint8, 3), (np.uint8, 17), (np.uint16, 4), (np.uint16, 5)])
def test_bins_of_any_size_hold_the_rounded_mean_of_their_brightest_pixels(dtype: type, n: int) -> None:
    high = np.iinfo(dtype).max
    image = np.random.default_rng(0).integers(high // 2, high, (2, 40, 47), endpoint=True).astype(dtype)
    binned = bin_pixels(image, n)
    assert binned.dtype == dtype
    assert binned.shape == (2, 40 // n, 47 // n)
    for channel, row, column in np.ndindex(binned.shape):
        block = image[channel, row * n : (row + 1) * n, column * n : (column + 1) * n]
        assert binned[channel, row, column] == round(int(block.sum(dtype=np.int64)) / (n * n))
