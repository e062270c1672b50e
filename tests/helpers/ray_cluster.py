"""Start Ray with two workers on this machine, for the tests of a module."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest


@contextlib.contextmanager
def two_workers() -> Iterator[Any]:
    """Yield Ray; skip the test where it is not installed."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'distangle[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise Ray warns of a future change
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_worker_niceness", "0")  # otherwise a busy machine starves the workers
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
        try:
            yield ray
        finally:
            ray.shutdown()
