"""The Kaggle file: its lines by hand, in the order of the screen, and screens that have none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.errors import RunError
from distangle.inference.kaggle import check_kaggle, write_kaggle
from distangle.results import Predictions
from distangle.screen import Screen
from tests_support import screen_of

WELLS = [
    ("HEPG2-08", "1", "B03", "treatment", "test"),
    ("HEPG2-08", "1", "B02", "negative_control", "test"),
    ("HEPG2-08", "2", "C10", "treatment", "test"),
    ("HEPG2-01", "1", "B03", "treatment", "train"),
]


def screen(wells: list[tuple[str, str, str, str, str]]) -> Screen:
    rows = [(*well[:3], site, *well[3:]) for well in wells for site in (1, 2)]
    columns = ["experiment", "plate", "well", "site", "role", "split"]
    return screen_of(pd.DataFrame(rows, columns=columns))


def predictions(names: list[str], *, classes: tuple[str, ...] = ("0", "826", "1138")) -> Predictions:
    # The predictions list the wells in another order.
    table = pd.DataFrame(
        [(*one[:3], name) for one, name in zip(WELLS, names, strict=True)][::-1],
        columns=["Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "predicted"],
    )
    table["predicted_by_assignment"] = "826"
    empty = np.zeros((len(table), len(classes)), np.float32)
    return Predictions(level="well", table=table, logits=empty, embedding=empty, perturbations=classes, views=8)


def test_the_lines_are_those_of_the_test_wells(tmp_path: Path) -> None:
    path = write_kaggle(predictions(["826", "1138", "0", "0"]), screen(WELLS), tmp_path / "submission.csv")
    assert path.read_bytes() == b"id_code,sirna\nHEPG2-08_1_B03,826\nHEPG2-08_2_C10,0\n"
    wells, column = predictions(["0"] * 4), "predicted_by_assignment"
    assert write_kaggle(wells, screen(WELLS), path, column=column).read_text().count(",826\n") == 2


def test_names_of_the_present_tables_are_written_too(tmp_path: Path) -> None:
    wells = predictions(["sirna_5", "UNTREATED", "sirna_9", "sirna_5"], classes=("sirna_5", "sirna_9", "UNTREATED"))
    lines = write_kaggle(wells, screen(WELLS), tmp_path / "a.csv").read_text().splitlines()
    assert lines == ["id_code,sirna", "HEPG2-08_1_B03,sirna_5", "HEPG2-08_2_C10,sirna_9"]


@pytest.mark.parametrize("name", ["taxol", "1139", "s21721", "sirna_x", "", "٣"])
def test_other_classes_are_refused(name: str) -> None:
    with pytest.raises(RunError, match=r"needs the siRNA names of RxRx1.*or leave out --kaggle"):
        check_kaggle(screen(WELLS), ["0", name])


def test_other_screens_are_refused() -> None:
    with pytest.raises(RunError, match=r"no treatment well of the split 'test'.*Index RxRx1 with its test.csv"):
        check_kaggle(screen(WELLS[1:2] + WELLS[3:]), ["0"])
    for well in [("B-1", "1", "B03"), ("HUVEC-17", "5", "B03"), ("HUVEC-17", "1", "B3")]:
        with pytest.raises(RunError, match=rf"Well {' '.join(well)} has no id of RxRx1"):
            check_kaggle(screen([(*well, "treatment", "test")]), ["0"])


def test_an_unreadable_test_well_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Well HEPG2-08_2_C10 has no prediction \(1 such wells\)"):
        write_kaggle(predictions(["0", "", "", "0"]), screen(WELLS), tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()
    with pytest.raises(RunError, match="no column 'predicted_by_group'"):
        write_kaggle(predictions(["0"] * 4), screen(WELLS), tmp_path / "a.csv", column="predicted_by_group")
