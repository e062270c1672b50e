"""Time and memory of TVN and Harmony on as many wells as RxRx1 has, 62,755 x 1,024 in 51 experiments."""

import measure  # before numpy: it holds the threads at one

# isort: split
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from distangle.profiles.alignment import align
from distangle.results.profiles import Profiles

WELLS, FEATURES, EXPERIMENTS, PERTURBATIONS = 62_755, 1_024, 51, 1_138
CHAINS = {"tvn": ["tvn"], "tvn + harmony": ["tvn", "harmony"]}


def profiles() -> Profiles:
    """Random perturbations in noise, with a shift per experiment; every 20th well is a control."""
    rng = np.random.default_rng(0)
    experiment = np.arange(WELLS) * EXPERIMENTS // WELLS
    number = rng.integers(PERTURBATIONS, size=WELLS)
    number[::20] = -1
    effects = np.concatenate([rng.normal(size=(PERTURBATIONS, FEATURES)), np.zeros((1, FEATURES))]).astype(np.float32)
    shifts = 2 * rng.normal(size=(EXPERIMENTS, FEATURES)).astype(np.float32)
    values = rng.normal(size=(WELLS, FEATURES)).astype(np.float32)
    values += effects[number]
    values += shifts[experiment]
    table = pd.DataFrame(
        {
            "Metadata_Experiment": [f"e{code:02d}" for code in experiment],
            "Metadata_Plate": "1",
            "Metadata_Well": [f"w{row}" for row in range(WELLS)],
            "Metadata_Perturbation": [f"p{code}" for code in number],
            "Metadata_Role": np.where(number < 0, "negative_control", "treatment"),
        }
    )
    names = tuple(f"f{column}" for column in range(FEATURES))
    return Profiles(level="well", table=table, features=values, feature_names=names)


def prepare(chain: str) -> Callable[[], object]:
    """Return the alignment of the profiles by a chain of steps."""
    unaligned = profiles()
    return lambda: align(unaligned, CHAINS[chain])


def main() -> int:
    """Print CPU time and peak memory beside their limits."""
    calls = {chain: prepare(chain) for chain in CHAINS}
    times = measure.time_variants(calls, rounds=1, warmups=0, clock=time.process_time)
    measure.show_times(times)
    memory = measure.peak_memory(prepare, "tvn + harmony", calls=1)
    measure.show_memory({"tvn + harmony": memory})
    verdicts = [
        measure.verdict("CPU minutes of tvn + harmony", times["tvn + harmony"].median / 60, at_most=5),
        measure.verdict("peak of tvn + harmony, GiB", memory.peak / 2**30, at_most=4),
    ]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
