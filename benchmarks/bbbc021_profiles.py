"""Retrieval of mechanisms from profiles of BBBC021, for each chain of alignment, with intervals over compounds.

python benchmarks/bbbc021_profiles.py --table BBBC021_feature_selected_mad_robustize.csv
python benchmarks/bbbc021_profiles.py --run RUN --wells lab/metadata.csv
python benchmarks/bbbc021_profiles.py --run A B --wells lab/metadata.csv --features embedding --queries held_out
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

import measure  # noqa: F401 - before numpy: it holds the thread pools at one
from distangle.core.random import rng_for
from distangle.errors import ProfileError
from distangle.profiles.aggregation import aggregate
from distangle.profiles.alignment import align
from distangle.profiles.geometry import unit
from distangle.profiles.label_retrieval import consistency
from distangle.profiles.readers import read_profiles
from distangle.profiles.run_reader import RunRows
from distangle.profiles.sphering import control_mask
from distangle.results.profiles import Profiles

CHAINS = (
    "center-plate",
    "center-controls",
    "center-experiment",
    "center-plate,sphere-zca",
    "center-plate,sphere-zca-cor",
    "center-controls,sphere-zca",
    "sphere-zca",
    "tvn",
    "tvn-plate",
    "harmony",
    "center-plate,harmony",
    "center-controls,harmony",
    "tvn,harmony",
)
DRAWS = 10_000
KINDS = ("compound", "compound and week")
MEASURES = ("mAP", "1-NN")
MECHANISM, COMPOUND, NAME = "Metadata_moa", "Metadata_Compound", "Metadata_Perturbation"
WEEK, FOLD = "Metadata_Experiment", "Metadata_Fold"


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


def read_run(path: Path, wells: Path, features: Literal["backbone", "embedding"]) -> Profiles:
    """Read all sites of a run as wells, with the compounds of the lab's table."""
    table = pd.read_csv(wells, dtype=str).rename(
        columns={"compound": "Compound", "concentration_uM": "Concentration", "perturbation": "moa"}
    )
    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder) / "wells.csv"
        table[["plate", "well", "Compound", "Concentration", "moa"]].drop_duplicates().to_csv(metadata, index=False)
        file = read_profiles(path, metadata=metadata, perturbation=COMPOUND, of_run=RunRows(features=features))
    print(file.sentence(), *file.notes, sep="\n")
    return aggregate(file.profiles, to="well", how="mean")


def comparable(wells: Profiles, *, need_controls: bool) -> Profiles:
    """Return the wells of plates that can be centered: two perturbations, and a control where it is needed."""
    plates = wells.codes((WEEK, "Metadata_Plate"))
    n_names = pd.Series(wells.table[NAME].to_numpy()).groupby(plates).nunique().to_numpy()
    is_used = n_names > 1
    if need_controls:
        is_used &= np.isin(np.arange(len(is_used)), plates[control_mask(wells)])
    left_out = ~is_used[plates]
    print(
        f"{int((~is_used).sum())} of {len(is_used)} plates are left out of all chains: "
        f"{int((left_out & control_mask(wells)).sum())} wells of controls, "
        f"{int((left_out & ~control_mask(wells)).sum())} of compounds. "
        f"{int(is_used[plates].sum())} wells stay, {int((~left_out & control_mask(wells)).sum())} of controls."
    )
    return wells.select(is_used[plates])


def profiles_of(wells: Profiles) -> Profiles:
    """Return a profile for each compound, dose and week."""
    treatments = wells.select(~control_mask(wells))
    treatments.table[NAME] += " " + treatments.table[WEEK]
    return aggregate(treatments, to="perturbation", how="mean")


