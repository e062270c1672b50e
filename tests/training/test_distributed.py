"""Two ranks on this machine, really launched by torch.distributed.run with gloo, against one process."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import two_ranks
from distangle.cli import main
from distangle.results import Predictions
from tiny_run import TRAINING, tiny_screen

HERE = Path(__file__).resolve().parent
# Dropout, the moving average and running statistics too must come out as in one process.
SET = tuple(change for change in TRAINING if not change.startswith("gradient_accumulation"))
WORDS = ("--preset", "scratch", *(word for change in SET for word in ("--set", change)), "--hold-out", "experiment=E3")


def launch(*arguments: str, patience: str = "20") -> subprocess.Popen[str]:
    """Start two ranks of a script or (`-m`) a module."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    paths = os.pathsep.join([str(HERE.parent.parent / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "DISTANGLE_RANK_TIMEOUT_S": patience}
    return subprocess.Popen(
        [*launcher, "--master-port", str(port), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/, and the run runs/one of one process that accumulates twice as many batches as each rank of runs/two."""
    root = tmp_path_factory.mktemp("ranks")
    tiny_screen(root)
    train = ["train", str(root / "screen"), *WORDS, "--epochs", "3"]
    two = str(root / "runs/two")
    (root / "words.json").write_text(
        json.dumps([[*train, "--out", two, "--gradient-accumulation", "1"], ["predict", two]])
    )
    process = launch(str(HERE.parent / "helpers" / "two_ranks.py"), str(root))
    main([*train, "--out", str(root / "runs/one"), "--gradient-accumulation", "2"])
    main(["predict", str(root / "runs/one")])
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    (root / "said.txt").write_text(output)
    return root


def test_two_ranks_do_one_step_as_one_process_does(folder: Path) -> None:
    one_rank = two_ranks.step()
    two_rank_steps = [json.loads((folder / f"{number}.json").read_text()) for number in range(2)]
    assert two_rank_steps[0]["step"] == two_rank_steps[1]["step"]
    for name, expected in one_rank.items():
        assert two_rank_steps[0]["step"][name] == pytest.approx(expected, rel=1e-5, abs=1e-6), name
    assert [rank_step["share"] for rank_step in two_rank_steps] == [[0, 1, 2, 3], [4, 5, 6]]
    for rank_step in two_rank_steps:
        assert rank_step["same"] == ""
        assert rank_step["other"].startswith("Rank 1 of 2 has another class list than the first rank.")
        assert (
            "expected row 0 of the screen to be evaluated 1 time(s) in the prediction, and it was 2"
            in rank_step["twice"]
        )


def test_two_ranks_train_as_one_that_accumulates_twice(folder: Path) -> None:
    one_rank, two_ranks_metrics = (pd.read_csv(folder / f"runs/{name}/metrics.csv") for name in ("one", "two"))
    assert len(two_ranks_metrics) == 3
    np.testing.assert_allclose(two_ranks_metrics.to_numpy(), one_rank.to_numpy(), rtol=1e-5)
    weights = [load_file(folder / f"runs/{name}/checkpoints/model.safetensors") for name in ("one", "two")]
    for name, tensor in weights[0].items():
        np.testing.assert_allclose(weights[1][name], tensor, rtol=1e-4, atol=1e-5, err_msg=name)
    assert (folder / "said.txt").read_text().count("runs/two\n") == 1  # only the first rank prints


def test_two_ranks_predict_each_site_once(folder: Path) -> None:
    one, two = (Predictions.read(folder / f"runs/{name}/predictions", level="site", views=8) for name in ("one", "two"))
    assert len(two.table) == len(one.table) == 24
    assert (two.table["predicted"] == one.table["predicted"]).all()
    np.testing.assert_allclose(two.logits, one.logits, atol=1e-3)
    np.testing.assert_allclose(two.embedding, one.embedding, atol=1e-3)


@pytest.mark.slow
def test_a_group_that_the_launcher_began_is_used_and_left_to_it(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "words.json").write_text("[]")
    process = launch(str(HERE.parent / "helpers" / "two_ranks.py"), str(tmp_path), "begun")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    for number in range(2):
        name = f"{number}.json"
        assert json.loads((tmp_path / name).read_text()) == json.loads((folder / name).read_text())


@pytest.mark.slow
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_dies_or_stalls_ends_all_and_promotes_nothing(folder: Path, fault: signal.Signals) -> None:
    out = folder / f"runs/{fault.name}"
    arguments = ["train", str(folder / "screen"), "--out", str(out), *WORDS, "--epochs", "5000"]
    process = launch("-m", "distangle", *arguments)
    wait_for(out / "metrics.csv")
    victim = process_of_rank(process.pid, 1)
    os.kill(victim, fault)
    start = time.monotonic()
    try:
        output, _ = process.communicate(timeout=90)
    finally:
        process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    assert time.monotonic() - start < 60
    assert process.returncode != 0
    assert not (out / "checkpoints/model.safetensors").exists()
    assert json.loads((out / "run.json").read_text())["finished"] is False
    if fault == signal.SIGSTOP:  # after a dead rank, torchrun may end the other before it prints
        assert "and another rank did not arrive: it ended, stalled or lost its connection" in output
        assert "Last positions: rank 0 on" in output


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_and_saves_all(folder: Path) -> None:
    out = folder / "runs/signalled"
    process = launch("-m", "distangle", "train", str(folder / "screen"), "--out", str(out), *WORDS, "--epochs", "5000")
    try:
        wait_for(out / "metrics.csv")
        os.kill(process_of_rank(process.pid, 1), signal.SIGUSR1)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "Stopped by SIGUSR1. Saved after" in output  # of the rank that got it
    assert "exitcode  : 75" in output
    assert not (out / "checkpoints/model.safetensors").exists()
    assert json.loads((out / "run.json").read_text())["finished"] is False


def test_a_verb_for_one_process_refuses_a_launcher(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        main(["report", "run"])
    assert "`distangle report` runs in one process, but WORLD_SIZE is 2." in capsys.readouterr().err


def test_a_launcher_that_sets_only_a_part_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SystemExit):
        main(["predict", "run"])
    message = capsys.readouterr().err
    assert "WORLD_SIZE is 2, but LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set." in message


def process_of_rank(launcher: int, number: int) -> int:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(process.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1])
            environment = process.joinpath("environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == launcher and f"RANK={number}".encode() in environment:
            return int(process.name)
    message = f"no rank {number} under {launcher}"
    raise AssertionError(message)


def wait_for(path: Path, *, timeout: float = 120) -> None:
    end = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.1)
