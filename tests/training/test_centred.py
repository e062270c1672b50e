"""A network that subtracts what untreated sites measure: the formula by hand, and the whole way on a tiny screen."""

from pathlib import Path

import numpy as np
import pytest
import torch

from distangle.errors import ConfigError
from distangle.images import ImageStore, Preparation, measure_sites, ready_batches
from distangle.inference import predict_run
from distangle.model import ModelConfig, build_classifier, references_of, set_typical
from distangle.screen import Screen, hold_out
from distangle.training import resolve_config, start_run, train
from tiny_run import go_on, tiny_screen

TINY = ("batch_size=4", "network.embedding_size=8", "precision=fp32", "optim.warmup_epochs=1")


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("centred"), size=32)


def test_references_are_the_controls_of_the_experiment_and_a_little_of_the_typical_one(screen: Screen) -> None:
    config = ModelConfig(
        backbone="resnet_small", n_channels=2, n_perturbations=3, embedding_size=4, frozen=True, centred=True
    )
    model = build_classifier(config, seed=0)
    sites = screen.sites
    # One experiment without a control, one with a single one.
    control = (sites["role"] == "negative_control").to_numpy()
    experiment = sites["experiment"].to_numpy()
    roles = sites["role"].to_numpy().copy()
    roles[control & (experiment == "E3")] = "treatment"
    roles[np.flatnonzero(control & (experiment == "E2"))[1:]] = "treatment"
    changed = Screen(card=screen.card, sites=sites.assign(role=roles), folder=screen.folder, problems=screen.problems)
    store = ImageStore(changed, Preparation())
    rows = list(range(len(sites)))
    _, statistics = measure_sites(store, rows)
    model.eval()
    numbers = np.empty((len(rows), model.n_numbers))
    with torch.no_grad():
        for row in rows:
            _, ready = next(ready_batches(store, [row], statistics, batch_size=1))
            numbers[row] = model.backbone(torch.from_numpy(ready)).relu().mean((2, 3))[0].numpy()
    left = roles == "negative_control"
    first, second = numbers[left & (experiment == "E1")], numbers[left & (experiment == "E2")]
    assert (len(first), len(second)) == (3, 1)
    typical = (first.mean(0) + second[0]) / 2

    set_typical(model, store, np.arange(len(rows)))
    found = references_of(model, store, rows)

    assert model.typical is not None
    assert found is not None
    np.testing.assert_allclose(model.typical.numpy(), typical, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[experiment == "E1"][0], (first.sum(0) + typical) / 4, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[experiment == "E2"][5], (second[0] + typical) / 2, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[experiment == "E3"][0], typical, rtol=1e-4, atol=1e-5)
    # A site whose numbers are its reference is, to the neck, a site of zeros.
    with torch.no_grad():
        pooled = torch.from_numpy(found[:2])
        plain = build_classifier(config.model_copy(update={"centred": False}), seed=0).eval()
        assert torch.equal(model.classify(pooled, None, pooled).logits, plain.classify(pooled * 0, None).logits)


def test_references_are_asked_for_and_refused_in_words(screen: Screen) -> None:
    centred = ModelConfig(backbone="resnet_small", n_channels=2, n_perturbations=3, frozen=True, centred=True)
    images = torch.zeros(1, 2, 32, 32)
    with pytest.raises(ConfigError, match="centred=True was given no references. Give the numbers of untreated sites"):
        build_classifier(centred, seed=0).eval()(images)
    plain = build_classifier(centred.model_copy(update={"centred": False}), seed=0).eval()
    with pytest.raises(ConfigError, match="centred=False was given references"):
        plain(images, None, torch.zeros(1, 256))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("network.frozen=false", "backbone must stand still: set network.frozen=true too"),
        ("norms.at_test=plate", "use norms.at_test=running with it, or network.centred=false with norms.at_test=plate"),
    ],
)
def test_settings_at_odds_with_a_centred_network_are_both_named(change: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve_config("small", [change])


def test_the_preset_small_trains_resumes_bit_for_bit_and_says_that_it_is_transductive(
    screen: Screen, tmp_path: Path
) -> None:
    folds = hold_out(screen, column="experiment", values=["E3"])
    whole = start_run(screen, folds, resolve_config("small", TINY, epochs=3), tmp_path / "whole")
    go_on(whole)
    halves = start_run(screen, folds, resolve_config("small", TINY, epochs=3), tmp_path / "halves")

    def stop(said: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(halves, advance=stop, say=lambda said: None)
    go_on(halves)
    weights = "checkpoints/model.safetensors"
    assert (whole.root / weights).read_bytes() == (halves.root / weights).read_bytes()
    scores, predictions = predict_run(whole, screen)
    assert all(row.transductive for row in scores.rows)
    assert any("What the untreated wells of an experiment measure was subtracted" in note for note in scores.notes)
    assert np.isfinite(predictions.logits).all()
