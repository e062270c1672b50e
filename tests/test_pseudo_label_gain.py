"""Do pseudo labels help on experiments that nobody has seen? Minutes: select with -m slow."""

from pathlib import Path

import numpy as np
import pytest

from distangle.cli import main
from distangle.results import Predictions

SCREEN = (
    "image_size=64",
    "magnification=0.6",
    "cell_types=[HUVEC]",
    "experiments_per_cell_type=12",
    "n_treatments=24",
    "n_positive_controls=2",
    "batch_strength=1.5",
)
FOLDS = (
    *("--hold-out", "experiment=HUVEC-10,HUVEC-11,HUVEC-12"),
    *("--unlabelled", "experiment=" + ",".join(f"HUVEC-{k:02d}" for k in range(3, 10))),
)
RAMP = ("strategy=alpha_ramp", "from_epoch=15", "full_epoch=25", "confidence=0.05")
N_SCREENS = 3


def accuracy(screen: Path, run: Path, seed: int, *settings: str) -> float:
    """Of single sites of treatments in the untouched experiments, one view."""
    words = [word for setting in settings for word in ("--set", f"pseudo_labels.{setting}")]
    same = ["--preset", "small", "--seed", str(seed), "--set", "batch_size=16", *FOLDS]
    main(["train", str(screen), "--out", str(run), *same, *words])
    main(["predict", str(run)])
    table = Predictions.read(run / "predictions", level="site").table
    untouched = table[(table["Metadata_Fold"] == "held_out") & (table["Metadata_Role"] == "treatment")]
    return float((untouched["perturbation"] == untouched["predicted"]).mean())


@pytest.mark.slow
def test_pseudo_labels_gain_five_points_on_untouched_experiments(tmp_path: Path) -> None:
    gains = []
    for seed in range(11, 11 + N_SCREENS):  # other screens than the one that the settings were chosen on
        words = [word for pair in SCREEN for word in ("--set", pair)]
        main(["simulate", str(tmp_path / f"lab{seed}"), "--seed", str(seed), "--workers", "1", *words])
        main(["index", str(tmp_path / f"lab{seed}"), "--out", str(tmp_path / f"screen{seed}")])
        screen = tmp_path / f"screen{seed}"
        without = accuracy(screen, tmp_path / f"without{seed}", seed)
        gains.append(accuracy(screen, tmp_path / f"with{seed}", seed, *RAMP) - without)
    assert np.mean(gains) >= 0.05, gains
