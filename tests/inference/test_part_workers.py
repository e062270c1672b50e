"""Parts on two workers of Ray: the files of one process, also after deaths, failures and a killed driver."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from safetensors.numpy import load_file
from test_stored_parts import FILES

from distangle.cli import main
from distangle.core.partitions import RayWorkers
from distangle.errors import RunError
from distangle.inference import PredictionOptions, part_workers, predict_run
from distangle.inference import parts as parts_module
from distangle.inference.part_workers import PartWorkers
from distangle.inference.run import predict_share
from distangle.inference.stored_parts import Share, prediction_lock
from distangle.results import RunFolder
from distangle.results.prediction_parts import PartFolder
from distangle.screen import read_screen
from tiny_run import predicted_in_one_pass

pytestmark = pytest.mark.usefixtures("ray_workers")
ALL = Share(number=1, total=1)


def open_function(orders: Path) -> Callable[[object], Callable[[object], int]]:
    """Return an `_open` whose work dies or fails where a file orders it; nested, so that it is pickled by value.

    Args:
        orders: Folder of files such as `kill-E2`: die once before the plate of E2.
    """

    def open_obeying(job: object) -> Callable[[object], int]:
        import os
        import signal

        from distangle.errors import RunError
        from distangle.inference import part_workers

        predict = part_workers._open(job)  # type: ignore[arg-type]

        def obey(plates: object) -> int:
            plate = plates.screen.sites["experiment"].iat[0]  # type: ignore[attr-defined]
            if (orders / f"kill-{plate}").exists():
                (orders / f"kill-{plate}").unlink()
                (orders / f"killed-{plate}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if (orders / f"fail-{plate}").exists():
                raise RunError("the worker lost its disk.")
            if (orders / f"fault-{plate}").exists():
                raise KeyError("a fault in the code")
            return predict(plates)  # type: ignore[arg-type]

        return obey

    return open_obeying


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of orders that the workers obey."""
    folder = tmp_path / "orders"
    folder.mkdir()
    monkeypatch.setattr(part_workers, "_open", open_function(folder))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/, runs/a (trained), and whole/ (predicted in one pass)."""
    return predicted_in_one_pass(tmp_path_factory.mktemp("parts"))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part has one plate of the tiny screen, of three."""
    monkeypatch.setattr(parts_module, "PART_SITES", 8)


def workers_of(run: RunFolder) -> PartWorkers:
    return PartWorkers(weights=run.checkpoints / "model.safetensors", device=None, ray=RayWorkers(n=1))


def predict_on_ray(folder: Path, out: Path, messages: list[str], **options: object) -> None:
    run, screen = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen")
    predict_share(run, screen, ALL, out=out, workers=workers_of(run), say=messages.append, **options)  # type: ignore[arg-type]


def assert_same(out: Path, folder: Path) -> None:
    for name in (*FILES, "scores.json"):
        assert (out / name).read_bytes() == (folder / "whole" / name).read_bytes(), name
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (folder / "whole").iterdir())


