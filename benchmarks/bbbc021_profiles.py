"""Retrieval of mechanisms from profiles of BBBC021, for each chain of alignment, with intervals over compounds.

python benchmarks/bbbc021_profiles.py --table BBBC021_feature_selected_mad_robustize.csv
python benchmarks/bbbc021_profiles.py --run RUN --wells lab/metadata.csv --features backbone
"""

import argparse
import sys
import tempfile
from pathlib import Path

import measure  # noqa: F401 - before numpy: it holds the thread pools at one
import numpy as np
import pandas as pd

from distangle.core.random import rng_for
from distangle.errors import ProfileError
from distangle.profiles.aggregate import aggregate
from distangle.profiles.alignment import align
from distangle.profiles.geometry import unit
from distangle.profiles.readers import read_profiles
from distangle.profiles.retrieval import consistency
from distangle.profiles.run_reader import RunRows
from distangle.profiles.sphering import control_mask
from distangle.results.profiles import Profiles

CHAINS = (
    (),
    ("center-plate",),
    ("center-controls",),
    ("center-plate", "sphere-zca"),
    ("center-plate", "sphere-zca-cor"),
    ("tvn",),
    ("center-plate", "harmony"),
)
DRAWS = 10_000
KINDS = ("compound", "compound and week")
MEASURES = ("mAP", "1-NN")
MECHANISM, COMPOUND, NAME, WEEK = (
    "Metadata_moa",
    "Metadata_Compound",
    "Metadata_Perturbation",
    "Metadata_Experiment",
)


def read_table(path: Path) -> Profiles:
    """Read the CellProfiler profiles; the week is the head of the plate's name."""
    plates = pd.read_csv(path, usecols=["Metadata_Plate"], dtype=str)["Metadata_Plate"].drop_duplicates()
    weeks = pd.DataFrame({"Plate": plates, "Experiment": plates.str.split("_").str[0]})
    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder) / "weeks.csv"
        weeks.to_csv(metadata, index=False)
        file = read_profiles(path, metadata=metadata, perturbation=COMPOUND)
    print(file.sentence())
    return file.profiles


def read_run(path: Path, wells: Path, rows: RunRows) -> Profiles:
    """Read sites of a run as wells, with the compounds of the lab's table."""
    table = pd.read_csv(wells, dtype=str).rename(
        columns={"compound": "Compound", "concentration_uM": "Concentration", "perturbation": "moa"}
    )
    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder) / "wells.csv"
        table[["plate", "well", "Compound", "Concentration", "moa"]].drop_duplicates().to_csv(metadata, index=False)
        file = read_profiles(path, metadata=metadata, perturbation=COMPOUND, of_run=rows)
    print(file.sentence(), *file.notes, sep="\n")
    return aggregate(file.profiles, to="well", how="mean")


def comparable(wells: Profiles, *, need_controls: bool) -> Profiles:
    """Return the wells of plates that can be centered: two perturbations, and a control where it is needed."""
    plates = wells.codes((WEEK, "Metadata_Plate"))
    n_names = pd.Series(wells.table[NAME].to_numpy()).groupby(plates).nunique().to_numpy()
    kept = n_names > 1
    if need_controls:
        kept &= np.isin(np.arange(len(kept)), plates[control_mask(wells)])
    left_out = ~kept[plates]
    print(
        f"{int((~kept).sum())} of {len(kept)} plates are left out of all chains: "
        f"{int((left_out & control_mask(wells)).sum())} wells of controls, "
        f"{int((left_out & ~control_mask(wells)).sum())} of compounds."
    )
    return wells.select(kept[plates])


def profiles_of(wells: Profiles) -> Profiles:
    """Return a profile for each compound, dose and week."""
    treated = wells.select(~control_mask(wells))
    treated.table[NAME] += " " + treated.table[WEEK]
    return aggregate(treated, to="perturbation", how="mean")


def queries_of(profiles: Profiles) -> pd.DataFrame:
    """Return for every profile the values of both measures with both kinds of positives, and their chance."""
    compounds, mechanisms, weeks = (profiles.codes(name) for name in (COMPOUND, MECHANISM, WEEK))
    table = profiles.table[[NAME, COMPOUND, MECHANISM]].copy()
    labels = [{label} for label in table[MECHANISM]]
    directions = unit(np.asarray(profiles.features, dtype=np.float64))
    similarity = directions @ directions.T
    same = mechanisms[:, None] == mechanisms
    allowed = compounds[:, None] != compounds
    for kind, not_same in zip(KINDS, (None, weeks), strict=True):
        rows, _ = consistency(profiles.features, compounds, labels, not_same=not_same)
        table[f"mAP {kind}"] = rows.set_index("row")["average_precision"]
        table[f"mAP {kind} chance"] = rows.set_index("row")["expected"]
        if not_same is not None:
            allowed &= weeks[:, None] != weeks
        asked = (same & allowed).any(axis=1)
        hits = same[np.arange(len(same)), np.where(allowed, similarity, -np.inf).argmax(axis=1)]
        table[f"1-NN {kind}"] = np.where(asked, hits, np.nan)
        table[f"1-NN {kind} chance"] = np.where(asked, (same & allowed).sum(axis=1) / allowed.sum(axis=1), np.nan)
    return table


