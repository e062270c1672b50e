"""Order of places in a map, and places per step of a curve."""

import numpy as np
from jaxtyping import Float, Int

from distangle.randomness import generator


def order_of(maps: Float[np.ndarray, "*map rows columns"]) -> Int[np.ndarray, "*map place"]:
    """Return the places of each map from the largest value to the smallest.

    Places are counted row by row.

    Places of one value, such as all of a constant map, come in one fixed shuffled order, the same for every map: by
    position they would begin in a corner, which is a map of its own.

    Args:
        maps: Finite.
    """
    flat = maps.reshape(*maps.shape[:-2], -1)
    shuffled = generator(0, "places of one value", flat.shape[-1]).permutation(flat.shape[-1])
    return np.asarray(shuffled[np.argsort(-flat[..., shuffled], axis=-1, kind="stable")])


def taken(n_places: int, n_steps: int) -> list[int]:
    """Return how many places each step has replaced, from 0 to all.

    The steps are the same from the end as from the start.

    Args:
        n_places: In all.
        n_steps: After the start.
    """
    return [k * n_places // n_steps if 2 * k <= n_steps else n_places - (n_steps - k) * n_places // n_steps
            for k in range(n_steps + 1)]  # fmt: skip


def area(curves: Float[np.ndarray, "*curve step"], counts: list[int]) -> Float[np.ndarray, "*curve"]:
    """Return the mean height of curves, by the trapezium rule.

    Args:
        curves: Values at each step.
        counts: From `taken`.
    """
    return np.asarray(np.trapezoid(curves, np.asarray(counts) / counts[-1], axis=-1))
