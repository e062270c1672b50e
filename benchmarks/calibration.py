"""Coverage of the intervals and false alarms of the p-values, on data whose truth is known.

Limits: an interval holds the truth in at least 93 % of cases; under the null at most 5 % of p-values are <= .05; both
up to three standard errors of the simulation. Cells marked * lie outside: docs/calibration.md says why.
"""

import sys
from collections.abc import Iterator

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

import measure
from distangle.core import stats

COVERED = 0.93
N_GROUPS = (5, 6, 8, 12, 20)
N_WELLS = (5, 20, 50)
# Spread of the groups in logits; at an accuracy of .5 it is the named standard deviation of their accuracies.
LOGITS = {0.0: 0.0, 0.05: 0.2, 0.15: 0.65}
SITES = 4


def share_coverage(
    accuracy: float,
    spread: float,
    *,
    n_groups: int,
    n_wells: int,
    repeats: int,
    seed: int,
    balanced: bool = False,
    composition: str = "same",
    sites: int = SITES,
    shape: str = "logit",
) -> float:
    """Return how often the interval of an accuracy holds the truth.

    Args:
        accuracy: The truth: mean over all groups there could be.
        spread: Standard deviation of the accuracy of groups, at an accuracy of .5 where the shape is `logit`.
        n_groups: Of one repeat.
        n_wells: Mean number of a group; groups have .4 to 1.6 times as many.
        repeats: How many.
        seed: Of all draws.
        balanced: Ask for the balanced accuracy.
        composition: `same`: six classes everywhere; `other`: shares that differ from group to group, some classes
            in one group only; `own`: two classes of its own in every group.
        sites: Of one well, which are all right or all wrong: rows that are no witnesses.
        shape: Of the groups' accuracies: normal in logits, or `beta` with this standard deviation.
    """
    rng = np.random.default_rng([seed, n_groups, n_wells, int(1e4 * accuracy), int(1e4 * spread)])
    n_held = 0
    for _ in range(repeats):
        sizes = np.maximum(2, np.round(n_wells * rng.uniform(0.4, 1.6, n_groups))).astype(int)
        group = np.repeat(np.arange(n_groups), sizes)
        is_correct = rng.random(len(group)) < _of_groups(accuracy, spread, n_groups, shape, rng)[group]
        match composition:
            case "same":
                kind = rng.integers(6, size=len(group))
            case "other":
                reach = rng.dirichlet(np.full(6, 0.5), n_groups).cumsum(axis=1)
                kind = (rng.random(len(group))[:, None] > reach[group, :5]).sum(axis=1)
            case _:
                kind = 2 * group + rng.integers(2, size=len(group))
        well = np.repeat(np.arange(len(group)), sites)
        arguments = (is_correct[well], group[well])
        # The limit is left aside: the table shows what lies below it, too.
        low, high = stats._share_interval(*arguments, well, kind[well] if balanced else None)
        n_held += low <= accuracy <= high
    return n_held / repeats


def _of_groups(accuracy: float, spread: float, n: int, shape: str, rng: np.random.Generator) -> np.ndarray:
    if spread == 0:
        return np.full(n, accuracy)
    if shape == "beta":
        concentration = accuracy * (1 - accuracy) / spread**2 - 1
        return rng.beta(accuracy * concentration, (1 - accuracy) * concentration, n)
    width = LOGITS[spread]
    return np.asarray(expit(_centre(accuracy, width) + width * rng.standard_normal(n)))


