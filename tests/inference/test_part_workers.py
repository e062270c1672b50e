"""Parts on two workers of Ray: the files of one process, also after deaths, failures and a killed driver."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from test_stored_parts import FILES

from distangle.cli import main
from distangle.core.partitions import RayWorkers
from distangle.errors import RunError
from distangle.inference import parts as parts_module
from distangle.inference import predict_run
from distangle.inference.part_workers import PartWorkers
from distangle.inference.run import predict_share
from distangle.inference.stored_parts import Share, prediction_lock
from distangle.results import RunFolder
from distangle.screen import read_screen
from tiny_run import go_on, tiny_screen, tiny_start

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'distangle[ray]'")
ALL = Share(number=1, total=1)
ORDERS = "ORDERS_OF_THE_TEST"  # folder of files such as kill-8: die before the part that begins with row 8


def orders_for_workers() -> Callable[[], None]:
    """Return a function that travels to the workers by value: this module does not."""

    def obey_orders() -> None:
        """Make the prediction of a worker die or fail, where a file says so; runs at the start of every worker."""
        import os
        import signal
        from pathlib import Path

        from distangle.errors import RunError
        from distangle.inference.parts import PartPredictor

        predict, orders = PartPredictor.predict, Path(os.environ["ORDERS_OF_THE_TEST"])

        def obey(self: object, rows: object, **words: object) -> object:
            plate = self.store.screen.sites["experiment"].iat[0]  # type: ignore[attr-defined]
            if (orders / f"always-kill-{plate}").exists():
                os.kill(os.getpid(), signal.SIGKILL)
            if (orders / f"kill-{plate}").exists():
                (orders / f"kill-{plate}").unlink()
                (orders / f"killed-{plate}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if (orders / f"fail-{plate}").exists():
                raise RunError("the worker lost its disk.")
            if (orders / f"fault-{plate}").exists():
                raise KeyError("a fault in the code")
            return predict(self, rows, **words)  # type: ignore[arg-type]

        PartPredictor.predict = obey  # type: ignore[assignment,method-assign]

    return obey_orders


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two workers on this machine."""
    folder = tmp_path_factory.mktemp("orders")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            logging_level="error",
            log_to_driver=False,
            runtime_env={"worker_process_setup_hook": orders_for_workers(), "env_vars": {ORDERS: str(folder)}},
        )
        yield folder
        ray.shutdown()


@pytest.fixture(autouse=True)
def _no_orders(orders: Path) -> None:
    for path in orders.iterdir():
        path.unlink()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/, runs/a (trained), and whole/ (predicted in one pass)."""
    root = tmp_path_factory.mktemp("parts")
    run = tiny_start(tiny_screen(root), root / "runs/a", epochs=1)
    go_on(run)
    predict_run(run, read_screen(root / "screen"), out=root / "whole")
    return root


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part has one plate of the tiny screen, of three."""
    monkeypatch.setattr(parts_module, "PART_SITES", 8)


def workers_of(run: RunFolder) -> PartWorkers:
    return PartWorkers(weights=run.checkpoints / "model.safetensors", device=None, ray=RayWorkers(n=2))


def predict_on_ray(folder: Path, out: Path, messages: list[str], **words: object) -> None:
    run, screen = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen")
    predict_share(run, screen, ALL, out=out, workers=workers_of(run), say=messages.append, **words)  # type: ignore[arg-type]


def assert_same(out: Path, folder: Path) -> None:
    for name in (*FILES, "scores.json"):
        assert (out / name).read_bytes() == (folder / "whole" / name).read_bytes(), name
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (folder / "whole").iterdir())


def test_the_command_with_two_workers_writes_the_bytes_of_one_process(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["predict", str(folder / "runs/a"), "--on", "ray", "--workers", "2", "--out", str(tmp_path / "out")])
    assert "3 of 3 parts of the prediction are in" in capsys.readouterr().err
    assert_same(tmp_path / "out", folder)


def test_the_part_of_a_worker_that_dies_is_predicted_again(folder: Path, tmp_path: Path, orders: Path) -> None:
    (orders / "kill-E2").touch()
    messages: list[str] = []
    predict_on_ray(folder, tmp_path / "out", messages)
    assert (orders / "killed-E2").exists()
    assert messages == []
    predict_run(RunFolder.open(folder / "runs/a"), read_screen(folder / "screen"), out=tmp_path / "out")
    assert_same(tmp_path / "out", folder)


