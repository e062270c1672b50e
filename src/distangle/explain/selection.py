"""Sites that can be explained, and whether the network was trained on them.

Which sites of a run to explain, and which wells stand beside them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from distangle.core.random import rng_for
from distangle.errors import ExplanationError, brief, did_you_mean
from distangle.inference.out_of_fold import FOLD_COLUMN
from distangle.results import RunFolder
from distangle.screen import HELD_OUT, NEGATIVE, NO_HOLD_OUT, TRAIN, Screen

FOLD = "Metadata_Fold"


def requested_sites(table: pd.DataFrame) -> pd.Series:
    """Return which rows can be explained: readable and held out.

    Rows that were trained on count where a run held nothing out.

    Args:
        table: Of the predictions of sites.
    """
    held_out = table[FOLD] == HELD_OUT
    return (held_out if held_out.any() else table[FOLD] == TRAIN) & (table["reason"] == "")


def was_trained_on(table: pd.DataFrame) -> np.ndarray:
    """Return which rows the final network was trained on, bool [row].

    After a cross-validation these are the rows of all folds.

    Args:
        table: Of the predictions of sites, or some of its rows.
    """
    seen = (table[FOLD] == TRAIN).to_numpy()
    return seen | (table[FOLD_COLUMN] > 0).to_numpy() if FOLD_COLUMN in table.columns else seen


def training_remark(run: RunFolder, table: pd.DataFrame) -> str:
    """Warn that sites were trained on, and name the remedy; "" where none was.

    Args:
        run: Whose final network is asked.
        table: Of its predictions, the rows that are asked about.
    """
    told: Mapping[str, object] = run.describe()
    seen = was_trained_on(table)
    if not seen.any():
        return ""
    if told.get("cross_validation"):
        fold = run.cross_validation / "fold-1"
        return (
            "The network explained here was trained on everything, also on these sites; the labels explained are those "
            "that the networks of the cross-validation gave to sites they had not seen. To explain one of these: "
            f"`distangle predict {fold}`, then `distangle explain {fold}`."
        )
    if told["held_out"] == NO_HOLD_OUT:
        return (
            "The network was trained on all sites explained here: what it takes for a sign of its answer may be a "
            "peculiarity of these wells. `distangle train SCREEN --cross-validate 5` keeps networks that have not seen "
            "all; or hold something out with --hold-out COLUMN=VALUE."
        )
    return f"The network was trained on {int(seen.sum())} of the {len(table)} sites explained here."


def select_sites(table: pd.DataFrame, *, n_sites: int, only: Mapping[str, Sequence[str]] | None = None) -> list[int]:
    """Return positions of readable held-out sites, spread over perturbations.

    One of each perturbation is taken in turn, treatments before controls.

    Of a run that held nothing out, these are sites that it was trained on.

    Args:
        table: Of the predictions of sites.
        n_sites: How many at most.
        only: Columns of the table with the values wanted, such as `{"well": ["B02"]}`; the prefix `Metadata_` may be
            left out. Sites of the training fold are taken too where `fold` is among them.

    Raises:
        ExplanationError: There is none; a column or value that the table does not have; fewer than one asked for.
    """
    if n_sites < 1:
        raise ExplanationError(f"{n_sites} sites to explain: expected 1 or more.")
    wanted = _wanted(table, only or {})
    of_fold = "fold" in {name.removeprefix("Metadata_").lower() for name in only or {}}
    fine = wanted & ((table["reason"] == "") if of_fold else requested_sites(table))
    if not fine.any():
        asked = "".join(f" with {name} {', '.join(values)}" for name, values in (only or {}).items())
        raise ExplanationError(
            f"No held-out site{asked} can be explained: none is readable. Look into `reason` and `Metadata_Fold` of "
            "predictions/sites.parquet; `fold=train` asks for sites that were trained on."
        )
    chosen = table[fine]
    control = chosen["Metadata_Role"].isin(NEGATIVE)
    # Sites of one well stand apart in the order, so that few sites already show several wells.
    order = chosen.assign(_control=control.to_numpy(), _row=np.flatnonzero(fine.to_numpy()))
    order = order.sort_values(["Metadata_Site", "_row"], kind="stable")
    order["_turn"] = order.groupby("perturbation").cumcount()
    order = order.sort_values(["_turn", "_control", "perturbation"], kind="stable")
    return sorted(order["_row"].head(n_sites).tolist())


def matching_controls(screen: Screen, rows: Sequence[int]) -> list[int] | None:
    """Return a control site of another well of the plate for every site.

    The result is None when a plate has none.

    Args:
        screen: The screen.
        rows: Positions of sites; those of one plate take its untreated sites in turn.
    """
    sites = screen.sites
    untreated = sites["role"].isin(NEGATIVE)
    plates = sites["experiment"].astype(str) + "\x1f" + sites["plate"].astype(str)
    chosen = []
    for turn, row in enumerate(rows):
        others = untreated & (plates == plates.iloc[row]) & (sites["well"] != sites["well"].iloc[row])
        members = np.flatnonzero(others.to_numpy())
        if len(members) == 0:
            return None
        chosen.append(int(members[turn % len(members)]))
    return chosen


def matching_wells(screen: Screen, rows: Sequence[int]) -> list[int] | None:
    """Return a site of another well of the plate for every site.

    The result is None when a plate has only one well.

    Args:
        screen: The screen.
        rows: Positions of sites; a site gets the same other one whichever sites stand beside it here.
    """
    sites = screen.sites
    plates = sites["experiment"].astype(str) + "\x1f" + sites["plate"].astype(str)
    chosen = []
    for row in rows:
        others = (plates == plates.iloc[row]) & (sites["well"] != sites["well"].iloc[row])
        members = np.flatnonzero(others.to_numpy())
        if len(members) == 0:
            return None
        chosen.append(int(rng_for(0, "other well", row).choice(members)))
    return chosen


def control_wells(table: pd.DataFrame, *, folds: Sequence[str], n_wells: int) -> list[int]:
    """Return one readable site of each control well, the plates in turn.

    The list may be empty.

    One site of a well, so that what they say of the untreated are independent draws.

    Args:
        table: Of the predictions of sites.
        folds: Wells of these folds only: a network knows what it was trained on better than what it was not.
        n_wells: How many at most.
    """
    control = table["Metadata_Role"].isin(NEGATIVE)
    fine = control & table["Metadata_Fold"].isin(list(folds)) & (table["reason"] == "")
    plate = ["Metadata_Experiment", "Metadata_Plate"]
    order = table[fine].assign(_row=np.flatnonzero(fine.to_numpy()))
    order = order.drop_duplicates([*plate, "Metadata_Well"])
    order["_turn"] = order.groupby(plate).cumcount()
    return [int(row) for row in order.sort_values(["_turn", "_row"], kind="stable")["_row"].head(n_wells)]


def _wanted(table: pd.DataFrame, only: Mapping[str, Sequence[str]]) -> pd.Series:
    columns = {str(name).removeprefix("Metadata_").lower(): str(name) for name in table.columns}
    wanted = pd.Series(data=True, index=table.index)
    for name, values in only.items():
        column = columns.get(name.removeprefix("Metadata_").lower())
        if column is None:
            raise ExplanationError(f"The predictions have no column {name!r}. {did_you_mean(name, columns)}")
        texts = table[column].astype(str)
        for value in values:
            if not (texts == value).any():
                raise ExplanationError(f"No site has {name} {brief(value)!r}. {did_you_mean(value, texts.unique())}")
        wanted &= texts.isin(list(values))
    return wanted
