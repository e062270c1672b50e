"""Test the counts of true and predicted classes against pandas, and their file."""

from pathlib import Path

import numpy as np
import pandas as pd

from distangle.inference.confusion import count_predictions, write_confusion
from distangle.results import Predictions


def sites(n_classes: int) -> Predictions:
    rng = np.random.default_rng(0)
    names = np.array([f"c{k}" for k in range(n_classes)])
    table = pd.DataFrame(
        {
            "Metadata_Fold": rng.choice(["train", "held_out"], 2000),
            "perturbation": rng.choice(names, 2000),
            "predicted": rng.choice([*names, "never"], 2000),
            "reason": rng.choice(["", "", "", "damaged"], 2000),
        }
    )
    empty = np.zeros((2000, 0), dtype=np.float32)
    return Predictions(level="site", table=table, logits=empty, embedding=empty, perturbations=(), views=1)


def test_counts_are_those_of_a_crosstab() -> None:
    table = sites(20).table
    classes = sorted(set(table["perturbation"]))[::-1]
    names, counts = count_predictions(table["perturbation"], table["predicted"], classes)
    expected = pd.crosstab(table["perturbation"], table["predicted"]).reindex(index=classes, columns=classes)
    assert names == classes
    assert counts.tolist() == expected.to_numpy().tolist()


def test_many_classes_have_a_file_of_all_counts(tmp_path: Path) -> None:
    predictions = sites(100)
    classes = [f"c{k}" for k in range(100)]
    (path,) = write_confusion(predictions, set(classes) - {"c5"}, classes, folder=tmp_path)
    table = pd.read_parquet(path).set_index(["perturbation", "predicted"])["n"].to_dict()
    expected: dict[tuple[str, str], int] = {}
    for row in predictions.table.to_dict("records"):
        if row["Metadata_Fold"] == "held_out" and row["reason"] == "" and row["perturbation"] != "c5":
            if row["predicted"] != "never":
                key = (row["perturbation"], row["predicted"])
                expected[key] = expected.get(key, 0) + 1
    assert table == expected


def test_few_classes_have_no_file(tmp_path: Path) -> None:
    assert write_confusion(sites(64), {"c1"}, [f"c{k}" for k in range(64)], folder=tmp_path) == []
    assert not list(tmp_path.iterdir())
