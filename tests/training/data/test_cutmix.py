import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distangle.training import Box, mix_images, mix_rows, random_box, remaining_area


def test_the_mixed_image_by_hand() -> None:
    images = np.stack([np.zeros((1, 4, 4)), np.ones((1, 4, 4)), np.full((1, 4, 4), 2.0)]).astype(np.uint8)
    mixed = mix_images(images, np.array([1, 2, 0]), Box(0, 1, 2, 4))
    assert mixed[0, 0].tolist() == [[0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    # The partner is the original image B, not the mixed one.
    assert mixed[1, 0, 0].tolist() == [1, 2, 2, 2]
    assert mixed[2, 0, 0].tolist() == [2, 0, 0, 0]
    assert mixed is images


def test_the_equation_as_printed_pixel_by_pixel() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 255, (2, 3, 6, 5))
    box = Box(1, 2, 4, 5)
    mask = np.ones((6, 5), int)
    for row in range(6):
        for column in range(5):
            if box.top <= row < box.bottom and box.left <= column < box.right:
                mask[row, column] = 0
    expected = mask * a + (1 - mask) * b
    assert np.array_equal(mix_images(np.stack([a, b]), np.array([1, 0]), box)[0], expected)
    share = remaining_area(box, height=6, width=5)
    assert share == mask.mean()
    labels = mix_rows(np.eye(2, dtype=np.float32), np.array([1, 0]), share)
    np.testing.assert_allclose(labels, [[share, 1 - share], [1 - share, share]])


@given(seed=st.integers(0, 2**32), height=st.integers(1, 80), width=st.integers(1, 80), alpha=st.floats(0.05, 5))
@settings(max_examples=200, deadline=None)
def test_a_box_never_leaves_the_image_and_lambda_is_what_is_left(
    seed: int, height: int, width: int, alpha: float
) -> None:
    box = random_box(np.random.default_rng(seed), height=height, width=width, alpha=alpha)
    assert 0 <= box.top <= box.bottom <= height
    assert 0 <= box.left <= box.right <= width
    assert 0 <= remaining_area(box, height=height, width=width) <= 1


def test_the_mean_remaining_area_is_that_of_centred_clipped_boxes() -> None:
    # E[1 - lambda] = E over lambda ~ U(0, 1) of the clipped area; per axis the mean length of a segment of
    # length r with a uniform centre is r - r^2/4, and r^2 = 1 - lambda is uniform: E[(r - r^2/4)^2] = 1/2 - 1/5 + 1/48.
    rng = np.random.default_rng(1)
    areas = [1 - remaining_area(random_box(rng, height=200, width=200), height=200, width=200) for _ in range(4000)]
    assert np.mean(areas) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.015)
