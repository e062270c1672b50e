"""A folder indexed on two workers of Ray: the screen of one process, also after a death and a failure."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from distangle.cli import main
from distangle.screen import read_screen
from distangle.screen.indexing import file_workers
from tiny_run import tiny_screen

pytestmark = pytest.mark.usefixtures("ray_workers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plates/ of 48 files: one damaged, one absent, one empty, one copied, and a raw TIFF that ends with zeros."""
    root = tmp_path_factory.mktemp("index")
    tiny_screen(root, size=72)
    images = root / "plates/images"
    (images / "E1_0_0.png").write_bytes(b"no image")
    (images / "E1_1_0.png").unlink()
    (images / "E2_0_1.png").write_bytes(b"")
    (images / "E2_3_0.png").write_bytes((images / "E2_7_0.png").read_bytes())
    pixels = np.full((72, 72), 90, np.uint8)
    pixels[10:] = 0
    tifffile.imwrite(images / "E3_2_0.png", pixels)
    return root


def index(folder: Path, out: Path, *flags: str) -> int:
    command = ["index", str(folder / "plates"), "--layout", "table", "--channels", "DNA,actin", "--out", str(out)]
    try:
        main([*command, *flags])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five partitions."""
    monkeypatch.setattr(file_workers, "FILES_PER_PART", 10)


@pytest.mark.parametrize("flags", [(), ("--no-hash-files",)])
def test_the_files_of_two_workers_are_those_of_one_process(
    folder: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    assert index(folder, tmp_path / "here", *flags) == 0
    assert index(folder, tmp_path / "ray", "--on", "ray", "--workers", "2", *flags) == 0
    for name in ("screen.json", "sites.parquet", "problems.csv"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes(), name
    assert read_screen(tmp_path / "ray").metadata.refused == (4 if not flags else 3)


def open_function(orders: Path) -> Callable[[object], Callable[[Sequence[str]], object]]:
    """Return an `_open` whose work dies once, and fails for the last files while a file orders it."""

    def open_dying(job: object) -> Callable[[Sequence[str]], object]:
        from distangle.screen.indexing import file_workers

        def work(names: Sequence[str]) -> object:
            if "images/E1_0_0.png" in names and not (orders / "died").exists():
                (orders / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if "images/E3_7_1.png" in names and (orders / "fail").exists():
                raise OSError(5, "Input/output error")
            return file_workers._read_part(job, names)  # type: ignore[arg-type]

        return work

    return open_dying


def test_files_that_no_worker_reads_are_named_and_no_screen_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fail").touch()
    monkeypatch.setattr(file_workers, "_open", open_function(tmp_path))
    assert index(folder, tmp_path / "ray", "--on", "ray", "--workers", "2") == 1
    assert (tmp_path / "died").exists()
    text = " ".join(capsys.readouterr().err.split())
    assert "1 of 5 partitions of files were not read. 8 files from images/E3_4_0.png on: [Errno 5]" in text
    assert "No screen was written. Check the workers and their storage, then run the same command again." in text
    assert not (tmp_path / "ray").exists()
    (tmp_path / "fail").unlink()
    assert index(folder, tmp_path / "ray", "--on", "ray", "--workers", "2") == 0
    assert index(folder, tmp_path / "here") == 0
    assert (tmp_path / "here/sites.parquet").read_bytes() == (tmp_path / "ray/sites.parquet").read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--on", "ray", "--tables-only"), "Workers read files, and there are none."),
        (("--workers", "2"), "This process decides how many threads read files."),
    ],
)
def test_flags_that_do_not_fit_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert index(folder, tmp_path / "none", *flags) == 1
    assert message in " ".join(capsys.readouterr().err.split())
