"""Select sites to explain and the wells that replace their channels."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from distangle.core.random import rng_for
from distangle.errors import ExplanationError, brief, did_you_mean
from distangle.inference.out_of_fold import FOLD_COLUMN
from distangle.results import RunFolder
from distangle.screen import HELD_OUT, NEGATIVE, NO_HOLD_OUT, TRAIN, Screen

FOLD = "Metadata_Fold"


def explainable_sites(table: pd.DataFrame) -> pd.Series:
    """Return which rows can be explained: readable and held out.

    If a run held nothing out, its training rows count.

    Args:
        table: Table of the site predictions.
    """
    held_out = table[FOLD] == HELD_OUT
    return (held_out if held_out.any() else table[FOLD] == TRAIN) & (table["reason"] == "")


def was_trained_on(table: pd.DataFrame) -> np.ndarray:
    """Return which rows the final network was trained on, bool [row].

    After a cross-validation these are the rows of all folds.

    Args:
        table: Table of the site predictions, or some of its rows.
    """
    trained = (table[FOLD] == TRAIN).to_numpy()
    return trained | (table[FOLD_COLUMN] > 0).to_numpy() if FOLD_COLUMN in table.columns else trained


def training_remark(run: RunFolder, table: pd.DataFrame) -> str:
    """Return a warning if the network was trained on some of the sites, else "".

    Args:
        run: The run with the final network.
        table: Rows of its site predictions.
    """
    description: Mapping[str, object] = run.describe()
    trained = was_trained_on(table)
    if not trained.any():
        return ""
    if description.get("cross_validation"):
        fold = run.cross_validation / "fold-1"
        return (
            "The explained network was trained on all sites, including these. The explained labels are predictions of "
            "the cross-validation networks, which were not trained on these sites. To explain one of those networks: "
            f"`distangle predict {fold}`, then `distangle explain {fold}`."
        )
    if description["held_out"] == NO_HOLD_OUT:
        return (
            "The network was trained on all explained sites, so its explanation may reflect peculiarities of these "
            "wells. Use `distangle train SCREEN --cross-validate 5`, which keeps networks that were not trained on all "
            "sites, or hold sites out with --hold-out COLUMN=VALUE."
        )
    return f"The network was trained on {int(trained.sum())} of the {len(table)} explained sites."


def select_sites(table: pd.DataFrame, *, n_sites: int, only: Mapping[str, Sequence[str]] | None = None) -> list[int]:
    """Return positions of readable held-out sites, spread over perturbations.

    The perturbations take turns, treatments before controls. If a run held nothing out, these are training sites.

    Args:
        table: Table of the site predictions.
        n_sites: Maximum number of sites.
        only: Column of the table to allowed values, such as `{"well": ["B02"]}`; the prefix `Metadata_` is optional.
            With `fold`, training sites can be selected.

    Raises:
        ExplanationError: No site matches, a column or value is unknown, or `n_sites` is below 1.
    """
    if n_sites < 1:
        raise ExplanationError(f"{n_sites} sites to explain; expected at least 1.")
    matching = _matching_rows(table, only or {})
    names_a_fold = "fold" in {name.removeprefix("Metadata_").lower() for name in only or {}}
    eligible = matching & ((table["reason"] == "") if names_a_fold else explainable_sites(table))
    if not eligible.any():
        filters = "".join(f" with {name} {', '.join(values)}" for name, values in (only or {}).items())
        raise ExplanationError(
            f"No held-out site{filters} can be explained: none is readable. Look into `reason` and `Metadata_Fold` of "
            "predictions/sites.parquet; `fold=train` asks for sites that were trained on."
        )
    candidates = table[eligible]
    control = candidates["Metadata_Role"].isin(NEGATIVE)
    # The sites of one well are spread in the order, so that few sites cover several wells.
    order = candidates.assign(_control=control.to_numpy(), _row=np.flatnonzero(eligible.to_numpy()))
    order = order.sort_values(["Metadata_Site", "_row"], kind="stable")
    order["_turn"] = order.groupby("perturbation").cumcount()
    order = order.sort_values(["_turn", "_control", "perturbation"], kind="stable")
    return sorted(order["_row"].head(n_sites).tolist())


def matching_controls(screen: Screen, rows: Sequence[int]) -> list[int] | None:
    """Return a control site of another well of the plate for every site.

    The result is None if a plate has no other control well.

    Args:
        screen: The screen.
        rows: Positions of sites; the sites of a plate take its control sites in turn.
    """
    sites = screen.sites
    is_control = sites["role"].isin(NEGATIVE)
    plates = sites["experiment"].astype(str) + "\x1f" + sites["plate"].astype(str)
    matches = []
    for turn, row in enumerate(rows):
        others = is_control & (plates == plates.iloc[row]) & (sites["well"] != sites["well"].iloc[row])
        members = np.flatnonzero(others.to_numpy())
        if len(members) == 0:
            return None
        matches.append(int(members[turn % len(members)]))
    return matches


def matching_wells(screen: Screen, rows: Sequence[int]) -> list[int] | None:
    """Return a site of another well of the plate for every site.

    The result is None if a plate has only one well.

    Args:
        screen: The screen.
        rows: Positions of sites; the result for a site does not depend on the other sites.
    """
    sites = screen.sites
    plates = sites["experiment"].astype(str) + "\x1f" + sites["plate"].astype(str)
    matches = []
    for row in rows:
        others = (plates == plates.iloc[row]) & (sites["well"] != sites["well"].iloc[row])
        members = np.flatnonzero(others.to_numpy())
        if len(members) == 0:
            return None
        matches.append(int(rng_for(0, "other well", row).choice(members)))
    return matches


def control_wells(table: pd.DataFrame, *, folds: Sequence[str], n_wells: int) -> list[int]:
    """Return one readable site of each control well, the plates in turn.

    With one site per well the scores are independent draws. The list may be empty.

    Args:
        table: Table of the site predictions.
        folds: Only wells of these folds: scores of training wells are not comparable with scores of held-out wells.
        n_wells: Maximum number of wells.
    """
    is_control = table["Metadata_Role"].isin(NEGATIVE)
    eligible = is_control & table["Metadata_Fold"].isin(list(folds)) & (table["reason"] == "")
    plate = ["Metadata_Experiment", "Metadata_Plate"]
    order = table[eligible].assign(_row=np.flatnonzero(eligible.to_numpy()))
    order = order.drop_duplicates([*plate, "Metadata_Well"])
    order["_turn"] = order.groupby(plate).cumcount()
    return [int(row) for row in order.sort_values(["_turn", "_row"], kind="stable")["_row"].head(n_wells)]


def _matching_rows(table: pd.DataFrame, only: Mapping[str, Sequence[str]]) -> pd.Series:
    columns = {str(name).removeprefix("Metadata_").lower(): str(name) for name in table.columns}
    matching = pd.Series(data=True, index=table.index)
    for name, values in only.items():
        column = columns.get(name.removeprefix("Metadata_").lower())
        if column is None:
            raise ExplanationError(f"The predictions have no column {name!r}. {did_you_mean(name, columns)}")
        texts = table[column].astype(str)
        for value in values:
            if not (texts == value).any():
                raise ExplanationError(f"No site has {name} {brief(value)!r}. {did_you_mean(value, texts.unique())}")
        matching &= texts.isin(list(values))
    return matching
