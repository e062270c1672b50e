"""A cluster of two nodes, named by RAY_ADDRESS: the files of one process, also if a node is lost."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tiny_run import predicted_in_one_pass

pytestmark = pytest.mark.slow
PROGRAM = (
    "import sys; from distangle.inference import parts; parts.PART_SITES = 8\n"
    "from distangle.cli import main; main(sys.argv[1:])"
)
PATIENCE_S = 240.0  # for a busy machine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/, runs/a (trained), and whole/ (predicted in one pass)."""
    return predicted_in_one_pass(tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of Ray on this machine, with a core each."""
    utilities = pytest.importorskip("ray.cluster_utils", reason="needs Ray: pip install 'distangle[ray]'")
    for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("OMP_NUM_THREADS", "1"), ("RAY_worker_niceness", "0")):
        monkeypatch.setenv(name, value)
    nodes = utilities.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes(timeout=60)
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    yield nodes
    nodes.shutdown()


def start(folder: Path, out: Path) -> "subprocess.Popen[str]":
    """Start a prediction on the cluster of the environment."""
    command = [sys.executable, "-c", PROGRAM, "predict", str(folder / "runs/a"), "--on", "ray", "--out", str(out)]
    return subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.PIPE, text=True)


def assert_same(out: Path, folder: Path) -> None:
    names = sorted(path.name for path in (folder / "whole").iterdir())
    assert sorted(path.name for path in out.iterdir()) == names
    for name in names:
        assert (out / name).read_bytes() == (folder / "whole" / name).read_bytes(), name


def test_the_nodes_of_a_cluster_write_the_bytes_of_one_process(folder: Path, tmp_path: Path, cluster: Any) -> None:
    process = start(folder, tmp_path / "out")
    _, messages = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, messages
    assert_same(tmp_path / "out", folder)


def test_a_node_that_is_lost_on_the_way_changes_nothing(folder: Path, tmp_path: Path, cluster: Any) -> None:
    out = tmp_path / "out"
    process = start(folder, out)
    end = time.monotonic() + PATIENCE_S
    while not list((out / "parts").glob("*.safetensors")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    _, messages = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, messages
    assert_same(out, folder)


def test_a_cluster_that_is_not_there_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'distangle[ray]'")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    process = start(folder, tmp_path / "out")
    _, messages = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "RAY_ADDRESS" in messages
    assert "127.0.0.1:1" in messages
