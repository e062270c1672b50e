from pathlib import Path

import numpy as np
import pytest

from distangle.images import ImageCache, Preprocessing, augment, fit_normalization, normalized_batches, standardize
from distangle.images.augmentation import Augmentation
from tiny_run import tiny_screen


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("view", [0, 6])
def test_every_batch_has_one_size_and_the_last_is_filled_with_its_last_site(
    tmp_path: Path, workers: int, view: int
) -> None:
    store = ImageCache(tiny_screen(tmp_path), Preprocessing(), workers=workers)
    rows, statistics = fit_normalization(store, [5, 2, 0, 7, 3, 6])
    assert rows == [5, 2, 0, 7, 3, 6]
    batches = []
    for batch_rows, normalized in normalized_batches(store, rows, statistics, batch_size=4, view=view):
        assert normalized.shape[0] == 4
        assert normalized.dtype == np.float32
        batches.append((batch_rows, normalized.copy()))
    assert [batch_rows for batch_rows, _ in batches] == [[5, 2, 0, 7], [3, 6]]
    padded = [*rows, 6, 6]
    raw = np.stack([store.image(row) for row in padded])
    rotation = np.empty_like(raw)
    for image, out in zip(raw, rotation, strict=True):
        augment(image, Augmentation(view), out=out)
    expected = standardize(rotation, statistics[padded], out=np.empty(raw.shape, np.float32))
    np.testing.assert_array_equal(np.concatenate([normalized for _, normalized in batches]), expected)
    store.close()


def test_no_rows_are_no_batches(tmp_path: Path) -> None:
    store = ImageCache(tiny_screen(tmp_path))
    assert list(normalized_batches(store, [], np.empty((0, 2, 1), np.float32), batch_size=4)) == []
    store.close()
