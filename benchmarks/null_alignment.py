"""Share of small p-values of activity on noise, with the same or with other controls for alignment and comparison.

Nothing was done to any well, so at most 5 % of the p-values should be 0.05 or less. The run ends with 1 if a chain as
`distangle profile` does it (`center-plate`; the other chains with parted controls) exceeds that by three standard
errors.

    python benchmarks/null_alignment.py
"""

import sys

import numpy as np
import pandas as pd

import measure
from distangle.errors import ProfileError
from distangle.profiles.alignment import CONTROL_STEPS, align
from distangle.profiles.control_sides import part_controls, without_references
from distangle.profiles.retrieval import activity
from distangle.profiles.sphering import control_mask
from distangle.results.profiles import PLATE, Profiles

PERTURBATIONS, REPLICATES, FEATURES = 30, 4, 32  # of a screen
DRAWS = 199  # where not all are enumerated
SCREENS = 40  # per share: perturbations of one screen share their controls, so the error is that over screens
CHAINS = (("center-plate",), ("center-controls",), ("tvn-plate",), ("center-plate", "sphere-zca"))


def noise(seed: int, *, n_controls: int, n_plates: int) -> Profiles:
    """Wells of plates with an offset each; every perturbation has its replicates spread evenly over the plates."""
    rng = np.random.default_rng([seed, n_controls, n_plates])
    names = [f"t{k}" for k in range(PERTURBATIONS) for _ in range(REPLICATES // n_plates)] + ["DMSO"] * n_controls
    rows, values = [], []
    for plate in range(n_plates):
        offset = rng.normal(size=FEATURES) * 3
        for name, place in zip(names, rng.permutation(1536), strict=False):
            row, column = divmod(int(place), 48)
            well = f"{chr(ord('A') + row) if row < 26 else 'A' + chr(ord('A') + row - 26)}{column + 1:02d}"
            rows.append(("E", f"P{plate}", well, "negative_control" if name == "DMSO" else "treatment", name))
        values.append(offset + rng.normal(size=(len(names), FEATURES)))
    columns = ["Experiment", "Plate", "Well", "Role", "Perturbation"]
    return Profiles(
        level="well",
        table=pd.DataFrame(rows, columns=[f"Metadata_{name}" for name in columns]),
        features=np.concatenate(values).astype(np.float32),
        feature_names=tuple(f"f{k}" for k in range(FEATURES)),
    )


def p_values(steps: tuple[str, ...], *, in_parts: bool, n_controls: int, n_plates: int) -> np.ndarray:
    """P of the perturbations of every screen, [screen, perturbation]."""
    values = []
    for seed in range(SCREENS):
        wells = noise(seed, n_controls=n_controls, n_plates=n_plates)
        treatments = without_references(align(part_controls(wells, seed=seed) if in_parts else wells, steps))
        names = treatments.table["Metadata_Perturbation"].to_numpy(dtype=object)
        table = activity(
            treatments.features, names, control_mask(treatments), treatments.codes(PLATE), n_draws=DRAWS, seed=seed
        )
        values.append(table["p"].to_numpy())
    return np.array(values)


def small_share(p: np.ndarray) -> tuple[float, float]:
    """Share of p-values of 0.05 or less, and its standard error over screens."""
    shares = (p <= 0.05).mean(axis=1)
    return float(shares.mean()), float(shares.std(ddof=1) / np.sqrt(len(shares)))


def main() -> int:
    """Print the table and what held."""
    print(f"{SCREENS} screens of {PERTURBATIONS} perturbations without effect; {REPLICATES} replicates")
    print(f"{FEATURES} features; share of p <= 0.05, with three standard errors over screens\n")
    print("| chain | controls per plate | plates | same controls | parted controls |\n| --- | --- | --- | --- | --- |")
    rows, reason = [], "nothing"
    for chain in CHAINS:
        for n_controls in (8, 16):
            for n_plates in (1, 4):
                cells = []
                for in_parts in (False, True):
                    try:
                        p = p_values(chain, in_parts=in_parts, n_controls=n_controls, n_plates=n_plates)
                    except ProfileError as error:
                        cells.append("refused")
                        reason = str(error)
                        continue
                    share, error_of_share = small_share(p)
                    cells.append(f"{share:.3f} ± {3 * error_of_share:.3f}")
                    if in_parts == bool(set(chain) & CONTROL_STEPS):
                        rows.append((f"{','.join(chain)}, {n_controls}, {n_plates}", share, 0.05 + 3 * error_of_share))
                print(f"| `{','.join(chain)}` | {n_controls} | {n_plates} | {' | '.join(cells)} |", flush=True)
    print(f"\nrefused: {reason}\n")
    return 0 if all([measure.verdict(name, share, at_most=limit) for name, share, limit in rows]) else 1


if __name__ == "__main__":
    sys.exit(main())
