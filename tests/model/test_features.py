"""Test stored features of a frozen backbone: values of every view, resuming, and refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from distangle.errors import RunError
from distangle.images import Augmentation, ImageCache, Preprocessing, augment, fit_normalization, fix_statistics
from distangle.model import ModelConfig, PerturbationClassifier, build_classifier, measure_features_of_controls
from distangle.model.features import FixedViews, measure_features, read_features
from distangle.screen import Screen
from tiny_run import tiny_screen

VIEWS = FixedViews(10, min_crop=0.8, gain=0.1, offset=0.1)


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("features"), size=32)


@pytest.fixture(scope="module")
def model() -> PerturbationClassifier:
    config = ModelConfig(
        backbone="resnet_small",
        n_channels=2,
        n_perturbations=3,
        embedding_size=4,
        freeze_backbone=True,
        handcrafted_features=True,
    )
    return build_classifier(config, seed=0).eval()


def test_whole_views_are_what_the_network_says_of_the_turned_image(
    screen: Screen, model: PerturbationClassifier, tmp_path: Path
) -> None:
    store = ImageCache(screen, Preprocessing())
    features = measure_features(model, store, VIEWS, tmp_path / "features")
    rows = list(range(len(screen.sites)))
    assert (features.n_sites, features.n_views, features.n_features) == (24, 10, model.n_features)
    np.testing.assert_allclose(
        features.take(rows), measure_features_of_controls(model, store, rows)[1], rtol=1e-4, atol=1e-5
    )
    _, statistics = fit_normalization(store, rows)
    image = np.empty_like(store.image(5))
    for k in range(8):
        augment(store.image(5), Augmentation(k), out=image)
        standardized = (image - statistics[5, 0, :, None, None]) / statistics[5, 1, :, None, None]
        with torch.no_grad():
            maps = model.feature_maps(torch.from_numpy(standardized.astype(np.float32))[None])
            expected = model.image_features(model.pool(maps))[0].numpy()
        np.testing.assert_allclose(features.take([5], k)[0], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(features.statistics, store.statistics)
    # Crops are drawn by the name of the site: two sites differ, the same site never does.
    augmentations = [VIEWS.view(name, 9, shape=(2, 32, 32)) for name in ("E1/1/B02/1", "E1/1/B02/1", "E1/1/B03/1")]
    assert augmentations[0][0] == augmentations[1][0]
    assert np.array_equal(augmentations[0][1], augmentations[1][1])
    assert not np.array_equal(augmentations[0][1], augmentations[2][1])


def test_measuring_that_was_stopped_goes_on_to_the_same_bytes(
    screen: Screen, model: PerturbationClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("model.features", "results.backbone_features"):
        monkeypatch.setattr(f"distangle.{module}.SITES_PER_FILE", 10)
    store = ImageCache(screen, Preprocessing())
    measure_features(model, store, VIEWS, tmp_path / "whole")
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 15:  # in the second file
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_features(model, store, VIEWS, tmp_path / "halves", before_batch=stop)
    assert read_features(store, VIEWS, tmp_path / "halves") is None
    assert [path.name for path in (tmp_path / "halves").iterdir()] == ["00000.npy"]
    measure_features(model, store, VIEWS, tmp_path / "halves")
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "halves" / path.name).read_bytes()


def test_features_measured_in_another_way_are_refused(
    screen: Screen, model: PerturbationClassifier, tmp_path: Path
) -> None:
    store = ImageCache(screen, Preprocessing())
    measure_features(model, store, VIEWS, tmp_path / "features")
    with pytest.raises(RunError, match="holds features of another preprocessing. Remove the folder"):
        read_features(ImageCache(screen, Preprocessing(transform="sqrt")), VIEWS, tmp_path / "features")
    with pytest.raises(RunError, match="holds features of another views"):
        read_features(store, FixedViews(8), tmp_path / "features")


def test_a_site_that_cannot_be_read_keeps_its_reason_and_has_no_numbers(
    screen: Screen, model: PerturbationClassifier, tmp_path: Path
) -> None:
    lab = tiny_screen(tmp_path / "lab", size=32)
    (lab.image_paths(3)[0]).write_bytes(b"no picture")
    features = measure_features(model, ImageCache(lab, Preprocessing()), VIEWS, tmp_path / "features")
    assert list(features.reasons) == [3]
    assert "B05" in features.reasons[3]
    assert features.readable(range(6)) == [0, 1, 2, 4, 5]
    assert np.isnan(features.take([3])).all()


def test_one_mean_and_spread_of_the_training_images_standardises_all(screen: Screen) -> None:
    store = ImageCache(screen, Preprocessing(standardize="training"))
    preprocessing = fix_statistics(store, [0, 1, 2])
    pixels = np.stack([store.image(row) for row in (0, 1, 2)]).astype(float)
    assert preprocessing.fixed is not None
    mean, spread = np.asarray(preprocessing.fixed)
    # By hand: the power of two that is nearest on a logarithmic scale, and the nearest multiple of it.
    ratio = pixels.std((0, 2, 3)) / spread
    assert ((ratio > 2**-0.5) & (ratio < 2**0.5)).all()
    assert (np.log2(spread) % 1 == 0).all()
    assert (mean % spread == 0).all()
    assert (abs(mean - pixels.mean((0, 2, 3))) <= spread / 2).all()
    _, statistics = fit_normalization(ImageCache(screen, preprocessing), [4, 7])
    assert (statistics == np.asarray(preprocessing.fixed, dtype=np.float32)).all()
    assert not preprocessing.transductive
