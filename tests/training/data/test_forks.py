"""A process that has used threads may fork: no child waits for a missing thread."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_20_forks_after_threads_read_images_and_make_the_same_batches(tmp_path: Path) -> None:
    process = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            str(ROOT / "tests" / "helpers" / "forks.py"),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "8", "PYTHONPATH": str(ROOT / "src")},
    )
    assert process.returncode == 0, process.stderr[-2000:]
    result = json.loads(process.stdout)
    assert result["threads"] >= 8 + 8  # those that decode, and those that compute
    assert result["children"] == ["same"] * 20
    assert result["parent"] == "same"
