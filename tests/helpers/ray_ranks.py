"""Two workers of Ray Train that train a run on the screen of a folder; the second dies once, after its first epoch.

python tests/helpers/ray_ranks.py FOLDER CHANGE...
"""

import os
import signal
import sys
from pathlib import Path

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def main(folder: Path, changes: list[str]) -> None:
    """Start Ray on this machine, train `runs/ray` as docs/clusters.md says, and stop Ray."""

    def work() -> None:
        from distangle.core.distributed import init_process_group, n_ranks, rank, wait_for_all
        from distangle.core.progress import no_progress
        from distangle.results import RunFolder
        from distangle.screen import hold_out, read_screen
        from distangle.training import resolve_config, start_run, train

        out = folder / "runs/ray"

        def die_once(_message: str) -> None:
            if rank() == 1 and not has_run:
                os.kill(os.getpid(), signal.SIGKILL)

        with init_process_group():
            assert n_ranks() == 2
            has_run = (out / "run.json").exists()
            wait_for_all("looking for the run")
            if has_run:
                run = RunFolder.open(out)
            else:
                screen = read_screen(folder / "screen")
                folds = hold_out(screen, column="experiment", values=["E3"])
                run = start_run(screen, folds, resolve_config("scratch", changes, epochs=3), out)
            train(run, advance=die_once, say=no_progress)
            (folder / f"{rank()}.txt").write_text(str(has_run))

    environment = {name: os.environ[name] for name in ("PYTHONPATH", "OMP_NUM_THREADS", "DISTANGLE_RANK_TIMEOUT_S")}
    ray.init(
        num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, runtime_env={"env_vars": environment}
    )
    TorchTrainer(
        work,
        scaling_config=ScalingConfig(num_workers=2, use_gpu=False),
        run_config=RunConfig(storage_path=str(folder / "ray"), failure_config=FailureConfig(max_failures=1)),
    ).fit()
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
