"""Batches standardized on a device equal those standardized on the CPU, except for rounding."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from distangle.images import ImageCache, Preprocessing, cache, fit_normalization, normalized_batches, own_statistics
from distangle.inference import PredictionOptions, predict_by_views, predict_sites
from distangle.model import batches_to_device, build_classifier, forward
from distangle.model.classifier import ModelConfig
from distangle.model.device_batches import views_to_device
from tests_support import model_card
from tiny_run import tiny_screen

CPU = torch.device("cpu")


@pytest.mark.parametrize("transform", ["none", "sqrt"])
@pytest.mark.parametrize("view", [0, 3, 6])
def test_whole_pixels_are_standardised_as_on_the_host_in_the_same_padded_batches(
    tmp_path: Path, transform: str, view: int
) -> None:
    store = ImageCache(tiny_screen(tmp_path), Preprocessing(transform=transform))  # type: ignore[arg-type]
    rows, statistics = fit_normalization(store, range(7))
    host_batches = [(c, r.copy()) for c, r in normalized_batches(store, rows, statistics, batch_size=3, view=view)]
    for copy_pixels in (False, True):
        batches = batches_to_device(CPU, store, rows, statistics, batch_size=3, view=view, copy_pixels=copy_pixels)
        device_batches = [(batch_rows, images.clone()) for batch_rows, images in batches]
        assert [batch_rows for batch_rows, _ in device_batches] == [[0, 1, 2], [3, 4, 5], [6]]
        for (_, expected), (_, images) in zip(host_batches, device_batches, strict=True):
            assert images.dtype == torch.float32
            assert len(images) == 3
            np.testing.assert_allclose(images.numpy(), expected, atol=1e-5 if copy_pixels else 0, rtol=0)
    store.close()


def test_no_rows_are_no_batches(tmp_path: Path) -> None:
    store = ImageCache(tiny_screen(tmp_path))
    for copy_pixels in (False, True):
        assert (
            list(
                batches_to_device(
                    CPU, store, [], np.empty((0, 2, 2), np.float32), batch_size=2, copy_pixels=copy_pixels
                )
            )
            == []
        )
    store.close()


def test_a_prediction_from_whole_pixels_is_that_from_ready_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = tiny_screen(tmp_path)
    config = ModelConfig(backbone="resnet_small", n_channels=2, n_perturbations=3, embedding_size=8)
    model = build_classifier(config, seed=0)
    card = model_card(("a", "b", "c"))
    store = ImageCache(screen, Preprocessing())
    ready = predict_sites(model, card, store, views=8)
    monkeypatch.setattr(forward, "views_to_device", functools.partial(views_to_device, copy_pixels=True))
    whole = predict_sites(model, card, store, views=8)
    np.testing.assert_allclose(whole.logits, ready.logits, atol=1e-5)
    np.testing.assert_allclose(whole.embedding, ready.embedding, atol=1e-5)
    assert not np.array_equal(whole.logits, ready.logits)  # the two paths differ by rounding
    store.close()


def test_each_view_is_computed_once_for_one_view_and_for_eight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = tiny_screen(tmp_path)
    config = ModelConfig(backbone="resnet_small", n_channels=2, n_perturbations=3, embedding_size=8)
    model = build_classifier(config, seed=0)
    card = model_card(("a", "b", "c"))
    store, sizes, plain = ImageCache(screen, Preprocessing()), [], model.forward
    single_views = [predict_sites(model, card, store, views=1), predict_sites(model, card, store, views=8)]
    monkeypatch.setattr(model, "forward", lambda images, *others: sizes.append(len(images)) or plain(images, *others))
    both_views = predict_by_views(model, card, store, PredictionOptions(views=(1, 8)))
    assert sizes == [32] * 8
    for prediction, expected in zip(both_views, single_views, strict=True):
        assert prediction.views == expected.views
        assert np.array_equal(prediction.logits, expected.logits)
        assert np.array_equal(prediction.embedding, expected.embedding)
    store.close()


@pytest.mark.parametrize("copy_pixels", [False, True])
@pytest.mark.parametrize("transform", ["none", "sqrt"])
def test_all_views_of_a_batch_equal_the_batches_of_each_view_and_each_image_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transform: str, copy_pixels: bool
) -> None:
    store = ImageCache(tiny_screen(tmp_path), Preprocessing(transform=transform))  # type: ignore[arg-type]
    rows, statistics = fit_normalization(store, range(7))
    expected = [
        [
            images.clone()
            for _, images in batches_to_device(
                CPU, store, rows, statistics, batch_size=3, view=view, copy_pixels=copy_pixels
            )
        ]
        for view in range(8)
    ]
    store.close()
    store = ImageCache(tiny_screen(tmp_path / "again"), Preprocessing(transform=transform), memory=0)  # type: ignore[arg-type]
    (tmp_path / "again/plates/images/E1_4_0.png").unlink()
    names, real = [], cache.read_image
    monkeypatch.setattr(cache, "read_image", lambda paths, pages: names.append(paths[0].name) or real(paths, pages))
    batches = views_to_device(
        CPU,
        store,
        [0, 1, 4, 2, 3, 5, 6],
        own_statistics(store),
        batch_size=3,
        n_views=8,
        keep=False,
        copy_pixels=copy_pixels,
    )
    views = [(batch, [images.clone() for images in of_batch]) for batch, of_batch in batches]
    assert [batch for batch, _ in views] == [[0, 1, 2], [3, 5, 6]]
    for k, row in ((0, 0), (1, 1), (2, 2)):
        for view in range(8):
            assert torch.equal(views[0][1][view][k], expected[view][0][row])
    assert torch.equal(views[1][1][5][0], expected[5][1][0])
    assert sorted(names) == [f"E1_{k}_0.png" for k in range(7)]
    assert "E1_4_0.png" in store.reasons[4]
    store.close()


def test_a_prediction_leaves_the_network_in_its_mode_and_memory_format(tmp_path: Path) -> None:
    config = ModelConfig(backbone="resnet_small", n_channels=2, n_perturbations=3, embedding_size=8)
    model = build_classifier(config, seed=0)
    model.neck.eval()
    modes = [part.training for part in model.modules()]
    strides = [tensor.stride() for tensor in model.state_dict().values()]
    places = [tensor.data_ptr() for tensor in model.state_dict().values()]
    store = ImageCache(tiny_screen(tmp_path), Preprocessing())
    predict_sites(model, model_card(("a", "b", "c")), store)
    store.close()
    assert [part.training for part in model.modules()] == modes
    assert True in modes
    assert [tensor.stride() for tensor in model.state_dict().values()] == strides
    assert [tensor.data_ptr() for tensor in model.state_dict().values()] == places
