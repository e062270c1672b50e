"""Profiles of a screen with strong batch effects, equal perturbations and inactive ones."""

import numpy as np
import pandas as pd

from distangle.results.profiles import Profiles

N_EXPERIMENTS, N_PLATES, N_CONTROLS, N_FEATURES = 4, 2, 16, 48


def planted_profiles(seed: int, *, n_pairs: int = 15, n_inactive: int = 30, effect: float = 6.0) -> Profiles:
    """Make one well per perturbation and plate, at a new position on each plate.

    Perturbations `a0` and `b0`, `a1` and `b1`, ... have equal effects, `none0`, ... have none. Every experiment and
    plate adds an offset and stretches the features, more than perturbations move them.
    """
    rng = np.random.default_rng(seed)
    pairs = rng.normal(size=(n_pairs, N_FEATURES))
    pairs *= effect / np.linalg.norm(pairs, axis=1, keepdims=True)
    effects = {f"{head}{k}": pairs[k] for k in range(n_pairs) for head in "ab"}
    effects |= {f"none{k}": np.zeros(N_FEATURES) for k in range(n_inactive)}
    names = [*effects, *["DMSO"] * N_CONTROLS]
    positions = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
    rows, values = [], []
    for experiment in range(N_EXPERIMENTS):
        shift, gain = rng.normal(size=N_FEATURES) * 5, np.exp(rng.normal(size=N_FEATURES) * 0.2)
        for plate in range(N_PLATES):
            offset = shift + rng.normal(size=N_FEATURES) * 2
            for name, place in zip(names, rng.permutation(len(positions)), strict=False):
                values.append(gain * (effects.get(name, 0) + rng.normal(size=N_FEATURES)) + offset)
                role = "negative_control" if name == "DMSO" else "treatment"
                rows.append(
                    (f"E{experiment}", f"P{plate}", positions[place], role, name, name[1:] if name[0] in "ab" else "")
                )
    columns = ("Experiment", "Plate", "Well", "Role", "Perturbation", "Gene")
    return Profiles(
        level="well",
        table=pd.DataFrame(rows, columns=[f"Metadata_{name}" for name in columns]),
        features=np.array(values, dtype=np.float32),
        feature_names=tuple(f"f{k}" for k in range(N_FEATURES)),
        provenance={"source": "planted"},
    )
