"""Test wells whose sites have several labels: they have no label and no score."""

import numpy as np
import pandas as pd
import pytest

from distangle.inference import average_wells, evaluate
from distangle.results import Predictions, Scores
from tests_support import model_card

CLASSES = ("a", "b")
CARD = model_card(CLASSES)
RUN = {"target": "phenotype", "held_out": "experiment=E2", "forced": False, "unlabelled": ""}


def sites(*wells: str, folds: str = "") -> Predictions:
    """Two experiments of wells of as many sites as letters; every site is said to be of class `a`.

    Args:
        wells: The labels of their sites, a letter each; `-` for none.
        folds: Of the sites of every well, in both experiments: `h` or `t`; E1 is for training when left out.
    """
    rows = []
    for experiment in ("E1", "E2"):
        for k, labels in enumerate(wells):
            for site, label in enumerate(labels):
                fold = {"h": "held_out", "t": "train", "": "train" if experiment == "E1" else "held_out"}[
                    folds[site : site + 1]
                ]
                place = (
                    experiment,
                    "1",
                    f"B{k + 2:02d}",
                    site + 1,
                    "HUVEC",
                    "treatment",
                    f"si{k}",
                    f"{label}{site}",
                    fold,
                )
                rows.append((*place, label.replace("-", "")))
    names = ("Experiment", "Plate", "Well", "Site", "Cell_Type", "Role", "siRNA", "frame", "Fold")
    table = pd.DataFrame(rows, columns=[*(f"Metadata_{name}" for name in names), "perturbation"])
    table = table.assign(predicted="a", confidence=1.0, reason="")
    logits = np.tile(np.array([[5.0, 0.0]], np.float32), (len(table), 1))
    return Predictions(level="site", table=table, logits=logits, embedding=logits, perturbations=CLASSES, views=1)


def scores_of(site_predictions: Predictions) -> Scores:
    return evaluate([site_predictions, average_wells(site_predictions)], card=CARD, run=RUN)


def values(scores: Scores) -> dict[str, tuple[float, int]]:
    return {row.level: (row.value, row.n) for row in scores.rows if (row.metric, row.subset) == ("accuracy", "all")}


def test_what_differs_within_a_well_is_blank_for_the_well() -> None:
    wells = average_wells(sites("aa", "ab", "b-", "--")).table.iloc[:4]
    assert wells["perturbation"].tolist() == ["a", "", "", ""]
    assert wells["Metadata_frame"].tolist() == [""] * 4
    assert wells["Metadata_siRNA"].tolist() == ["si0", "si1", "si2", "si3"]
    assert wells["Metadata_Fold"].tolist() == ["train"] * 4
    assert wells["Metadata_Cell_Type"].tolist() == ["HUVEC"] * 4
    assert wells["predicted"].tolist() == ["a"] * 4
    assert average_wells(sites("ab", folds="th")).table["Metadata_Fold"].tolist() == ["", ""]


def test_sites_in_any_order_say_the_same_of_their_wells() -> None:
    site_predictions = sites("aa", "ab", "bb")
    order = np.random.default_rng(0).permutation(len(site_predictions.table))
    site_predictions.table[:] = site_predictions.table.iloc[order].to_numpy()
    wells = average_wells(site_predictions).table
    label_of_well = dict(zip(wells["Metadata_Experiment"] + wells["Metadata_Well"], wells["perturbation"], strict=True))
    assert label_of_well == {"E1B02": "a", "E1B03": "", "E1B04": "b", "E2B02": "a", "E2B03": "", "E2B04": "b"}


def test_wells_without_a_single_label_are_not_scored_and_that_is_said_once() -> None:
    scores = scores_of(sites("aa", "ab", "bb"))
    assert values(scores) == {"site": (0.5, 6)}  # three of six held-out sites are of class a
    well_notes = [note for note in scores.notes if "no score by well" in note]
    assert well_notes == [
        "The wells have no single phenotype (2 of 6 wells hold several), so no score by well is computed."
    ]


def test_a_well_that_is_labelled_in_part_has_no_label_either() -> None:
    scores = scores_of(sites("a-", "bb", "--"))
    assert values(scores) == {"site": (pytest.approx(1 / 3), 3)}
    assert (
        "The wells have no single phenotype (0 of 4 wells hold several, 2 lack it at some sites), so no score by well "
        "is computed."
    ) in scores.notes


def test_wells_of_one_label_are_scored_as_ever() -> None:
    scores = scores_of(sites("aa", "bb", "--"))
    assert values(scores) == {"site": (0.5, 4), "well": (0.5, 2)}
    assert not [note for note in scores.notes if "well" in note]


def test_wells_on_both_sides_of_forced_folds_are_in_no_score_by_well() -> None:
    scores = scores_of(sites("aa", "bb", folds="th"))
    assert values(scores) == {"site": (0.5, 4)}
    assert "4 wells have both held-out and other sites: they are in no score by well." in scores.notes


def test_held_out_sites_without_a_label_are_counted_with_what_to_do() -> None:
    notes = scores_of(sites("aa", "bb", "--")).notes
    assert (
        "2 of 6 held-out sites have no label in column 'phenotype': they are predicted and not scored. To score them, "
        "fill in the column, index and predict again."
    ) in notes
    assert not [note for note in scores_of(sites("aa", "bb")).notes if "have no label" in note]
    notes_without_labels = evaluate([sites("--")], card=CARD, run=RUN).notes
    assert notes_without_labels == (
        "No held-out site has a known label in column 'phenotype': there is nothing to score. Add labels, index "
        "and predict again.",
    )
