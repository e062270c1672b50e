"""Run two epochs over a table of many sites; print how the memory of the process grew.

python tests/helpers/growth.py FOLDER N_SITES
"""

import dataclasses
import gc
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from distangle.images import ImageCache, Preprocessing
from distangle.screen import Screen
from distangle.training import resolve_config
from distangle.training.data.loader import BatchLoader
from distangle.training.data.sites import TrainingSites, site_names
from distangle.training.schedule import epoch_order, step_batches
from tiny_run import tiny_screen

N_CLASSES = 1_108
EVERY = 500  # of this many batches, one is loaded with its pixels


def memory() -> int:
    """Return the bytes of this process, shared pages counted in proportion."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def repeat_screen(screen: Screen, n: int) -> Screen:
    """Return a screen of `n` sites that share the files of a few."""
    few_sites = screen.sites
    row_of_site = np.arange(n) % len(few_sites)
    sites = few_sites.iloc[row_of_site].reset_index(drop=True)
    sites["plate"] = pd.Series((np.arange(n) // 768 % 4 + 1).astype(str), dtype=few_sites["plate"].dtype)
    sites["experiment"] = pd.Series([f"E{k // 3072}" for k in range(n)], dtype=few_sites["experiment"].dtype)
    return dataclasses.replace(screen, sites=sites)


def main(folder: Path, n_sites: int) -> dict[str, float]:
    """Build the table, then go through two epochs: order, batches, and the pixels of some of them."""
    memory_before = memory()
    screen = repeat_screen(tiny_screen(folder, size=8), n_sites)
    config = resolve_config("seed", ["batch_size=64", "class_balance=0.75"], epochs=2)
    store = ImageCache(screen, Preprocessing(standardize="image"), memory=0)
    rows = np.arange(n_sites)
    labels = rows % N_CLASSES
    sites = TrainingSites(
        rows=rows, names=site_names(screen, rows.tolist()), labels=labels, cell_types=None, statistics=None
    )
    maker = BatchLoader(store, sites, config, n_perturbations=N_CLASSES)
    gc.collect()
    before, largest, n_made = memory(), 0, 0
    start = time.monotonic()
    after = []
    for epoch in range(config.epochs):
        order = epoch_order(labels, balance=config.class_balance, seed=config.seed, epoch=epoch)
        n_batches = len(maker.split(order, epoch))
        numbers = [step[0] for step in step_batches(n_batches, EVERY)]
        for batch in maker.epoch(order, epoch, numbers=numbers):
            assert len(batch.sites) == 64
            n_made += 1
            largest = max(largest, memory())
        after.append(memory() - before)
    return {
        "table": (before - memory_before) / n_sites,
        "largest": largest - before,
        "first": after[0],
        "second": after[1],
        "batches": n_made,
        "seconds": time.monotonic() - start,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
