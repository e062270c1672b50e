"""Write the submission file of the Kaggle competition on RxRx1."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from distangle.core.io import write_text
from distangle.errors import RunError
from distangle.results import Predictions
from distangle.screen import CONTROLS, Screen
from distangle.screen.screen import WELL_COLUMNS

TEST = "test"  # split of the wells of a submission
_CLASS = re.compile(r"[0-9]{1,4}|sirna_[0-9]+|UNTREATED")
_EXPERIMENT = re.compile(r"(HEPG2|HUVEC|RPE|U2OS)-[0-9]{2}")
_PLATE = re.compile(r"[1-4]")
_WELL = re.compile(r"[A-P][0-9]{2}")
_MAX_CLASS = 1138


def check_kaggle(screen: Screen, classes: Sequence[str]) -> None:
    """Check that a screen and the classes of a network have the names of RxRx1.

    Raises:
        RunError: A class is no siRNA of RxRx1, the screen has no treatment well of the split `test`, or such a well has
            no id like HUVEC-17_1_B03.
    """
    wrong = [
        name
        for name in classes
        if not _CLASS.fullmatch(name) or (name.isascii() and name.isdigit() and int(name) > _MAX_CLASS)
    ]
    if wrong:
        raise RunError(
            f"The network predicts {wrong[0]!r} ({len(wrong)} such classes): a Kaggle file needs the siRNA names of "
            f"RxRx1, numbers from 0 to {_MAX_CLASS} or sirna_1. Train on the Kaggle tables of RxRx1, or leave out "
            "--kaggle."
        )
    sites = screen.sites
    wells = sites[(sites["split"] == TEST) & ~sites["role"].isin(CONTROLS)]
    if wells.empty:
        raise RunError(
            "The screen has no treatment well of the split 'test': a Kaggle file lists the wells of test.csv. Index "
            "RxRx1 with its test.csv, or leave out --kaggle."
        )
    for experiment, plate, well in wells[list(WELL_COLUMNS)].drop_duplicates().itertuples(index=False, name=None):
        if not (_EXPERIMENT.fullmatch(experiment) and _PLATE.fullmatch(plate) and _WELL.fullmatch(well)):
            raise RunError(
                f"Well {experiment} {plate} {well} has no id of RxRx1: expected a name such as HUVEC-17_1_B03. Index "
                "the images of RxRx1, or leave out --kaggle."
            )


def write_kaggle(wells: Predictions, screen: Screen, path: Path, *, column: str = "predicted") -> Path:
    """Write `id_code,sirna` of the test wells, in the order of the screen.

    Args:
        wells: Predicted wells of the screen, with eight views.
        screen: RxRx1, with the wells of test.csv.
        path: New file.
        column: Of the table of wells: `predicted` is the network's own prediction of the single well;
            `predicted_by_group` and `predicted_by_assignment` use the layout of the plate.

    Returns:
        The path.

    Raises:
        RunError: The names are not those of RxRx1, the column is missing, or a test well has no prediction.
    """
    check_kaggle(screen, wells.perturbations)
    if column not in wells.table.columns:
        raise RunError(f"The predictions have no column {column!r}: expected predicted. See the notes of scores.json.")
    sites = screen.sites
    keys = sites[(sites["split"] == TEST) & ~sites["role"].isin(CONTROLS)][list(WELL_COLUMNS)].drop_duplicates()
    predicted = dict(
        zip(
            wells.table[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]].itertuples(index=False, name=None),
            wells.table[column],
            strict=True,
        )
    )
    rows = [("_".join(key), str(predicted.get(key, ""))) for key in keys.itertuples(index=False, name=None)]
    missing = [code for code, name in rows if not name]
    if missing:
        raise RunError(
            f"Well {missing[0]} has no prediction ({len(missing)} such wells): a Kaggle file needs every test well. "
            "The column `reason` of wells_views8.parquet says why. Restore its images and predict again."
        )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id_code", "sirna"))
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return path
