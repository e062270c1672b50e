"""The order in which a map names places, and how many of them each step of a curve takes."""

import numpy as np
from jaxtyping import Float, Int

from distangle.randomness import generator


def order_of(maps: Float[np.ndarray, "*map rows columns"]) -> Int[np.ndarray, "*map place"]:
    """Return the places of each map, counted row by row, from the largest value to the smallest.

    Places of one value, such as all of a constant map, come in one fixed shuffled order, the same for every map: by
    position they would begin in a corner, which is a map of its own.

    Args:
        maps: Finite.
    """
    flat = maps.reshape(*maps.shape[:-2], -1)
    shuffled = generator(0, "places of one value", flat.shape[-1]).permutation(flat.shape[-1])
    return np.asarray(shuffled[np.argsort(-flat[..., shuffled], axis=-1, kind="stable")])


def taken(n_places: int, n_steps: int) -> list[int]:
    """Return how many places each step has taken, from 0 to all; from the end as from the start.

    Args:
        n_places: In all.
        n_steps: After the start.
    """
    return [k * n_places // n_steps if 2 * k <= n_steps else n_places - (n_steps - k) * n_places // n_steps
            for k in range(n_steps + 1)]  # fmt: skip


def area(curves: Float[np.ndarray, "*curve step"], counts: list[int]) -> Float[np.ndarray, "*curve"]:
    """Return the area under curves over the share of places taken: the mean height, by the trapezium rule.

    Args:
        curves: Values at each step.
        counts: From `taken`.
    """
    return np.asarray(np.trapezoid(curves, np.asarray(counts) / counts[-1], axis=-1))
