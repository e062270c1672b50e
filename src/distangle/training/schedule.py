"""Compute learning rate and order of sites as pure functions of the step."""

import math

import numpy as np

from distangle.core.random import rng_for
from distangle.training.config import TrainingConfig


def rate_at(step: int, *, total: int, warmup: int = 0) -> float:
    """Return the learning rate as a share of its peak.

    A linear warm-up, then half a cosine to zero.

    Args:
        step: 0 .. total - 1.
        total: Steps of the whole training.
        warmup: Steps of the warm-up.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def step_batches(n_batches: int, per_step: int) -> list[range]:
    """Return which batches of an epoch each of its steps is made of.

    Args:
        n_batches: Of the epoch.
        per_step: Of one step; what is left over is left out, unless the fold is too small for a whole step.
    """
    if n_batches < per_step:
        return [range(n_batches)] if n_batches else []
    return [range(start, start + per_step) for start in range(0, n_batches - per_step + 1, per_step)]


def learning_rate(config: TrainingConfig, *, step: int, per_epoch: int) -> float:
    """Return the learning rate of a step, in the first stage or the second.

    Args:
        config: Rates, warm-up and where the stages begin and end.
        step: Counted from the beginning of the training.
        per_epoch: Steps of an epoch.
    """
    optim, second = config.optim, config.optim.second_stage
    turn = round(second.from_epoch * per_epoch)
    if 0 < turn <= step:
        total = round(second.until_epoch * per_epoch) - turn
        return second.lr * rate_at(min(step - turn, total), total=total)
    total = turn or per_epoch * config.epochs
    return optim.lr * rate_at(min(step, total - 1), total=total, warmup=round(per_epoch * optim.warmup_epochs))


def epoch_order(labels: np.ndarray, *, balance: float, seed: int, epoch: int) -> np.ndarray:
    """Return the positions of the sites that an epoch visits, in order.

    There are as many as sites.

    Args:
        labels: int [site], the class of each site.
        balance: Visits of a class go by its number of sites to the power of 1 - balance: at 0 every site is
            visited once, at 1 every class equally often. The sites of a class are visited equally often.
        seed: Of the training.
        epoch: Which epoch.
    """
    rng = rng_for(seed, epoch, "order")
    if balance == 0:
        return rng.permutation(len(labels))
    counts = np.unique(labels, return_counts=True)[1]
    share = counts ** (1.0 - balance)
    wanted = share / share.sum() * len(labels)
    quota = np.floor(wanted).astype(int)
    short = len(labels) - quota.sum()
    quota[rng.permutation(len(counts))[:short]] += 1
    by_class = np.argsort(labels, kind="stable")
    order, visited, seen = np.empty_like(by_class), 0, 0
    for count, n in zip(counts.tolist(), quota.tolist(), strict=True):
        members = by_class[seen : seen + count]
        rounds = [rng.permutation(members) for _ in range(-(-n // count))]
        if rounds:
            order[visited : visited + n] = np.concatenate(rounds)[:n]
        visited, seen = visited + n, seen + count
    rng.shuffle(order)
    return order
