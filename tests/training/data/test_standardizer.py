"""Standardizing on the device equals standardizing on the host, with a quarter of the bytes transferred."""

import numpy as np
import pytest
import torch

from distangle.images import ImageCache, Preprocessing
from distangle.screen import hold_out
from distangle.training import resolve_config
from distangle.training.data.cutmix import Box
from distangle.training.data.loader import BatchLoader, Standardizer
from distangle.training.data.sites import labelled_sites
from tiny_run import tiny_screen


def random_inputs(dtype, *, seed=1):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, np.iinfo(dtype).max, (3, 2, 8, 10), endpoint=True).astype(dtype)
    statistics = rng.uniform(20, 60, (3, 2, 2)).astype(np.float32)
    gain, offset = (rng.normal(1, 0.2, (3, 2)).astype(np.float32) for _ in range(2))
    return pixels, statistics, gain, offset


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("transform", ["none", "sqrt"])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("jitter", [False, True])
def test_pixels_are_standardised_by_the_image_that_they_came_from_then_jittered(dtype, transform, mixed, jitter):
    pixels, statistics, gain, offset = random_inputs(dtype)
    partners = np.array([2, 0, 1])
    box = Box(2, 3, 7, 9)
    step = Standardizer(
        statistics=statistics,
        transform=transform,
        gain=gain if jitter else None,
        offset=offset if jitter else None,
        box=box if mixed else None,
        partners=partners if mixed else None,
    )
    expected = np.empty(pixels.shape)
    for site, channel, row, column in np.ndindex(*pixels.shape):
        is_pasted = mixed and box.top <= row < box.bottom and box.left <= column < box.right
        mean, spread = statistics[partners[site] if is_pasted else site, :, channel].astype(np.float64)
        value = float(pixels[site, channel, row, column])
        value = ((value**0.5 if transform == "sqrt" else value) - mean) / spread
        expected[site, channel, row, column] = value * gain[site, channel] + offset[site, channel] if jitter else value
    host = step.on_host(pixels, out=np.empty(pixels.shape, dtype=np.float32))
    device = step.on_device(torch.from_numpy(pixels))
    assert device.dtype == torch.float32
    np.testing.assert_allclose(host, expected, rtol=2e-6, atol=2e-5)
    np.testing.assert_allclose(device.numpy(), expected, rtol=2e-6, atol=2e-5)


def test_a_constant_channel_becomes_zero_and_the_pixels_stay():
    pixels = np.full((1, 1, 4, 4), 7, dtype=np.uint8)
    step = Standardizer(statistics=np.array([[[7.0], [0.0]]], dtype=np.float32))
    assert (step.on_device(torch.from_numpy(pixels)) == 0).all()
    assert (pixels == 7).all()


@pytest.mark.parametrize("standardised_by", ["image", "experiment"])
def test_a_whole_batch_is_the_ready_one_in_a_quarter_of_the_bytes(tmp_path, standardised_by):
    screen = tiny_screen(tmp_path)
    folds = hold_out(screen, column="experiment", values=["E3"])
    changes = ["batch_size=8", "cutmix.probability=0.5", f"preprocessing.standardize={standardised_by}"]
    config = resolve_config("scratch", changes, epochs=1)
    store = ImageCache(screen, Preprocessing(binning=1, transform="sqrt", standardize=standardised_by))
    rows = np.flatnonzero(np.asarray(folds.of(screen)) == "train")
    sites, _ = labelled_sites(store, rows, screen.metadata.perturbations, config)
    makers = [
        BatchLoader(
            store, sites, config, n_perturbations=len(screen.metadata.perturbations), standardize_on_device=whole
        )
        for whole in (False, True)
    ]
    n_mixed = 0
    for epoch in range(4):
        for normalized, whole in zip(
            *(maker.epoch(np.arange(len(sites.rows)), epoch) for maker in makers), strict=True
        ):
            assert whole.pixels.dtype == torch.uint8
            assert whole.pixels.nbytes * 4 == normalized.pixels.nbytes
            assert normalized.standardizer is None
            device = torch.device("cpu")
            torch.testing.assert_close(whole.images(device), normalized.images(device), rtol=1e-5, atol=1e-5)
            assert torch.equal(whole.labels, normalized.labels)
            n_mixed += whole.standardizer.box is not None
    assert 0 < n_mixed < 8
    for maker in makers:
        maker.close()
