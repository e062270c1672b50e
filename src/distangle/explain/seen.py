"""Sites that can be explained, and whether the network was trained on them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from distangle.inference.out_of_fold import FOLD_COLUMN
from distangle.results import RunFolder
from distangle.screen import HELD_OUT, NOTHING, TRAIN

FOLD = "Metadata_Fold"


def asked_sites(table: pd.DataFrame) -> pd.Series:
    """Return which rows can be explained: readable and held out.

    Rows that were trained on count where a run held nothing out.

    Args:
        table: Of the predictions of sites.
    """
    held_out = table[FOLD] == HELD_OUT
    return (held_out if held_out.any() else table[FOLD] == TRAIN) & (table["reason"] == "")


def trained_on(table: pd.DataFrame) -> np.ndarray:
    """Return which rows the final network was trained on, bool [row].

    After a cross-validation these are the rows of all folds.

    Args:
        table: Of the predictions of sites, or some of its rows.
    """
    seen = (table[FOLD] == TRAIN).to_numpy()
    return seen | (table[FOLD_COLUMN] > 0).to_numpy() if FOLD_COLUMN in table.columns else seen


def remark_on(run: RunFolder, table: pd.DataFrame) -> str:
    """Warn that sites were trained on, and name the remedy; "" where none was.

    Args:
        run: Whose final network is asked.
        table: Of its predictions, the rows that are asked about.
    """
    told: Mapping[str, object] = run.describe()
    seen = trained_on(table)
    if not seen.any():
        return ""
    if told.get("cross_validation"):
        fold = run.cross_validation / "fold-1"
        return (
            "The network explained here was trained on everything, also on these sites; the labels explained are those "
            "that the networks of the cross-validation gave to sites they had not seen. To explain one of these: "
            f"`distangle predict {fold}`, then `distangle explain {fold}`."
        )
    if told["held_out"] == NOTHING:
        return (
            "The network was trained on all sites explained here: what it takes for a sign of its answer may be a "
            "peculiarity of these wells. `distangle train SCREEN --cross-validate 5` keeps networks that have not seen "
            "all; or hold something out with --hold-out COLUMN=VALUE."
        )
    return f"The network was trained on {int(seen.sum())} of the {len(table)} sites explained here."
