"""Check controls: are untreated wells called untreated (Sec. 2.2)?

And are positive controls recognised by name?
"""

from collections.abc import Mapping, Set

import numpy as np
import pandas as pd

from distangle.results import Predictions
from distangle.screen import NEGATIVE, Role

UNSEEN = ("held_out", "new")  # folds whose sites no training saw
CONFIDENT = 0.5  # probability from which a call of a treatment counts as confident
TOLERATED = 0.10  # share of negative-control sites that may be called a treatment with confidence


def evaluate_controls(
    sites: Predictions, *, trained: Set[str], target: str = "perturbation"
) -> dict[str, Mapping[str, object]]:
    """Check the held-out control sites.

    A negative control that is a class of its own should be recognised; one that is not should not be called
    a treatment with confidence. A positive control should be recognised, more surely than a treatment is.

    Source: Sec. 2.2
    Departs: the paper wants no confident prediction for a negative control, yet trains it as a class
        (Fig. 11); both readings are reported, and only a confident call of a *treatment* counts against it.

    Args:
        sites: Predictions of all sites.
        trained: Classes with at least one training site.
        target: What was predicted; other than perturbations, controls say nothing.

    Returns:
        Per role that occurs: `n`, `recall` (None when not trained), `mean_confidence`, `mean_entropy` (nats),
        `confident_treatment` (share called a treatment with a probability above 0.5), `verdict`, `words`.
    """
    table = sites.table
    fine = (table["Metadata_Fold"].isin(UNSEEN) & (table["reason"] == "")).to_numpy()
    if target != "perturbation" or not fine.any():
        return {}
    roles = table["Metadata_Role"]
    treatments = set(table.loc[roles == Role.TREATMENT, "perturbation"]) - {""}
    probabilities = np.clip(sites.probabilities, 1e-12, 1)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    treated = (fine & (roles == Role.TREATMENT).to_numpy()).nonzero()[0]
    surest = float(table["confidence"].iloc[treated].mean()) if len(treated) else None
    checks: dict[str, Mapping[str, object]] = {}
    for role, members in (
        ("negative_control", NEGATIVE),
        ("positive_control", (Role.POSITIVE_CONTROL,)),
    ):
        chosen = np.flatnonzero(fine & roles.isin(members).to_numpy())
        if len(chosen):
            counted = _count(table.iloc[chosen], entropy[chosen], trained, treatments)
            judge = _judge_negative if role == "negative_control" else _judge_positive
            verdict, words = judge(counted, surest)
            checks[role] = {**counted, "verdict": verdict, "sentence": words}
    return checks


def _count(table: pd.DataFrame, entropy: np.ndarray, trained: Set[str], treatments: Set[str]) -> dict[str, object]:
    known = table[table["perturbation"].isin(trained)]
    recall = float((known["perturbation"] == known["predicted"]).mean()) if len(known) else None
    confident = table["predicted"].isin(treatments) & (table["confidence"] > CONFIDENT)
    return {
        "n": len(table),
        "recall": recall,
        "mean_confidence": float(table["confidence"].mean()),
        "mean_entropy": float(entropy.mean()),
        "confident_treatment": float(confident.mean()),
    }


def _judge_negative(counted: Mapping[str, object], surest: float | None) -> tuple[str, str]:
    share = float(str(counted["confident_treatment"]))
    words = f"{share:.0%} of {counted['n']} negative-control sites are called a treatment with confidence"
    if share > TOLERATED:
        return "violated", f"{words}; at most {TOLERATED:.0%} should be."
    return "as expected", f"{words}."


def _judge_positive(counted: Mapping[str, object], surest: float | None) -> tuple[str, str]:
    recall, mean = counted["recall"], float(str(counted["mean_confidence"]))
    if recall is None:
        return "not trained", "The positive controls are no classes of this network, so they cannot be recognised."
    words = (
        f"{float(str(recall)):.0%} of {counted['n']} positive-control sites are recognised, mean confidence {mean:.2f}"
    )
    if surest is None:
        return "no treatment to compare with", f"{words}."
    words = f"{words}; treatments {surest:.2f}"
    if float(str(recall)) >= CONFIDENT and mean >= surest:
        return "as expected", f"{words}."
    return "violated", f"{words}. Positive controls should be recognised most surely of all."
