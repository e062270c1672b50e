"""Test that validation and prediction give equal outputs for a site in any batch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from distangle.images import ImageCache, Preprocessing, fit_normalization
from distangle.inference import predict_sites
from distangle.model import ModelConfig, build_classifier
from distangle.model.forward import BatchPlan, SiteInputs, site_outputs
from distangle.training.data.sites import TrainingSites
from distangle.training.validate import SiteEvaluation, site_logits
from tests_support import model_card
from tiny_run import tiny_screen

NAMES = ("DMSO", "taxol", "nocodazole")


@pytest.fixture
def store(tmp_path: Path) -> ImageCache:
    return ImageCache(tiny_screen(tmp_path), Preprocessing())


def test_validation_and_prediction_give_the_same_logits(store: ImageCache) -> None:
    model = build_classifier(ModelConfig(backbone="resnet_small", n_channels=2, n_perturbations=3), seed=0)
    rows = np.array([5, 2, 11, 7])
    sites = TrainingSites(rows, tuple("abcd"), np.array([0, 1, 2, 0]), cell_types=None, statistics=None)
    _, statistics = fit_normalization(store, rows.tolist())
    batch_sizes: list[int] = []
    evaluation = SiteEvaluation(store=store, batch_size=3, before_batch=lambda: batch_sizes.append(1))
    logits = site_logits(model, sites, statistics, evaluation)
    expected = predict_sites(model, model_card(NAMES), store).logits[rows]
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert len(batch_sizes) == 2
    assert model.training


def test_a_full_batch_is_filled_up_and_what_fills_it_is_cut_off(
    store: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_classifier(ModelConfig(backbone="resnet_small", n_channels=2, n_perturbations=3), seed=0).eval()
    _, statistics = fit_normalization(store, [0, 1, 2, 3, 4])
    inputs, sizes, forward = SiteInputs(store=store, statistics=statistics), [], model.forward
    monkeypatch.setattr(model, "forward", lambda images, *others: sizes.append(len(images)) or forward(images, *others))
    for full, expected in ((True, [8]), (False, [5])):
        sizes.clear()
        batches = list(site_outputs(model, inputs, [0, 1, 2, 3, 4], plan=BatchPlan(size=8, always_full=full)))
        assert [(rows, outputs.logits.shape) for rows, outputs in batches] == [([0, 1, 2, 3, 4], torch.Size([5, 3]))]
        assert not batches[0][1].logits.requires_grad
        assert sizes == expected
