"""Calibration of the p-values of mean average precision on noise, and its time and memory on 10,000 x 1,024."""

import importlib.util
import sys
import time
from collections.abc import Callable

import numpy as np

import measure
from distangle.profiles.label_retrieval import consistency
from distangle.profiles.retrieval import activity

GROUPS = 600
DRAWS = 199
CONTROLS = 16


def p_values(replicates: int, plates: int) -> np.ndarray:
    """P of groups of noise in 20 dimensions; every plate has its own shift."""
    rng = np.random.default_rng([replicates, plates])
    names = np.array(["x"] * replicates + ["dmso"] * CONTROLS * plates)
    blocks = np.concatenate([np.arange(replicates) % plates, np.repeat(np.arange(plates), CONTROLS)])
    p = []
    for seed in range(GROUPS):
        features = rng.normal(size=(len(names), 20)) + rng.normal(size=(plates, 20))[blocks]
        p.append(activity(features, names, names == "dmso", blocks, n_draws=DRAWS, seed=seed)["p"][0])
    return np.array(p)


def prepare(kind: str) -> Callable[[], object]:
    """40 plates of 250 wells: 50 controls, 200 perturbations in 4 plates each; 100 labels of 20 perturbations."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(10_000, 1024)).astype(np.float32)
    blocks = np.repeat(np.arange(40), 250)
    is_control = np.tile(np.arange(250) < 50, 40)
    names = np.where(is_control, -1, np.arange(10_000) % 250 + 250 * (blocks // 4))
    if kind == "consistency":
        labels = [set() if control else {f"l{name % 100}"} for name, control in zip(names, is_control, strict=True)]
        return lambda: consistency(features, names, labels)
    draws = 0 if kind == "activity" else 99
    return lambda: activity(features, names, is_control, blocks, n_draws=draws)


def main() -> int:
    """Print the table and the time."""
    kept = []
    print(f"Noise, {GROUPS} groups, {CONTROLS} controls per plate, {DRAWS} draws where not all are enumerated")
    error = 3 * np.sqrt(0.05 * 0.95 / GROUPS)
    for replicates in (2, 4, 8):
        for plates in (1, 4):
            p = p_values(replicates, plates)
            what = f"{replicates} replicates, {plates} plate(s): p <= .01 {(p <= 0.01).mean():.3f}, p <= .05"
            kept.append(
                measure.verdict(what, float((p <= 0.05).mean()), at_least=round(0.05 - error, 4), at_most=0.05 + error)
            )
    if importlib.util.find_spec("copairs") is None:
        print("copairs is absent: no time of a peer (pip install copairs)")
    kinds = ("activity", "activity, 99 draws", "consistency")
    calls = {kind: prepare(kind) for kind in kinds}
    if importlib.util.find_spec("copairs") is not None:
        calls["copairs"] = peer()
    measure.show_times(measure.time_variants(calls, rounds=1, warmups=0, clock=time.process_time))
    memories = {kind: measure.peak_memory(prepare, kind, calls=1) for kind in kinds}
    measure.show_memory(memories)
    kept += [measure.verdict(f"peak of {kind}, GiB", m.peak / 2**30, at_most=4) for kind, m in memories.items()]
    return 0 if all(kept) else 1


def peer() -> Callable[[], object]:
    """Average precision of copairs on the rows of `prepare("activity")`."""
    import pandas as pd
    from copairs.map import average_precision

    features = np.random.default_rng(0).normal(size=(10_000, 1024)).astype(np.float32)
    blocks = np.repeat(np.arange(40), 250)
    is_control = np.tile(np.arange(250) < 50, 40)
    names = np.where(is_control, -1, np.arange(10_000) % 250 + 250 * (blocks // 4))
    own = np.where(is_control, np.arange(10_000), -1)
    table = pd.DataFrame({"plate": blocks, "name": names, "reference": own, "control": is_control})
    return lambda: average_precision(
        table,
        features,
        pos_sameby=["name", "reference"],
        pos_diffby=[],
        neg_sameby=["plate"],
        neg_diffby=["name", "reference"],
    )


if __name__ == "__main__":
    sys.exit(main())
