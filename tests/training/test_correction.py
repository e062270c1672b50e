"""Batch corrections end to end: references per fold, resampled, chosen by folds, resumed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from distangle.core.shrinkage import Correction, GroupPrior, estimate_group, estimate_prior
from distangle.errors import ConfigError
from distangle.images import ImageCache, Preprocessing
from distangle.inference import predict_run
from distangle.model import (
    ModelConfig,
    ReferenceWells,
    build_classifier,
    control_features,
    measure_features_of_controls,
    reference_wells,
    set_prior,
)
from distangle.screen import Screen, hold_out
from distangle.training import resolve_config, start_run, train
from distangle.training.correction import CorrectionScore, best_correction, shows_no_gain
from tiny_run import finish_run, tiny_screen

TINY = (
    "batch_size=4",
    "network.embedding_size=8",
    "precision=fp32",
    "optim.warmup_epochs=1",
    "network.n_fixed_views=8",
)
CENTRE = Correction(method="center")


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("corrections"), size=32)


def numbers_like(values: np.ndarray):
    """Return a function that gives rows of an array as features."""

    def numbers_of(rows):
        return list(rows), values[list(rows)].astype(np.float32)

    return numbers_of


def test_references_rest_on_other_control_wells_of_the_group_and_fold(screen: Screen) -> None:
    rng = np.random.default_rng(0)
    values = (
        rng.normal(size=(len(screen.sites), 3))
        + screen.sites["experiment"].map({"E1": 0, "E2": 5, "E3": 9}).to_numpy()[:, None]
    )
    experiment = screen.sites["experiment"].to_numpy()
    well = screen.sites["well"].to_numpy()
    control = (screen.sites["role"] == "negative_control").to_numpy()
    fold = np.where(
        (experiment == "E3") | ((experiment == "E2") & np.isin(well, ["B07", "B08", "B09"])), "held_out", "train"
    )
    training = np.flatnonzero(fold == "train")
    wells = reference_wells(screen, range(len(values)), CENTRE, numbers_like(values), fold=fold, training_rows=training)
    prior = estimate_prior(
        values[training][control[training]], np.unique(experiment[training][control[training]], return_inverse=True)[1]
    )
    np.testing.assert_allclose(wells.prior.center, prior.center, rtol=1e-6)
    result = wells.of(np.arange(len(values)))
    for row in range(len(values)):
        own_controls = control & (experiment == experiment[row]) & (fold == fold[row]) & (well != well[row])
        expected, _ = estimate_group(prior, np.array([own_controls.sum()]), values[own_controls].sum(0)[None])
        np.testing.assert_allclose(result[row], expected[0], rtol=1e-4, atol=1e-4)
    # Other controls in the other fold change no reference here.
    altered_values = values + 100 * ((fold == "held_out") & control)[:, None]
    second = reference_wells(
        screen, range(len(values)), CENTRE, numbers_like(altered_values), fold=fold, training_rows=training
    ).of(np.arange(len(values)))
    assert np.array_equal(second[fold == "train"], result[fold == "train"])
    assert not np.allclose(second[fold == "held_out"], result[fold == "held_out"])


def test_references_drawn_anew_are_halves_of_the_wells_and_never_twice_the_same(screen: Screen) -> None:
    values = np.arange(len(screen.sites), dtype=float)[:, None] ** 2
    wells = reference_wells(
        screen, range(len(values)), CENTRE, numbers_like(values), fold=None, training_rows=np.arange(len(values))
    )
    rows = np.flatnonzero((screen.sites["role"] == "treatment").to_numpy())
    draws = [wells.of(rows, rng=np.random.default_rng(seed)) for seed in range(200)]
    assert len({values.tobytes() for values in draws}) > 100
    # The mean of estimates from halves lies between the typical group and the estimate from all wells.
    all_wells = wells.of(rows)
    typical = wells.prior.center
    mean = np.mean(draws, axis=0)
    assert (np.abs(mean - typical) <= np.abs(all_wells - typical) + 1e-3).all()


def test_a_network_gives_references_of_its_own_prior(screen: Screen) -> None:
    config = ModelConfig(
        backbone="resnet_small",
        n_channels=2,
        n_perturbations=3,
        embedding_size=4,
        freeze_backbone=True,
        correction=CENTRE,
    )
    model = build_classifier(config, seed=0).eval()
    store = ImageCache(screen, Preprocessing())
    rows = list(range(len(screen.sites)))
    wells = reference_wells(
        screen,
        rows,
        CENTRE,
        lambda some_rows: measure_features_of_controls(model, store, some_rows),
        fold=None,
        training_rows=np.asarray(rows),
    )
    set_prior(model, wells)
    result = control_features(model, store, rows)
    assert result is not None
    assert result.shape == (len(rows), model.n_features)
    np.testing.assert_allclose(result, wells.of(np.asarray(rows)), rtol=1e-4, atol=1e-5)
    # A site whose features equal its reference enters the neck as zeros.
    with torch.no_grad():
        pooled = torch.from_numpy(result[:2])
        plain = build_classifier(config.model_copy(update={"correction": Correction()}), seed=0).eval()
        assert torch.equal(model.classify(pooled, None, pooled).logits, plain.classify(pooled * 0, None).logits)


def test_standardising_divides_by_the_spread(screen: Screen) -> None:
    config = ModelConfig(
        backbone="resnet_small",
        n_channels=2,
        n_perturbations=3,
        embedding_size=4,
        freeze_backbone=True,
        correction=Correction(method="standardize"),
    )
    model = build_classifier(config, seed=0).eval()
    plain = build_classifier(config.model_copy(update={"correction": Correction()}), seed=0).eval()
    numbers = torch.randn(2, model.n_features)
    offset, log_scale = torch.randn(2, model.n_features), torch.rand(2, model.n_features)
    with torch.no_grad():
        corrected = model.classify_features(numbers, None, torch.cat([offset, log_scale], 1)).logits
        expected = plain.classify_features((numbers - offset) / log_scale.exp(), None).logits
    torch.testing.assert_close(corrected, expected)


def test_references_are_asked_for_and_refused_in_words(screen: Screen) -> None:
    centred = ModelConfig(
        backbone="resnet_small", n_channels=2, n_perturbations=3, freeze_backbone=True, correction=CENTRE
    )
    images = torch.zeros(1, 2, 32, 32)
    message = "correction 'center by the negative controls of the experiment' received no references, expected 256"
    with pytest.raises(ConfigError, match=message):
        build_classifier(centred, seed=0).eval()(images)
    plain = build_classifier(centred.model_copy(update={"correction": Correction()}), seed=0).eval()
    with pytest.raises(ConfigError, match="correction 'none' received 256 references per site, expected none"):
        plain(images, None, torch.zeros(1, 256))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("network.freeze_backbone=false",), "backbone must be frozen: set network.freeze_backbone=true too"),
        (
            ("batch_norm.statistics=plate",),
            "use batch_norm.statistics=running with it, or correction.method=none with batch_norm.statistics",
        ),
        (("cutmix.probability=0.5",), "cutmix.probability=0.5 needs images: set it to 0, or name a correction"),
    ],
)
def test_settings_at_odds_with_a_correction_are_both_named(changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_config("small", changes)


@pytest.mark.parametrize("method", ["none", "center", "standardize", "auto"])
def test_the_preset_small_trains_and_resumes_bit_for_bit_with_every_correction(
    screen: Screen, tmp_path: Path, method: str
) -> None:
    folds = hold_out(screen, column="experiment", values=["E3"])
    changes = (*TINY, f"correction.method={method}", "correction.epochs=1")
    whole_run = start_run(screen, folds, resolve_config("small", changes, epochs=3), tmp_path / "whole")
    finish_run(whole_run)
    halves = start_run(screen, folds, resolve_config("small", changes, epochs=3), tmp_path / "halves")

    def stop(message: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(halves, advance=stop, say=lambda message: None)
    finish_run(halves)
    weights = "checkpoints/model.safetensors"
    assert (whole_run.root / weights).read_bytes() == (halves.root / weights).read_bytes()
    scores, predictions = predict_run(whole_run, screen)
    assert np.isfinite(predictions.logits).all()
    corrected = method in ("center", "standardize")
    assert any("Features were corrected" in note for note in scores.notes) == corrected or method == "auto"
    assert all(row.transductive == corrected for row in scores.rows) or method == "auto"
    if method == "auto":
        content = json.loads(whole_run.correction.read_text())
        assert [entry["name"] for entry in content["compared"]][0] == "none"
        assert all(len(entry["by_fold"]) >= 2 for entry in content["compared"])
        assert "balanced accuracy" in content["reason"]


def test_predictions_from_kept_features_are_those_from_images(screen: Screen, tmp_path: Path) -> None:
    folds = hold_out(screen, column="experiment", values=["E3"])
    changes = (*TINY, "correction.method=center")
    run = start_run(screen, folds, resolve_config("small", changes, epochs=1), tmp_path / "run")
    finish_run(run)
    _, stored_predictions = predict_run(run, screen)
    for path in run.features.iterdir():
        path.unlink()
    _, new_predictions = predict_run(run, screen)
    np.testing.assert_allclose(stored_predictions.logits, new_predictions.logits, rtol=1e-4, atol=1e-5)


def test_a_correction_is_taken_only_for_a_gain_that_chance_does_not_explain() -> None:
    no_correction = CorrectionScore(Correction(), (0.5, 0.6, 0.5, 0.6), 0.0)
    noisy = CorrectionScore(CENTRE, (0.7, 0.5, 0.6, 0.6), 0.1)  # t = 1.2
    steady = CorrectionScore(Correction(method="standardize"), (0.55, 0.65, 0.54, 0.66), 0.2)
    assert best_correction([no_correction, noisy]) is no_correction
    assert best_correction([no_correction, noisy, steady]) is steady
    single = CorrectionScore(CENTRE, (0.9,), 0.1)
    assert best_correction([CorrectionScore(Correction(), (0.1,), 0.0), single]).correction.method == "none"


def test_a_correction_that_gained_nothing_on_two_folds_is_given_up() -> None:
    of_none = (0.5, 0.4, 0.6)
    assert not shows_no_gain((0.1,), of_none)  # one fold is no evidence
    assert shows_no_gain((0.6, 0.3), of_none)  # no gain on average
    assert not shows_no_gain((0.6, 0.31), of_none)
    assert shows_no_gain((0.6, 0.31, 0.5), of_none)
    no_correction = CorrectionScore(Correction(), (0.10, 0.11, 0.12), 0.0)
    given_up = CorrectionScore(CENTRE, (0.90, 0.91), 0.5)
    assert best_correction([no_correction, given_up]) is no_correction


def test_wells_of_no_group_ask_for_nothing() -> None:
    prior = GroupPrior(*(np.full(2, value) for value in (1.0, 2.0, 3.0, 0.0, 0.0)))
    wells = ReferenceWells(
        prior=prior,
        corrects_std=False,
        values=np.zeros((0, 2), dtype=np.float32),
        group=np.zeros(0, dtype=int),
        site_group=np.zeros(3, dtype=int),
        site_well=np.full(3, -1),
    )
    np.testing.assert_array_equal(wells.of(np.arange(3)), np.ones((3, 2)))
    assert wells.share_of_groups() == {0: (0, 0.0)}
