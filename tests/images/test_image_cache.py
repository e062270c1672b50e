"""The image cache: its memory limit, and how often a site is decoded."""

import threading
from pathlib import Path

import numpy as np
import pytest

from distangle.errors import ImageError, OutOfMemoryError
from distangle.images import ImageCache, cache, fit_normalization, normalized_batches, raw_batches
from tiny_run import tiny_screen

IMAGE = 2 * 24 * 24  # bytes of one image of the tiny screen


def count_reads(monkeypatch: pytest.MonkeyPatch, *, until: threading.Barrier | None = None) -> list[str]:
    """Record the first file of every decoded image; decoding threads meet at the barrier."""
    names: list[str] = []
    real = cache.read_image

    def counting_read(paths: list[Path], pages: list[int | None]) -> np.ndarray:
        names.append(paths[0].name)
        if until is not None:
            until.wait(5)
        return real(paths, pages)

    monkeypatch.setattr(cache, "read_image", counting_read)
    return names


def test_the_padding_of_the_last_batch_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ImageCache(tiny_screen(tmp_path), memory=0)
    names = count_reads(monkeypatch)
    last = [(batch_rows, raw.copy()) for batch_rows, raw in raw_batches(store, [0, 1, 2, 3, 4], batch_size=4)][-1]
    assert last[0] == [4]
    np.testing.assert_array_equal(last[1], np.stack([store.image(4)] * 4))
    assert sorted(names) == [f"E1_{k}_0.png" for k in (0, 1, 2, 3, 4, 4)]  # row 4 twice: this test reads it again
    store.close()


def test_the_padding_is_standardised_as_the_site_it_repeats(tmp_path: Path) -> None:
    store = ImageCache(tiny_screen(tmp_path), memory=0)
    rows, statistics = fit_normalization(store, [0, 1, 2, 3, 4])
    *_, (batch_rows, normalized) = normalized_batches(store, rows, statistics, batch_size=4)
    assert batch_rows == [4]
    assert np.isfinite(normalized).all()
    np.testing.assert_array_equal(normalized, np.stack([normalized[0]] * 4))
    store.close()


def test_the_budget_is_restored_after_memory_ran_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ImageCache(tiny_screen(tmp_path), memory=3 * IMAGE)
    store.measure(range(3))
    assert store.cached_bytes == 3 * IMAGE

    def short(*args: object) -> np.ndarray:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_image", short)
        with pytest.raises(OutOfMemoryError):
            store.image(3)
    assert store.cached_bytes == 0
    store.images([3, 4, 5])
    assert store.cached_bytes == 3 * IMAGE
    names = count_reads(monkeypatch)
    store.images([3, 4, 5])
    assert names == []
    store.close()


def test_a_row_decoded_by_two_threads_at_once_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ImageCache(tiny_screen(tmp_path), memory=3 * IMAGE)
    names = count_reads(monkeypatch, until=threading.Barrier(2))
    first, second = store.images([0, 0])
    assert names == ["E1_0_0.png", "E1_0_0.png"]
    assert first is second
    store.images([1, 2])
    assert store.cached_bytes == 3 * IMAGE
    names.clear()
    for row in (0, 1, 2):
        store.image(row)
    assert names == []
    store.close()


def test_an_image_that_cannot_be_read_takes_no_room(tmp_path: Path) -> None:
    screen = tiny_screen(tmp_path)
    (tmp_path / "plates" / "images" / "E1_1_0.png").unlink()
    store = ImageCache(screen, memory=2 * IMAGE)
    assert store.measure([0, 1, 2]) == [0, 2]
    assert store.cached_bytes == 2 * IMAGE
    with pytest.raises(ImageError, match=r"E1_1_0\.png"):
        store.image(1)
    assert store.cached_bytes == 2 * IMAGE
    store.close()


def test_released_images_give_their_memory_back_and_keep_their_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ImageCache(tiny_screen(tmp_path), memory=2 * IMAGE)
    (tmp_path / "plates/images/E1_1_0.png").unlink()
    images = store.readable_images([0, 1, 2, 3])
    assert [row for row, _ in images] == [0, 2, 3]
    assert "E1_1_0.png" in store.reasons[1]
    assert store.cached_bytes == 2 * IMAGE
    store.release([0, 1, 2, 3])
    assert store.cached_bytes == 0
    assert np.isfinite(store.statistics[[0, 2, 3]]).all()
    names = count_reads(monkeypatch)
    np.testing.assert_array_equal(store.readable_images([1, 3])[0][1], images[2][1])
    assert names == ["E1_3_0.png"]  # an unreadable row is not tried again
    assert store.cached_bytes == IMAGE
    store.close()
