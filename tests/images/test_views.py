import numpy as np
import pytest

from distangle.images import View, random_view, take_view, undo_view

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint16).reshape(2, 3, 3)


def viewed(number: int) -> np.ndarray:
    return take_view(IMAGE, View(number), out=np.empty_like(IMAGE)).copy()


def test_the_eight_views_are_the_eight_symmetries_of_the_square() -> None:
    expected = {np.rot90(flipped, k, (1, 2)).tobytes() for flipped in (IMAGE, IMAGE[:, :, ::-1]) for k in range(4)}
    assert {viewed(number).tobytes() for number in range(8)} == expected
    assert len(expected) == 8


@pytest.mark.parametrize("number", range(8))
def test_undoing_a_view_gives_the_image_back(number: int) -> None:
    assert np.array_equal(undo_view(viewed(number), number), IMAGE)


def test_a_crop_is_enlarged_to_the_nearest_pixel() -> None:
    image = np.arange(16).reshape(1, 4, 4)
    out = take_view(image, View(0, top=1, left=2, size=2), out=np.empty((1, 4, 4), image.dtype))
    assert out[0].tolist() == [[6, 6, 7, 7], [6, 6, 7, 7], [10, 10, 11, 11], [10, 10, 11, 11]]


def test_random_crops_stay_inside_and_reach_both_sizes() -> None:
    rng = np.random.default_rng(0)
    views = [random_view(rng, height=40, width=50, smallest=0.5) for _ in range(500)]
    assert min(view.size for view in views) == 20
    assert max(view.size for view in views) == 40
    assert all(view.top + view.size <= 40 and view.left + view.size <= 50 for view in views)
    assert {view.number for view in views} == set(range(8))
