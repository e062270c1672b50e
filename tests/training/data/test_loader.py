import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from distangle.errors import FoldError, RunError
from distangle.images import ImageCache, Preprocessing, channel_statistics
from distangle.losses import composite_loss
from distangle.model import ModelConfig, build_classifier
from distangle.screen import Screen
from distangle.training import resolve_config
from distangle.training.data.loader import BatchLoader, TrainingBatch
from distangle.training.data.sites import LabelSource, class_names, labelled_sites
from distangle.training.loop import Callbacks, make_optimizer, run_epochs
from distangle.training.pseudo_labels.rounds import Assignment
from distangle.training.state import TrainingState
from distangle.training.step import batch_loss
from tests_support import screen_of

PLAIN = (
    "augmentation.dihedral=false",
    "augmentation.min_crop=1",
    "augmentation.gain=0",
    "augmentation.offset=0",
    "network.handcrafted_features=false",
)


@pytest.fixture
def screen(tmp_path: Path) -> Screen:
    """Twelve one-channel sites on three plates, each image of its own brightness."""
    rng = np.random.default_rng(0)
    rows = []
    for k in range(12):
        image = rng.integers(10 + 15 * k, 40 + 15 * k, (24, 24)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"{k}.png")
        rows.append(
            {
                "experiment": "E1",
                "plate": str(k // 4),
                "well": f"B{k % 4 + 2:02d}",
                "site": 1,
                "cell_type": "",
                "perturbation": "ab"[k % 2],
                "role": "treatment",
                "path_1": f"{k}.png",
                "page_1": -1,
            }
        )
    return screen_of(pd.DataFrame(rows), folder=tmp_path)


def batches_of(
    screen: Screen, *changes: str, epoch: int = 0, workers: int = 2
) -> list[tuple[np.ndarray, np.ndarray, tuple[str, ...]]]:
    config = resolve_config("scratch", ["batch_size=4", *changes])
    store = ImageCache(screen, Preprocessing(standardize=config.preprocessing.standardize), workers=workers)
    config = config.model_copy(update={"preprocessing": store.preprocessing})
    sites, _ = labelled_sites(store, np.arange(12), ("a", "b"), config)
    maker = BatchLoader(store, sites, config, n_perturbations=2)
    batches = [
        (batch.pixels.numpy().copy(), batch.labels.numpy(), batch.sites) for batch in maker.epoch(np.arange(12), epoch)
    ]
    maker.close()
    store.close()
    return batches


def test_without_views_and_cutmix_a_batch_is_the_standardised_images(screen: Screen) -> None:
    batches = batches_of(screen, *PLAIN, "cutmix.probability=0", "preprocessing.standardize=image")
    assert len(batches) == 3
    for images, labels, names in batches:
        np.testing.assert_allclose(images.mean((2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(images.std((2, 3)), 1, atol=1e-4)
        assert [("a", "b")[k] for k in labels.argmax(1)] == [
            "ab"[(int(name.split("/")[2][1:]) - 2) % 2] for name in names
        ]


def test_each_pixel_of_a_mixed_image_is_standardised_by_the_image_it_came_from(screen: Screen) -> None:
    # Every image has its own brightness: standardised by the wrong one, a box would lie far from zero.
    batches = batches_of(screen, *PLAIN, "cutmix.probability=1", "preprocessing.standardize=image")
    assert any(0 < label.max() < 1 for _, labels, _ in batches for label in labels)
    for images, labels, _ in batches:
        assert np.abs(images).max() < 2.2  # uniform noise: at most sqrt(3) spreads, and a little
        np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)


def test_batches_are_a_function_of_seed_and_epoch_and_of_nothing_else(screen: Screen) -> None:
    first, second, one_worker = batches_of(screen), batches_of(screen), batches_of(screen, workers=1)
    for one, two, three in zip(first, second, one_worker, strict=True):
        assert np.array_equal(one[0], two[0])
        assert np.array_equal(one[0], three[0])
    assert not np.array_equal(first[0][0], batches_of(screen, epoch=1)[0][0])
    assert not np.array_equal(first[0][0], batches_of(screen, "seed=1")[0][0])


def test_plate_statistics_are_those_of_the_whole_plate(screen: Screen) -> None:
    (images, _, _), *_ = batches_of(screen, *PLAIN, "cutmix.probability=0", "preprocessing.standardize=plate")
    raw = np.stack([np.asarray(Image.open(screen.image_paths(row)[0]), np.float64) for row in range(4)])
    np.testing.assert_allclose(images[:, 0], (raw - raw.mean()) / raw.std(), atol=1e-3)
    assert channel_statistics(raw[:1].astype(np.uint8)).shape == (2, 1)


def test_a_fold_of_one_class_or_none_is_refused(screen: Screen) -> None:
    config = resolve_config("scratch")
    store = ImageCache(screen, Preprocessing())
    with pytest.raises(FoldError, match=r"6 readable sites with a known perturbation in 1 class"):
        labelled_sites(store, np.arange(0, 12, 2), ("a", "b"), config)
    with pytest.raises(FoldError, match="no column 'compound' to learn"):
        class_names(screen, "compound")
    with pytest.raises(FoldError, match="Column 'cell_type' names 0 class"):
        class_names(screen, "cell_type")
    store.close()


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_sites(screen: Screen) -> None:
    config = resolve_config("scratch", ["batch_size=4", "ema_decay=0", "network.handcrafted_features=false"], epochs=1)
    store = ImageCache(screen, Preprocessing())
    sites, _ = labelled_sites(store, np.arange(12), ("a", "b"), config)
    nan_statistics = np.full((12, 2, 1), np.nan, np.float32)
    broken_sites = dataclasses.replace(sites, statistics=nan_statistics)
    config = config.model_copy(update={"preprocessing": Preprocessing()})
    model = build_classifier(
        ModelConfig(backbone="resnet_small", n_channels=1, n_perturbations=2, embedding_size=4), seed=0
    )
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    maker = BatchLoader(store, broken_sites, config, n_perturbations=2)
    state = TrainingState(epochs_done=0, model=model, optimizer=make_optimizer(model, config))
    moments = Callbacks(validate=lambda _: {}, after_epoch=lambda _: None)
    with pytest.raises(RunError, match=r"not finite in epoch 1, step 1 \(pixels of site E1/"):
        run_epochs(state, maker, sites.labels, config, callbacks=moments)
    maker.close()
    store.close()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.named_parameters())


def test_guessed_images_are_told_apart_and_never_mixed_with_labelled_ones(screen: Screen) -> None:
    config = resolve_config("scratch", ["batch_size=6", *PLAIN, "cutmix.probability=1"])
    store = ImageCache(screen, Preprocessing(standardize="image"))
    config = config.model_copy(update={"preprocessing": store.preprocessing})
    sites, _ = labelled_sites(store, np.arange(12), ("a", "b"), config)
    hidden = dataclasses.replace(sites, labels=np.where(np.arange(12) < 9, sites.labels, -1))
    maker = BatchLoader(store, hidden, config, n_perturbations=3)
    third = Assignment(np.array([9, 10, 11]), np.full((3, 1), 2), np.ones((3, 1), np.float32))
    (batch,) = maker.epoch(np.array([0, 9, 1, 10, 2, 11]), 0, third)
    assert batch.label_sources.tolist() == [LabelSource.LABELLED, LabelSource.PSEUDO_LABELLED] * 3
    is_pseudo = batch.label_sources == LabelSource.PSEUDO_LABELLED
    np.testing.assert_allclose(batch.labels.numpy()[is_pseudo], [[0, 0, 1]] * 3, atol=1e-6)
    assert (batch.labels.numpy()[~is_pseudo, 2] == 0).all()
    with pytest.raises(ValueError, match="3 sites of the batch have no label and no pseudo label"):
        next(maker.epoch(np.array([0, 9, 1, 10, 2, 11]), 0))
    maker.close()
    store.close()


@pytest.mark.parametrize(("strategy", "weight"), [("alpha_ramp", 1.5), ("progressive", 0.5)])
def test_the_objective_is_equation_seven(strategy: str, weight: float) -> None:
    ramp = ["pseudo_labels.from_epoch=10", "pseudo_labels.full_epoch=20", "pseudo_labels.weight=3"]
    config = resolve_config("scratch", [f"pseudo_labels.strategy={strategy}", *ramp, "precision=fp32"])
    shape = ModelConfig(backbone="resnet_small", n_channels=1, n_perturbations=3, embedding_size=4)
    model = build_classifier(shape, seed=0).eval()
    rng = torch.Generator().manual_seed(0)
    labels = torch.eye(3)[[0, 1, 2, 0, 1, 2]]
    batch = TrainingBatch(
        pixels=torch.randn(6, 1, 32, 32, generator=rng),
        cell_types=None,
        labels=labels,
        sites=("",) * 6,
        label_sources=np.array([0, 1, 0, 0, 1, 0], np.int8),
    )
    with torch.no_grad():
        result = batch_loss(model, batch, config, epoch=15.0)
        before = batch_loss(model, batch, config, epoch=10.0)
        outputs = model(batch.pixels)

    def mean(rows: list[int]) -> torch.Tensor:
        return composite_loss(outputs.logits[rows], outputs.cosines[rows], labels[rows])

    assert float(result.loss) == pytest.approx(float(mean([0, 2, 3, 5]) + weight * mean([1, 4])), rel=1e-6)
    assert result.components["pseudo_weight"] == weight
    is_correct = outputs.logits.argmax(1) == labels.argmax(1)
    assert (result.n_scored, result.n_correct) == (4, float(is_correct[[0, 2, 3, 5]].sum()))
    if strategy == "alpha_ramp":
        assert float(before.loss) == pytest.approx(float(mean([0, 2, 3, 5])), rel=1e-6)
