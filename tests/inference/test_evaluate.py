from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix

from distangle.images import Preprocessing
from distangle.inference import average_wells, confusion, evaluate, evaluate_controls, score
from distangle.results import Predictions, ScoreRow
from tests_support import model_card

CLASSES = ("a", "b", "c", "never", "UNTREATED")
RNG = np.random.default_rng(0)


def predictions(rows: list[dict[str, object]], *, logit: float = 5.0) -> Predictions:
    """Return sites whose logits are `logit` for the predicted class and 0 elsewhere."""
    table = pd.DataFrame(rows)
    defaults = {"Metadata_Plate": "1", "Metadata_Well": "B02", "Metadata_Cell_Type": "", "Metadata_Role": "treatment"}
    for name, value in {**defaults, "Metadata_Fold": "held_out", "reason": ""}.items():
        table[name] = table[name].fillna(value) if name in table else value
    table["Metadata_Site"] = range(len(table))
    logits = np.zeros((len(table), len(CLASSES)), np.float32)
    logits[np.arange(len(table)), [CLASSES.index(str(name)) for name in table["predicted"]]] = logit
    result = Predictions(
        level="site",
        table=table,
        logits=logits,
        embedding=np.ones((len(table), 2), np.float32),
        perturbations=CLASSES,
        views=1,
    )
    table["confidence"] = result.probabilities.max(1)
    return result


def site(experiment: str, truth: str, prediction: str, **columns: object) -> dict[str, object]:
    return {"Metadata_Experiment": experiment, "perturbation": truth, "predicted": prediction, **columns}


CARD = model_card(CLASSES, [4, 4, 4, 0, 4])
RUN = {"target": "perturbation", "held_out": "experiment=E2", "forced": False}


def test_accuracy_and_balanced_accuracy_are_those_of_scikit_learn() -> None:
    truth = RNG.choice(["a", "b", "c"], 60, p=[0.7, 0.2, 0.1]).astype(object)
    names = RNG.choice(["a", "b", "c"], 60).astype(object)
    assert score(truth, names, "accuracy") == pytest.approx(accuracy_score(truth, names))
    assert score(truth, names, "balanced accuracy") == pytest.approx(balanced_accuracy_score(truth, names))


def test_the_confusion_is_that_of_scikit_learn_in_the_order_of_the_classes() -> None:
    truth, names = pd.Series(["c", "a", "a", "b"]), pd.Series(["a", "a", "b", "b"])
    matrix = confusion(truth, names, CLASSES)
    assert matrix["perturbations"] == ["a", "b", "c"]
    assert matrix["counts"] == confusion_matrix(truth, names, labels=["a", "b", "c"]).tolist()


def test_few_experiments_are_told_one_by_one_and_more_have_an_interval() -> None:
    def rows(n: int) -> dict[str, ScoreRow]:
        names = [f"E{k}" for k in range(n) for _ in range(4)]
        table = predictions([site(name, "a", "a", Metadata_Well=f"B0{k % 4}") for k, name in enumerate(names)])
        return {row.metric: row for row in evaluate([table], card=CARD, run=RUN).rows if row.subset == "all"}

    assert (rows(4)["accuracy"].interval, rows(4)["accuracy"].n_groups) == (None, 4)
    assert rows(4)["balanced accuracy"].by_group == {"E0": 1.0, "E1": 1.0, "E2": 1.0, "E3": 1.0}
    for row in rows(5).values():
        assert row.by_group == {}
        assert row.interval is not None
        assert row.interval[0] < 0.8  # 20 of 20 wells in five experiments are no certainty
        assert row.interval[1] == 1


def test_only_held_out_sites_of_trained_classes_are_scored() -> None:
    site_predictions = predictions(
        [
            site("E2", "a", "a"),
            site("E2", "b", "a"),
            site("E2", "never", "a"),
            site("E2", "", "a"),
            site("E1", "a", "b", Metadata_Fold="train"),
        ]
    )
    scores = evaluate([site_predictions], card=CARD, run=RUN)
    row = next(row for row in scores.rows if row.metric == "accuracy" and row.subset == "all")
    assert (row.n, row.value, row.chance) == (2, 0.5, 0.25)
    assert scores.never_trained == ("never",)
    assert any("1 held-out sites of never are not scored" in note for note in scores.notes)
    assert not row.transductive


