"""Which sites of a run to explain, and which wells stand beside them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from distangle.errors import ExplanationError, brief, nearest
from distangle.explain.seen import asked_sites
from distangle.randomness import generator
from distangle.screen import NEGATIVE, Screen


def choose_rows(table: pd.DataFrame, *, n_sites: int, only: Mapping[str, Sequence[str]] | None = None) -> list[int]:
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
    fine = wanted & ((table["reason"] == "") if of_fold else asked_sites(table))
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


def untreated_beside(screen: Screen, rows: Sequence[int]) -> list[int] | None:
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


def other_beside(screen: Screen, rows: Sequence[int]) -> list[int] | None:
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
        chosen.append(int(generator(0, "other well", row).choice(members)))
    return chosen


def untreated_wells(table: pd.DataFrame, *, folds: Sequence[str], n_wells: int) -> list[int]:
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
            raise ExplanationError(f"The predictions have no column {name!r}. {nearest(name, columns)}")
        texts = table[column].astype(str)
        for value in values:
            if not (texts == value).any():
                raise ExplanationError(f"No site has {name} {brief(value)!r}. {nearest(value, texts.unique())}")
        wanted &= texts.isin(list(values))
    return wanted
