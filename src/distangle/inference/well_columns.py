"""Add the columns of wells that use other wells, and measure the calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from distangle.errors import RunError
from distangle.inference.control_checks import was_trained
from distangle.inference.cross_fit import cross_fit
from distangle.inference.new_screen import training_wells
from distangle.inference.open_set import add_open_set_score, add_out_of_fold_score
from distangle.inference.out_of_fold import FOLD_COLUMN
from distangle.inference.plate_layout import TrainingWells, add_layout_columns
from distangle.model import ModelCard
from distangle.results import Calibration, Predictions, RunFolder
from distangle.screen import CONTROLS, TRAIN

CALIBRATED = "calibrated_confidence"


def calibrate(predictions: Sequence[Predictions], card: ModelCard) -> tuple[list[Predictions], tuple[Calibration, ...]]:
    """Measure the calibration, and add `calibrated_confidence` to the wells.

    Args:
        predictions: Sites and wells.
        card: Of the network.

    Returns:
        The predictions in their order, and the calibration of each.
    """
    results, calibrations = [], []
    for part in predictions:
        calibration, confidence = cross_fit(part, card.trained_classes)
        calibrations.append(calibration)
        if part.level == "well" and not calibration.reason:
            part = replace(part, table=part.table.assign(**{CALIBRATED: confidence}))
        results.append(part)
    return results, tuple(calibrations)


def add_well_columns(
    wells: Predictions, run: RunFolder, card: ModelCard, *, is_own_screen: bool
) -> tuple[Predictions, Mapping[str, str]]:
    """Add predictions that use the layout, and the score for unlike wells.

    Args:
        wells: Predicted wells.
        run: Of the network.
        card: Of the network.
        is_own_screen: Whether the wells are of the screen of the training.

    Returns:
        The predictions, and a sentence on each kind of column: `layout` and `unlike_training`.
    """
    with_layout, layout = add_layout_columns(wells, _training_parts(wells, run, card, is_own_screen=is_own_screen))
    if is_own_screen and FOLD_COLUMN in wells.table.columns:
        networks = wells.table[FOLD_COLUMN].astype(str).to_numpy(dtype=object)
        complete, unlike = add_out_of_fold_score(with_layout, networks)
        return complete, {"layout": layout, "unlike_training": unlike}
    is_complete = is_own_screen and _has_trained_treatments(wells)  # a part of the screen may have none
    source = with_layout if is_complete else _stored_wells(run, views=wells.views)
    complete, unlike = add_open_set_score(with_layout, source, is_same_screen=is_own_screen)
    return complete, {"layout": layout, "unlike_training": unlike}


def _training_parts(wells: Predictions, run: RunFolder, card: ModelCard, *, is_own_screen: bool) -> list[TrainingWells]:
    """Return the training wells of each network that predicted some wells."""
    everywhere = np.ones(len(wells.table), dtype=bool)
    is_crossed = is_own_screen and FOLD_COLUMN in wells.table.columns
    if not is_crossed:
        is_complete = is_own_screen and _has_trained_treatments(wells)
        table = wells.table[was_trained(wells.table)] if is_complete else training_wells(run, card)
        return [] if table is None else [TrainingWells(rows=everywhere, table=table)]
    numbers = wells.table[FOLD_COLUMN].astype(str).to_numpy()
    networks = sorted(set(numbers) - {""})
    return [
        TrainingWells(rows=numbers == network, table=wells.table[~np.isin(numbers, ["", "0", network])])
        for network in networks
    ]


def _has_trained_treatments(wells: Predictions) -> bool:
    return bool((was_trained(wells.table) & ~wells.table["Metadata_Role"].isin(CONTROLS)).any())


def _stored_wells(run: RunFolder, *, views: int) -> Predictions | None:
    """Return the predicted wells of the training screen; after a cross-validation, all are training wells."""
    try:
        stored = Predictions.read(run.predictions, level="well", views=views, with_logits=False)
    except RunError:
        return None
    if FOLD_COLUMN not in stored.table.columns:
        return stored
    in_training = ~stored.table[FOLD_COLUMN].astype(str).isin(["", "0"])
    fold = stored.table["Metadata_Fold"].where(~in_training, TRAIN)
    return replace(stored, table=stored.table.assign(Metadata_Fold=fold))
