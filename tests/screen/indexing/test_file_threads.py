"""Files are read by several threads only if that is faster."""

import hashlib
import threading
from pathlib import Path

import pytest

from distangle.screen.indexing import files
from distangle.screen.indexing.file_table import FileInfo
from distangle.screen.indexing.files import inspect_files, need_threads
from distangle.screen.indexing.hashing import site_sha256
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.roles import named_channels


def sample(size: int) -> list[FileInfo]:
    return [FileInfo(size=size)] * 32


def test_files_that_are_waited_for_need_threads() -> None:
    assert need_threads(sample(1000), wall_s=1.0, cpu_s=0.1)


def test_small_files_at_hand_need_one_thread() -> None:
    assert not need_threads(sample(1000), wall_s=1.0, cpu_s=0.9)


def test_large_files_need_threads() -> None:
    assert need_threads(sample(1 << 20), wall_s=1.0, cpu_s=0.9)


@pytest.mark.parametrize("answer", [True, False])
def test_the_result_does_not_depend_on_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, answer: bool
) -> None:
    readers = set()

    def find_zeroed_rows(_: Path) -> dict[int, tuple[int, int]]:
        readers.add(threading.current_thread() is threading.main_thread())
        return {}

    names = [f"{k}.tif" for k in range(200)]
    for k, name in enumerate(names):
        (tmp_path / name).write_bytes(f"content {k}".encode())
    entries = [
        SiteRecord(experiment="E", plate="1", well="B02", site=k, paths=(name,), pages=(-1,))
        for k, name in enumerate(names)
    ]
    counts: list[int] = []
    monkeypatch.setattr(files, "need_threads", lambda *_, **__: answer)
    result = inspect_files(
        entries, named_channels(["DNA"]), source=tmp_path, find_zeroed_rows=find_zeroed_rows,
        progress=lambda n, _: counts.append(n),
    )  # fmt: skip
    assert [entry.paths for entry in result.entries] == [(name,) for name in names]
    hashes = [hashlib.sha256(f"content {k}".encode()).hexdigest() for k in range(200)]
    assert [file.sha256 for file in result.files] == [site_sha256([digest], [-1]) for digest in hashes]
    assert counts == list(range(1, 201))
    assert readers == ({True, False} if answer else {True})