def queries_of(profiles: Profiles) -> pd.DataFrame:
    """Return for every profile the values of both measures with both kinds of positives, and their chance."""
    compounds, mechanisms, weeks = (profiles.codes(name) for name in (COMPOUND, MECHANISM, WEEK))
    table = profiles.table[[NAME, COMPOUND, MECHANISM]].copy()
    table[FOLD] = profiles.table[FOLD] if FOLD in profiles.table else ""
    labels = [{label} for label in table[MECHANISM]]
    directions = unit(np.asarray(profiles.features, dtype=np.float64))
    similarity = directions @ directions.T
    is_same_mechanism = mechanisms[:, None] == mechanisms
    allowed = compounds[:, None] != compounds
    for kind, not_same in zip(KINDS, (None, weeks), strict=True):
        rows, _ = consistency(profiles.features, compounds, labels, not_same=not_same)
        table[f"mAP {kind}"] = rows.set_index("row")["average_precision"]
        table[f"mAP {kind} chance"] = rows.set_index("row")["expected"]
        if not_same is not None:
            allowed &= weeks[:, None] != weeks
        has_candidate = (is_same_mechanism & allowed).any(axis=1)
        hits = is_same_mechanism[
            np.arange(len(is_same_mechanism)), np.where(allowed, similarity, -np.inf).argmax(axis=1)
        ]
        table[f"1-NN {kind}"] = np.where(has_candidate, hits, np.nan)
        table[f"1-NN {kind} chance"] = np.where(
            has_candidate, (is_same_mechanism & allowed).sum(axis=1) / allowed.sum(axis=1), np.nan
        )
    return table


