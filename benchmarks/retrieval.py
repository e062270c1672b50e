"""Calibration of the p-values of mean average precision on noise, and its time and memory.

Time of mean average precision on 10,000 x 1,024 beside copairs, and of the p-values of 1,108 perturbations in 33 wells.
"""

import importlib.util
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

import measure
from distangle.profiles.label_retrieval import consistency
from distangle.profiles.retrieval import activity

GROUPS = 600
DRAWS = 199
CONTROLS = 16
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def noise(replicates: int, plates: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of noise, [group, row, feature]; every plate has its own shift. Names and plates of the rows."""
    rng = np.random.default_rng([replicates, plates])
    names = np.array(["x"] * replicates + ["dmso"] * CONTROLS * plates)
    blocks = np.concatenate([np.arange(replicates) % plates, np.repeat(np.arange(plates), CONTROLS)])
    groups = [rng.normal(size=(len(names), 20)) + rng.normal(size=(plates, 20))[blocks] for _ in range(GROUPS)]
    return np.array(groups), names, blocks


def p_values(replicates: int, plates: int) -> np.ndarray:
    """P of groups of noise."""
    groups, names, blocks = noise(replicates, plates)
    p = [
        activity(features, names, names == "dmso", blocks, n_draws=DRAWS, seed=seed)["p"][0]
        for seed, features in enumerate(groups)
    ]
    return np.array(p)


def p_values_of_peer(replicates: int, plates: int) -> np.ndarray:
    """P of copairs for the same groups; each has plates of its own, so that all are one table."""
    from copairs.map import average_precision, mean_average_precision

    groups, names, blocks = noise(replicates, plates)
    number = np.repeat(np.arange(GROUPS), len(names))
    is_control = np.tile(names == "dmso", GROUPS)
    table = pd.DataFrame(
        {
            "plate": number * plates + np.tile(blocks, GROUPS),
            "name": np.where(is_control, -1, number),
            "reference": np.where(is_control, np.arange(len(number)), -1),
        }
    )
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as cache:
        warnings.simplefilter("ignore")
        rows = average_precision(
            table,
            np.concatenate(groups),
            pos_sameby=["name", "reference"],
            pos_diffby=[],
            neg_sameby=["plate"],
            neg_diffby=["name", "reference"],
            progress_bar=False,
        )
        result = mean_average_precision(
            rows[rows["name"] >= 0],
            ["name"],
            null_size=1000,
            threshold=0.05,
            seed=0,
            progress_bar=False,
            cache_dir=cache,
        )
    return result["p_value"].to_numpy()


def forty_plates() -> Rows:
    """40 plates of 250 wells: 50 controls, 200 perturbations in 4 plates each; noise of 1,024 features."""
    features = np.random.default_rng(0).normal(size=(10_000, 1024)).astype(np.float32)
    blocks = np.repeat(np.arange(40), 250)
    is_control = np.tile(np.arange(250) < 50, 40)
    names = np.where(is_control, -1, np.arange(10_000) % 250 + 250 * (blocks // 4))
    return features, names, is_control, blocks


def replicate(effect: float, controls: int) -> Rows:
    """1,108 perturbations, one well in each of 33 experiments of 4 plates, as RxRx1; 1,024 features.

    Args:
        effect: Length of the planted effect, in standard deviations of a feature.
        controls: Negative controls per plate.
    """
    rng = np.random.default_rng(0)
    names, blocks = [], []
    for experiment in range(33):
        for plate, members in enumerate(np.array_split(rng.permutation(1108), 4)):
            names += [members, np.full(controls, -1)]
            blocks.append(np.full(len(members) + controls, 4 * experiment + plate))
    name, block = np.concatenate(names), np.concatenate(blocks)
    features = rng.normal(size=(len(name), 1024)).astype(np.float32)
    directions = effect * rng.normal(size=(1108, 1024)).astype(np.float32)
    features[name >= 0] += directions[name[name >= 0]]
    return features, name, name == -1, block


def prepare(kind: str) -> Callable[[], object]:
    """Return what is measured."""
    if kind.startswith("replicated"):
        rows = replicate(*{"noise": (0.0, 1), "active": (0.15, 1), "active, 16": (0.15, CONTROLS)}[kind[12:]])
        return lambda: activity(*rows)
    features, names, is_control, blocks = forty_plates()
    if kind == "consistency":
        labels = [set() if control else {f"l{name % 100}"} for name, control in zip(names, is_control, strict=True)]
        return lambda: consistency(features, names, labels)
    draws = 99 if "99" in kind else 0
    return lambda: activity(features, names, is_control, blocks, n_draws=draws)


def peer() -> Callable[[], pd.Series]:
    """Mean average precision of copairs on the rows of `forty_plates`, by perturbation."""
    from copairs.map import average_precision

    features, names, is_control, blocks = forty_plates()
    references = np.where(is_control, np.arange(len(names)), -1)
    table = pd.DataFrame({"plate": blocks, "name": names, "reference": references})

    def call() -> pd.Series:
        rows = average_precision(
            table,
            features,
            pos_sameby=["name", "reference"],
            pos_diffby=[],
            neg_sameby=["plate"],
            neg_diffby=["name", "reference"],
            progress_bar=False,
        )
        return rows[rows["name"] >= 0].groupby("name")["average_precision"].mean()

    return call


def compare_with_peer() -> list[bool]:
    """Print the time beside copairs, and whether the values are equal."""
    ours = prepare("activity")
    if importlib.util.find_spec("copairs") is None:
        print("copairs is absent: no time and no values of a peer (pip install 'distangle[bench]')")
        measure.show_times(measure.time_variants({"activity": ours}, rounds=3, warmups=1))
        return []
    theirs = peer()
    values = ours().set_index("perturbation")["mean_average_precision"]
    equal = float(((values - theirs()[values.index]).abs() < 1e-6).mean())
    times = measure.time_variants({"copairs": theirs, "activity": ours}, rounds=3, warmups=0)
    measure.show_times(times)
    ratio = times["copairs"].median / times["activity"].median
    return [
        measure.verdict("share of 2,000 perturbations equal (cosines within 1e-6 are our ties)", equal, at_least=0.95),
        measure.verdict("copairs / ours, mean average precision of 10,000 x 1,024", ratio, at_least=5),
    ]


def time_p_values() -> list[bool]:
    """Print the CPU time of p-values with 9,999 draws, start of the compiled loops included."""
    verdicts = []
    if importlib.util.find_spec("numba") is None:
        print("numba is absent: the loops are not compiled (pip install 'distangle[fast]')")
    for kind in ("noise", "active", "active, 16"):
        call = prepare(f"replicated, {kind}")
        start = time.process_time()
        table = call()
        seconds = time.process_time() - start
        hits = f"{(table['q'] <= 0.05).mean():.0%} are hits, mAP {table['mean_average_precision'].mean():.3f}"
        limit = None if kind.endswith("16") else 60.0  # a plate of RxRx1 has one negative control
        quantity = f"s CPU, 1,108 perturbations x 33 wells, {kind} ({hits})"
        verdicts.append(measure.verdict(quantity, seconds, at_most=limit))
    return verdicts


def main() -> int:
    """Print the tables."""
    verdicts = []
    print(f"Noise, {GROUPS} groups, {CONTROLS} controls per plate, {DRAWS} draws where not all are enumerated")
    error = 3 * np.sqrt(0.05 * 0.95 / GROUPS)
    has_peer = importlib.util.find_spec("copairs") is not None
    for replicates in (2, 4, 8):
        for plates in (1, 4):
            p = p_values(replicates, plates)
            quantity = f"{replicates} replicates, {plates} plate(s): p <= .01 {(p <= 0.01).mean():.3f}, p <= .05"
            if has_peer:
                theirs = p_values_of_peer(replicates, plates)
                shares = ", ".join(f"p <= {level} {(theirs <= level).mean():.3f}" for level in (0.01, 0.05))
                print(f"copairs on the same groups: {shares}")
            verdicts.append(
                measure.verdict(
                    quantity, float((p <= 0.05).mean()), at_least=round(0.05 - error, 4), at_most=0.05 + error
                )
            )
    verdicts += compare_with_peer()
    verdicts += time_p_values()
    kinds = ("activity", "activity, 99 draws", "consistency")
    measure.show_times(measure.time_variants({kind: prepare(kind) for kind in kinds}, rounds=1, warmups=0))
    memories = {kind: measure.peak_memory(prepare, kind, calls=1) for kind in kinds}
    measure.show_memory(memories)
    verdicts += [measure.verdict(f"peak of {kind}, GiB", m.peak / 2**30, at_most=4) for kind, m in memories.items()]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