def test_two_workers_one_of_which_dies_write_the_bytes_of_one_process(
    folder: Path, tmp_path: Path, orders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (orders / "kill-E2").touch()
    main(["predict", str(folder / "runs/a"), "--on", "ray", "--workers", "2", "--out", str(tmp_path / "out")])
    assert (orders / "killed-E2").exists()
    assert "3 of 3 parts of the prediction are in" in capsys.readouterr().err
    assert_same(tmp_path / "out", folder)


def test_parts_that_fail_are_named_the_others_go_on_and_the_same_command_does_the_rest(
    folder: Path, tmp_path: Path, orders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (orders / "fail-E1").touch()
    (orders / "fault-E2").touch()
    run, screen, out = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen"), tmp_path / "out"
    command = ["predict", str(folder / "runs/a"), "--on", "ray", "--workers", "1", "--out", str(out)]
    with pytest.raises(SystemExit, match="1"):
        main(command)
    text = " ".join(capsys.readouterr().err.split())
    assert "part 1 of 3 (plates E1 1) failed: the worker lost its disk." in text
    assert (
        "error: 2 of 3 parts failed: part 1 of 3 (plates E1 1): the worker lost its disk.; part 2 of 3 (plates E2 1): "
        "KeyError: 'a fault in the code'"
    ) in text
    part = out / "parts/part-00003-of-00003.safetensors"
    assert [path.name for path in (out / "parts").iterdir()] == [part.name]
    np.testing.assert_array_equal(load_file(part)["rows"], np.arange(16, 24))  # of the screen, not of the worker

    sites = screen.sites.assign(perturbation=screen.sites["perturbation"].iloc[::-1].to_numpy())
    other_screen = dataclasses.replace(screen, sites=sites)
    with pytest.raises(RunError, match="was predicted with another screen than now"):
        predict_share(run, other_screen, ALL, out=out, workers=workers_of(run))

    (orders / "fail-E1").unlink()
    (orders / "fault-E2").unlink()
    modified = part.stat().st_mtime_ns
    predict_on_ray(folder, out, messages := [])
    assert messages == [f"1 of 3 parts of the prediction are in {out / 'parts'}."]
    assert part.stat().st_mtime_ns == modified
    predict_run(run, screen, out=out)
    assert_same(out, folder)


def open_statistics_function(orders: Path) -> Callable[[object], Callable[[object], object]]:
    """Return an `_open_statistics` whose work notes each experiment, and fails where a file orders it."""

    def open_noting(job: object) -> Callable[[object], object]:
        from distangle.errors import RunError
        from distangle.inference import part_workers

        compute = part_workers._open_statistics(job)  # type: ignore[arg-type]

        def note(plates: object) -> object:
            experiment = plates.screen.sites["experiment"].iat[0]  # type: ignore[attr-defined]
            (orders / f"computed-{experiment}").touch()
            if (orders / f"fail-{experiment}").exists():
                raise RunError("the worker lost its disk.")
            return compute(plates)  # type: ignore[arg-type]

        return note

    return open_noting


@pytest.mark.parametrize("source", ["plate", "experiment"])
def test_workers_compute_the_batch_norm_statistics_of_the_plates(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Literal["plate", "experiment"]
) -> None:
    monkeypatch.setattr(part_workers, "_open_statistics", open_statistics_function(tmp_path))
    run, screen = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen")
    predict_on_ray(folder, tmp_path / "ray", [], statistics_source=source)
    assert sorted(path.name for path in tmp_path.glob("computed-*")) == ["computed-E1", "computed-E2", "computed-E3"]
    for name in ("ray", "here"):
        predict_run(run, screen, out=tmp_path / name, statistics_source=source)
    for name in (*FILES, "scores.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name
    different = (tmp_path / "here/sites.safetensors").read_bytes() != (folder / "whole/sites.safetensors").read_bytes()
    assert different, "the statistics have an effect"


def test_experiments_whose_statistics_fail_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_workers, "_open_statistics", open_statistics_function(tmp_path))
    (tmp_path / "fail-E1").touch()
    with pytest.raises(
        RunError,
        match="The batch-norm statistics of 1 of 3 experiments failed: E1: the worker lost its disk. "
        "Nothing was predicted. Check the workers",
    ):
        predict_on_ray(folder, tmp_path / "ray", [], statistics_source="plate")
    assert (tmp_path / "computed-E3").exists(), "the others go on"


def test_a_worker_that_sees_other_weights_says_so(folder: Path, tmp_path: Path) -> None:
    weights = folder / "runs/a/checkpoints/model.safetensors"
    parts = PartFolder(tmp_path, [], {})
    for path in (weights, tmp_path / "model.safetensors"):
        network = part_workers._NetworkFile(weights=path, sha256="0" * 64, device=None)
        job = part_workers._Job(network=network, options=PredictionOptions(), parts=parts)
        with pytest.raises(RunError, match=r"does not see the same .*model\.safetensors as this machine\. Put the run"):
            part_workers._open(job)


def test_a_second_driver_and_a_share_are_refused_while_the_first_writes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    hold = (
        "import sys, time; from pathlib import Path; from distangle.core.lock import run_lock\n"
        "with run_lock(Path(sys.argv[1]), say=print): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(out)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        try:
            for flags in (["--on", "ray"], [], ["--part", "1/2"]):
                with pytest.raises(SystemExit, match="1"):
                    main(["predict", str(folder / "runs/a"), "--out", str(out), *flags])
                assert f"is in use by process {first.pid}" in " ".join(capsys.readouterr().err.split())
            assert [path.name for path in out.iterdir()] == [".lock"]
        finally:
            first.kill()
    messages: list[str] = []
    with prediction_lock(out, say=messages.append):
        assert out.exists()
    assert len(messages) == 1
    assert "cleared the lock of process" in messages[0]
    assert not out.exists()


def test_a_killed_driver_leaves_parts_that_the_same_command_goes_on_from(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = (
        "import sys; from distangle.inference import parts; parts.PART_SITES = 8; from distangle.cli import main\n"
        "from distangle.inference import part_workers; import time; real = part_workers._plates_of\n"
        "def slow(predictor, rows, number):\n    time.sleep(60 if number == 2 else 0)\n"
        "    return real(predictor, rows, number)\n"
        "part_workers._plates_of = slow\n"
        "main(sys.argv[1:])"
    )
    command = ["predict", str(folder / "runs/a"), "--on", "ray", "--workers", "1", "--out", str(out)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    driver = subprocess.Popen([sys.executable, "-c", program, *command], env=environment, stderr=subprocess.DEVNULL)
    first = out / "parts/part-00001-of-00003.safetensors"
    try:
        deadline = time.monotonic() + 150  # a limit for a busy machine
        while not first.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert first.exists()
    assert not (out / "scores.json").exists()
    assert (out / ".lock").exists()
    modified = first.stat().st_mtime_ns
    shutil.copytree(out, tmp_path / "copy")
    predict_on_ray(folder, tmp_path / "copy", messages := [])
    assert (tmp_path / "copy/parts" / first.name).stat().st_mtime_ns == modified
    assert messages[0].endswith(f"of 3 parts of the prediction are in {tmp_path / 'copy/parts'}.")
    main(command)
    assert_same(out, folder)


def test_flags_that_do_not_fit_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(folder / "runs/a")
    for flags, message in (
        (["--workers", "2"], "Remove --workers: not allowed with --on local."),
        (["--on", "ray", "--workers", "0"], "--workers 0: expected 1 or more."),
        (["--on", "ray", "--device", "cuda:1"], "--device cuda:1 --on ray: expected cpu or cuda."),
    ):
        with pytest.raises(SystemExit, match="1"):
            main(["predict", run, *flags])
        assert message in " ".join(capsys.readouterr().err.split())
