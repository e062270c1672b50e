"""What an explanation says in a terminal, word for word."""

import numpy as np
import pandas as pd
import pytest

from distangle.explain import sentences
from distangle.results import Explanation


def explanation(**changes: object) -> Explanation:
    summary = {
        "sites": 40,
        "top_channel": "actin",
        "top_channel_share": 0.6,
        "shapley": {"p": [0.4, 0.0007], "p_family": [0.8, 0.0021]},
        "eq15_top_channel": {"nuclei": 30, "actin": 10},
        "eq15_top_channel_of_random_maps": {"nuclei": 38.7, "actin": 1.3},
        "warnings": [],
    }
    return Explanation(
        table=pd.DataFrame(),
        maps=np.zeros((0, 2, 2), dtype=np.float32),
        settings={"channels": ["nuclei", "actin"], "perturbation": changes.pop("perturbation", None)},
        summary=summary | changes,
    )


@pytest.mark.parametrize(
    ("perturbation", "moved"),
    [(None, "actin moved the prediction most"), ("siRNA 5", "actin moved the answer siRNA 5 most")],
)
def test_the_stain_is_said_of_what_was_explained(perturbation: str | None, moved: str) -> None:
    stain, literal = sentences(explanation(perturbation=perturbation))
    assert stain == (
        f"stain: over 40 sites, {moved} (Shapley value, largest in 60% of sites; p = 0.0021 against shuffled stains)."
    )
    assert literal == (
        "Eq. 15 as printed names nuclei in 30 of 40 sites; with maps drawn at random, nuclei in 39. It is a distance "
        "that follows brightness, no evidence."
    )


def test_no_stain_is_said_to_stand_out_that_its_own_p_denies() -> None:
    of = {"mito": [0.1, 0.5], "actin-a": [0.0, 0.7], "nothing": [0.2, 0.1]}
    said = sentences(
        explanation(
            shapley={"p": [0.4, 0.17], "p_family": [0.9, 0.77]},
            perturbations={name: {"sites": 2, "shapley": {"mean": mean}} for name, mean in of.items()},
        )
    )
    assert said[0] == (
        "stain by perturbation: the largest mean Shapley value of 3 perturbations is that of actin in 2, nuclei in 1."
    )
    assert said[1] == (
        "stain: over all 40 sites no single stain stands out; the first is actin (Shapley value, largest in 60% of "
        "sites; p = 0.77 against shuffled stains)."
    )


def test_how_much_lies_on_cells_is_said_and_why_it_is_not_known() -> None:
    nuclei = {"share": 0.44, "area": 0.3, "null": [0.2, 0.4], "p": 0.012}
    cells = {"sites": 9, "nuclei": nuclei, "cells": {**nuclei, "share": 0.8, "area": 0.7, "p": 0.3}}
    assert sentences(explanation(cells=cells))[-1] == (
        "cells: of the maps, 44% on nuclei (30% of the image; p = 0.012 against random maps) and 80% on cells with "
        "their nuclei (70% of the image; p = 0.3 against random maps)."
    )
    assert sentences(explanation(cells="No channel shows nuclei."))[-1] == "cells: No channel shows nuclei."


def test_a_warning_is_said() -> None:
    said = sentences(explanation(warnings=["1 of the explained wells is untreated (E1 1 B02): beware."]))
    assert said[-1] == "warning: 1 of the explained wells is untreated (E1 1 B02): beware."
