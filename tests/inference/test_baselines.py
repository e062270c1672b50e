"""Test baselines without cells: each detects the signal planted for it and no other."""

import numpy as np
import pandas as pd
import pytest

from distangle.inference.baselines import _predict_from_intensity, predict_without_cells
from distangle.inference.evaluate import evaluate
from distangle.inference.predict import average_wells
from distangle.results import Predictions, Scores
from tests_support import model_card

NAMES = ("a", "b", "c", "d")
CARD = model_card(NAMES, [1] * 4)
RUN = {"target": "perturbation", "held_out": "experiment=E3", "forced": False, "unlabelled": ""}


def screen(signal: str, *, accuracy: float = 1.0) -> tuple[Predictions, np.ndarray]:
    """Make three experiments of two plates with 24 wells of two sites; the planted signal predicts the label."""
    rng = np.random.default_rng(0)
    rows, intensities = [], []
    for experiment in ("E1", "E2", "E3"):
        for plate in ("1", "2"):
            names = np.array(NAMES * 6)
            names_in_layout = names if signal == "position" else rng.permutation(names)
            if signal == "plate":
                names_in_layout = np.array((NAMES[:2] if plate == "1" else NAMES[2:])[:1] * 20 + NAMES[:4])
            batch = rng.normal(0, 40, 2)
            for k, name in enumerate(names_in_layout):
                for site in (1, 2):
                    shift = 8 * NAMES.index(str(name)) if signal == "intensity" else 0
                    brightness = 100 + batch[0] + shift + rng.normal(0, 1)
                    intensities.append([[brightness, 80.0], [20 + rng.normal(0, 1), 10.0]])
                    fold = "held_out" if experiment == "E3" else "train"
                    rows.append((experiment, plate, f"B{k + 1:02d}", site, "HUVEC", "treatment", fold, str(name)))
    columns = [f"Metadata_{name}" for name in ("Experiment", "Plate", "Well", "Site", "Cell_Type", "Role", "Fold")]
    table = pd.DataFrame(rows, columns=[*columns, "perturbation"])
    predicted_names = np.where(rng.random(len(table)) < accuracy, table["perturbation"], "a")
    table = table.assign(predicted=predicted_names, confidence=1.0, reason="")
    logits = np.eye(4, dtype=np.float32)[[NAMES.index(str(name)) for name in predicted_names]]
    predictions = Predictions(
        level="site", table=table, logits=logits, embedding=logits.copy(), perturbations=NAMES, views=1
    )
    return predictions, np.array(intensities, dtype=np.float32)


def scores_of(signal: str, *, accuracy: float = 1.0) -> Scores:
    sites, intensities = screen(signal, accuracy=accuracy)
    wells = average_wells(sites)
    naive = {
        predictions.level: predict_without_cells(predictions, sites, intensities) for predictions in (sites, wells)
    }
    return evaluate([sites, wells], card=CARD, run=RUN, baselines=naive)


@pytest.mark.parametrize("signal", ["position", "plate", "intensity"])
def test_each_rule_finds_what_is_planted_for_it_and_only_that(signal: str) -> None:
    for row in scores_of(signal).rows:
        if row.metric == "accuracy":
            assert set(row.baselines) == {"position", "plate", "intensity"}
            assert row.baselines[signal] > 0.8, (row.level, row.baselines)
            others = {rule: value for rule, value in row.baselines.items() if rule != signal}
            if signal != "plate":  # every rule that knows the plate predicts a plate of one label
                assert max(others.values()) < 0.5, others


def test_a_network_no_better_than_a_rule_is_said_to_have_shown_nothing() -> None:
    position_notes = [note for note in scores_of("position").notes if "does not show" in note]
    assert [note[:7] for note in position_notes] == ["By site", "By well"]
    assert "position alone, without any cell, gives 1.000" in position_notes[0]
    assert not [note for note in scores_of("nothing").notes if "does not show" in note]


def test_without_training_rows_there_are_no_rules() -> None:
    sites, intensities = screen("position")
    sites.table["Metadata_Fold"] = ""
    assert dict(predict_without_cells(sites, sites, intensities)) == {}


def test_sites_that_cannot_be_read_get_no_label_by_intensity() -> None:
    sites, intensities = screen("intensity")
    intensities[[0, 280]] = np.nan
    sites.table.loc[[0, 280], "reason"] = "damaged"
    predictions = predict_without_cells(sites, sites, intensities)["intensity"]
    assert predictions[[0, 280]].tolist() == ["", ""]
    assert "" not in predictions[[1, 279]].tolist()
    assert len(predictions) == len(sites.table)


def test_the_rules_stand_beside_the_score_on_the_terminal() -> None:
    from distangle.cli.console import BASELINES, score_lines

    line = next(iter(score_lines(scores_of("position"))))
    index = 7  # after level, views, wells, subset, accuracy, balanced and chance
    assert BASELINES == ("position", "plate", "intensity")
    assert line[index] == "1.000"
    assert 0 < float(line[index + 2]) < 0.6
    assert line[index + 3] == "96"


def test_a_class_of_one_training_site_is_no_reason_for_a_warning():
    rng = np.random.default_rng(1)
    intensities = rng.normal(0, 0.1, (11, 4)) + np.repeat([[0.0], [5.0], [-5.0]], [5, 5, 1], axis=0)
    labels = np.array(["a"] * 5 + ["b"] * 5 + ["c"], dtype=object)
    predictions = _predict_from_intensity(intensities, labels, np.ones(11, dtype=bool))
    assert predictions is not None
    assert predictions[:10].tolist() == labels[:10].tolist()
