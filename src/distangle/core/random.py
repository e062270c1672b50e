"""Random numbers as a pure function of their purpose.

Resume, order and number of workers change nothing.
"""

import hashlib

import numpy as np


def rng_for(*key: int | str) -> np.random.Generator:
    """Return the generator of a key, such as (seed, epoch, image, operation).

    Equal keys give equal streams; keys that differ anywhere give independent ones. No state is kept.

    Args:
        key: Integers and strings in a fixed order, the seed first.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    words = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint32)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words.tolist())))
