"""On labels without an effect, the default split scores chance: 20 seeds of screen, folds and network."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.core.random import rng_for
from distangle.images import probe_image
from distangle.screen import Screen, folds_from_options, index, read_screen, write_screen
from distangle.synthetic import SimulationConfig, simulate
from distangle.training import resolve_config, start_run, train

N_SEEDS = 20
N_CLASSES = 6  # five treatments and untreated, one well of each per plate: chance is 1 / 6
SMALL: dict[str, object] = {
    "image_size": 32,
    "magnification": 0.5,
    "cell_types": ("HUVEC",),
    "experiments_per_cell_type": 4,
    "plate_groups": False,
    "n_treatments": N_CLASSES - 1,
    "n_positive_controls": 0,
    "n_negative_controls": 1,
}


def shuffle_wells(screen: Screen, *, seed: int) -> Screen:
    """Shuffle the labels of each plate over its wells; the sites of a well stay together."""
    sites = screen.sites.copy()
    for place, wells in sites.groupby(["experiment", "plate"]).groups.items():
        names = sites.loc[wells].groupby("well")["perturbation"].first()
        shuffled_names = rng_for(seed, "shuffle", str(place)).permutation(names.to_numpy())
        sites.loc[wells, "perturbation"] = sites.loc[wells, "well"].map(
            dict(zip(names.index, shuffled_names, strict=True))
        )
    return dataclasses.replace(screen, sites=sites)


def held_out(folder: Path, *, seed: int, null: bool, shuffle: bool = False) -> tuple[float, int]:
    """Simulate, index, divide and train; return the final held-out accuracy and the number of held-out sites."""
    simulate(folder / "plates", SimulationConfig.model_validate({**SMALL, "seed": seed, "null": null}), workers=1)
    screen = index(folder / "plates", layout="rxrx1", probe=probe_image)
    write_screen(shuffle_wells(screen, seed=seed) if shuffle else screen, folder / "screen")
    screen = read_screen(folder / "screen")
    folds = folds_from_options(screen, seed=seed)
    assert screen.sites["perturbation"].value_counts().nunique() == 1
    config = resolve_config("scratch", ["batch_size=16", "precision=fp32"], seed=seed, epochs=8)
    run = train(
        start_run(screen, folds, config, folder / "run"), advance=lambda message: None, say=lambda message: None
    )
    accuracy = pd.read_csv(run.metrics)["held_out_accuracy"].iloc[-1]
    return float(accuracy), int((folds.table["fold"] == "held_out").sum())


def far_from_chance(accuracies: list[tuple[float, int]]) -> float:
    """Return how many standard errors the mean over seeds lies above chance."""
    shares = np.array([share for share, _ in accuracies])
    error = shares.std(ddof=1) / np.sqrt(len(shares))
    n = sum(n for _, n in accuracies)
    distance = (shares.mean() - 1 / N_CLASSES) / error
    print(
        f"\n{len(shares)} seeds, {n} held-out sites: accuracy {shares.mean():.3f}, chance {1 / N_CLASSES:.3f}, "
        f"standard error {error:.4f} (over seeds; binomial {np.sqrt(5 / 36 / n):.4f}), "
        f"{distance:+.2f} standard errors away"
    )
    return float(distance)


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [False, True], ids=["a null screen", "shuffled labels"])
def test_labels_that_say_nothing_score_chance(tmp_path: Path, shuffle: bool) -> None:
    accuracies = [
        held_out(tmp_path / str(seed), seed=seed, null=not shuffle, shuffle=shuffle) for seed in range(N_SEEDS)
    ]
    assert abs(far_from_chance(accuracies)) < 3


@pytest.mark.slow
def test_the_same_small_screens_with_planted_effects_score_far_above_chance(tmp_path: Path) -> None:
    accuracies = [held_out(tmp_path / str(seed), seed=seed, null=False) for seed in range(5)]
    assert far_from_chance(accuracies) > 3


def test_shuffling_keeps_the_labels_of_a_plate_and_the_sites_of_a_well_together(tmp_path: Path) -> None:
    config = SimulationConfig.model_validate({**SMALL, "experiments_per_cell_type": 2})
    simulate(tmp_path, config, workers=1)
    screen = index(tmp_path, layout="rxrx1", probe=probe_image)
    shuffled_sites = shuffle_wells(screen, seed=0).sites
    by_plate = [
        table.groupby(["experiment", "plate"])["perturbation"].apply(sorted) for table in (screen.sites, shuffled_sites)
    ]
    assert by_plate[0].equals(by_plate[1])
    assert (shuffled_sites.groupby(["experiment", "plate", "well"])["perturbation"].nunique() == 1).all()
    assert (shuffled_sites["perturbation"] != screen.sites["perturbation"]).mean() > 0.5
