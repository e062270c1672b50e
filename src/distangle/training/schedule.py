"""Compute the learning rate and the order of sites as pure functions of the step."""

import math

import numpy as np

from distangle.core.random import rng_for
from distangle.training.config import TrainingConfig


def rate_at(step: int, *, total: int, warmup: int = 0) -> float:
    """Return the learning rate as a share of its peak.

    The rate rises linearly, then falls by half a cosine to zero.

    Args:
        step: Number of the step, 0 to total - 1.
        total: Number of steps of the training.
        warmup: Number of steps of the warm-up.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def step_batches(n_batches: int, per_step: int) -> list[range]:
    """Return the numbers of the batches of each step of an epoch.

    Args:
        n_batches: Number of batches of the epoch.
        per_step: Number of batches of a step. A remainder is dropped, unless the fold is too small for one step.
    """
    if n_batches < per_step:
        return [range(n_batches)] if n_batches else []
    return [range(start, start + per_step) for start in range(0, n_batches - per_step + 1, per_step)]


def learning_rate(config: TrainingConfig, *, step: int, per_epoch: int) -> float:
    """Return the learning rate of a step, in the first stage or the second.

    Args:
        config: Rates, warm-up, and first and last epochs of the stages.
        step: Number of the step since the start of the training.
        per_epoch: Number of steps of an epoch.
    """
    optim, second = config.optim, config.optim.second_stage
    second_start = round(second.from_epoch * per_epoch)
    if 0 < second_start <= step:
        total = round(second.until_epoch * per_epoch) - second_start
        return second.lr * rate_at(min(step - second_start, total), total=total)
    total = second_start or per_epoch * config.epochs
    return optim.lr * rate_at(min(step, total - 1), total=total, warmup=round(per_epoch * optim.warmup_epochs))


def epoch_order(labels: np.ndarray, *, balance: float, seed: int, epoch: int) -> np.ndarray:
    """Return the positions of the sites that an epoch visits, in order.

    An epoch has as many visits as sites.

    Args:
        labels: int [site], the class of each site.
        balance: The number of visits of a class goes by its number of sites to the power of 1 - balance: at 0 every
            site is visited once, at 1 every class equally often. The sites of a class are visited equally often.
        seed: Seed of the training.
        epoch: Number of the epoch.
    """
    rng = rng_for(seed, epoch, "order")
    if balance == 0:
        return rng.permutation(len(labels))
    counts = np.unique(labels, return_counts=True)[1]
    weight = counts ** (1.0 - balance)
    exact = weight / weight.sum() * len(labels)
    quota = np.floor(exact).astype(int)
    n_missing = len(labels) - quota.sum()
    quota[rng.permutation(len(counts))[:n_missing]] += 1
    by_class = np.argsort(labels, kind="stable")
    order, n_visited, n_seen = np.empty_like(by_class), 0, 0
    for count, n in zip(counts.tolist(), quota.tolist(), strict=True):
        members = by_class[n_seen : n_seen + count]
        rounds = [rng.permutation(members) for _ in range(-(-n // count))]
        if rounds:
            order[n_visited : n_visited + n] = np.concatenate(rounds)[:n]
        n_visited, n_seen = n_visited + n, n_seen + count
    rng.shuffle(order)
    return order