def by_compound(queries: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the mean and the number of queries of every compound that has any."""
    queries_with_value = queries.dropna(subset=[column])
    return queries_with_value.groupby([COMPOUND, MECHANISM])[column].agg(["mean", "size"]).reset_index()


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
    mechanisms = pd.get_dummies(table[MECHANISM]).to_numpy(dtype=float)
    counts = weights @ mechanisms
    means = np.divide(
        weights @ (mechanisms * values[:, None]), counts, out=np.full(counts.shape, np.nan), where=counts > 0
    )
    return np.asarray(np.nanmean(means, axis=1))


def shuffle_mechanisms(profiles: Profiles, seed: int) -> Profiles:
    """Return profiles whose compounds have each other's mechanisms."""
    compounds = profiles.table.drop_duplicates(COMPOUND)
    labels = rng_for(seed, "BBBC021, shuffled").permutation(compounds[MECHANISM].to_numpy(dtype=object))
    mechanisms = profiles.table[COMPOUND].map(dict(zip(compounds[COMPOUND], labels, strict=True)))
    return replace(profiles, table=profiles.table.assign(**{MECHANISM: mechanisms}))


def show_shuffles(parts: list[Profiles], n: int) -> None:
    """Print the mean of every measure over shufflings of the mechanisms."""
    for column in (f"{quantity} {kind}" for quantity in MEASURES for kind in KINDS):
        values = []
        for seed in range(n):
            queries = by_compound(pd.concat([queries_of(shuffle_mechanisms(part, seed)) for part in parts]), column)
            values.append(mean_of(column, queries, np.ones((1, len(queries))))[0])
        low, high = np.quantile(values, [0.025, 0.975])
        print(f"{column}, {n} shufflings: {np.mean(values):.3f} (95 % of them {low:.3f} to {high:.3f})")


def draws_of(groups: np.ndarray, seed: int) -> np.ndarray:
    """Draw groups with replacement, and return how often each row's group is drawn, [draw, row]."""
    codes, names = pd.factorize(groups)
    draws = rng_for(seed, "BBBC021", len(names)).integers(len(names), size=(DRAWS, len(names)))
    return np.stack([np.bincount(draw, minlength=len(names)) for draw in draws]).astype(float)[:, codes]


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return a percentile interval."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def cells(tables: dict[str, pd.DataFrame], column: str, base: str, seed: int) -> dict[str, str]:
    """Return the value and the difference from a chain, as cells of a table."""
    first = by_compound(tables[base], column)
    draws = [draws_of(first[name].to_numpy(), seed) for name in (COMPOUND, MECHANISM)]
    unit_weights = np.ones((1, len(first)))
    value_of_base = mean_of(column, first, unit_weights)[0]
    chance = mean_of(column, by_compound(tables["none"], f"{column} chance"), unit_weights)[0]
    print(
        f"{column}: {int(first['size'].sum())} of {len(tables['none'])} queries, {len(first)} compounds, "
        f"{first[MECHANISM].nunique()} mechanisms; chance {chance:.3f}"
    )
    lines = {}
    for name, table in tables.items():
        base_table = by_compound(table, column)
        value, (low, high) = (
            mean_of(column, base_table, unit_weights)[0],
            interval(mean_of(column, base_table, draws[0])),
        )
        lines[name] = f"{value:.3f} ({low:.3f} to {high:.3f}) |"
        if name != base:
            gaps = [mean_of(column, base_table, draw) - mean_of(column, first, draw) for draw in draws]
            low, high = interval(gaps[0])
            wide = [interval(gap, 1 - 0.05 / (len(tables) - 1)) for gap in gaps]
            sign = "**" if all(w[0] > 0 for w in wide) or all(w[1] < 0 for w in wide) else ""
            lines[name] += f" {sign}{value - value_of_base:+.3f}{sign} ({low:+.3f} to {high:+.3f})"
    return lines


def show(tables: dict[str, pd.DataFrame], measure_name: str, base: str, seed: int) -> None:
    """Print a table of every chain; a difference in bold is certain."""
    print()
    columns = [cells(tables, f"{measure_name} {kind}", base, seed) for kind in KINDS]
    print(f"\n| {measure_name} | other compound | minus {base} | other compound, other week | minus {base} |")
    print("| --- | --- | --- | --- | --- |")
    for name in tables:
        print(f"| {name} | {' | '.join(column[name] for column in columns)} |")


def main() -> int:
    """Print the tables of a source."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", type=Path, help="CellProfiler profiles of wells")
    parser.add_argument("--run", type=Path, nargs="+", help="runs of the single-cell crops")
    parser.add_argument("--wells", type=Path, help="table of the lab with the compound of every well; for --run")
    parser.add_argument("--features", choices=("backbone", "embedding"), default="backbone")
    parser.add_argument("--queries", choices=("all", "held_out"), default="all", help="wells of a run that search")
    parser.add_argument("--plates-with-controls", action="store_true", help="leave out plates without a control")
    parser.add_argument("--chain", action="append", help="steps between commas instead of the chains here")
    parser.add_argument("--base", default="none", help="chain that the others are compared with")
    parser.add_argument("--shuffle", type=int, default=0, help="shufflings of the mechanisms over the compounds")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    options = parser.parse_args()
    if not options.table and not options.run or bool(options.run) != bool(options.wells):
        parser.error("name --table, or --run with --wells")
    sources = []
    if options.table:
        sources.append(("CellProfiler", [read_table(options.table)]))
    if options.run:
        title = f"{options.features}, queries: {options.queries} wells"
        sources.append((title, [read_run(path, options.wells, options.features) for path in options.run]))
    for title, parts in sources:
        print(f"\n## {title}")
        parts = [comparable(wells, need_controls=options.plates_with_controls) for wells in parts]
        if options.shuffle:
            show_shuffles([profiles_of(wells) for wells in parts], options.shuffle)
        tables = {"none": pd.concat([queries_of(profiles_of(wells)) for wells in parts])}
        for chain in options.chain or CHAINS:
            try:
                tables[chain] = pd.concat([queries_of(profiles_of(align(wells, chain.split(",")))) for wells in parts])
            except ProfileError as error:
                print(f"{chain} is not possible: {error}")
        if options.queries == "held_out":
            tables = {name: table[table[FOLD] != "train"] for name, table in tables.items()}
        queries = tables["none"]
        lone = queries[queries["mAP compound and week"].isna()].groupby(MECHANISM)[COMPOUND].nunique()
        print(
            f"{len(queries)} profiles of {queries[COMPOUND].nunique()} compounds search; without a positive in another "
            f"week: {', '.join(f'{label} ({n} compounds)' for label, n in lone.items()) or 'none'}"
        )
        if options.base not in tables:
            parser.error(f"--base {options.base} is none of: {'; '.join(tables)}")
        for measure_name in MEASURES:
            show(tables, measure_name, options.base, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
