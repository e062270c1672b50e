"""Fork 20 times from a process whose decoders, batches and network have all used threads; print what came of it.

python tests/helpers/forks.py FOLDER
"""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from distangle.images import ImageCache
from distangle.screen import Screen
from distangle.training import resolve_config
from distangle.training.data.loader import BatchLoader
from distangle.training.data.sites import labelled_sites
from tiny_run import CLASSES, TRAINING, tiny_screen

N_FORKS = 20
LONGEST_S = 10.0  # limit for a child that works for milliseconds


def maker_of(screen: Screen, store: ImageCache) -> BatchLoader:
    config = resolve_config("scratch", [*TRAINING])
    config = config.model_copy(update={"preprocessing": store.preprocessing})
    sites, _ = labelled_sites(store, np.arange(16), sorted(CLASSES), config)
    return BatchLoader(store, sites, config, n_perturbations=3)


def digest(maker: BatchLoader) -> str:
    """Hash all batches of an epoch."""
    sha = hashlib.sha256()
    for batch in maker.epoch(np.arange(16), 3):
        sha.update(batch.pixels.numpy().tobytes())
        sha.update(batch.labels.numpy().tobytes())
    return sha.hexdigest()


def in_a_child(work: Callable[[], bool]) -> str:
    """Fork, run the work in the child, and return how it ended."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    start = time.monotonic()
    while (wait_result := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() - start > LONGEST_S:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hung"
        time.sleep(0.002)
    return {0: "same", 1: "other", 2: "failed"}.get(os.waitstatus_to_exitcode(wait_result[1]), "killed")


def main(folder: Path) -> dict[str, object]:
    """Read, make batches and compute with threads; repeat it in children, with inherited and with new objects."""
    screen = tiny_screen(folder)
    torch.set_num_threads(8)
    picture = torch.ones(8, 8, 64, 64)
    weights = torch.full((8, 8, 3, 3), 0.01)
    computed = float(torch.nn.functional.conv2d(picture, weights).sum())
    store = ImageCache(screen, memory=0, workers=8)
    maker = maker_of(screen, store)
    expected = digest(maker)
    threads = len(list(Path("/proc/self/task").iterdir()))

    def own_cache() -> bool:
        result = digest(maker)
        maker.close()
        store.close()
        return result == expected

    def build() -> bool:
        as_inherited = ImageCache(screen, store.preprocessing, memory=0, workers=8)
        another = maker_of(screen, as_inherited)
        result = digest(another)
        another.close()
        as_inherited.close()
        torch.set_num_threads(1)  # with GNU OpenMP, more threads in a child would wait for threads of the parent
        return result == expected and abs(float(torch.nn.functional.conv2d(picture, weights).sum()) - computed) < 1

    children = [in_a_child(own_cache if number % 2 else build) for number in range(N_FORKS)]
    return {"threads": threads, "children": children, "parent": "same" if digest(maker) == expected else "other"}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
