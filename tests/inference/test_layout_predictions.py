"""Predictions that use the layout of the plate: a plate worked out by hand, and a planted layout."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from distangle.inference import evaluate
from distangle.inference.plate_layout import TrainingWells, add_layout_columns
from distangle.results import Predictions
from tests_support import model_card

NAMES = ("a", "b", "c", "d", "e", "f", "DMSO")
GROUPS = (("a", "b", "c"), ("d", "e", "f"))
RUN = {"target": "perturbation", "held_out": "experiment=E3", "forced": False}


def table_of(wells: list[tuple[str, str, str]], *, fold: str) -> pd.DataFrame:
    """Wells of (experiment, plate, label)."""
    return pd.DataFrame(
        {
            "Metadata_Experiment": [well[0] for well in wells],
            "Metadata_Plate": [well[1] for well in wells],
            "Metadata_Well": [f"B{k + 2:02d}" for k in range(len(wells))],
            "Metadata_Cell_Type": "",
            "Metadata_Role": ["negative_control" if well[2] == "DMSO" else "treatment" for well in wells],
            "Metadata_Fold": fold,
            "perturbation": [well[2] for well in wells],
            "reason": "",
        }
    )


def predictions(table: pd.DataFrame, logits: np.ndarray) -> Predictions:
    table["predicted"], table["confidence"] = [NAMES[k] for k in logits.argmax(axis=1)], 0.5
    return Predictions(
        level="well", table=table, logits=logits.astype(np.float32), embedding=np.zeros((len(table), 2), np.float32),
        perturbations=NAMES, views=1,
    )  # fmt: skip


def training_wells() -> pd.DataFrame:
    plates = [("E1", "1", GROUPS[0]), ("E1", "2", GROUPS[1]), ("E2", "1", GROUPS[1]), ("E2", "2", GROUPS[0])]
    # The control is on every plate, twice: it does not join the groups.
    wells = [(e, p, name) for e, p, group in plates for name in (*group, "DMSO", "DMSO")]
    return table_of(wells, fold="train")


def parts(n_wells: int, table: pd.DataFrame | None = None) -> list[TrainingWells]:
    return [TrainingWells(rows=np.ones(n_wells, dtype=bool), table=training_wells() if table is None else table)]


#         a  b  c  d  e  f  DMSO
LOGITS = np.array(
    [
        [5, 1, 0, 0, 0, 0, 0],  # a
        [4, 3, 0, 0, 0, 0, 0],  # b, predicted a
        [0, 0, 2, 0, 0, 3, 0],  # c, predicted f, of the other group
        [9, 0, 0, 0, 0, 0, 1],  # a control
    ],
    dtype=float,
)


def test_a_plate_by_hand() -> None:
    table = table_of([("E3", "1", "a"), ("E3", "1", "b"), ("E3", "1", "c"), ("E3", "1", "DMSO")], fold="held_out")
    result, sentence = add_layout_columns(predictions(table, LOGITS), parts(4))
    assert result.table["predicted"].tolist() == ["a", "a", "f", "a"]
    assert result.table["predicted_by_group"].tolist() == ["a", "a", "c", ""]
    assert result.table["predicted_by_assignment"].tolist() == ["a", "b", "c", ""]  # 5 + 3 + 2 > 4 + 1 + 2
    assert result.table["group_size"].tolist() == [3, 3, 3, 0]
    assert sentence.startswith("In the training wells, every plate carries one of 2 groups of treatments (3, 3)")


def test_labels_of_the_held_out_plate_have_no_part() -> None:
    table = table_of([("E3", "1", "d"), ("E3", "1", ""), ("E3", "1", "d"), ("E3", "1", "DMSO")], fold="aside")
    result, _ = add_layout_columns(predictions(table, LOGITS), parts(4))
    assert result.table["predicted_by_assignment"].tolist() == ["a", "b", "c", ""]


def test_rows_are_marked_and_those_of_the_network_stay() -> None:
    table = table_of([("E3", "1", "a"), ("E3", "1", "b"), ("E3", "1", "c"), ("E3", "1", "DMSO")], fold="held_out")
    plain = predictions(table, LOGITS)
    sites = replace(plain, level="site", table=plain.table.assign(Metadata_Site=1))
    card = model_card(NAMES)
    with_layout, _ = add_layout_columns(plain, parts(4))
    before = evaluate([sites, plain], card=card, run=RUN).rows
    after = evaluate([sites, with_layout], card=card, run=RUN).rows
    assert after[: len(before)] == before
    rows = {(row.layout, row.metric): row for row in after if row.level == "well" and row.wells == "treatments"}
    assert rows["", "accuracy"].value == pytest.approx(1 / 3)
    assert rows["plate group", "accuracy"].value == pytest.approx(2 / 3)
    assert rows["one perturbation per well", "balanced accuracy"].value == 1
    assert {row.chance for row in after if row.layout} == {1 / 3}
    assert all(row.transductive and not row.baselines for row in after if row.layout)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"perturbation": "a"}, "a occurs 3 times on the training plate E1 1."),
        ({"Metadata_Role": "negative_control"}, "there is no training well of a treatment."),
        ({"Metadata_Experiment": "E1", "Metadata_Plate": "1"}, "a occurs 2 times on the training plate E1 1."),
    ],
)
def test_without_such_a_layout_no_column_is_added(change: dict[str, str], reason: str) -> None:
    wells = predictions(table_of([("E3", "1", "a")], fold="held_out"), LOGITS[:1])
    result, sentence = add_layout_columns(wells, parts(1, training_wells().assign(**change)))
    assert result is wells
    assert sentence == f"No prediction uses the layout of the plate: {reason}"
    assert add_layout_columns(wells, [])[1].endswith("the training screen was not found.")


def test_a_plate_with_more_wells_than_its_group_is_predicted_well_by_well() -> None:
    logits = np.vstack([LOGITS[:3], LOGITS[:1]])
    table = table_of([("E3", "1", "a"), ("E3", "1", "b"), ("E3", "1", "c"), ("E3", "1", "a")], fold="held_out")
    result, sentence = add_layout_columns(predictions(table, logits), parts(4))
    assert result.table["predicted_by_assignment"].tolist() == result.table["predicted_by_group"].tolist()
    assert "1 plate(s) have more wells than their group" in sentence


def test_a_planted_layout_raises_the_accuracy() -> None:
    rng = np.random.default_rng(0)
    wells = [("E3", "1", name) for name in GROUPS[1]] + [("E3", "2", name) for name in GROUPS[0]]
    table = pd.concat([table_of([(f"X{k}", p, name) for _, p, name in wells], fold="held_out") for k in range(50)])
    table = table.reset_index(drop=True)
    truth = np.array([NAMES.index(name) for name in table["perturbation"]])
    logits = rng.normal(size=(len(truth), len(NAMES))) + 1.5 * np.eye(len(NAMES))[truth]
    result, _ = add_layout_columns(predictions(table, logits), parts(len(table)))
    shares = [
        float((result.table[name] == result.table["perturbation"]).mean())
        for name in ("predicted", "predicted_by_group", "predicted_by_assignment")
    ]
    assert shares[0] + 0.08 < shares[1] < shares[2]
