"""Sample sites evenly over plates and wells, the same ones each time."""

from collections import defaultdict

import numpy as np

from distangle.errors import ConfigError
from distangle.randomness import generator
from distangle.screen import Screen


def sample_sites(screen: Screen, n: int, *, seed: int = 0) -> list[int]:
    """Return sampled rows, evenly from plates; new wells before second sites.

    Args:
        screen: The screen.
        n: How many; 0, or more than there are: all.
        seed: Another one chooses others.

    Returns:
        Sorted positions.

    Raises:
        ConfigError: A negative number.
    """
    if n < 0:
        raise ConfigError(f"A sample of {n} sites: expected a number from 1, or 0 for all.")
    sites = screen.sites
    if n == 0 or n >= len(sites):
        return list(range(len(sites)))
    queues = []
    rows_of: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, place in enumerate(zip(sites["experiment"].astype(str), sites["plate"].astype(str), strict=True)):
        rows_of[place].append(row)
    for place, rows in rows_of.items():
        rng = generator(seed, "sample of sites", *place)
        drawn = np.asarray(rows)[rng.permutation(len(rows))]
        wells = sites["well"].to_numpy()[drawn]
        again: dict[str, int] = {}
        turn = []
        for well in wells.tolist():
            turn.append(again.get(well, 0))
            again[well] = turn[-1] + 1
        queues.append(drawn[np.argsort(turn, kind="stable")].tolist())
    order = generator(seed, "order of plates").permutation(len(queues))
    chosen: list[int] = []
    for depth in range(max(map(len, queues))):
        chosen += [queues[k][depth] for k in order if depth < len(queues[k])]
        if len(chosen) >= n:
            break
    return sorted(chosen[:n])
