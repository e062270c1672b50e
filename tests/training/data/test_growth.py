"""The memory of an epoch does not grow with the epochs, and hardly with the table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MIB = 1 << 20


@pytest.mark.parametrize(
    ("n_sites", "bound"), [(300_000, 16 * MIB), pytest.param(2_000_000, 50 * MIB, marks=pytest.mark.slow)]
)
def test_two_epochs_over_a_long_table_add_little_to_the_memory(tmp_path: Path, n_sites: int, bound: int) -> None:
    process = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "helpers" / "growth.py"), str(tmp_path), str(n_sites)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")},
    )
    assert process.returncode == 0, process.stderr[-2000:]
    result = json.loads(process.stdout)
    assert result["batches"] >= 2 * (n_sites // 64 // 500)
    assert result["largest"] <= bound, result
    assert result["second"] - result["first"] <= bound / 2, result
