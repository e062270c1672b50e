"""Derive random numbers from their purpose alone.

Resuming, order and number of workers do not change them.
"""

import hashlib

import numpy as np


def rng_for(*key: int | str) -> np.random.Generator:
    """Return the generator of a key, such as (seed, epoch, image, operation).

    Equal keys give equal streams; different keys give independent streams. The function keeps no state.

    Args:
        key: Integers and strings in a fixed order, the seed first.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    entropy = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint32)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy.tolist())))
