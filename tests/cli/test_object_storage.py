"""Commands whose folders lie on S3: the files of local ones, also after a kill and on another machine."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_server import S3Server, s3_server
from tiny_run import TRAINING, fingerprints, tiny_screen

SETTINGS = [word for setting in TRAINING for word in ("--set", setting)]
PREDICTIONS = ("sites", "sites_views8", "wells", "wells_views8")
# One plate a part, published at once; the third part waits for a minute.
PROGRAM = """
import sys, time
from distangle.core import publication
from distangle.inference import parts
publication.PUBLISH_EVERY_S, parts.PART_SITES, predict, n = 0.05, 8, parts.PartPredictor.predict, 0
def slow(*given, **named):
    global n
    n += 1
    if n == 3 and sys.argv[1] == "slow":
        time.sleep(60)
    return predict(*given, **named)
parts.PartPredictor.predict = slow
from distangle.cli import main
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("moto") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def home(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine: cache/, and lab/ with the screen and run that s3://bucket/lab has too; images lie on S3 alone."""
    root = tmp_path_factory.mktemp("home")
    tiny_screen(root / "made")
    server.files.put(str(root / "made/plates"), "bucket/lab/plates", recursive=True)
    for lab in ("s3://bucket/lab", str(root / "lab")):
        source = ["s3://bucket/lab/plates/table.csv", "--layout", "table", "--channels", "DNA,actin"]
        server.run("index", *source, "--out", f"{lab}/screen", cache=root / "cache")
        options = ["--preset", "scratch", "--hold-out", "experiment=E3", "--epochs", "1", *SETTINGS]
        server.run("train", f"{lab}/screen", "--out", f"{lab}/runs/a", *options, cache=root / "cache")
    return root


def stored(server: S3Server, folder: str, where: Path) -> Path:
    """Write the objects of a folder to a local one."""
    for name, content in server.contents(folder).items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_bytes(content)
    return where


@pytest.mark.slow
def test_a_screen_and_a_run_on_s3_are_those_of_local_folders(server: S3Server, home: Path, tmp_path: Path) -> None:
    for name in ("screen", "runs/a"):
        there = fingerprints(stored(server, f"lab/{name}", tmp_path / name))
        assert there == fingerprints(home / "lab" / name)
        assert there
    assert not [name for name in server.contents("lab") if ".lock" in name or ".tmp" in name]


@pytest.mark.slow
def test_predictions_and_a_report_of_another_machine_are_those_of_local_folders(
    server: S3Server, home: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "cache"
    said = server.run("predict", "s3://bucket/lab/runs/a", cache=elsewhere)
    assert "s3://bucket/lab/runs/a/predictions/scores.json" in said
    assert said.endswith("next: `distangle explain s3://bucket/lab/runs/a`")
    server.run("predict", str(home / "lab/runs/a"), cache=home / "cache")
    assert "s3://bucket/lab/runs/a/report/index.html" in server.run("report", "s3://bucket/lab/runs/a", cache=elsewhere)
    server.run("report", str(home / "lab/runs/a"), cache=home / "cache")
    there, here = stored(server, "lab/runs/a", tmp_path / "run"), home / "lab/runs/a"
    differing = {name for name in fingerprints(here) if fingerprints(there).get(name) != fingerprints(here)[name]}
    assert {name.rpartition(".")[2] for name in differing} == {"html"}  # they quote the commands
    for name in differing:
        assert str(elsewhere) not in (there / name).read_text()
    assert "all unchanged" in server.run("verify", "s3://bucket/lab/runs/a", cache=tmp_path / "third cache")
    record = json.loads((there / "run.json").read_text())
    assert record["commands"][-1] == "distangle predict s3://bucket/lab/runs/a"
    assert record["screen"] == "../../screen"


def start(server: S3Server, speed: str, *arguments: str, cache: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, speed, *arguments]
    return subprocess.Popen(command, env=server.environment(cache), stderr=subprocess.PIPE, text=True)


def wait_for_parts(server: S3Server, folder: str, n: int) -> list[str]:
    end = time.monotonic() + 120
    while len(parts := [name for name in server.names(folder) if name.startswith("parts/part-")]) < n:
        assert time.monotonic() < end
        time.sleep(0.1)
    return sorted(parts)


@pytest.mark.slow
def test_a_killed_prediction_goes_on_at_its_last_part_on_another_machine(
    server: S3Server, home: Path, tmp_path: Path
) -> None:
    command = ["predict", "s3://bucket/lab/runs/a", "--out", "s3://bucket/lab/killed"]
    with start(server, "slow", *command, cache=tmp_path / "first") as first:
        parts = wait_for_parts(server, "lab/killed", 2)
        second = server.run(*command, cache=tmp_path / "second", status=1)
        assert f"error: s3://bucket/lab/killed is in use by process {first.pid} on" in second
        assert "aws s3 rm s3://bucket/lab/killed/.lock" in second
        first.send_signal(signal.SIGKILL)
    assert parts == ["parts/part-00001-of-00003.safetensors", "parts/part-00002-of-00003.safetensors"]

    # Seen from another machine, the dead process may be alive.
    lock = json.loads(server.contents("lab/killed")[".lock"])
    server.files.pipe_file("bucket/lab/killed/.lock", json.dumps({**lock, "host": "far", "boot": ""}).encode())
    assert "on far, since" in server.run(*command, cache=tmp_path / "second", status=1)
    server.files.rm_file("bucket/lab/killed/.lock")

    before = {name: server.files.info(f"bucket/lab/killed/{name}")["LastModified"] for name in parts}
    with start(server, "fast", *command, cache=tmp_path / "second") as third:
        messages = third.stderr.read() if third.stderr else ""
    assert third.returncode == 0, messages
    assert "2 of 3 parts of the prediction are in s3://bucket/lab/killed/parts." in " ".join(messages.split())
    assert len(before) == 2
    server.run("predict", str(home / "lab/runs/a"), "--out", str(tmp_path / "whole"), cache=home / "cache")
    there = server.contents("lab/killed")
    assert there == {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert {f"{name}.safetensors" for name in PREDICTIONS} < {*there}


@pytest.mark.slow
def test_a_scheduler_that_ends_a_prediction_leaves_its_parts_and_no_lock(
    server: S3Server, home: Path, tmp_path: Path
) -> None:
    command = ["predict", "s3://bucket/lab/runs/a", "--out", "s3://bucket/lab/ended"]
    with start(server, "slow", *command, cache=tmp_path / "first") as first:
        wait_for_parts(server, "lab/ended", 2)
        first.terminate()
        assert first.wait(60) == 130
    assert len(server.contents("lab/ended")) == 2


@pytest.mark.slow
def test_shares_of_two_machines_are_joined_by_a_third(server: S3Server, home: Path, tmp_path: Path) -> None:
    command = ["predict", "s3://bucket/lab/runs/a", "--out", "s3://bucket/lab/shares"]
    shares = [start(server, "fast", *command, "--part", f"{n}/2", cache=tmp_path / f"machine {n}") for n in (1, 2)]
    for share in shares:
        _, messages = share.communicate()
        assert share.returncode == 0, messages
    assert len(wait_for_parts(server, "lab/shares", 3)) == 3
    with start(server, "fast", *command, cache=tmp_path / "third") as third:
        messages = third.stderr.read() if third.stderr else ""
    assert "3 of 3 parts of the prediction are in s3://bucket/lab/shares/parts." in " ".join(messages.split())
    server.run("predict", str(home / "lab/runs/a"), "--out", str(tmp_path / "whole"), cache=home / "cache")
    assert server.contents("lab/shares") == {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kill", "stop"])
def test_a_training_goes_on_from_its_last_checkpoint_on_another_machine(
    server: S3Server, home: Path, tmp_path: Path, kind: str
) -> None:
    url = f"s3://bucket/lab/runs/{kind}"
    options = ["--preset", "scratch", "--hold-out", "experiment=E3", "--epochs", "3", *SETTINGS]
    options += ["--set", "checkpointing.every_steps=1"]
    program = PROGRAM.replace("main(sys.argv[2:])", "") + (
        "from distangle.training.checkpointing.manager import CheckpointManager as Manager\n"
        "save = Manager.save\n"
        "def slow_save(self, state, *others):\n"
        "    save(self, state, *others)\n"
        "    time.sleep(60 if state.epochs_done == 1 and state.steps_done == 1 and sys.argv[1] == 'slow' else 0)\n"
        "Manager.save = slow_save\n"
        "main(sys.argv[2:])\n"
    )
    command = [sys.executable, "-c", program, "slow", "train", "s3://bucket/lab/screen", "--out", url, *options]
    with subprocess.Popen(command, env=server.environment(tmp_path / "first")) as first:
        end = time.monotonic() + 120
        while "checkpoints/epoch-0001-step-000001.json" not in server.names(f"lab/runs/{kind}"):
            assert time.monotonic() < end
            time.sleep(0.1)
        first.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        assert first.wait(90) == (-signal.SIGKILL if kind == "kill" else 75)
    assert (".lock" in server.names(f"lab/runs/{kind}")) == (kind == "kill")
    said = server.run("train", "--resume", url, cache=tmp_path / "second")
    assert ("resumed after step 1 of epoch 2" if kind == "kill" else "resumed after ") in said
    local = tmp_path / "runs/whole"
    screen = home / "lab/screen"
    server.run("train", str(screen), "--out", str(local), *options, cache=home / "cache")
    there = fingerprints(stored(server, f"lab/runs/{kind}", tmp_path / "fetched"))
    assert there.keys() == fingerprints(local).keys()
    assert {name for name in there if there[name] != fingerprints(local)[name]} <= {"run.json"}  # names the screen


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            "train s3://bucket/lab/screen --out s3://none/runs/a",
            {},
            "s3://none/runs/a/.lock cannot be written: the bucket or container 'none' does not exist. Create it, or",
        ),
        (
            "predict s3://bucket/denied",
            {"anon": True, "key": None, "secret": None},
            "(PermissionError: Forbidden). Check the address and the access to it",
        ),
        ("verify s3://bucket/none", {}, "s3://bucket/none does not exist, or is empty. Check the address."),
    ],
)
def test_what_cannot_be_read_or_written_is_refused_with_the_url_and_the_cause(
    server: S3Server, tmp_path: Path, arguments: str, options: dict[str, object], message: str
) -> None:
    assert message in server.run(*arguments.split(), cache=tmp_path / "cache", status=1, **options)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".in-use"]


def test_two_drivers_that_begin_at_once_are_one(server: S3Server, tmp_path: Path) -> None:
    program = (
        "import sys; from distangle.core.remote import RemotePath; from distangle.core.remote_lock import remote_lock\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "with remote_lock(RemotePath('s3://bucket/race'), say=print):\n"
        "    print('held', flush=True); sys.stdin.readline()\n"
    )
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=server.environment(tmp_path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for driver in drivers:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
    for driver in drivers:
        assert driver.stdin is not None
        driver.stdin.write("\n")
        driver.stdin.flush()
    time.sleep(5)
    results = [driver.communicate("\n") for driver in drivers]
    assert sorted(output for output, _ in results) == ["", "", "", "held\n"]
    assert sum("RunError: s3://bucket/race is in use by process" in errors for _, errors in results) == 3
    assert server.contents("race") == {}
