"""Plates packed on two workers of Ray: the files of one process, also after a death and a failure."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from distangle.cli import main
from distangle.core.partitions import Outcome, RayWorkers
from distangle.errors import StorageError
from distangle.images import pack_screen
from distangle.images.packing import pack_workers
from distangle.screen import read_screen
from tiny_run import tiny_screen

pytestmark = pytest.mark.usefixtures("ray_workers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/ of three plates of eight sites; one image of E2 was changed after the index."""
    root = tmp_path_factory.mktemp("pack")
    tiny_screen(root, hash_files=True)
    (root / "plates/images/E2_3_0.png").write_bytes(b"no image")
    return root


def assert_same_pack(one: Path, other: Path) -> None:
    names = [sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) for root in (one, other)]
    assert names[0] == names[1]
    for name in names[0]:
        if (one / name).is_file() and name not in ("sites.parquet", "screen.json"):  # these have times of files
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    tables = [read_screen(root).sites.drop(columns="mtime") for root in (one, other)]
    pd.testing.assert_frame_equal(*tables)


def test_records_of_two_workers_are_those_of_one_process(folder: Path, tmp_path: Path) -> None:
    pack_screen(read_screen(folder / "screen"), tmp_path / "here", format="records")
    main(["pack", str(folder / "screen"), "--out", str(tmp_path / "ray"), "--format", "records", "--on", "ray"])
    assert_same_pack(tmp_path / "here", tmp_path / "ray")


def open_function(orders: Path) -> Callable[[object], Callable[[Sequence[int]], object]]:
    """Return an `_open` whose work dies once before E1, and fails for E3 while a file says so."""

    def open_dying(open_writer: object) -> Callable[[Sequence[int]], object]:
        from distangle.images.packing import pack_workers

        pack = pack_workers._open(open_writer)  # type: ignore[arg-type]

        def work(rows: Sequence[int]) -> object:
            if rows[0] == 0 and not (orders / "died").exists():
                (orders / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if rows[0] == 16 and (orders / "fail").exists():
                raise OSError(5, "Input/output error")
            return pack(rows)

        return work

    return open_dying


def test_a_plate_that_fails_is_named_and_the_same_command_packs_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pack_screen(read_screen(folder / "screen"), tmp_path / "here")
    (tmp_path / "fail").touch()
    monkeypatch.setattr(pack_workers, "_open", open_function(tmp_path))
    command = ["pack", str(folder / "screen"), "--out", str(tmp_path / "ray"), "--on", "ray", "--workers", "2"]
    with pytest.raises(SystemExit, match="1"):
        main(command)
    assert (tmp_path / "died").exists()
    text = " ".join(capsys.readouterr().err.split())
    assert "1 of 3 plates failed: plate E3 1: [Errno 5] Input/output error The others are packed;" in text
    assert not (tmp_path / "ray/screen.json").exists()
    (tmp_path / "fail").unlink()
    main(command)
    output = capsys.readouterr()
    assert "packed and verified 8 images, kept 15 from before" in output.out
    assert "1 image(s) could not be read and were refused" in output.err
    assert_same_pack(tmp_path / "here", tmp_path / "ray")


def test_a_full_disk_ends_all(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*inputs: object, **_options: object) -> Iterator[Outcome[object]]:
        try:
            yield Outcome(number=0, error=StorageError("the disk is full."))
            raise AssertionError("went on")
        finally:
            pass

    monkeypatch.setattr(pack_workers, "map_on_ray", full)
    with pytest.raises(StorageError, match="the disk is full"):
        pack_screen(read_screen(folder / "screen"), tmp_path / "ray", ray=RayWorkers(n=1))
