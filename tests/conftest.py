import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # synchronizing threads is slow on a busy machine


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTANGLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets; licences keep them out of the repository."""
    data_folder = os.environ.get("DISTANGLE_DATA")
    folder = Path(data_folder) if data_folder else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data sets not found at {folder} (set DISTANGLE_DATA to their folder)")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Start a headless Chromium, one for all tests of a process."""
    from view_page import find_browser

    path = find_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def ray_workers() -> Iterator[Any]:
    """Ray with two workers on this machine, for the tests of a module."""
    from ray_cluster import two_workers

    with two_workers() as module:
        yield module


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system behind memory://, empty, with an empty cache."""
    import fsspec

    monkeypatch.setenv("DISTANGLE_CACHE", str(tmp_path / "cache"))
    filesystem = fsspec.filesystem("memory")

    def clear() -> None:
        filesystem.store.clear()
        filesystem.pseudo_dirs[:] = [""]

    clear()
    yield filesystem
    clear()


@pytest.fixture
def lab_table(tmp_path: Path) -> Callable[..., Path]:
    """Write a table of text and every file below `images/` that it names; return the table's path."""

    def write(rows: Sequence[Sequence[str]], *, delimiter: str = ",", name: str = "wells.csv") -> Path:
        table = tmp_path / "lab" / name
        table.parent.mkdir(parents=True, exist_ok=True)
        with table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
        for row in rows[1:]:
            for value in row:
                if value.startswith("images/"):
                    path = table.parent / value
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(value, encoding="utf-8")
        return table

    return write
