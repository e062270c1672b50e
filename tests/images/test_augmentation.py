import numpy as np
import pytest

from distangle.images import Augmentation, augment, invert_augmentation, random_augmentation
from distangle.images.jit_threshold import JitThreshold

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint16).reshape(2, 3, 3)


def apply_view(number: int) -> np.ndarray:
    return augment(IMAGE, Augmentation(number), out=np.empty_like(IMAGE)).copy()


def test_the_eight_views_are_the_eight_symmetries_of_the_square() -> None:
    expected = {np.rot90(flipped, k, (1, 2)).tobytes() for flipped in (IMAGE, IMAGE[:, :, ::-1]) for k in range(4)}
    assert {apply_view(number).tobytes() for number in range(8)} == expected
    assert len(expected) == 8


@pytest.mark.parametrize("number", range(8))
def test_undoing_a_view_gives_the_image_back(number: int) -> None:
    assert np.array_equal(invert_augmentation(apply_view(number), number), IMAGE)


def test_a_crop_is_enlarged_to_the_nearest_pixel() -> None:
    image = np.arange(16).reshape(1, 4, 4)
    out = augment(image, Augmentation(0, top=1, left=2, size=2), out=np.empty((1, 4, 4), image.dtype))
    assert out[0].tolist() == [[6, 6, 7, 7], [6, 6, 7, 7], [10, 10, 11, 11], [10, 10, 11, 11]]


def test_random_crops_stay_inside_and_reach_both_sizes() -> None:
    rng = np.random.default_rng(0)
    views = [random_augmentation(rng, height=40, width=50, min_share=0.5) for _ in range(500)]
    assert min(view.size for view in views) == 20
    assert max(view.size for view in views) == 40
    assert all(view.top + view.size <= 40 and view.left + view.size <= 50 for view in views)
    assert {view.number for view in views} == set(range(8))


def test_a_quarter_turn_by_angle_is_the_quarter_turn() -> None:
    rotation = augment(IMAGE, Augmentation(0, size=3, angle=np.pi / 2), out=np.empty_like(IMAGE))
    assert rotation.tobytes() in {np.rot90(IMAGE, k, (1, 2)).tobytes() for k in (1, 3)}
    back = augment(rotation.copy(), Augmentation(0, size=3, angle=-np.pi / 2), out=np.empty_like(IMAGE))
    assert np.array_equal(back, IMAGE)


def test_a_turned_crop_keeps_its_middle_and_mirrors_what_lies_beyond_the_edge() -> None:
    image = np.zeros((1, 9, 9), np.uint8)
    image[0, 6, 2] = 200
    rotation = augment(image, Augmentation(0, top=4, left=0, size=5, angle=1.0), out=np.empty((1, 5, 5), np.uint8))
    assert rotation[0, 2, 2] == 200  # (6, 2) is the middle of rows 4-8 and columns 0-4
    constant = np.full((2, 7, 7), 9, np.uint16)
    assert (augment(constant, Augmentation(3, size=7, angle=0.7), out=np.empty_like(constant)) == 9).all()


def test_any_angle_is_drawn_only_on_request() -> None:
    rng = np.random.default_rng(0)
    assert {random_augmentation(rng, height=8, width=8).angle for _ in range(20)} == {0.0}
    angles = [random_augmentation(rng, height=8, width=8, rotate=True).angle for _ in range(200)]
    assert np.histogram(angles, bins=4, range=(0, 2 * np.pi))[0].min() > 30


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_view_wider_than_a_line_of_the_cache_is_the_same_symmetry(number: int, dtype: type) -> None:
    image = np.random.default_rng(number).integers(0, 250, (2, 70, 150)).astype(dtype)
    expected = image.transpose(0, 2, 1) if number & 4 else image
    expected = expected[:, ::-1] if number & 1 else expected
    expected = expected[:, :, ::-1] if number & 2 else expected
    out = np.full(expected.shape, 255, dtype)
    assert np.array_equal(augment(image, Augmentation(number), out=out), expected)


@pytest.mark.parametrize("pixels", [0, 1 << 40], ids=["compiled", "plain"])
@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_a_resized_or_rotated_view_equals_a_plain_loop(
    monkeypatch: pytest.MonkeyPatch, number: int, angle: float, pixels: int
) -> None:
    monkeypatch.setattr("distangle.images.jit_threshold.JIT_THRESHOLD", JitThreshold(pixels))
    image = np.random.default_rng(0).integers(0, 255, (2, 9, 11)).astype(np.uint8)
    view = Augmentation(number, top=2, left=3, size=6, angle=angle)
    out = augment(image, view, out=np.zeros((2, 7, 7), np.uint8))
    for i in range(7):
        for j in range(7):
            row, column = int((i + 0.5) * 6 / 7), int((j + 0.5) * 6 / 7)
            row, column = 5 - row if number & 1 else row, 5 - column if number & 2 else column
            row, column = (column, row) if number & 4 else (row, column)
            y, x = row - 2.5, column - 2.5
            y, x = 4.5 + np.cos(angle) * y - np.sin(angle) * x, 5.5 + np.sin(angle) * y + np.cos(angle) * x
            y, x = int(np.rint(y)), int(np.rint(x))
            y, x = (-1 - y if y < 0 else 17 - y if y > 8 else y), (-1 - x if x < 0 else 21 - x if x > 10 else x)
            assert out[:, i, j].tolist() == image[:, y, x].tolist()


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_resized_view_of_several_strips_has_the_pixels_of_its_rows_and_columns(
    monkeypatch: pytest.MonkeyPatch, number: int, dtype: type
) -> None:
    monkeypatch.setattr("distangle.images.jit_threshold.JIT_THRESHOLD", JitThreshold(0))
    image = np.random.default_rng(number).integers(0, 250, (3, 120, 130)).astype(dtype)
    nearest = [int((k + 0.5) * 90 / 77) for k in range(77)]
    crop = image[:, 20:110, 30:120]
    crop = crop.transpose(0, 2, 1) if number & 4 else crop
    crop = crop[:, ::-1] if number & 1 else crop
    crop = crop[:, :, ::-1] if number & 2 else crop
    out = augment(image, Augmentation(number, top=20, left=30, size=90), out=np.zeros((3, 77, 77), dtype))
    np.testing.assert_array_equal(out, crop[:, nearest][:, :, nearest])
