from pathlib import Path

import numpy as np
import pytest

from distangle.core.random import rng_for
from distangle.errors import ExplanationError
from distangle.explain import (
    channel_attention,
    inverse_attention,
    map_channel_correlation,
    null_channel_attention,
    random_smooth_maps,
)
from distangle.explain.channels.map_scores import check_sizes, scale_maps, unit_length
from distangle.images import read_image


def printed_eq_15(activation_map, channels):
    distances = []
    for channel in channels:
        total = 0.0
        for i in range(len(activation_map)):
            for j in range(len(activation_map[0])):
                total += (activation_map[i][j] - channel[i][j]) ** 2
        distances.append(total**0.5)
    return [distance / max(distances) for distance in distances]


def images_of_brightness(means, *, sites=1, size=48, seed=1):
    """Draw blobs on a dark ground; each channel has about the given mean."""
    maps = random_smooth_maps(sites * len(means), grid=(8, 8), size=(size, size), rng=rng_for(seed, "images"))
    blobs = maps.enlarged().reshape(sites, len(means), size, size) ** 3
    blobs *= np.asarray(means)[None, :, None, None] / blobs.mean((2, 3), keepdims=True)
    return blobs.clip(0, 255).astype(np.uint8)


def test_equation_15_by_hand():
    # Map (1, 0): distance 0.6 to a channel (0.4, 0), 1 to an empty one, 0 to itself.
    maps = np.array([[[1.0, 0.0]]], dtype=np.float32)
    raw = np.array([[[[102, 0]], [[0, 0]], [[255, 0]]]], dtype=np.uint8)
    np.testing.assert_allclose(channel_attention(maps, raw, scaling="raw255"), [[0.6, 1.0, 0.0]], atol=1e-7)


@pytest.mark.parametrize("scaling", ["raw255", "min_max"])
def test_equation_15_in_plain_loops(scaling):
    rng = rng_for(1, "loops")
    maps = rng.random((2, 5, 4), dtype=np.float32)
    raw = rng.integers(0, 200, (2, 3, 5, 4), dtype=np.uint8)
    result = channel_attention(maps, raw, scaling=scaling)
    for site in range(2):
        pixels = raw[site].astype(float)
        if scaling == "raw255":
            pixels = pixels / 255
        else:
            pixels = np.stack([(plane - plane.min()) / (plane.max() - plane.min()) for plane in pixels])
        expected = printed_eq_15(maps[site].tolist(), pixels.tolist())
        np.testing.assert_allclose(result[site], expected, rtol=1e-5)


def test_min_max_takes_sixteen_bits_and_a_constant_channel_to_0():
    raw = np.array([[[[1000, 3000]], [[7, 7]], [[0, 65535]]]], dtype=np.uint16)
    np.testing.assert_allclose(scale_maps(raw, scaling="min_max"), [[[[0, 1]], [[0, 0]], [[0, 1]]]])


@pytest.mark.xfail(
    strict=True,
    reason="Claim of Sec. 5: 'a higher number for a channel suggests that the attention map is concordant with "
    "channel'. Eq. (15) is a distance: the channel that agrees with the map scores lowest.",
)
def test_paper_claim_the_channel_that_agrees_with_the_map_scores_highest():
    maps = random_smooth_maps(20, grid=(8, 8), size=(48, 48), rng=rng_for(2, "maps")).enlarged()
    raw = images_of_brightness([40, 40, 40, 40], sites=20)
    raw[:, 2] = np.rint(255 * maps)
    assert (channel_attention(maps, raw, scaling="raw255").argmax(1) == 2).mean() > 0.5


def test_the_channel_that_agrees_with_the_map_scores_lowest():
    maps = random_smooth_maps(20, grid=(8, 8), size=(48, 48), rng=rng_for(2, "maps")).enlarged()
    raw = images_of_brightness([40, 40, 40, 40], sites=20)
    raw[:, 2] = np.rint(255 * maps)
    assert (channel_attention(maps, raw, scaling="raw255").argmin(1) == 2).all()


def test_equation_15_picks_the_dimmest_channel_for_random_maps():
    # Channel means of a real plate, HEPG2-08 plate 1: the first is the dimmest.
    raw = images_of_brightness([3.3, 16.9, 9.3, 9.0, 23.2, 13.4], sites=100)
    maps = random_smooth_maps(100, grid=(8, 8), size=(48, 48), rng=rng_for(3, "maps")).enlarged()
    tops = channel_attention(maps, raw, scaling="raw255").argmax(1)
    assert (tops == 0).mean() > 0.95
    brighter = np.roll(raw, 2, axis=1)
    assert (channel_attention(maps, brighter, scaling="raw255").argmax(1) == 2).mean() > 0.95


