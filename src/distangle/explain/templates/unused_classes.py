"""Measure unused classes: outputs of the network without a training well."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from scipy.stats import mannwhitneyu

from distangle.errors import RunError
from distangle.profiles.geometry import Cosines, Vectors, cosines, neighbor_purity, silhouettes
from distangle.screen import TRAIN, Folds, Screen
from distangle.screen.screen import WELL_COLUMNS


def training_wells(
    screen: Screen, folds: Folds, classes: Sequence[str], *, target: str
) -> Int[np.ndarray, " perturbation"]:
    """Return the number of labeled training wells of each output.

    An output without one is an unused class.

    Args:
        screen: The screen of the run.
        folds: Folds of the run.
        classes: Names of the outputs, in their order.
        target: The column that was learned.

    Raises:
        RunError: The screen has no such column.
        FoldError: The folds lack a site of the screen.
    """
    if target not in screen.sites.columns:
        raise RunError(
            f"The screen has no column {target!r}, which the run learned. Give the screen that it was trained on."
        )
    labeled = screen.sites[folds.of(screen) == TRAIN]
    wells = labeled.drop_duplicates(list(WELL_COLUMNS))
    counts = wells[target].astype(str).value_counts()
    return np.array([int(counts.get(name, 0)) for name in classes], dtype=np.int64)


def unused_class_separation(
    templates: Vectors, is_unused: Bool[np.ndarray, " vector"], *, k: int, rng: np.random.Generator, n_draws: int
) -> dict[str, Any] | None:
    """Measure how separable the templates of unused classes are.

    Args:
        templates: Templates of one head.
        is_unused: Whether each template is of an unused class.
        k: Number of neighbors for `purity`.
        rng: Random generator for the shuffles.
        n_draws: Number of shuffles of the flags, for the p-values.

    Returns:
        `n_unused`, `n_real`; mean norms and mean cosines of pairs, by kind; `auroc_norm` and `auroc_mean_cosine`, the
        probability that an unused class has the larger norm, or the larger mean cosine to all others (0.5 for no
        separation, 0 or 1 for a perfect one); `silhouette` of the two groups; `p_*`, two-sided for the
        AUROCs; `purity`, the share of unused classes among the k nearest neighbors of one, and `purity_random`, the
        expectation by chance. Entries that need two of a kind are None. The result is None unless there are both kinds.
    """
    n_unused = int(is_unused.sum())
    if n_unused in (0, len(is_unused)):
        return None
    pairs, norms = cosines(templates), np.linalg.norm(templates.astype(np.float64), axis=1)
    others = (pairs.sum(axis=1) - np.diagonal(pairs)) / (len(pairs) - 1)
    aurocs = {name: auroc(values, is_unused) for name, values in (("norm", norms), ("mean_cosine", others))}
    silhouette = _silhouette(pairs, is_unused)
    n_reached = {"norm": 0, "mean_cosine": 0, "silhouette": 0}
    for _ in range(n_draws):
        shuffled = rng.permutation(is_unused)
        for name, values in (("norm", norms), ("mean_cosine", others)):
            n_reached[name] += abs(auroc(values, shuffled) - 0.5) >= abs(aurocs[name] - 0.5) - 1e-12
        shuffled_silhouette = _silhouette(pairs, shuffled)
        n_reached["silhouette"] += (
            silhouette is not None and shuffled_silhouette is not None and shuffled_silhouette >= silhouette - 1e-12
        )
    p = {name: (1 + count) / (1 + n_draws) for name, count in n_reached.items()}
    return {
        "n_unused": n_unused,
        "n_real": len(is_unused) - n_unused,
        "norm_unused": float(norms[is_unused].mean()),
        "norm_real": float(norms[~is_unused].mean()),
        "cosine_unused_unused": _mean_pair(pairs, is_unused, is_unused),
        "cosine_real_real": _mean_pair(pairs, ~is_unused, ~is_unused),
        "cosine_unused_real": _mean_pair(pairs, is_unused, ~is_unused),
        "auroc_norm": aurocs["norm"],
        "p_norm": p["norm"],
        "auroc_mean_cosine": aurocs["mean_cosine"],
        "p_mean_cosine": p["mean_cosine"],
        "silhouette": silhouette,
        "p_silhouette": None if silhouette is None else p["silhouette"],
        "purity": float(neighbor_purity(pairs, _kinds(is_unused), k=k)[is_unused].mean()),
        "purity_random": (n_unused - 1) / (len(is_unused) - 1),
    }


def auroc(values: np.ndarray, positive: Bool[np.ndarray, " vector"]) -> float:
    """Return the probability that a positive has the larger value; ties count half."""
    first, second = values[positive], values[~positive]
    return float(mannwhitneyu(first, second, method="asymptotic").statistic / (len(first) * len(second)))


def _silhouette(pairs: Cosines, is_unused: np.ndarray) -> float | None:
    values = silhouettes(pairs, _kinds(is_unused))
    return None if values is None else float(values.mean())


def _kinds(is_unused: np.ndarray) -> list[str]:
    return ["unused" if flag else "real" for flag in is_unused]


def _mean_pair(pairs: Cosines, first: np.ndarray, second: np.ndarray) -> float | None:
    pairs_of_both = first[:, None] & second[None, :] & ~np.eye(len(pairs), dtype=bool)
    return float(pairs[pairs_of_both].mean()) if pairs_of_both.any() else None
