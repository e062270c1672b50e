"""Infer whether new data are plates of known experiments or new experiments."""

from typing import Literal

from distangle.screen.screen import Screen

Expected = Literal["plates", "experiments"]
MIN_REPLICATED = 0.9  # share of labels with wells in two experiments above which experiments can be held out


def expected_groups(screen: Screen, expect: str, *, label: str = "perturbation") -> tuple[Expected, str]:
    """Return which groups new data are expected to be, and the reason.

    Args:
        screen: The labeled screen.
        expect: `plates`, `experiments`, or `auto`: experiments where nine in ten labels have wells in two of them,
            because a label of a single experiment cannot be held out; else plates.
        label: The column to predict.
    """
    if expect in ("plates", "experiments"):
        return ("plates" if expect == "plates" else "experiments"), "as requested"
    labeled = screen.sites[screen.sites[label].astype(str) != ""]
    n_experiments = labeled.groupby(labeled[label].astype(str))["experiment"].nunique()
    n_replicated = int((n_experiments > 1).sum())
    reason = f"{n_replicated} of {len(n_experiments)} labels of {label!r} have wells in several experiments"
    if len(n_experiments) and n_replicated >= MIN_REPLICATED * len(n_experiments):
        return "experiments", reason
    return "plates", reason
