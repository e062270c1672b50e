"""The claim on batch noise, on one screen of the documented experiment; takes minutes."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "batch_noise.py"


@pytest.mark.slow
def test_pure_batches_and_plate_norms_gain_fifteen_points_under_strong_batch_effects(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("batch_noise", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    experiment = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(experiment)
    plain, with_noise = (
        float(np.mean(list(experiment.accuracies(tmp_path, 1, *arm).values())))
        for arm in (("random", "running"), ("pure", "plate"))
    )
    assert with_noise >= plain + 0.15
    assert with_noise > 3 / 7  # far above the chance of seven classes
