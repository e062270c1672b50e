"""Compute from profiles what `distangle profile` reports."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from distangle.core.progress import no_progress
from distangle.core.stats import mean_interval
from distangle.core.untrusted_files import read_regular_file
from distangle.errors import ProfileError, brief
from distangle.profiles.aggregation import aggregate
from distangle.profiles.alignment import CONTROL_STEPS, Alignment, fit_by_step
from distangle.profiles.alignment_checks import listing
from distangle.profiles.batch_effects import measure_batch_effects
from distangle.profiles.compute_checks import (
    check_edges,
    check_fit_on,
    check_wells,
    label_note,
    mixture_note,
    well_notes,
)
from distangle.profiles.control_sides import (
    find_wells,
    part_controls,
    sides_sentence,
    wholly_fitted,
    without_references,
)
from distangle.profiles.hits import COMPOUND, NAME, hit_table
from distangle.profiles.label_retrieval import consistency
from distangle.profiles.map import map_profiles
from distangle.profiles.project import Method, is_installed
from distangle.profiles.readers import ProfilesFile
from distangle.profiles.relations import nearest_and_opposite, recall_of_edges
from distangle.profiles.retrieval import activity
from distangle.profiles.similarity import Clusters, find_clusters, similarity_matrix
from distangle.profiles.sphering import control_mask
from distangle.results.profile_result import BATCH_COLUMNS, ProfileResult
from distangle.results.profiles import PLATE, Profiles

How = Literal["mean", "median", "medoid"]
TAILS = ((0.05, 0.95), (0.1, 0.9))
MAX_LABEL_DRAWS = 999  # permutations of labels
MAX_SIMILARITY = 2000  # perturbations of a written similarity matrix
N_STAGES = 3  # stages of the progress besides the alignments


@dataclass(frozen=True, kw_only=True)
class ProfileOptions:
    """What to compute from profiles.

    Attributes:
        alignment: Names of `alignment.STEPS` in their order; () for none.
        fit_on: Wells that the steps of the controls are fitted on, in place of negative controls: `COLUMN=VALUE` each.
        aggregate: Center of the sites of a well, and of the wells of a perturbation.
        label: Column of labels that perturbations share, such as the mechanism, `|` between several; "" for none.
        not_same: Column in which positives of a label must differ too, such as the week; "" for none.
        map: Method of the 2-D map of wells; None for t-SNE if it is installed, else PCA.
        q: Level of a hit.
        n_neighbors: Number of nearest and of opposite perturbations.
        n_draws: Random draws of a p-value.
        seed: Seed of draws, probes and the map.
    """

    alignment: tuple[str, ...] = ("center-plate",)
    fit_on: tuple[str, ...] = ()
    aggregate: How = "mean"
    label: str = ""
    not_same: str = ""
    map: Method | None = None
    q: float = 0.05
    n_neighbors: int = 3
    n_draws: int = 9999
    seed: int = 0


def compute_profiles(
    file: ProfilesFile,
    options: ProfileOptions,
    *,
    channels: Mapping[str, tuple[str, float]] | None = None,
    edges: Sequence[tuple[str, str]] | None = None,
    alignment: Alignment | None = None,
    advance: Callable[[str], None] = no_progress,
) -> tuple[ProfileResult, Alignment]:
    """Align profiles, and compute hits, neighbors and batch effects.

    Args:
        file: Profiles of sites or wells with negative controls.
        options: What to compute.
        channels: Channel that moved and its Shapley value, by perturbation.
        edges: Known relations, pairs of perturbations.
        alignment: Chain that was fitted on other plates; None to fit `options.alignment` on these.
        advance: Called with the name of every stage that is done.

    Returns:
        The result, and the chain.

    Raises:
        ProfileError: There is no control or no perturbation, a step cannot be done, a column is absent, or no well is
            one to fit on.
    """
    wells = file.profiles
    if wells.level == "site":
        wells = aggregate(wells, to="well", how=options.aggregate)
    steps = options.alignment if alignment is None else tuple(step.name for step in alignment.steps)
    check_wells(wells, steps=steps, columns=(options.label, options.not_same))
    check_fit_on(options.fit_on, steps)
    notes = [*file.notes, *well_notes(wells)]
    if note := mixture_note(wells, steps):
        notes.append(note)
    if edges is not None:
        check_edges([name for name in dict.fromkeys(wells.table[NAME][~control_mask(wells)]) if name], edges)
    fit_on = options.fit_on if alignment is None else alignment.fit_on
    if set(steps) & CONTROL_STEPS:
        wells = part_controls(wells, seed=options.seed, fit_on=find_wells(wells, fit_on) if fit_on else None)
        notes.append(sides_sentence(wells, fit_on))
        if names := wholly_fitted(wells):
            notes.append(
                f"{len(names)} perturbations are not compared, because all their wells fit the alignment: "
                f"{listing(names)}."
            )
    rows = []
    if alignment is not None:
        notes.append(f"The alignment ({alignment.name}) was fitted on other plates.")
    chains = fit_by_step(wells, steps) if alignment is None else alignment.by_step(wells)
    for chain, stage in chains:
        rows.append(_batch_rows(without_references(stage), chain.name, seed=options.seed))
        fitted, aligned = chain, stage
        advance(f"alignment {chain.name}")
    wells = aligned
    known = without_references(wells)
    known = known.select((known.table[NAME] != "").to_numpy(dtype=bool))
    if n_unnamed := int((wells.table[NAME] == "").sum()):
        notes.append(f"{n_unnamed} of {len(wells)} wells have no perturbation; they are aligned only.")
    controls = control_mask(known)
    perturbations = aggregate(known, to="perturbation", how=options.aggregate)
    treated = perturbations.select(~control_mask(perturbations))
    neighbors = _neighbors(treated, options.n_neighbors)
    grouping = find_clusters(treated.features) if len(treated) > 1 else None
    hits = hit_table(
        known,
        perturbations,
        neighbors,
        is_control=controls,
        clusters={} if grouping is None else dict(zip(treated.table[NAME], grouping.labels.tolist(), strict=True)),
        channels=channels or {},
        n_draws=options.n_draws,
        seed=options.seed,
    )
    advance("hits")
    labels = None
    if options.label:
        if not options.not_same and (note := label_note(known.select(~controls), options.label)):
            notes.append(note)
        labels = _consistency(treated, known, options)
    relations = None if edges is None else _relations(treated, edges, notes)
    advance("relations")
    coordinates, method = _coordinates(wells, options)
    advance("map")
    result = ProfileResult(
        wells=wells,
        perturbations=perturbations,
        hits=hits,
        neighbors=neighbors,
        batch_effects=pd.concat(rows, ignore_index=True)[list(BATCH_COLUMNS)],
        refused=pd.DataFrame(file.refused, columns=["row", "reason"], dtype=object),
        coordinates=coordinates,
        consistency=labels,
        relations=relations,
        similarity=_similarity(treated, grouping, notes),
        settings={
            **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(options).items()},
            "map": method,
            "source": wells.provenance.get("source", ""),
            "level": file.profiles.level,
            "n_found": file.n_found,
            "n_used": len(file.profiles),
            "n_refused": len(file.refused),
            "n_trained": file.n_trained,
            "left_out": [list(pair) for pair in file.left_out],
            "notes": notes,
            "sentence": file.sentence(),
            "alignment": list(steps),
            "fit_on": list(fit_on),
        },
    )
    return result, replace(fitted, fit_on=fit_on)


def _batch_rows(wells: Profiles, name: str, *, seed: int) -> pd.DataFrame:
    """Return the measures of batch effects of a stage, and the activity of its perturbations."""
    table = measure_batch_effects(wells, seed=seed)
    known = wells.select((wells.table[NAME] != "").to_numpy(dtype=bool))
    active = activity(
        known.features, known.table[NAME].to_numpy(dtype=object), control_mask(known), known.codes(PLATE), n_draws=0
    )
    values = active["mean_average_precision"].dropna().to_numpy()
    low, high = np.clip(mean_interval(values, np.arange(len(values))) or (np.nan, np.nan), 0, 1)
    row = {
        "name": "mAP",
        "of": "perturbation",
        "value": values.mean() if len(values) else np.nan,
        "chance": active["expected"].mean(),
        "low": low,
        "high": high,
        "range": "95 % interval",
        "n": len(values),
        "n_skipped": len(active) - len(values),
        "reason": "" if len(values) else "No perturbation has two replicates on plates with controls.",
    }
    return pd.concat([table, pd.DataFrame([row])], ignore_index=True).assign(alignment=name)


def _consistency(perturbations: Profiles, wells: Profiles, options: ProfileOptions) -> pd.DataFrame:
    """Return the retrieval of every label by the profiles of perturbations, or of their blocks."""
    profiles = perturbations
    if options.not_same:
        # One profile of a perturbation in each block, so that the block can differ.
        wells = wells.select(~control_mask(wells))
        codes = wells.codes(options.not_same)
        parts = [aggregate(wells.select(codes == code), to="perturbation", how=options.aggregate) for code in
                 np.unique(codes)]  # fmt: skip
        profiles = replace(
            parts[0],
            table=pd.concat([part.table for part in parts], ignore_index=True),
            features=np.concatenate([part.features for part in parts]),
        )
    labels = [[part.strip() for part in str(text).split("|") if part.strip()] for text in profiles.table[options.label]]
    if not any(labels):
        raise ProfileError(
            f"None of {len(perturbations)} perturbations has one value of {options.label} in all its wells. Expected "
            "the same value in every well of a perturbation. Complete the column."
        )
    not_same = profiles.codes(options.not_same) if options.not_same else None
    same = COMPOUND if COMPOUND in profiles.table else NAME
    _, table = consistency(
        profiles.features,
        profiles.table[same].tolist(),
        labels,
        not_same=not_same,
        n_draws=min(options.n_draws, MAX_LABEL_DRAWS),
        seed=options.seed,
    )
    return table


def _neighbors(perturbations: Profiles, n: int) -> pd.DataFrame:
    names = perturbations.table[NAME].tolist()
    if len(names) < 2:
        return pd.DataFrame(columns=["name", "kind", "rank", "other", "cosine"])
    return nearest_and_opposite(perturbations.features, names, k=min(n, len(names) - 1))


def _relations(perturbations: Profiles, edges: Sequence[tuple[str, str]], notes: list[str]) -> pd.DataFrame:
    names = perturbations.table[NAME].tolist()
    if len(names) < 2:
        raise ProfileError(f"There is 1 perturbation, {names[0]}. Expected two or more to compare with relations.")
    rows = []
    for tails in TAILS:
        result = recall_of_edges(perturbations.features, names, edges, tails=tails)
        rows.append({"low": tails[0], "high": tails[1], **asdict(result)})
    if result.n_unknown:
        is_single = result.n_unknown == 1
        notes.append(
            f"{result.n_unknown} known relation{' has' if is_single else 's have'} a name without a profile, such as "
            f"{brief(result.unknown[0])}: left out."
        )
    return pd.DataFrame(rows).drop(columns="unknown")


def read_edges(path: Path) -> list[tuple[str, str]]:
    """Read known relations: the first two columns of a CSV or Parquet table.

    Raises:
        ProfileError: The table cannot be read or has fewer than two columns.
    """
    if not path.is_file():
        raise ProfileError(f"{path} is no file. Expected a table of known relations. Check the path.")
    with read_regular_file(path, fix="Write two columns of names.", error=ProfileError):
        frame = (
            pd.read_parquet(path)
            if path.suffix == ".parquet"
            else pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
        )
    if len(frame.columns) < 2:
        raise ProfileError(
            f"{path} has {len(frame.columns)} column: {', '.join(map(str, frame.columns))}. Expected two, one name of "
            "a perturbation in each. Separate them by commas."
        )
    pairs = frame.iloc[:, :2].dropna().astype(str)
    if not len(pairs):
        raise ProfileError(
            f"{path} has {len(frame)} rows, and none with two names. Expected one known relation in each row. Fill the "
            "first two columns."
        )
    return [(a.strip(), b.strip()) for a, b in pairs.itertuples(index=False, name=None)]


def _similarity(perturbations: Profiles, grouping: Clusters | None, notes: list[str]) -> pd.DataFrame | None:
    """Return the cosines of all pairs in the order of the tree."""
    if grouping is None:
        return None
    if len(perturbations) > MAX_SIMILARITY:
        notes.append(
            f"The similarity of {len(perturbations)} perturbations is not written, only that of nearest and opposite "
            f"ones: expected at most {MAX_SIMILARITY}."
        )
        return None
    names = [perturbations.table[NAME].iloc[row] for row in grouping.order]
    matrix = similarity_matrix(perturbations.features[grouping.order], names)
    return matrix.rename_axis("perturbation").reset_index()


def _coordinates(wells: Profiles, options: ProfileOptions) -> tuple[pd.DataFrame | None, str]:
    """Return the 2-D map of wells and the name of its method."""
    if len(wells) < 2:
        return None, ""
    method: Method = options.map or ("tsne" if is_installed("tsne") else "pca")
    places = map_profiles(wells.features, method=method, seed=options.seed)
    return pd.DataFrame({"x": places.x, "y": places.y}), places.method
