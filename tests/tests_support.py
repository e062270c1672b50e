"""Small things that several tests build."""

from pathlib import Path

import pandas as pd

from distangle.screen import Channel, Screen, ScreenCard, class_list_sha256


def screen_of(table: pd.DataFrame, *, n_channels: int = 1, folder: Path | None = None) -> Screen:
    """A screen whose table has only the columns given: for rooms that look at no other."""
    names = tuple(sorted(set(table.get("perturbation", pd.Series(dtype=str))) - {""}))
    card = ScreenCard(
        layout="table",
        source=".",
        channels=tuple(Channel(name=f"c{k}") for k in range(n_channels)),
        plate_rows=16,
        plate_columns=24,
        perturbations=names,
        perturbations_sha256=class_list_sha256(names),
        cell_types=(),
        extra_columns=(),
        found=len(table),
        indexed=len(table),
        refused=0,
    )
    return Screen(card=card, sites=table, problems=pd.DataFrame(), folder=folder)
