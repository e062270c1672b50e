"""A screen of noise with each label in one experiment only: with no option may a network predict labels."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from distangle.core.progress import no_progress
from distangle.inference import predict_run
from distangle.results import Predictions
from distangle.screen import Screen, hold_out
from distangle.training import resolve_config, start_run, train
from tiny_run import screen_of_rows

EXPERIMENTS, LABELS_EACH, WELLS, CONTROLS = 10, 3, 2, 4
N_LABELS = EXPERIMENTS * LABELS_EACH + 1
SIZE = 32


def null_screen(folder: Path, *, seed: int) -> Screen:
    """Write ten experiments of two replicate plates; every image is the same kind of noise."""
    rng = np.random.default_rng(seed)
    (folder / "plates" / "images").mkdir(parents=True)
    rows = []
    for experiment in range(EXPERIMENTS):
        for replicate in (1, 2):
            labels = [f"E{experiment}-{k}" for k in range(LABELS_EACH) for _ in range(WELLS)] + ["DMSO"] * CONTROLS
            for well, label in enumerate(rng.permutation(labels).tolist()):
                names = []
                for channel in range(2):
                    name = f"images/{experiment}_{replicate}_{well}_{channel}.png"
                    Image.fromarray(rng.integers(40, 200, (SIZE, SIZE)).astype(np.uint8)).save(folder / "plates" / name)
                    names.append(name)
                role = "negative_control" if label == "DMSO" else "treatment"
                plate = f"{experiment}-{replicate}"
                rows.append((f"E{experiment}", plate, replicate, f"B{well + 1:02d}", label, role, *names))
    header = ("experiment", "plate", "replicate", "well", "perturbation", "role", "DNA", "actin")
    return screen_of_rows(folder, header, rows)


def accuracy_on_nothing(folder: Path, preset: str, changes: tuple[str, ...], *, seed: int) -> tuple[int, int, float]:
    """Train on replicate 1; return correct and all sites of replicate 2, and the accuracy of a probe for E0 to E9."""
    screen = null_screen(folder, seed=seed)
    config = resolve_config(preset, ["precision=fp32", *changes], seed=seed)
    run = start_run(screen, hold_out(screen, column="replicate", values=["2"]), config, folder / "run")
    train(run, advance=no_progress, say=no_progress)
    predict_run(run, screen)
    sites = Predictions.read(run.predictions, level="site", views=8)
    table = sites.table
    held_out = (table["Metadata_Fold"] == "held_out").to_numpy()
    held_out_treatments = held_out & (table["Metadata_Role"] == "treatment").to_numpy()
    n_correct = int((table["perturbation"] == table["predicted"])[held_out_treatments].sum())
    experiment = table["Metadata_Experiment"].to_numpy()
    spread = sites.embedding[~held_out].std(0) + 1e-6
    probe = LogisticRegression(C=0.1, max_iter=500).fit(sites.embedding[~held_out] / spread, experiment[~held_out])
    return (
        n_correct,
        int(held_out_treatments.sum()),
        float(probe.score(sites.embedding[held_out] / spread, experiment[held_out])),
    )


def check_chance(tmp_path: Path, preset: str, changes: tuple[str, ...], *, seeds: int = 5) -> None:
    results = [accuracy_on_nothing(tmp_path / str(seed), preset, changes, seed=seed) for seed in range(seeds)]
    n_correct, n = sum(result[0] for result in results), sum(result[1] for result in results)
    chance = 1 / N_LABELS
    error = math.sqrt(chance * (1 - chance) / n)
    assert n_correct / n <= chance + 3 * error, f"{n_correct} of {n} named, chance {chance:.3f} +- {3 * error:.3f}"
    n_held = 10 * (LABELS_EACH * WELLS + CONTROLS) * seeds
    probe_accuracy = float(np.mean([result[2] for result in results]))
    assert abs(probe_accuracy - 0.1) <= 3 * math.sqrt(0.09 / n_held), (
        f"a probe names {probe_accuracy:.3f} of the experiments"
    )


def test_the_default_names_nothing_where_nothing_was_done(tmp_path: Path) -> None:
    check_chance(tmp_path, "small", ())


STANDARDISE = ("image", "training", "plate", "experiment", "controls", "experiment_controls")
CORRECTIONS = [
    (f"correction.method={method}", f"correction.group={group}", f"correction.wells={wells}")
    for method in ("center", "standardize")
    for group in ("experiment", "plate")
    for wells in ("controls", "all")
]


@pytest.mark.slow
@pytest.mark.parametrize("standardize", STANDARDISE)
@pytest.mark.parametrize("correction", [("correction.method=none",), *CORRECTIONS], ids=lambda words: " ".join(words))
def test_no_standardisation_with_any_correction_names_anything(
    tmp_path: Path, standardize: str, correction: tuple[str, ...]
) -> None:
    check_chance(tmp_path, "small", (f"preprocessing.standardize={standardize}", *correction))


@pytest.mark.slow
@pytest.mark.parametrize("standardize", STANDARDISE)
@pytest.mark.parametrize("norms", ["running", "plate", "experiment", "controls"])
def test_no_standardisation_with_any_norms_names_anything(tmp_path: Path, standardize: str, norms: str) -> None:
    changes = (
        f"preprocessing.standardize={standardize}",
        f"batch_norm.statistics={norms}",
        "batch_norm.min_sites=2",
        "epochs=20",
    )
    check_chance(tmp_path, "scratch", changes)


@pytest.mark.slow
def test_one_reference_for_both_sides_would_name_the_experiments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plant the fault that these tests look for: they must detect it."""
    from distangle.images import ImageCache

    original = ImageCache.__init__

    def one_fold(self: ImageCache, *_args: object, **options: object) -> None:
        original(self, *_args, **{**options, "fold": None})  # type: ignore[arg-type]

    monkeypatch.setattr(ImageCache, "__init__", one_fold)
    monkeypatch.setattr(
        "distangle.core.shrinkage.shrinkage_factors", lambda prior, count: np.ones((len(count), len(prior.within)))
    )
    with pytest.raises(AssertionError, match="named"):
        check_chance(tmp_path, "small", ("correction.method=center",))