def by_compound(queries: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the mean and the number of queries of every compound that has any."""
    known = queries.dropna(subset=[column])
    return known.groupby([COMPOUND, MECHANISM])[column].agg(["mean", "size"]).reset_index()


def mean_of(column: str, table: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """Return the mean of each draw: over mechanisms of their compounds for mAP, over queries for 1-NN.

    Args:
        column: Name that starts with the measure.
        table: What `by_compound` returns.
        weights: How often each compound is drawn, [draw, compound].
    """
    values = table["mean"].to_numpy()
    if column.startswith("1-NN"):
        return np.asarray((weights @ (values * table["size"])) / (weights @ table["size"].to_numpy()))
    of = pd.get_dummies(table[MECHANISM]).to_numpy(dtype=float)
    counts = weights @ of
    means = np.divide(weights @ (of * values[:, None]), counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return np.asarray(np.nanmean(means, axis=1))


def draws_of(groups: np.ndarray, seed: int) -> np.ndarray:
    """Draw groups with replacement, and return how often each row's group is drawn, [draw, row]."""
    codes, names = pd.factorize(groups)
    drawn = rng_for(seed, "BBBC021", len(names)).integers(len(names), size=(DRAWS, len(names)))
    return np.stack([np.bincount(one, minlength=len(names)) for one in drawn]).astype(float)[:, codes]


def interval(values: np.ndarray, level: float = 0.95) -> str:
    """Return a percentile interval as text."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return f"{low:+.3f} to {high:+.3f}" if low < 0 else f"{low:.3f} to {high:.3f}"


def show(found: dict[str, pd.DataFrame], column: str, seed: int) -> None:
    """Print a table of every chain, and its difference from no alignment."""
    first = by_compound(next(iter(found.values())), column)
    if not len(first):
        print(f"\n{column}: no query has a positive.")
        return
    compounds, mechanisms = (draws_of(first[name].to_numpy(), seed) for name in (COMPOUND, MECHANISM))
    once = np.ones((1, len(first)))
    queries = next(iter(found.values()))
    chance = mean_of(column, by_compound(queries, f"{column} chance"), once)[0]
    n_queries = int(first["size"].sum())
    print(
        f"\n{column}: {n_queries} of {len(queries)} queries, {len(first)} compounds, "
        f"{first[MECHANISM].nunique()} mechanisms; chance {chance:.3f}"
    )
    print("| chain | value | 95 % over compounds | minus none | 95 % over compounds | 95 % over mechanisms | certain |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    n_others = len(found) - 1
    for name, table in found.items():
        own = by_compound(table, column)
        value, drawn = mean_of(column, own, once)[0], mean_of(column, own, compounds)
        line = f"| {name} | {value:.3f} | {interval(drawn)} |"
        if name != "none":
            gap = value - mean_of(column, first, once)[0]
            over = [mean_of(column, own, draw) - mean_of(column, first, draw) for draw in (compounds, mechanisms)]
            wide = np.quantile(over, [0.025 / n_others, 1 - 0.025 / n_others], axis=1)
            certain = "better" if (wide[0] > 0).all() else "worse" if (wide[1] < 0).all() else "no"
            line += f" {gap:+.3f} | {interval(over[0])} | {interval(over[1])} | {certain} |"
        print(line + (" | | | |" if name == "none" else ""))


def main() -> int:
    """Print the tables of a source."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", type=Path, help="CellProfiler profiles of wells")
    parser.add_argument("--run", type=Path, help="run of the single-cell crops")
    parser.add_argument("--wells", type=Path, help="table of the lab with the compound of every well; for --run")
    parser.add_argument("--features", choices=("backbone", "embedding"), default="backbone")
    parser.add_argument("--rows", choices=("all", "held_out"), default="all", help="wells of the run")
    parser.add_argument("--plates-with-controls", action="store_true", help="leave out plates without a control")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    options = parser.parse_args()
    if not options.table and not options.run or bool(options.run) != bool(options.wells):
        parser.error("name --table, or --run with --wells")
    sources = []
    if options.table:
        sources.append(("CellProfiler", read_table(options.table)))
    if options.run:
        rows = RunRows(features=options.features, wells=options.rows)
        sources.append((f"{options.features}, {options.rows} wells", read_run(options.run, options.wells, rows)))
    for title, wells in sources:
        print(f"\n## {title}")
        wells = comparable(wells, need_controls=options.plates_with_controls)
        print(f"{len(wells)} wells, {int(control_mask(wells).sum())} controls")
        found = {}
        for chain in CHAINS:
            name = ", ".join(chain) or "none"
            try:
                found[name] = queries_of(profiles_of(align(wells, chain)))
            except ProfileError as error:
                print(f"{name} is not possible: {error}")
        queries = found["none"]
        lone = queries[queries["mAP compound and week"].isna()].groupby(MECHANISM)[COMPOUND].nunique()
        print(
            f"{len(queries)} profiles of {queries[COMPOUND].nunique()} compounds; without a positive in another week: "
            + (", ".join(f"{label} ({n} compounds)" for label, n in lone.items()) or "none")
        )
        for kind in KINDS:
            for quantity in MEASURES:
                show(found, f"{quantity} {kind}", options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
