"""Test that repeated reads of a failing storage are counted in the notes of scores."""

import errno
from pathlib import Path

import pytest

from distangle.errors import ImageError
from distangle.images import cache
from distangle.images.readers.common import retry_io
from distangle.inference import predict_run
from distangle.report import build_report
from tiny_run import finish_run, tiny_screen, tiny_start


def test_a_prediction_over_a_storage_that_failed_says_so_in_its_notes_and_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = tiny_screen(tmp_path)
    run = tiny_start(screen, tmp_path / "run", epochs=1)
    finish_run(run)
    real, failures = cache.read_image, iter([True] * 3)

    def raise_stale(paths: list[Path], pages: list[int | None]) -> object:
        def fail() -> object:
            if next(failures, False):
                message = f"{paths[0]} cannot be opened (Stale file handle)."
                raise ImageError(message) from OSError(errno.ESTALE, "Stale file handle")
            return real(paths, pages)

        return retry_io(fail, pauses=(0.0, 0.0, 0.0))

    undisturbed, _ = predict_run(run, screen)
    assert not any("Retried reads" in note for note in undisturbed.notes)
    monkeypatch.setattr(cache, "read_image", raise_stale)
    scores, _ = predict_run(run, screen)
    note = "Retried reads: 3, after transient storage errors. Check the network file system."
    assert scores.notes == (*undisturbed.notes, note)
    assert note in build_report(run, screen).read_text(encoding="utf-8")
