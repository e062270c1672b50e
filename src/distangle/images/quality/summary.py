"""Summarize a screen: counts, intensity, variance components, plate effects."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from distangle import __version__
from distangle.core.stats import LEVELS, variance_components
from distangle.images.cache import VerifiedReader
from distangle.images.quality.plate_effects import edge_effect, median_plate, wells_of
from distangle.images.quality.survey import PlaneMeasurements
from distangle.screen import NEGATIVE, Role, Screen, natural_sort_key, statistics
from distangle.screen.screen import KEY_COLUMNS

_WELL = list(KEY_COLUMNS[:3])


def summarize_screen(
    screen: Screen, measurements: PlaneMeasurements | None = None, *, quantity: str = "mean"
) -> dict[str, Any]:
    """Return the data card of a screen, ready for JSON without NaN.

    Args:
        screen: The screen.
        measurements: Measurements of its planes, or of a sample of its sites; None for the tables alone.
        quantity: Measurement that is decomposed and drawn on plates, as its logarithm.

    Source: Table 1; Figs. 2 and 3

    Raises:
        ScreenError: The totals do not reconcile.
    """
    metadata = screen.metadata
    counts = statistics(screen)
    card_json: dict[str, Any] = {
        "distangle": __version__,
        "source": screen.source.name,
        "layout": metadata.layout,
        "channels": [channel.model_dump() for channel in metadata.channels],
        "image": {"dtype": metadata.dtype, "shape": None if metadata.shape is None else list(metadata.shape)},
        "plate": [metadata.plate_rows, metadata.plate_columns],
        "cell_types": list(metadata.cell_types),
        "found": metadata.found,
        "indexed": metadata.indexed,
        "refused": metadata.refused,
        "problems": _problems(screen),
        "sites_sha256": metadata.sites_sha256,
        "perturbations_sha256": metadata.perturbations_sha256,
        "counts": counts.model_dump(mode="json"),
        "wells_by_perturbation": _wells_by_perturbation(screen),
        "experiments": _experiments(screen),
        "controls": _controls(screen),
    }
    if measurements is not None and len(measurements.readable):
        card_json["pixels"] = _pixels(screen, measurements, quantity)
    return card_json


def first_readable(screen: Screen, measurements: PlaneMeasurements) -> tuple[dict[str, str], np.ndarray] | None:
    """Return key and image of the first site whose planes can all be read.

    The key is experiment, plate, well and site.
    """
    unreadable = set(measurements.planes.loc[measurements.planes["reason"] != "", "position"])
    row = next((int(row) for row in measurements.planes["position"] if row not in unreadable), None)
    if row is None:
        return None
    key = screen.sites.iloc[row][list(KEY_COLUMNS)]
    return {str(name): str(value) for name, value in key.items()}, VerifiedReader(screen).read(row)


def _problems(screen: Screen) -> list[dict[str, Any]]:
    grouped = screen.problems.groupby(["severity", "kind"], sort=True)["count"].sum()
    return [
        {"severity": str(key[0]), "kind": str(key[1]), "count": int(n)}
        for key, n in zip(grouped.index.tolist(), grouped.tolist(), strict=True)
    ]


def _wells_by_perturbation(screen: Screen) -> dict[str, list[int]]:
    """Return by role the wells of each perturbation, in descending order, for Fig. 2."""
    wells = screen.sites.drop_duplicates(_WELL)
    labelled = wells[wells["perturbation"] != ""]
    counts: dict[str, list[int]] = {}
    for role, part in labelled.groupby("role", sort=True):
        counts[str(role)] = sorted(Counter(part["perturbation"]).values(), reverse=True)
    return counts


def _experiments(screen: Screen) -> list[dict[str, Any]]:
    rows = []
    sites = screen.sites
    has_sites = statistics(screen).all.sites > 0
    for name in sorted(set(sites["experiment"].astype(str)), key=natural_sort_key):
        part = sites[sites["experiment"] == name]
        wells = part.drop_duplicates(_WELL)
        rows.append(
            {
                "experiment": name,
                "cell_type": ", ".join(sorted(set(part["cell_type"].astype(str)), key=natural_sort_key)),
                "plates": int(part["plate"].nunique()),
                "wells": len(wells),
                "sites": len(part) if has_sites else 0,
                "perturbations": int(wells.loc[wells["perturbation"] != "", "perturbation"].nunique()),
            }
        )
    return rows


def _controls(screen: Screen) -> list[dict[str, Any]]:
    wells = screen.sites.drop_duplicates(_WELL)
    negative = wells["role"].isin(NEGATIVE)
    positive = wells["role"] == Role.POSITIVE_CONTROL.value
    table = pd.DataFrame({"negative": negative, "positive": positive, "wells": 1})
    per_plate = table.groupby([wells["experiment"], wells["plate"]], sort=False).sum()
    return [
        {"experiment": str(key[0]), "plate": str(key[1]), **{str(name): int(n) for name, n in row.items()}}
        for key, row in zip(per_plate.index.tolist(), per_plate.to_dict("records"), strict=True)
    ]


def _pixels(screen: Screen, measurements: PlaneMeasurements, quantity: str) -> dict[str, Any]:
    planes = measurements.readable
    channels = []
    for k, channel in enumerate(screen.metadata.channels):
        channel_planes = planes[planes["channel"] == channel.name]
        if channel_planes.empty:
            continue
        positive = channel_planes[channel_planes[quantity] > 0]  # excludes zeros, which have no logarithm
        log_values = np.log(positive[quantity].to_numpy(dtype=float))
        components = variance_components(log_values, positive) if len(positive) else dict.fromkeys(LEVELS)
        total = sum(value for value in components.values() if value is not None)
        wells = wells_of(positive, log_values)
        effect = edge_effect(wells) if len(positive) else None
        plate = median_plate(wells, (screen.metadata.plate_rows, screen.metadata.plate_columns))
        illumination = measurements.illumination[k]
        channels.append(
            {
                "channel": channel.name,
                "color": channel.color,
                "planes": len(channel_planes),
                "planes_of_zero": len(channel_planes) - len(positive),
                "mean": float(channel_planes["mean"].mean()),
                "site_means": [float(value) for value in np.quantile(channel_planes["mean"], np.linspace(0, 1, 21))],
                "variance_of_site_means": float(channel_planes["mean"].var(ddof=1))
                if len(channel_planes) > 1
                else None,
                "clipped_planes": int((channel_planes["clipped"] > 0).sum()),
                "by_experiment": _by_experiment(channel_planes),
                "components": {
                    name: None if value is None or total <= 0 else value / total for name, value in components.items()
                },
                "edge": None if effect is None else asdict(effect),
                "plate": [[None if np.isnan(v) else round(float(v), 5) for v in row] for row in plate],
                "illumination": [[round(float(value), 5) for value in row] for row in illumination],
                "darkest_to_brightest": float(illumination.min() / illumination.max())
                if illumination.max() > 0
                else None,
            }
        )
    n_sites = int(measurements.planes["position"].nunique())
    return {"sites_read": n_sites, "of_sites": len(screen.sites), "planes_read": len(planes), "quantity": quantity,
            "planes_unreadable": len(measurements.planes) - len(planes), "channels": channels}  # fmt: skip


def _by_experiment(part: pd.DataFrame) -> Mapping[str, list[float]]:
    """Return the quartiles of the mean intensity of sites, for Fig. 3."""
    names = sorted(set(part["experiment"].astype(str)), key=natural_sort_key)
    return {
        name: [float(v) for v in np.quantile(part.loc[part["experiment"] == name, "mean"], [0, 0.25, 0.5, 0.75, 1])]
        for name in names
    }
