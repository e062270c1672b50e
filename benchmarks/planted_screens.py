"""Profiles of simulated screens with strong batch effects, beside what was planted.

Each seed simulates a screen of twelve experiments, trains the small network on six of them with batches of one plate
and norm statistics of the plate, and compares the wells of the other six: how well a probe tells the experiment,
whether replicates find each other, which perturbations are hits, and whether the halves of the wells of a perturbation,
under two names, are nearest neighbors. Effects cover the whole image; `--local-share 0.3` plants three of ten in one
region of it. The settings were chosen on the screen of seed 10. The run ends with 1 if a limit is broken.

    python benchmarks/planted_screens.py --seeds 0 1 2
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import measure
from distangle.core.progress import no_progress
from distangle.images import probe_image
from distangle.inference import predict_run
from distangle.profiles.aggregation import aggregate
from distangle.profiles.compute import ProfileOptions, compute_profiles
from distangle.profiles.readers import read_profiles
from distangle.profiles.relations import nearest_and_opposite
from distangle.profiles.run_reader import RunRows
from distangle.profiles.sphering import control_mask
from distangle.results import ProfileResult
from distangle.results.profiles import Profiles
from distangle.screen import hold_out, index, read_screen, write_screen
from distangle.synthetic import SimulationConfig, read_truth, simulate
from distangle.training import resolve_config, start_run, train

EXPERIMENTS, HELD_OUT = 12, 6
EPOCHS = 40
TRAINING = ("batch_size=16", "batches.pure=plate", "batch_norm.statistics=plate", "correction.method=none")
NAME = "Metadata_Perturbation"


def make_run(folder: Path, seed: int, *, epochs: int, local_share: float) -> set[str]:
    """Simulate, index, train and predict; return the perturbations with an effect."""
    config = SimulationConfig(
        seed=seed,
        image_size=64,
        magnification=0.7,
        cell_types=("HUVEC",),
        experiments_per_cell_type=EXPERIMENTS,
        plate_groups=False,
        n_treatments=14,
        n_inactive_treatments=4,
        n_positive_controls=2,
        n_negative_controls=8,
        effect_strength=1.5,
        local_share=local_share,
        batch_strength=3.0,
        optics_strength=1.0,
    )
    simulate(folder / "plates", config, workers=1)
    write_screen(index(folder / "plates", layout="rxrx1", probe=probe_image), folder / "screen")
    screen = read_screen(folder / "screen")
    folds = hold_out(screen, column="experiment", values=sorted(set(screen.sites["experiment"]))[-HELD_OUT:])
    run = start_run(screen, folds, resolve_config("scratch", TRAINING, seed=seed, epochs=epochs), folder / "run")
    train(run, advance=no_progress, say=no_progress)
    predict_run(run, screen)
    effects = read_truth(folder / "plates").perturbations
    return {name for name, effect in effects.items() if effect.channels}


def halve_perturbations(wells: Profiles, names: set[str]) -> Profiles:
    """Give the wells of some perturbations two names in turn, each on both plates of the experiments."""
    table = wells.table.copy()
    experiment, plate = (pd.factorize(table[f"Metadata_{part}"])[0] for part in ("Experiment", "Plate"))
    side = np.where((experiment + plate) % 2 == 0, " a", " b")
    is_named = table[NAME].isin(names).to_numpy()
    table.loc[is_named, NAME] = table.loc[is_named, NAME].to_numpy() + side[is_named]
    return replace(wells, table=table)


def nearest_share(wells: Profiles, active: set[str]) -> tuple[int, int]:
    """Return for how many halves of a perturbation the other half is the nearest of all, and their number."""
    treatments = halve_perturbations(wells.select(~control_mask(wells)), active)
    profiles = aggregate(treatments, to="perturbation", how="mean")
    nearest = nearest_and_opposite(profiles.features, profiles.table[NAME].tolist(), k=1)
    nearest = nearest[(nearest["kind"] == "nearest") & nearest["name"].str[:-2].isin(active)]
    return int((nearest["name"].str[:-2] == nearest["other"].str[:-2]).sum()), len(nearest)


def stage(result: ProfileResult, name: str, of: str, *, last: bool) -> pd.Series:
    """Return a measure before the alignment or after its last step."""
    rows = result.batch_effects
    rows = rows[(rows["name"] == name) & (rows["of"] == of)]
    return rows.iloc[-1 if last else 0]


def measure_seed(
    seed: int, folder: Path, *, steps: tuple[str, ...], epochs: int, local_share: float
) -> dict[str, float]:
    """Print the figures of a seed, and return them."""
    active = make_run(folder, seed, epochs=epochs, local_share=local_share)
    file = read_profiles(folder / "run", of_run=RunRows(features="auto", wells="auto"))
    result, _ = compute_profiles(file, ProfileOptions(alignment=steps, map="pca", seed=seed))
    probes = [stage(result, "probe accuracy", "experiment", last=last) for last in (False, True)]
    activity = [stage(result, "mAP", "perturbation", last=last) for last in (False, True)]
    hits = result.hits.set_index("perturbation")
    is_hit, is_active = (hits["q"] <= 0.05).to_numpy(), hits.index.isin(list(active))
    n_nearest, n_halves = nearest_share(result.wells, active)
    figures = {
        "chance": float(probes[0]["chance"]),
        "probe before": float(probes[0]["value"]),
        "probe after": float(probes[1]["value"]),
        "mAP before": float(activity[0]["value"]),
        "mAP after": float(activity[1]["value"]),
        "nearest": n_nearest,
        "halves": n_halves,
        "active": int(is_active.sum()),
        "active hits": int((is_hit & is_active).sum()),
        "inactive": int((~is_active).sum()),
        "inactive hits": int((is_hit & ~is_active).sum()),
    }
    ranges = [f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})" for row in activity]
    print(
        f"| {seed} | {figures['probe before']:.3f} | {figures['probe after']:.3f} | {figures['chance']:.3f} | "
        f"{ranges[0]} | {ranges[1]} | {n_nearest} of {n_halves} | {figures['active hits']} of {figures['active']} | "
        f"{figures['inactive hits']} of {figures['inactive']} |",
        flush=True,
    )
    return figures


def limits(figures: list[dict[str, float]]) -> list[bool]:
    """Print the limits over all seeds."""
    total = pd.DataFrame(figures).sum()
    worst = max(one["probe after"] / one["chance"] for one in figures)
    verdicts = [measure.verdict("experiment after alignment / chance, worst seed", worst, at_most=1.5)]
    gain = min(one["mAP after"] - one["mAP before"] for one in figures)
    verdicts.append(measure.verdict("replicate mAP after - before, worst seed", gain, at_least=0))
    verdicts.append(measure.verdict("planted equals are nearest", total["nearest"] / total["halves"], at_least=0.95))
    verdicts.append(
        measure.verdict("active perturbations are hits", total["active hits"] / total["active"], at_least=0.95)
    )
    error = 3 * np.sqrt(0.05 * 0.95 / total["inactive"])
    share = total["inactive hits"] / total["inactive"]
    verdicts.append(measure.verdict("inactive perturbations are hits", share, at_most=0.05 + error))
    return verdicts


def main() -> int:
    """Print the table and what held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--align", default="center-plate", help="steps, separated by commas")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--local-share", type=float, default=0.0, help="share of effects in one region of the image")
    parser.add_argument("--keep", type=Path, help="folder for the screens and runs; a temporary one unless given")
    options = parser.parse_args()
    print(f"{HELD_OUT} held-out experiments of {EXPERIMENTS}, {options.epochs} epochs, alignment {options.align}\n")
    print("| seed | experiment before | after | chance | mAP before | after | equals nearest | active | inactive |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    figures = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in options.seeds:
            folder = (options.keep or Path(temporary)) / f"seed-{seed}"
            figures.append(
                measure_seed(
                    seed,
                    folder,
                    steps=tuple(options.align.split(",")),
                    epochs=options.epochs,
                    local_share=options.local_share,
                )
            )
    print()
    return 0 if all(limits(figures)) else 1


if __name__ == "__main__":
    sys.exit(main())
