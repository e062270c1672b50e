"""Two workers of Ray Train, one of which dies once, against one process (`pip install ray[train]`)."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from distangle.core.progress import no_progress
from distangle.screen import hold_out
from distangle.training import resolve_config, start_run, train
from tiny_run import TRAINING, tiny_screen

HERE = Path(__file__).resolve().parent
CHANGES = [change for change in TRAINING if not change.startswith("gradient_accumulation")]

SETTINGS = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "DISTANGLE_RANK_TIMEOUT_S": "20"}


@pytest.mark.slow
def test_two_workers_of_ray_go_on_after_a_death_and_train_as_one_process_that_accumulates_twice(tmp_path: Path) -> None:
    pytest.importorskip("ray.train.torch", reason="needs Ray Train: pip install 'ray[train]'")
    screen = tiny_screen(tmp_path)
    paths = os.pathsep.join([str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, str(HERE / "ray_ranks.py"), str(tmp_path), *CHANGES],
        env={**os.environ, **SETTINGS, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == ["True", "True"], "begun by those before"
    config = resolve_config("scratch", [*CHANGES, "gradient_accumulation=2"], epochs=3)
    single_run = start_run(screen, hold_out(screen, column="experiment", values=["E3"]), config, tmp_path / "runs/one")
    train(single_run, advance=no_progress, say=no_progress)
    metrics = [pd.read_csv(tmp_path / f"runs/{name}/metrics.csv").to_numpy() for name in ("ray", "one")]
    assert len(metrics[0]) == 3
    np.testing.assert_allclose(metrics[0], metrics[1], rtol=1e-5)
    weights = [load_file(tmp_path / f"runs/{name}/checkpoints/model.safetensors") for name in ("ray", "one")]
    for name, tensor in weights[1].items():
        np.testing.assert_allclose(weights[0][name], tensor, rtol=1e-4, atol=1e-5, err_msg=name)
