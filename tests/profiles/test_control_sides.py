"""No negative control serves both the alignment and the test."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from distangle.errors import ProfileError
from distangle.profiles.alignment import align
from distangle.profiles.control_sides import (
    find_wells,
    part_controls,
    sides_sentence,
    wholly_fitted,
    without_references,
)
from distangle.profiles.retrieval import activity
from distangle.profiles.sphering import CONTROL_SIDE, control_mask, reference_mask
from distangle.results.profiles import PLATE, Profiles

N_TREATMENTS, N_FEATURES = 60, 32


def noise(seed: int, *, n_controls: int, n_replicates: int, n_plates: int) -> Profiles:
    """Make plates with an offset each and no effects."""
    rng = np.random.default_rng(seed)
    names = [f"t{k}" for k in range(N_TREATMENTS) for _ in range(n_replicates // n_plates)] + ["DMSO"] * n_controls
    rows, values = [], []
    for plate in range(n_plates):
        offset = rng.normal(size=N_FEATURES) * 3
        for name, place in zip(names, rng.permutation(384), strict=False):
            well = f"{'ABCDEFGHIJKLMNOP'[place // 24]}{place % 24 + 1:02d}"
            rows.append(("E", f"P{plate}", well, "negative_control" if name == "DMSO" else "treatment", name))
            values.append(offset + rng.normal(size=N_FEATURES))
    columns = ["Experiment", "Plate", "Well", "Role", "Perturbation"]
    return Profiles(
        level="well",
        table=pd.DataFrame(rows, columns=[f"Metadata_{name}" for name in columns]),
        features=np.array(values, dtype=np.float32),
        feature_names=tuple(f"f{k}" for k in range(N_FEATURES)),
    )


def p_values(
    steps: tuple[str, ...], *, in_parts: bool, n_controls: int, n_replicates: int, n_plates: int
) -> np.ndarray:
    values = []
    for seed in range(5):
        wells = noise(seed, n_controls=n_controls, n_replicates=n_replicates, n_plates=n_plates)
        wells = align(part_controls(wells, seed=seed) if in_parts else wells, steps, epsilon=1e-3)
        treatments = without_references(wells)
        table = activity(
            treatments.features,
            treatments.table["Metadata_Perturbation"].to_numpy(dtype=object),
            control_mask(treatments),
            treatments.codes(PLATE),
            n_draws=199,
            seed=seed,
        )
        values += table["p"].tolist()
    return np.array(values)


BOUND = 0.05 + 3 * np.sqrt(0.05 * 0.95 / (5 * N_TREATMENTS))


@pytest.mark.parametrize("n_plates", [1, 4])
@pytest.mark.parametrize(
    ("steps", "n_controls"),
    [(("center-plate",), 8), (("center-controls",), 16), (("tvn-plate",), 24), (("center-plate", "sphere-zca"), 24)],
)
def test_noise_is_not_active_when_controls_are_parted(steps: tuple[str, ...], n_controls: int, n_plates: int) -> None:
    p = p_values(steps, in_parts="center-plate" != steps[-1], n_controls=n_controls, n_replicates=4, n_plates=n_plates)
    assert (p <= 0.05).mean() <= BOUND


@pytest.mark.parametrize("steps", [("center-controls",), ("center-plate", "sphere-zca")])
def test_noise_looks_active_when_the_same_controls_serve_both(steps: tuple[str, ...]) -> None:
    p = p_values(steps, in_parts=False, n_controls=8, n_replicates=4, n_plates=1)
    assert (p <= 0.05).mean() > 2 * BOUND


def test_every_plate_gives_half_of_its_controls() -> None:
    wells = part_controls(noise(0, n_controls=5, n_replicates=2, n_plates=2), seed=1)
    counts = wells.table.groupby("Metadata_Plate")[CONTROL_SIDE].value_counts()
    for plate in ("P0", "P1"):
        assert (counts[plate]["alignment"], counts[plate]["test"], counts[plate][""]) == (3, 2, N_TREATMENTS)
    assert reference_mask(wells).sum() == 6
    assert len(without_references(wells)) == len(wells) - 6
    assert sides_sentence(wells).startswith("6 negative controls fit the alignment, and the other 4 are compared")
    second = part_controls(noise(0, n_controls=5, n_replicates=2, n_plates=2), seed=1)
    assert second.table.equals(wells.table)


def rename_wells(profiles: Profiles) -> Profiles:
    """Name the first two treatments and half of the controls of every plate as wells of a batch."""
    table = profiles.table.copy()
    names = table["Metadata_Perturbation"]
    table["Metadata_Batch_Well"] = np.where(names.isin(["t0", "t1"]), "1", "0")
    table["Metadata_Number"] = np.arange(len(table))
    return replace(profiles, table=table)


def test_wells_to_fit_on_are_found_by_their_values() -> None:
    wells = rename_wells(noise(0, n_controls=4, n_replicates=4, n_plates=2))
    names = wells.table["Metadata_Perturbation"]
    mask = find_wells(wells, ["Metadata_Perturbation=t5", "Metadata_Batch_Well=1"])
    assert set(names[mask]) == {"t0", "t1", "t5"}
    assert find_wells(wells, ["Metadata_Number=7.0"]).nonzero()[0].tolist() == [7]


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        ("Metadata_Plate", "'Metadata_Plate' names no wells to fit on. Expected COLUMN=VALUE"),
        ("Metadata_Plate=", "names no wells to fit on"),
        ("Metadata_Plates=P0", "no column 'Metadata_Plates' to fit on. Did you mean 'Metadata_Plate'"),
        ("Metadata_Plate=P7", "None of 248 wells has 'Metadata_Plate=P7'. Expected one of the values 'P0', 'P1'. Name"),
        ("Metadata_Well=Z1", "and others. Name one"),
        ("Metadata_Number=x", "None of 248 wells has"),
    ],
)
def test_wells_that_cannot_be_found_are_refused(condition: str, text: str) -> None:
    wells = rename_wells(noise(0, n_controls=4, n_replicates=4, n_plates=2))
    with pytest.raises(ProfileError) as refusal:
        find_wells(wells, [condition])
    assert text.replace("'", "") in str(refusal.value).replace("'", "")


def test_half_of_the_named_wells_fit_the_alignment_and_the_others_are_compared() -> None:
    wells = rename_wells(noise(0, n_controls=4, n_replicates=4, n_plates=1))
    table = wells.table.copy()
    table.loc[table["Metadata_Perturbation"] == "t9", ["Metadata_Perturbation", "Metadata_Role"]] = ["", "unknown"]
    wells = replace(wells, table=table)
    conditions = ["Metadata_Batch_Well=1", "Metadata_Role=unknown"]
    in_parts = part_controls(wells, seed=0, fit_on=find_wells(wells, conditions))
    side = in_parts.table[CONTROL_SIDE]
    is_named = in_parts.table["Metadata_Perturbation"].isin(["t0", "t1"])
    assert side[is_named].value_counts().to_dict() == {"alignment": 4, "test": 4}
    assert (side[in_parts.table["Metadata_Role"] == "unknown"] == "alignment").all()  # compared with nothing
    assert (side[control_mask(in_parts)] == "").all()
    assert reference_mask(in_parts).sum() == 8
    assert len(without_references(in_parts)) == len(wells) - 8
    assert sides_sentence(in_parts, conditions).startswith(
        "8 wells with Metadata_Batch_Well=1 or Metadata_Role=unknown fit the alignment in place of negative controls, "
        "and the other 4 are compared"
    )
    by_role = part_controls(wells, seed=0, fit_on=find_wells(wells, ["Metadata_Role=negative_control"]))
    np.testing.assert_array_equal(by_role.table[CONTROL_SIDE], part_controls(wells, seed=0).table[CONTROL_SIDE])


def test_perturbations_that_the_alignment_takes_whole_are_named() -> None:
    wells = rename_wells(noise(0, n_controls=4, n_replicates=1, n_plates=1))
    in_parts = part_controls(wells, seed=0, fit_on=find_wells(wells, ["Metadata_Perturbation=t0"]))
    assert wholly_fitted(in_parts) == ["t0"]
    assert sides_sentence(in_parts, ["Metadata_Perturbation=t0"]).endswith("and none of them is compared.")
    assert wholly_fitted(part_controls(wells, seed=0)) == []


@pytest.mark.parametrize("steps", [("center-controls",), ("tvn-plate",)])
def test_noise_is_calibrated_when_named_treatments_fit_the_alignment(steps: tuple[str, ...]) -> None:
    p = []
    for seed in range(5):
        wells = noise(seed, n_controls=16, n_replicates=4, n_plates=1)
        fit_on = wells.table["Metadata_Perturbation"].isin([f"t{k}" for k in range(6)]).to_numpy()
        treatments = without_references(align(part_controls(wells, seed=seed, fit_on=fit_on), steps))
        names = treatments.table["Metadata_Perturbation"].to_numpy(dtype=object)
        table = activity(
            treatments.features, names, control_mask(treatments), treatments.codes(PLATE), n_draws=199, seed=seed
        )
        p.append((table["p"] <= 0.05).mean())
    assert abs(np.mean(p) - 0.05) <= 3 * max(0.0126, np.std(p, ddof=1) / np.sqrt(5))
