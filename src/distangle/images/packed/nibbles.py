"""Split bytes into halves, so that a code of whole bits wastes less."""

import numpy as np

_DEARER = 1.02  # halves may cost so much more: they are read faster


def split(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split numbers into bytes, and bytes into halves where that is as small.

    Args:
        flat: uint8 or uint16 [channel, number], an even number of them.

    Returns:
        uint8 [byte, channel, number], the low byte first, and bool [byte, channel]: which are in halves. Of those the
        first part of a row has the low halves, of each two numbers that lie half a row apart; the rest the high ones.
    """
    parts = np.stack([((flat >> (8 * k)) & 255).astype(np.uint8) for k in range(flat.itemsize)])
    low, high = parts & 15, parts >> 4
    n = flat.shape[1] // 2
    halves = np.concatenate([low[..., :n] | low[..., n:] << 4, high[..., :n] | high[..., n:] << 4], axis=-1)
    halved = np.zeros(parts.shape[:2], dtype=bool)
    for place in np.ndindex(halved.shape):
        cost = _bytes_needed(halves[place][:n], least=0.0) + _bytes_needed(halves[place][n:], least=0.0)
        halved[place] = cost <= _DEARER * _bytes_needed(parts[place], least=1.0)
    return np.where(halved[..., None], halves, parts), halved


def join(parts: np.ndarray, halved: np.ndarray) -> np.ndarray:
    """Return the numbers that were split, uint8 or uint16 [channel, number]."""
    n = parts.shape[-1] // 2
    low, high = parts[..., :n], parts[..., n:]
    whole = np.concatenate([(low & 15) | ((high & 15) << 4), (low >> 4) | (high & 240)], axis=-1)
    plain = np.where(halved[..., None], whole, parts)
    return np.asarray(plain[0] if len(plain) == 1 else plain[0] | (plain[1].astype(np.uint16) << 8))


def _bytes_needed(values: np.ndarray, *, least: float) -> float:
    """Return the bytes of a code of single bytes, with `least` bits each or more.

    zstd has whole bits and finds no gain.
    """
    shares = np.bincount(values, minlength=256) / max(values.size, 1)
    shares = shares[shares > 0]
    return float(max(-(shares * np.log2(shares)).sum(), least)) * values.size / 8
