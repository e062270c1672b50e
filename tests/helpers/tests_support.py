"""Small things that several tests build."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from distangle.images import Preprocessing
from distangle.model import ModelCard
from distangle.screen import Channel, Screen, ScreenMetadata, ordered_classes_sha256


def screen_of(table: pd.DataFrame, *, n_channels: int = 1, folder: Path | None = None) -> Screen:
    """Return a screen whose table has only the given columns."""
    names = tuple(sorted(set(table.get("perturbation", pd.Series(dtype=str))) - {""}))
    metadata = ScreenMetadata(
        layout="table",
        source=".",
        channels=tuple(Channel(name=f"c{k}") for k in range(n_channels)),
        plate_rows=16,
        plate_columns=24,
        perturbations=names,
        perturbations_sha256=ordered_classes_sha256(names),
        cell_types=(),
        extra_columns=(),
        found=len(table),
        indexed=len(table),
        refused=0,
    )
    return Screen(metadata=metadata, sites=table, problems=pd.DataFrame(), folder=folder)


def model_card(classes: Sequence[str], sites: Sequence[int] | None = None, **changes: Any) -> ModelCard:
    """The card of a network that was trained on two channels, four sites of each class unless said otherwise."""
    values = {
        "target": "perturbation",
        "channels": ("DNA", "actin"),
        "cell_types": (),
        "preprocessing": Preprocessing(standardize="image"),
        "epochs": 1,
        "precision": "fp32",
        **changes,
    }
    return ModelCard(classes=tuple(classes), class_sites=tuple(sites or [4] * len(classes)), **values)