def test_parts_that_fail_are_named_the_others_go_on_and_the_same_command_does_the_rest(
    folder: Path, tmp_path: Path, orders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (orders / "fail-E1").touch()
    (orders / "fault-E2").touch()
    out = tmp_path / "out"
    command = ["predict", str(folder / "runs/a"), "--on", "ray", "--workers", "2", "--out", str(out)]
    with pytest.raises(SystemExit, match="1"):
        main(command)
    text = " ".join(capsys.readouterr().err.split())
    assert "part 1 of 3 (plates E1 1) failed: the worker lost its disk." in text
    assert (
        "error: 2 of 3 parts failed: part 1 of 3 (plates E1 1): the worker lost its disk.; part 2 of 3 (plates E2 1): "
        "KeyError: 'a fault in the code'"
    ) in text
    assert [path.name for path in (out / "parts").iterdir()] == ["part-00003-of-00003.safetensors"]
    written = (out / "parts/part-00003-of-00003.safetensors").stat().st_mtime_ns
    (orders / "fail-E1").unlink()
    (orders / "fault-E2").unlink()
    messages: list[str] = []
    predict_on_ray(folder, out, messages)
    assert messages == [f"1 of 3 parts of the prediction are in {out / 'parts'}."]
    assert (out / "parts/part-00003-of-00003.safetensors").stat().st_mtime_ns == written
    main(command)
    assert_same(out, folder)


def test_a_part_that_kills_every_worker_is_named_after_three_deaths(folder: Path, tmp_path: Path, orders: Path) -> None:
    (orders / "always-kill-E3").touch()
    messages: list[str] = []
    with pytest.raises(RunError, match=r"1 of 3 parts failed: part 3 of 3 \(plates E3 1\): its worker died 3 times"):
        predict_on_ray(folder, tmp_path / "out", messages)
    assert sorted(path.name[:10] for path in (tmp_path / "out/parts").iterdir()) == ["part-00001", "part-00002"]


def test_batch_norm_statistics_of_plates_and_folds_reach_the_workers(folder: Path, tmp_path: Path) -> None:
    run, screen = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen")
    for name in ("ray", "here"):
        if name == "ray":
            predict_on_ray(folder, tmp_path / name, [], statistics_source="plate")
        predict_run(run, screen, out=tmp_path / name, statistics_source="plate")
    for name in (*FILES, "scores.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name
    different = (tmp_path / "here/sites.safetensors").read_bytes() != (folder / "whole/sites.safetensors").read_bytes()
    assert different, "the statistics have an effect"


def test_a_screen_that_changed_between_two_parts_is_refused_by_name(folder: Path, tmp_path: Path, orders: Path) -> None:
    (orders / "fail-E1").touch()
    run, screen = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen")
    with pytest.raises(RunError, match="1 of 3 parts failed"):
        predict_on_ray(folder, tmp_path / "out", [])
    (orders / "fail-E1").unlink()
    sites = screen.sites.assign(perturbation=screen.sites["perturbation"].iloc[::-1].to_numpy())
    changed = dataclasses.replace(screen, sites=sites)
    with pytest.raises(RunError, match="was predicted with another screen than now"):
        predict_share(run, changed, ALL, out=tmp_path / "out", workers=workers_of(run))


def test_workers_that_see_other_weights_say_so(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distangle.inference import part_workers

    monkeypatch.setattr(part_workers, "sha256_of", lambda path: "0" * 64)
    with pytest.raises(RunError, match=r"3 of 3 parts failed: .*does not see the same .*model\.safetensors"):
        predict_on_ray(folder, tmp_path / "out", [])


def test_a_second_driver_and_a_share_are_refused_while_the_first_writes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    hold = (
        "import sys, time; from pathlib import Path; from distangle.inference.stored_parts import prediction_lock\n"
        "with prediction_lock(Path(sys.argv[1]), say=print): print('held', flush=True); time.sleep(60)"
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
        deadline = time.monotonic() + 50
        while not first.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert first.exists()
    assert not (out / "scores.json").exists()
    assert (out / ".lock").exists()
    written = first.stat().st_mtime_ns
    shutil.copytree(out, tmp_path / "copy")
    predict_on_ray(folder, tmp_path / "copy", messages := [])
    assert (tmp_path / "copy/parts" / first.name).stat().st_mtime_ns == written
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


def test_rows_of_a_part_are_those_of_the_whole_screen(folder: Path, tmp_path: Path) -> None:
    """The worker numbers its own sites from 0; the file has the numbers of the screen."""
    from distangle.results.prediction_parts import PartFolder

    run, screen = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen")
    parts = predict_share(run, screen, Share(number=2, total=3), out=tmp_path / "out", workers=workers_of(run))
    assert isinstance(parts, PartFolder)
    assert parts.missing() == [0, 2]
    np.testing.assert_array_equal(parts.read(1).rows, np.arange(8, 16))