def _centre(accuracy: float, width: float) -> float:
    """The logit around which groups of this width have this mean accuracy."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    return float(brentq(lambda centre: (expit(centre + width * nodes) * weights).sum() - accuracy, -20, 20))


def mean_coverage(
    correlation: float, *, n_groups: int, repeats: int, seed: int, skewness: float = 0.0, uneven: float = 0.5
) -> float:
    """Return how often the interval of a mean holds the truth.

    Args:
        correlation: Intraclass correlation of the rows of a group.
        n_groups: Of one repeat.
        repeats: How many.
        seed: Of all draws.
        skewness: Of the group effects: 0 is normal, 1 a gamma of shape 4, 2 an exponential.
        uneven: Standard deviation of the logarithm of the groups' sizes, 20 on average.
    """
    rng = np.random.default_rng([seed, n_groups, int(100 * correlation), int(skewness), int(10 * uneven)])
    n_held = 0
    for _ in range(repeats):
        sizes = np.maximum(1, np.round(20 * rng.lognormal(0, uneven, n_groups))).astype(int)
        shape = 4 / skewness**2 if skewness else 0.0
        effects = (rng.gamma(shape, 1, n_groups) - shape) / np.sqrt(shape) if shape else rng.standard_normal(n_groups)
        group = np.repeat(np.arange(n_groups), sizes)
        values = np.sqrt(correlation) * effects[group] + np.sqrt(1 - correlation) * rng.standard_normal(len(group))
        low, high = stats._mean_intervals(values[:, None], group, 0.0)[0]
        n_held += low <= 0 <= high
    return n_held / repeats


def share_table(repeats: int, seed: int) -> Iterator[bool]:
    print("accuracy: share of intervals that hold the truth, per cent; the least over 5, 20 and 50 wells per group")
    few = (2, 3, 4)
    print(f"{'':44}" + "".join(f"{n:>7}" for n in (*few, *N_GROUPS)) + "  groups")
    limit = COVERED - 3 * np.sqrt(COVERED * (1 - COVERED) / repeats)
    kinds = [(balanced, composition) for balanced in (False, True) for composition in ("same", "other", "own")]
    worlds = [("logit", a, s) for s in LOGITS for a in (0.02, 0.1, 0.5, 0.8, 0.95, 0.99)]
    for balanced, composition in kinds:
        for shape, accuracy, spread in worlds if composition == "same" else worlds[1::2]:
            shares = [
                min(
                    share_coverage(accuracy, spread, n_groups=n, n_wells=w, repeats=repeats, seed=seed,
                                   balanced=balanced, composition=composition, shape=shape)
                    for w in N_WELLS
                )
                for n in (*few, *N_GROUPS)
            ]  # fmt: skip
            name = f"{'balanced ' if balanced else ''}{composition}, {accuracy}, spread {spread}"
            print(f"{name:44}" + "".join(f"{100 * share:6.1f}{' ' if share >= limit else '*'}" for share in shares))
            yield min(shares[len(few) :]) >= limit


def failing_table(repeats: int, seed: int) -> None:
    print("where it fails: a few groups fail wholly while most are near perfect (beta), which no few groups can tell")
    for accuracy, spread in ((0.1, 0.15), (0.95, 0.05), (0.95, 0.1), (0.95, 0.15), (0.99, 0.05)):
        shares = [
            min(share_coverage(accuracy, spread, n_groups=n, n_wells=w, repeats=repeats, seed=seed, shape="beta")
                for w in N_WELLS)
            for n in N_GROUPS
        ]  # fmt: skip
        print(
            f"{f'beta, {accuracy}, standard deviation {spread}':44}{'':21}"
            + "".join(f"{100 * share:6.1f} " for share in shares)
        )


def mean_table(repeats: int, seed: int) -> Iterator[bool]:
    print("mean: share of intervals that hold the truth, per cent")
    limit = COVERED - 3 * np.sqrt(COVERED * (1 - COVERED) / repeats)
    for skewness in (0.0, 1.0, 2.0):
        for uneven in (0.0, 0.5, 0.8):
            for correlation in (0.0, 0.1, 0.5):
                shares = [
                    mean_coverage(correlation, n_groups=n, repeats=repeats, seed=seed, skewness=skewness, uneven=uneven)
                    for n in N_GROUPS
                ]
                name = f"skewness {skewness}, sizes {uneven}, intraclass correlation {correlation}"
                print(f"{name:65}" + "".join(f"{100 * share:6.1f}{' ' if share >= limit else '*'}" for share in shares))
                yield skewness > 1 or min(shares) >= limit


def p_table(repeats: int, seed: int) -> Iterator[bool]:
    import false_alarms  # late: the intervals need no network

    print("p-values of nothing: share at most .05, per cent")
    limit = 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
    for name, null in false_alarms.NULLS.items():
        share = false_alarms.alarms(name, repeats=repeats, seed=seed)
        print(f"{null.said:55}{null.unit:30}{100 * share:6.1f}{' ' if share <= limit else '*'}", flush=True)
        yield share <= limit


def main() -> int:
    measure.hold_one_thread()
    repeats, seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1000, 1
    verdicts = [*p_table(repeats, seed), *share_table(repeats, seed)]
    failing_table(repeats, seed)
    verdicts += mean_table(repeats, seed)
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
