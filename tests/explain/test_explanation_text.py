"""The sentences of an explanation in the terminal, word for word."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.explain import sentences
from distangle.explain.text import analysis_sentences
from distangle.results import Explanation, FilterAnalysis, TemplateComparison


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
    ("perturbation", "contribution"),
    [
        (None, "actin contributed most to the prediction"),
        ("siRNA 5", "actin contributed most to the output for siRNA 5"),
    ],
)
def test_the_top_channel_is_named_for_what_was_explained(perturbation: str | None, contribution: str) -> None:
    channel, eq15 = sentences(explanation(perturbation=perturbation))
    assert channel == (
        f"channel: {contribution} over 40 sites (largest Shapley value in 60% of sites; p = 0.0021 against shuffled "
        "channels)."
    )
    assert eq15 == (
        "Eq. 15 as printed selects nuclei in 30 of 40 sites; with random maps it selects nuclei in 39. It is a "
        "distance "
        "that follows brightness, so it is no evidence."
    )


def test_no_channel_stands_out_with_a_large_p() -> None:
    values_of = {"mito": [0.1, 0.5], "actin-a": [0.0, 0.7], "nothing": [0.2, 0.1]}
    lines = sentences(
        explanation(
            shapley={"p": [0.4, 0.17], "p_family": [0.9, 0.77]},
            perturbations={name: {"sites": 2, "shapley": {"mean": mean}} for name, mean in values_of.items()},
        )
    )
    assert lines[0] == (
        "channel by perturbation: largest mean Shapley value of 3 perturbations: actin in 2, nuclei in 1."
    )
    assert lines[1] == (
        "channel: no channel stands out over 40 sites; actin has the largest mean (largest Shapley value in 60% of "
        "sites; "
        "p = 0.77 against shuffled channels)."
    )


def test_the_overlap_with_cells_or_the_reason_for_none_is_printed() -> None:
    nuclei = {"share": 0.44, "area": 0.3, "null": [0.2, 0.4], "p": 0.012}
    cells = {"sites": 9, "nuclei": nuclei, "cells": {**nuclei, "share": 0.8, "area": 0.7, "p": 0.3}}
    assert sentences(explanation(cells=cells))[-1] == (
        "cells: share of the attribution maps: 44% on nuclei (30% of the image; p = 0.012 against random maps) and 80% "
        "on "
        "cells with their nuclei (70% of the image; p = 0.3 against random maps)."
    )
    assert sentences(explanation(cells="No channel shows nuclei."))[-1] == "cells: No channel shows nuclei."


def test_a_warning_is_printed() -> None:
    lines = sentences(explanation(warnings=["1 of the explained wells is a control well (E1 1 B02)."]))
    assert lines[-1] == "warning: 1 of the explained wells is a control well (E1 1 B02)."


def test_several_analyses_give_one_sentence_each_and_one_gives_all(tmp_path: Path) -> None:
    FilterAnalysis(
        weights={}, stored_layers=[], layers=[], claim=None, prune=[], settings={}, sentences=["first.", "second."]
    ).write(tmp_path)
    TemplateComparison(
        templates=pd.DataFrame({"run": ["a"]}),
        embeddings=pd.DataFrame({"run": ["a"]}),
        maps=[],
        numbers={"sentences": ["angles.", "more."]},
    ).write(tmp_path)
    assert analysis_sentences(tmp_path, ["filters"]) == ("filters: first.", "filters: second.")
    assert analysis_sentences(tmp_path, ["templates", "filters"]) == ("templates: angles.", "filters: first.")
