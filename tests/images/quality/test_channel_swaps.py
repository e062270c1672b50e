"""Exchanged channels of a plate are found; strong but ordinary batch effects raise no alarm."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.images import read_image
from distangle.images.quality.channel_swaps import check_channel_swaps
from distangle.images.quality.measure import measure_plane
from distangle.screen import index
from distangle.screen.problems import Problem
from distangle.synthetic import SimulationConfig, simulate

# Mean, three quantiles in standard deviations, and sharpness of five stains.
STAINS = {
    "DNA": (0.6, 0.3, 5.5, 0.010),
    "ER": (1.6, 1.2, 3.0, 0.030),
    "AGP": (1.3, 0.9, 4.0, 0.120),
    "Mito": (0.9, 0.5, 4.5, 0.060),
    "RNA": (1.8, 1.5, 2.4, 0.015),
}


def plane_table(
    plates: Mapping[tuple[str, str], Mapping[str, str]],
    *,
    seed: int = 0,
    n_sites: int = 6,
    batch: float = 0.1,
    stains: tuple[str, ...] = tuple(STAINS),
) -> pd.DataFrame:
    """Return measurements of planes; `plates` maps a plate to its exchanged channels."""
    rng = np.random.default_rng(seed)
    rows = []
    for (experiment, plate), swaps in plates.items():
        everywhere = np.exp(rng.normal(0, 3 * batch, 4))  # of the plate, in all channels
        for channel in stains:
            gain, offset = np.exp(rng.normal(0, 0.5)), rng.uniform(0, 20)
            intensities = np.array(STAINS[swaps.get(channel, channel)]) * everywhere * np.exp(rng.normal(0, batch, 4))
            for site in range(1, n_sites + 1):
                mean, middle, high, fine = intensities * np.exp(rng.normal(0, 0.1, 4))
                spread = 30 * gain
                low = 5 + offset
                rows.append(
                    {
                        **{"experiment": experiment, "plate": plate, "well": "B02", "site": site, "cell_type": ""},
                        **{"channel": channel, "path": f"{plate}/{channel}.tif", "page": -1, "position": len(rows)},
                        **{"mean": low + mean * spread, "std": spread, "p1": low, "sharpness": fine},
                        **{"median": low + middle * spread, "p99_9": low + (middle + high) * spread},
                    }
                )
    return pd.DataFrame(rows)


def places(experiments: int, plates: int, **exchanged: Mapping[str, str]) -> dict[tuple[str, str], Mapping[str, str]]:
    names = [(f"E{e}", f"P{p}") for e in range(1, experiments + 1) for p in range(1, plates + 1)]
    return {name: exchanged.get("".join(name), exchanged.get(name[0], {})) for name in names}


SWAP = {"DNA": "AGP", "AGP": "DNA"}


def problems_of(table: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    return [(f.experiment, f.plate, f.channel, f.what) for f in check_channel_swaps(table)]


def test_two_channels_that_changed_places_are_named_with_their_plate() -> None:
    (finding,) = check_channel_swaps(plane_table(places(2, 4, E2P3=SWAP)))
    assert isinstance(finding, Problem)
    assert (finding.severity, finding.kind, finding.count) == ("warning", "channels exchanged", 1)
    assert (finding.experiment, finding.plate, finding.channel) == ("E2", "P3", "DNA, AGP")
    assert finding.what == "E2 plate P3: DNA looks like AGP, AGP looks like DNA of the others"
    assert "index these plates with their own --channels" in finding.fix


def test_plates_without_experiments_are_compared_with_each_other() -> None:
    assert [row[:3] for row in problems_of(plane_table(places(1, 6, E1P2=SWAP)))] == [("E1", "P2", "DNA, AGP")]


def test_three_channels_may_change_places() -> None:
    ring = {"ER": "Mito", "Mito": "DNA", "DNA": "ER"}
    (row,) = problems_of(plane_table(places(2, 4, E1P1=ring)))
    assert row[3] == "E1 plate P1: DNA looks like ER, ER looks like Mito, Mito looks like DNA of the others"


def test_of_two_plates_the_others_tell_which_is_odd() -> None:
    assert [row[:2] for row in problems_of(plane_table(places(3, 2, E2P1=SWAP)))] == [("E2", "P1")]
    (row,) = problems_of(plane_table(places(1, 2, E1P1=SWAP)))
    assert row[3].startswith("E1 plate P1, E1 plate P2: DNA looks like AGP")  # undecidable


def test_a_whole_experiment_in_another_order_is_found() -> None:
    (row,) = problems_of(plane_table(places(5, 2, E4=SWAP)))
    assert row[0] == "E4"
    assert row[3] == "all of E4: DNA looks like AGP, AGP looks like DNA of the others"


@pytest.mark.parametrize("seed", range(8))
def test_ordinary_screens_raise_no_alarm(seed: int) -> None:
    batch = (0.05, 0.1, 0.2, 0.4)[seed % 4]
    n_experiments, n_plates = ((1, 6), (4, 2), (2, 3))[seed % 3]
    assert problems_of(plane_table(places(n_experiments, n_plates), seed=seed, batch=batch)) == []


def test_a_stain_that_failed_changed_places_with_none() -> None:
    assert problems_of(plane_table(places(2, 4, E1P1={"ER": "DNA"}))) == []
    assert problems_of(plane_table(places(2, 4, E1P1={"ER": "DNA", "AGP": "DNA"}))) == []


def test_what_cannot_be_judged_is_not() -> None:
    assert problems_of(plane_table(places(2, 4, E1P1=SWAP), n_sites=2)) == []
    assert problems_of(plane_table(places(1, 1, E1P1=SWAP))) == []
    assert problems_of(plane_table(places(2, 4), stains=("DNA",))) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_simulated_screens_with_and_without_an_exchange(tmp_path: Path, seed: int) -> None:
    """Twice the usual batch effects raise no alarm; most exchanges of two stains are found."""
    config = SimulationConfig(
        seed=seed,
        image_size=64,
        experiments_per_cell_type=2,
        n_treatments=8,
        n_positive_controls=1,
        n_negative_controls=2,
        sites_per_well=1,
        batch_strength=2.0,
        optics_strength=0.5,
    )
    simulate(tmp_path, config)
    screen = index(tmp_path, layout="rxrx1", hash_files=False)
    names = [channel.name for channel in screen.metadata.channels]
    rows = [
        {**site.to_dict(), "position": k, "channel": name, "path": "", "page": -1, **asdict(measure_plane(plane))}
        for k, site in screen.sites.iterrows()
        for name, plane in zip(names, read_image(screen.image_paths(k), screen.pages(k)), strict=True)
    ]
    planes = pd.DataFrame(rows)
    assert problems_of(planes) == []
    n_found = 0
    pairs = [(one, other) for k, one in enumerate(names) for other in names[k + 1 :]]
    plates = sorted({(row["experiment"], row["plate"]) for row in rows})
    for k, (one, other) in enumerate(pairs):
        in_plate = (planes["experiment"] == plates[k % len(plates)][0]) & (
            planes["plate"] == plates[k % len(plates)][1]
        )
        swapped = planes.copy()
        swapped.loc[in_plate, "channel"] = planes.loc[in_plate, "channel"].replace({one: other, other: one})
        n_found += any(set(row[2].split(", ")) == {one, other} for row in problems_of(swapped))
    assert n_found > len(pairs) / 2