def test_rows_are_given_per_cell_type_and_for_the_worst_experiment() -> None:
    site_predictions = predictions(
        [
            site("E2", "a", "a", Metadata_Cell_Type="HUVEC"),
            site("E2", "b", "b", Metadata_Cell_Type="HUVEC"),
            site("E3", "a", "b", Metadata_Cell_Type="RPE"),
            site("E3", "b", "b", Metadata_Cell_Type="RPE"),
        ]
    )
    rows = {
        row.subset: row for row in evaluate([site_predictions], card=CARD, run=RUN).rows if row.metric == "accuracy"
    }
    assert rows["all"].value == 0.75
    assert rows["all"].n_groups == 2
    assert rows["cell type HUVEC"].value == 1
    assert rows["worst experiment E3"].value == 0.5


def test_a_forced_split_and_borrowed_statistics_are_said_aloud() -> None:
    card = replace(CARD, preprocessing=Preprocessing(standardize="experiment_controls"))
    scores = evaluate(
        [predictions([site("E2", "a", "a"), site("E2", "b", "b")])], card=card, run={**RUN, "forced": True}
    )
    assert scores.forced
    assert all(row.transductive for row in scores.rows)
    assert (
        "The split was forced: training and held-out wells share a source of information. These scores are inflated."
        in scores.notes
    )
    forced_run = {
        **RUN,
        "forced": True,
        "forced_notes": ["2 pictures would be on both sides", "1 of 8 plates would be"],
    }
    notes = evaluate([predictions([site("E2", "a", "a"), site("E2", "b", "b")])], card=card, run=forced_run).notes
    assert any(
        note.startswith("The split was forced: 2 pictures would be on both sides; 1 of 8 plates would be.")
        for note in notes
    )
    assert any("experiment controls" in note and "transductive" in note for note in scores.notes)


def test_a_well_is_the_mean_of_its_readable_sites() -> None:
    site_predictions = predictions(
        [site("E2", "a", "a"), site("E2", "a", "b"), site("E2", "a", "b", Metadata_Well="C03")]
    )
    wells = average_wells(site_predictions)
    assert wells.table["n_sites"].tolist() == [2, 1]
    np.testing.assert_allclose(wells.logits[0], site_predictions.logits[:2].mean(0))
    site_predictions.table.loc[0, "reason"] = "damaged"
    assert average_wells(site_predictions).table["n_sites"].tolist() == [1, 1]
    assert average_wells(site_predictions).table["predicted"].tolist() == ["b", "b"]
    site_predictions.table["reason"] = "damaged"
    assert average_wells(site_predictions).table["reason"].tolist() == ["damaged", "damaged"]


TRAINED = {"a", "b", "c", "UNTREATED"}


def controls(names: list[str], *, logit: float = 5.0) -> Predictions:
    control_sites = [site("E2", "UNTREATED", name, Metadata_Role="negative_control") for name in names]
    return predictions([*control_sites, site("E2", "a", "a")], logit=logit)


def test_untreated_wells_called_untreated_are_as_expected_and_called_a_treatment_are_not() -> None:
    fine = evaluate_controls(controls(["UNTREATED"] * 10), trained=TRAINED)["negative_control"]
    assert (fine["recall"], fine["confident_treatment"], fine["verdict"]) == (1.0, 0.0, "as expected")
    violation = evaluate_controls(controls(["a"] * 5 + ["UNTREATED"] * 5), trained=TRAINED)["negative_control"]
    assert (violation["recall"], violation["confident_treatment"], violation["verdict"]) == (0.5, 0.5, "violated")
    unsure = evaluate_controls(controls(["a"] * 5 + ["UNTREATED"] * 5, logit=0.1), trained=TRAINED)["negative_control"]
    assert unsure["verdict"] == "as expected"  # an unsure network may guess
    assert float(str(unsure["mean_entropy"])) == pytest.approx(np.log(5), abs=0.01)


def test_positive_controls_must_be_recognised_more_surely_than_treatments() -> None:
    rows = [site("E2", "b", "b", Metadata_Role="positive_control") for _ in range(4)]
    site_predictions = predictions([*rows, site("E2", "a", "a"), site("E2", "a", "a")])
    assert evaluate_controls(site_predictions, trained=TRAINED)["positive_control"]["verdict"] == "as expected"
    site_predictions.table.loc[site_predictions.table["Metadata_Role"] == "positive_control", "confidence"] = 0.3
    assert evaluate_controls(site_predictions, trained=TRAINED)["positive_control"]["verdict"] == "violated"
    assert evaluate_controls(site_predictions, trained={"a"})["positive_control"]["verdict"] == "not trained"


def test_controls_say_nothing_of_another_target() -> None:
    assert evaluate_controls(controls(["a"]), trained=TRAINED, target="cell_type") == {}
