"""No negative control serves both the alignment and the test."""

import numpy as np
import pandas as pd
import pytest

from distangle.profiles.alignment import align
from distangle.profiles.control_sides import part_controls, sides_sentence, without_references
from distangle.profiles.retrieval import activity
from distangle.profiles.sphering import CONTROL_SIDE, control_mask, reference_mask
from distangle.results.profiles import PLATE, Profiles

N_TREATMENTS, N_FEATURES = 60, 32


def noise(seed: int, *, n_controls: int, n_replicates: int, n_plates: int) -> Profiles:
    """Make plates with an offset each, on which nothing was done."""
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


def p_values(steps: tuple[str, ...], *, parted: bool, n_controls: int, n_replicates: int, n_plates: int) -> np.ndarray:
    values = []
    for seed in range(5):
        wells = noise(seed, n_controls=n_controls, n_replicates=n_replicates, n_plates=n_plates)
        wells = align(part_controls(wells, seed=seed) if parted else wells, steps, epsilon=1e-3)
        known = without_references(wells)
        table = activity(
            known.features,
            known.table["Metadata_Perturbation"].to_numpy(dtype=object),
            control_mask(known),
            known.codes(PLATE),
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
    p = p_values(steps, parted="center-plate" != steps[-1], n_controls=n_controls, n_replicates=4, n_plates=n_plates)
    assert (p <= 0.05).mean() <= BOUND


@pytest.mark.parametrize("steps", [("center-controls",), ("center-plate", "sphere-zca")])
def test_noise_looks_active_when_the_same_controls_serve_both(steps: tuple[str, ...]) -> None:
    p = p_values(steps, parted=False, n_controls=8, n_replicates=4, n_plates=1)
    assert (p <= 0.05).mean() > 2 * BOUND


def test_every_plate_gives_half_of_its_controls() -> None:
    wells = part_controls(noise(0, n_controls=5, n_replicates=2, n_plates=2), seed=1)
    counts = wells.table.groupby("Metadata_Plate")[CONTROL_SIDE].value_counts()
    for plate in ("P0", "P1"):
        assert (counts[plate]["alignment"], counts[plate]["test"], counts[plate][""]) == (3, 2, N_TREATMENTS)
    assert reference_mask(wells).sum() == 6
    assert len(without_references(wells)) == len(wells) - 6
    assert sides_sentence(wells).startswith("6 negative controls fit the alignment, and the other 4 are compared")
    again = part_controls(noise(0, n_controls=5, n_replicates=2, n_plates=2), seed=1)
    assert again.table.equals(wells.table)
