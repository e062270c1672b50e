"""What new data will be: plates of known experiments, or new experiments."""

from typing import Literal

from distangle.screen.screen import Screen

Expected = Literal["plates", "experiments"]
SEVERAL = 0.9  # share of the labels that have wells in two experiments, from which experiments can be held out


def expected_groups(screen: Screen, expect: str, *, label: str = "perturbation") -> tuple[Expected, str]:
    """Return what new data are expected to be, and why, in words.

    Args:
        screen: The labelled screen.
        expect: `plates`, `experiments`, or `auto`: experiments where nine in ten labels have wells in two of them,
            since a label of one experiment cannot be held out with it; else plates.
        label: The column that is predicted.
    """
    if expect in ("plates", "experiments"):
        return ("plates" if expect == "plates" else "experiments"), "as was asked for"
    known = screen.sites[screen.sites[label].astype(str) != ""]
    n_experiments = known.groupby(known[label].astype(str))["experiment"].nunique()
    several = int((n_experiments > 1).sum())
    words = f"{several} of {len(n_experiments)} labels of {label!r} have wells in several experiments"
    if len(n_experiments) and several >= SEVERAL * len(n_experiments):
        return "experiments", words
    return "plates", words