@pytest.mark.real
@pytest.mark.parametrize("experiment", ["HEPG2-01", "HUVEC-01", "RPE-01", "U2OS-01"])
def test_equation_15_picks_the_dimmest_channel_of_a_real_well_for_random_maps(real_data, experiment):
    folder = real_data / "rxrx1_images" / "images" / experiment / "Plate1"
    planes = sorted(folder.glob("B02_s1_w*.png"))
    if len(planes) != 6:
        pytest.skip(f"the six planes of well B02, site 1 are not in {folder}")
    image = read_image(planes, [None] * 6)
    maps = random_smooth_maps(200, grid=(16, 16), size=image.shape[1:], rng=rng_for(4, "maps"))
    tops = null_channel_attention(maps, image[None], scaling="raw255")[0].argmax(1)
    assert (tops == image.mean((1, 2)).argmin()).mean() > 0.95


def test_every_channel_equal_to_the_map_scores_0_without_nan():
    maps = np.full((1, 2, 2), 1.0, dtype=np.float32)
    assert np.array_equal(
        channel_attention(maps, np.full((1, 3, 2, 2), 255, np.uint8), scaling="raw255"), np.zeros((1, 3))
    )


def test_correlation_is_that_of_numpy_and_blind_to_brightness():
    rng = rng_for(5, "correlation")
    maps = rng.random((3, 6, 7), dtype=np.float32)
    raw = rng.integers(0, 60000, (3, 4, 6, 7), dtype=np.uint16)
    result = map_channel_correlation(maps, raw)
    for site in range(3):
        for channel in range(4):
            expected = np.corrcoef(maps[site].ravel(), raw[site, channel].ravel())[0, 1]
            assert result[site, channel] == pytest.approx(expected, abs=1e-7)
    np.testing.assert_allclose(
        map_channel_correlation(maps, (raw // 4) * 4 // 4), map_channel_correlation(maps, raw // 4)
    )


def test_correlation_is_highest_for_the_channel_that_agrees_and_0_for_a_constant():
    maps = random_smooth_maps(20, grid=(8, 8), size=(48, 48), rng=rng_for(2, "maps")).enlarged()
    raw = images_of_brightness([40, 40, 40, 40], sites=20)
    raw[:, 2] = np.rint(9 * maps)
    raw[:, 3] = 77
    result = map_channel_correlation(maps, raw)
    assert (result.argmax(1) == 2).all()
    assert (result[:, 2] > 0.97).all()
    assert (result[:, 3] == 0).all()
    assert (map_channel_correlation(np.zeros_like(maps), raw) == 0).all()


def test_a_constant_that_rounding_moves_off_its_mean_is_still_constant():
    constant = np.full((1, 7), 0.1)
    assert (constant != constant.mean()).any()
    assert np.array_equal(unit_length(constant), np.zeros((1, 7)))


def test_maps_that_do_not_lie_on_the_images_are_refused():
    raw = np.zeros((3, 2, 8, 8), np.uint8)
    for shape in ((1, 8, 8), (3, 8, 4)):
        with pytest.raises(ExplanationError, match=r"do not match images of shape \(3, 2, 8, 8\).*size=\(8, 8\)"):
            check_sizes(np.zeros(shape, np.float32), raw)


def test_a_scaling_that_does_not_fit_the_pixels_or_is_unknown_is_refused():
    raw = np.zeros((1, 2, 8, 8), np.uint16)
    with pytest.raises(ExplanationError, match="'raw255' divides 8-bit pixels by 255; these are uint16. Use 'min_max'"):
        scale_maps(raw, scaling="raw255")
    with pytest.raises(ExplanationError, match="Unknown scaling 'minmax'. Did you mean 'min_max'"):
        scale_maps(raw, scaling="minmax")


def test_the_page_on_explanations_calls_the_inverse_what_it_is():
    page = Path(__file__).parents[3] / "docs" / "explanations.md"
    (row,) = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `eq15_inverse`")]
    assert "its reciprocal, divided by the largest" in row
    np.testing.assert_allclose(inverse_attention(np.array([[1.0, 0.5, 0.25]])), [[0.25, 0.5, 1.0]])
