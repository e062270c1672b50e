"""Plates checked on two workers of Ray: the files of one process, also after a death and a failure."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from distangle.cli import main
from distangle.core.partitions import RayWorkers
from distangle.errors import ScreenError
from distangle.images.quality import plate_workers
from distangle.images.quality.run import check_pixels
from distangle.screen import Screen, read_screen
from tiny_run import tiny_screen

pytestmark = pytest.mark.usefixtures("ray_workers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/ of three plates of eight sites: an image of E2 is damaged, one of E1 is a copy, one of E3 was changed."""
    root = tmp_path_factory.mktemp("check")
    tiny_screen(root, hash_files=True)
    images = root / "plates/images"
    (images / "E2_3_0.png").write_bytes(b"no image")
    (images / "E1_2_0.png").write_bytes((images / "E1_6_0.png").read_bytes())
    shutil.copy(images / "E1_6_1.png", images / "E3_6_1.png")
    return root


def check(folder: Path, out: Path, *flags: str) -> int:
    try:
        main(["check", str(folder / "screen"), "--sample", "0", "--out", str(out), *flags])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_files_of_two_workers_are_those_of_one_process(folder: Path, tmp_path: Path) -> None:
    assert check(folder, tmp_path / "here") == 1
    assert check(folder, tmp_path / "ray", "--on", "ray", "--workers", "2") == 1
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "ray").iterdir())
    assert "planes.parquet" in names
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes(), name
    kinds = pd.read_csv(tmp_path / "ray/findings.csv")["kind"].tolist()
    assert kinds.count("file changed since indexing") == 3
    assert "same pixels at two places" in kinds


def open_function(orders: Path) -> Callable[..., Callable[[Screen], object]]:
    """Return an `_open` whose work dies once before E1, and fails for E3."""

    def open_dying(**options: object) -> Callable[[Screen], object]:
        from distangle.images.quality import plate_workers

        def work(plate: Screen) -> object:
            experiment = plate.sites["experiment"].iloc[0]
            if experiment == "E1" and not (orders / "died").exists():
                (orders / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if experiment == "E3":
                raise OSError(5, "Input/output error")
            return plate_workers._read_plate(plate, **options)  # type: ignore[arg-type]

        return work

    return open_dying


def test_a_plate_that_fails_is_a_finding_and_the_others_are_checked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plate_workers, "_open", open_function(tmp_path))
    assert check(folder, tmp_path / "ray", "--on", "ray", "--workers", "2") == 1
    assert (tmp_path / "died").exists()
    output = capsys.readouterr()
    text = " ".join((output.out + output.err).split())
    assert "plate not checked: E3" in text
    assert "8 sites were not read: [Errno 5] Input/output error." in text
    assert "then run the same command again" in text
    assert "planes 48 = read 31 + unreadable 1 + not looked at 16" in text
    assert "does not add up" not in text
    assert json.loads((tmp_path / "ray/checks.json").read_text())["coverage"]["sites_read"] == 16


def test_a_sample_is_that_of_one_process(folder: Path) -> None:
    screen = read_screen(folder / "screen")
    local, ray = (check_pixels(screen, [1, 9, 10, 20], workers=workers) for workers in (2, RayWorkers(n=2)))
    pd.testing.assert_frame_equal(local[1].planes, ray[1].planes)
    assert local[0] == ray[0]


def test_all_plates_may_fail(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_failing(**_options: object) -> Callable[[Screen], object]:
        def work(plate: Screen) -> object:
            raise OSError(5, "Input/output error")

        return work

    monkeypatch.setattr(plate_workers, "_open", open_failing)
    report, measurements = check_pixels(read_screen(folder / "screen"), range(24), workers=RayWorkers(n=1))
    assert [finding.experiment for finding in report.findings] == ["E1", "E2", "E3"]
    assert len(measurements.planes) == 0
    assert report.invariants[0].holds


def test_a_screen_of_tables_is_refused_before_a_worker_starts(folder: Path) -> None:
    screen = read_screen(folder / "screen")
    screen = Screen(
        metadata=screen.metadata.model_copy(update={"tables_only": True}), sites=screen.sites, problems=screen.problems
    )
    with pytest.raises(ScreenError, match="indexed with --tables-only"):
        check_pixels(screen, [0], workers=RayWorkers(n=1))


def test_pixels_are_needed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder, folder / "none", "--on", "ray", "--no-pixels") == 1
    assert "--on ray reads the pixels of images, and --no-pixels reads none." in capsys.readouterr().err
