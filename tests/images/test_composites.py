import numpy as np
import pytest

from distangle.errors import ImageError
from distangle.images.composites import (
    activation_scale,
    channel_colors,
    composite,
    contrast_limits,
    enlarge,
    exposure,
    grey,
    overlay,
    reduce,
    stretch,
)
from distangle.screen import Channel

RED_AND_GREEN = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def test_one_channel_takes_its_color() -> None:
    rendered = composite(np.array([[[0.0, 0.5, 1.0]]]), np.array([[1.0, 0.2, 0.0]]))
    assert rendered.tolist() == [[[0, 0, 0], [128, 26, 0], [255, 51, 0]]]


def test_colors_add_and_what_exceeds_full_brightness_is_clipped() -> None:
    two_reds = np.array([[1.0, 0.0, 0.0], [1.0, 0.4, 0.0]])
    rendered = composite(np.array([[[0.2, 0.8]], [[0.5, 1.0]]]), two_reds)
    assert rendered.tolist() == [[[round(0.7 * 255), 51, 0], [255, 102, 0]]]


def test_gain_multiplies_the_sum_before_clipping() -> None:
    rendered = composite(np.array([[[1.0]], [[1.0]]]), np.array([[1.0, 0, 0], [1.0, 1.0, 0]]), gain=0.5)
    assert rendered.tolist() == [[[255, 128, 0]]]


def test_the_limits_of_each_channel_are_its_own_percentiles() -> None:
    image = np.stack([np.full((70, 70), 10), np.arange(4900).reshape(70, 70)]).astype(np.uint16)
    limits = contrast_limits([image], low=0.0, high=100.0)
    assert limits[0].tolist() == [10, 10]
    assert limits[1].tolist() == [0, 4893]  # the largest multiple of 7 below 4900


def test_images_of_a_plate_share_their_limits() -> None:
    dark, bright = np.zeros((1, 14, 14), np.uint8), np.full((1, 14, 14), 200, np.uint8)
    limits = contrast_limits([dark, bright], low=0.0, high=100.0)
    assert limits.tolist() == [[0, 200]]
    assert stretch(bright, limits).min() == 1


def test_stretching_is_linear_between_the_limits_and_clipped_outside() -> None:
    values = stretch(np.array([[[0, 10, 15, 20, 99]]], np.uint16), np.array([[10.0, 20.0]]))
    assert values.ravel().tolist() == [0, 0, 0.5, 1, 1]


def test_a_channel_without_contrast_is_black() -> None:
    assert stretch(np.full((1, 2, 2), 7, np.uint8), np.array([[7.0, 7.0]])).max() == 0


def test_sixteen_bits_and_eight_bits_look_the_same() -> None:
    rng = np.random.default_rng(0)
    eight = rng.integers(0, 256, (2, 20, 20)).astype(np.uint8)
    sixteen = eight.astype(np.uint16) * 257
    stretches = [stretch(image, contrast_limits([image])) for image in (eight, sixteen)]
    np.testing.assert_allclose(stretches[0], stretches[1], atol=1e-6)


def test_the_exposure_leaves_the_given_share_below_full_brightness() -> None:
    channels = np.linspace(0, 1, 10_000).reshape(1, 100, 100).repeat(2, axis=0)
    white = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    gain = exposure(channels, white, share=0.9)
    assert gain == pytest.approx(1 / 1.8, rel=1e-3)
    assert (composite(channels, white, gain=gain)[..., 0] < 255).mean() == pytest.approx(0.9, abs=0.005)


def test_a_dim_merge_is_not_brightened_and_a_black_one_divides_by_nothing() -> None:
    assert exposure(np.full((1, 4, 4), 0.1), np.array([[1.0, 0, 0]])) == 1
    assert exposure(np.zeros((1, 4, 4)), np.array([[1.0, 0, 0]])) == 1


def test_the_overlay_changes_nothing_where_the_map_is_zero() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    activation_map = np.zeros((8, 8))
    activation_map[2, 3] = 1
    rendered = overlay(picture, activation_map)
    differs = (rendered != picture).any(axis=2)
    assert differs.sum() == 1
    assert differs[2, 3]


def test_the_overlay_mixes_by_value_times_strength() -> None:
    rendered = overlay(np.full((1, 1, 3), 100, np.uint8), np.array([[0.5]]), strength=0.8, colors="gray")
    assert rendered[0, 0].tolist() == [round(100 * 0.6 + 255 * (128 / 255) * 0.4)] * 3


@pytest.mark.parametrize(
    ("activation_map", "message"),
    [
        (np.zeros((3, 4)), "The attribution map has the shape (3, 4), but the picture has (4, 4)"),
        (np.full((4, 4), 1.5), "has values from 1.5 to 1.5; expected [0, 1]"),
        (np.full((4, 4), -0.1), "values from -0.1"),
        (np.full((4, 4), np.nan), "values from nan"),
    ],
)
def test_a_map_that_does_not_belong_is_refused(activation_map: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError) as error:
        overlay(np.zeros((4, 4, 3), np.uint8), activation_map)
    assert message in str(error.value)


def test_the_color_bar_is_the_overlay_from_zero_to_one() -> None:
    bar = activation_scale(5, 2)
    assert bar.shape == (2, 5, 3)
    assert bar[0, 0].tolist() == [90, 90, 90]
    assert bar[0, -1].astype(int).sum() > bar[0, 0].astype(int).sum()


def test_grey_is_the_mean_of_the_channels() -> None:
    assert grey(np.array([[[0.0, 1.0]], [[1.0, 1.0]]])).tolist() == [[[128] * 3, [255] * 3]]


@pytest.mark.parametrize(("side", "size"), [(68, 204), (64, 256), (128, 256), (200, 200), (512, 512)])
def test_small_pictures_are_enlarged_by_whole_numbers(side: int, size: int) -> None:
    assert enlarge(np.zeros((side, side, 3), np.uint8)).shape == (size, size, 3)


def test_enlarging_repeats_pixels_and_invents_none() -> None:
    small = np.array([[1, 2], [3, 4]], np.uint8)
    assert enlarge(small, min_side=4).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_large_pictures_are_averaged_over_whole_blocks() -> None:
    large = np.arange(30, dtype=np.uint8).reshape(5, 6)
    assert reduce(large, max_side=3).tolist() == [[4, 6, 8], [16, 18, 20]]  # means 3.5, 5.5, ...; even halves
    assert reduce(large, max_side=6) is large


def test_a_lone_channel_is_white_and_missing_colors_differ() -> None:
    assert channel_colors([Channel(name="x", color="#123456")]).tolist() == [[1, 1, 1]]
    colors = channel_colors([Channel(name="a", color="#FF0000"), Channel(name="b"), Channel(name="c")])
    assert colors[0].tolist() == [1, 0, 0]
    assert len({tuple(color) for color in colors.tolist()}) == 3


def test_contrast_without_images_is_refused() -> None:
    with pytest.raises(ImageError, match="equal numbers of channels"):
        contrast_limits([])
    with pytest.raises(ImageError, match=r"got \[1, 2\]"):
        contrast_limits([np.zeros((1, 2, 2)), np.zeros((2, 2, 2))])
