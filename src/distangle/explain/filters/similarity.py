"""Measure bands and blocks of 1x1 filters, Eq. (14)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from distangle.explain.filters.layers import Filters
from distangle.profiles.geometry import Cosines, compare_with_draws, cosines_of, off_diagonal

# Sign of each measure for weights with more bands and blocks, as in Fig. 10.
MORE_BANDED = {
    "variation": -1,
    "near_constant": 1,
    "one_color": 1,
    "silent": 1,
    "cosine_size": 1,
    "neighbor_cosine": 1,
    "duplicates": 1,
    "effective_rank": -1,
}


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Thresholds for bands and duplicate filters.

    Attributes:
        constant: Coefficient of variation (standard deviation over |mean|) up to which a filter is nearly constant.
        flat: Share of the standard deviation of the layer up to which a filter looks uniform, or empty, in a figure.
        duplicate: Minimum cosine of duplicate filters.
    """

    constant: float = 0.25
    flat: float = 0.1
    duplicate: float = 0.95


def average_channels(
    maps: Float[np.ndarray, "site input height width"], filters: Filters
) -> Float[np.ndarray, "site filter height width"]:
    r"""Apply 1x1 filters to maps: the weighted sum of channels at every position.

    $$ I_{out,k} = w_{1,k} I_{in,1} + w_{2,k} I_{in,2} + \dots + w_{C_{in},k} I_{in,C_{in}} $$

    Source: Eq. (14)
    Departs: the text calls it a weighted average; the weights have either sign and do not sum to 1. The channels are
        not those of the layer's input: a norm and a ReLU come first, which the printed reading of Fig. 10 leaves out.

    Args:
        maps: Input I_in of the convolution.
        filters: Weights w, one filter per row.
    """
    return np.asarray(np.einsum("ki,sihw->skhw", filters, maps))


def coefficient_of_variation(filters: Filters) -> Float[np.ndarray, " filter"]:
    """Return standard deviation over |mean| of each filter's weights.

    It is infinite if the mean is 0. The value 0 is a band: all channels have the same weight, and the output is their
    average.
    """
    mean = np.abs(filters.mean(axis=1))
    return np.asarray(np.divide(filters.std(axis=1), mean, out=np.full(len(filters), np.inf), where=mean > 0))


def variation(filters: Filters) -> Float[np.ndarray, " filter"]:
    """Return standard deviation over root mean square of each filter.

    It is 0 for a band and 1 for weights with mean 0. This is the coefficient of variation on a finite scale; a filter
    of zeros counts as a band.
    """
    size = _root_mean_squares(filters)
    return np.asarray(np.divide(filters.std(axis=1), size, out=np.zeros(len(filters)), where=size > 0))


def is_constant_filter(filters: Filters, *, flat: float) -> Bool[np.ndarray, " filter"]:
    """Return which filters look uniform in a heat map of the layer.

    Such a filter need not be an average.

    Args:
        filters: All filters of a layer, whose standard deviation sets the colors.
        flat: Maximum standard deviation within the filter, as a share of that of the layer.
    """
    return np.asarray(filters.std(axis=1) <= flat * filters.std())


def are_bands(filters: Filters, thresholds: Thresholds) -> Bool[np.ndarray, " filter"]:
    """Return which filters are bands: nearly constant or uniform in a heat map."""
    constant = coefficient_of_variation(filters) <= thresholds.constant
    return np.asarray(constant | is_constant_filter(filters, flat=thresholds.flat))


