"""Measure by mean average precision whether labels find their own."""

import itertools
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from distangle.core.random import rng_for
from distangle.errors import ProfileError
from distangle.profiles.block_permutation import DECIMALS
from distangle.profiles.label_permutation import LabelPermutation, labels_of_perturbations
from distangle.profiles.multiple_testing import benjamini_hochberg
from distangle.profiles.retrieval import (
    Features,
    average_precision,
    directions_of,
    expected_average_precision,
    normalize,
    similarity_rows,
)


def consistency(
    features: Features,
    perturbations: Sequence[Hashable] | np.ndarray,
    labels: Sequence[Iterable[str]],
    *,
    not_same: Int[np.ndarray, " row"] | None = None,
    n_draws: int = 0,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure how well rows of a label find other perturbations of that label.

    Positives of a row and a label are the rows with that label and another perturbation; negatives share no label with
    the row, so rows without a label are negatives of all. Similarity is the cosine.

    Args:
        features: Finite.
        perturbations: Perturbation of every row.
        labels: Labels of every row, none, one or several.
        not_same: Code of a block, such as the week, in which positives must differ too; None for no such block.
        n_draws: Permutations of the labels among perturbations for the p-values; 0 leaves them out.
        seed: Seed of the permutations.

    Returns:
        One row per row and label: `row`, `label`, `n_positives`, `n_negatives`, `average_precision`, `expected`,
        `normalized`, `reason` (why there is no value, else ""); and one row per label, in sorted order: `label`,
        `n_queries` (rows with a value), `n_perturbations`, `mean_average_precision`, `expected`, `normalized`,
        `p`, `q`, `reason`.

    Raises:
        ProfileError: Sizes differ, features are not finite, labels are one text, or there is no label.
    """
    blocks = np.arange(len(features)) if not_same is None else np.asarray(not_same)
    directions = directions_of(features, perturbations=len(perturbations), labels=len(labels), not_same=len(blocks))
    text = next((own_labels for own_labels in labels if isinstance(own_labels, str)), None)
    if text is not None:
        raise ProfileError(f"The labels of a row are the text {text!r}. Expected a set of labels. Pass {{{text!r}}}.")
    sets = [sorted(set(own_labels)) for own_labels in labels]
    vocabulary = sorted(set(itertools.chain.from_iterable(sets)))
    if not vocabulary:
        raise ProfileError(f"None of {len(sets)} rows has a label. Expected some. Check the names of perturbations.")
    number = {label: column for column, label in enumerate(vocabulary)}
    has = np.zeros((len(sets), len(vocabulary)), dtype=np.float32)
    for row, own in enumerate(sets):
        has[row, [number[label] for label in own]] = 1
    codes, _ = pd.factorize(pd.Series(list(perturbations), dtype=object), use_na_sentinel=False)
    values = []
    for start, similarity in similarity_rows(directions):
        shares = has[start : start + len(similarity)] @ has.T > 0
        for row, (near, shared) in enumerate(zip(similarity, shares, strict=True), start=start):
            other = codes != codes[row]
            if not_same is not None:
                other &= blocks != blocks[row]
            negatives = near[~shared] if sets[row] else near[:0]
            for label in sets[row]:
                positives = near[other & (has[:, number[label]] > 0)]
                values.append({"row": row, "label": label} | _consistent(positives, negatives))
    rows = pd.DataFrame(values)
    rows_of = rows.assign(perturbation=codes[rows["row"]]).groupby("label")
    table = pd.DataFrame([{"label": label} | _summary(own) for label, own in rows_of])
    p = np.full(len(table), np.nan)
    if n_draws:
        permutation = LabelPermutation(
            np.round(directions @ directions.T, DECIMALS),
            codes,
            labels_of_perturbations(sets, codes, vocabulary),
            None if not_same is None else blocks,
        )
        p = permutation.p_values(n_draws, rng=rng_for(seed, "consistency"))
    table.insert(len(table.columns) - 1, "p", p)
    table.insert(len(table.columns) - 1, "q", benjamini_hochberg(p))
    return rows, table


def _consistent(positives: Float[np.ndarray, " positive"], negatives: Float[np.ndarray, " negative"]) -> dict[str, Any]:
    value: dict[str, Any] = {"n_positives": len(positives), "n_negatives": len(negatives)}
    reason = "no other perturbation has the label" if not len(positives) else ""
    reason = reason or ("every row shares a label" if not len(negatives) else "")
    precision = expected = normalized = float("nan")
    if not reason:
        precision = average_precision(positives, negatives)
        expected = expected_average_precision(len(positives), len(negatives))
        normalized = normalize(precision, expected)
    return value | {
        "average_precision": precision,
        "expected": expected,
        "normalized": normalized,
        "reason": reason,
    }


def _summary(rows: pd.DataFrame) -> dict[str, Any]:
    known = rows[rows["reason"] == ""]
    return {
        "n_queries": len(known),
        "n_perturbations": known["perturbation"].nunique(),
        "mean_average_precision": known["average_precision"].mean(),
        "expected": known["expected"].mean(),
        "normalized": known["normalized"].mean(),
        "reason": "" if len(known) else rows["reason"].iloc[0],
    }