def effective_rank(filters: Filters, products: Float[np.ndarray, "filter filter"] | None = None) -> float:
    """Return the effective number of directions that the filters span.

    It is the exponential of the entropy of the singular values.

    Source: Roy & Vetterli 2007, The effective rank.

    Args:
        filters: Filters of a layer.
        products: Products of all pairs of filters, if already computed.

    Returns:
        A number from 1 to the smaller side; 0 for filters of zeros.
    """
    # The smaller Gram matrix takes a tenth of the time of an SVD, and small singular values hardly matter.
    if filters.shape[0] > filters.shape[1]:
        products = filters.T @ filters
    elif products is None:
        products = filters @ filters.T
    sizes = np.sqrt(np.linalg.eigvalsh(products).clip(min=0))
    if not sizes.any():
        return 0.0
    shares = sizes[sizes > 0] / sizes.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def duplicate_groups(pairs: Cosines, *, above: float) -> Int[np.ndarray, " filter"]:
    """Return the first filter that each one duplicates, or its own index.

    A filter is compared with the first filter of each group and joins the nearest one, so chains of small steps form no
    group.

    Args:
        pairs: Cosines of the filters, from `cosines`.
        above: Minimum cosine of duplicate filters.
    """
    first = np.arange(len(pairs))
    near = np.tril(pairs, -1) >= above
    for k in np.flatnonzero(near.any(axis=1)):
        heads = np.flatnonzero(near[k, :k] & (first[:k] == np.arange(k)))
        if len(heads):
            first[k] = heads[pairs[k, heads].argmax()]
    return first


def measure_bands(filters: Filters, thresholds: Thresholds) -> dict[str, float]:
    """Return the measures of bands and blocks.

    Returns:
        `variation`, mean over filters; `near_constant`, share of filters with nearly equal weights; `one_color`, share
        of filters that look uniform next to the other weights of the layer; `silent`, share of filters near 0;
        `cosine_size`, mean |cos| of pairs; `neighbor_cosine`, mean |cos| of adjacent filters (a block); `duplicates`,
        share of filters that duplicate another one; `effective_rank`, as a share of the maximum.
    """
    products = filters @ filters.T
    pairs = cosines_of(products)
    first = duplicate_groups(pairs, above=thresholds.duplicate)
    return {
        "variation": float(variation(filters).mean()),
        "near_constant": float((coefficient_of_variation(filters) <= thresholds.constant).mean()),
        "one_color": float(is_constant_filter(filters, flat=thresholds.flat).mean()),
        "silent": float((_root_mean_squares(filters) <= thresholds.flat * np.sqrt(np.square(filters).mean())).mean()),
        "cosine_size": float(np.abs(off_diagonal(pairs)).mean()),
        "neighbor_cosine": float(np.abs(np.diagonal(pairs, 1)).mean()),
        "duplicates": float((first != np.arange(len(first))).mean()),
        "effective_rank": effective_rank(filters, products) / min(filters.shape),
    }


def shuffle_filters(filters: Filters, rng: np.random.Generator) -> Filters:
    """Shuffle all weights of a layer over filters and channels."""
    return np.asarray(rng.permuted(filters.ravel()).reshape(filters.shape))


def compare_with_nulls(
    filters: Filters, thresholds: Thresholds, *, nulls: Mapping[str, Iterable[Filters]]
) -> dict[str, Any]:
    """Compare the bands and blocks of a layer with null distributions of weights.

    Args:
        filters: Filters of the layer.
        thresholds: Thresholds of `measure_bands`.
        nulls: Draws of weights by name of the null.

    Returns:
        By measure of `measure_bands`: `value`, and by null `random`, `random_range` (central 95 %) and `p`, the share
        of draws at least as banded, (1 + n) / (1 + draws).
    """
    measured = measure_bands(filters, thresholds)
    comparison: dict[str, Any] = {name: {"value": value} for name, value in measured.items()}
    for null, weights in nulls.items():
        draws = [measure_bands(draw, thresholds) for draw in weights]
        for name, value in measured.items():
            comparison[name][null] = _compare_number(
                value, [draw_numbers[name] for draw_numbers in draws], sign=MORE_BANDED[name]
            )
    return comparison


def _compare_number(value: float, draws: Sequence[float], *, sign: int) -> dict[str, Any]:
    comparison = compare_with_draws(value, draws)
    n_reached = sum(sign * draw >= sign * value - 1e-12 for draw in draws)
    return {key: comparison[key] for key in ("random", "random_range")} | {"p": (1 + n_reached) / (1 + len(draws))}


def _root_mean_squares(filters: Filters) -> Float[np.ndarray, " filter"]:
    """Return the root mean square of the weights of each filter."""
    return np.asarray(np.sqrt(np.square(filters).mean(axis=1)))
