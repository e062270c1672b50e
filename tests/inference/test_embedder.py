"""The estimator gives the embeddings of the run, and is one that scikit-learn can clone, set and chain."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from distangle.core.shrinkage import Correction
from distangle.errors import ConfigError, RunError
from distangle.images import ImageCache, Preprocessing, fit_normalization
from distangle.inference import Embedder, PredictionOptions, predict_by_views
from distangle.model import (
    ModelCard,
    ModelConfig,
    NormStatisticsChoice,
    build_classifier,
    collect_plate_statistics,
    load_model,
    save_model,
)
from distangle.screen import Screen
from tiny_run import CLASSES, tiny_screen

PIXELS = Preprocessing()


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("embedder"), n_wells=7, size=32)


def run_with(root: Path, preprocessing: Preprocessing = PIXELS, *, norms: Any = "running", **changes: Any) -> Path:
    """Write a run with final weights only; its buffers differ from their initial values."""
    config = ModelConfig(
        backbone="resnet_small", n_channels=2, n_perturbations=len(CLASSES), embedding_size=8, **changes
    )
    model = build_classifier(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
        elif name.endswith(("running_var", "prior")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    card = ModelCard(
        target="perturbation",
        classes=CLASSES,
        class_sites=(1, 1, 1),
        channels=("DNA", "actin"),
        cell_types=("HUVEC", "RPE")[: config.n_cell_types],
        preprocessing=preprocessing,
        correction=config.correction,
        epochs=1,
        precision="fp32",
        batch_norm=NormStatisticsChoice(statistics=norms, min_sites=2),
    )
    save_model(model, root / "checkpoints" / "model.safetensors", card=card)
    (root / "run.json").write_text("{}", encoding="utf-8")
    return root


def pixels_of(screen: Screen, rows: list[int]) -> np.ndarray:
    return np.stack([ImageCache(screen, PIXELS).image(row) for row in rows])


def rows_of(screen: Screen, experiment: str, role: str = "") -> list[int]:
    sites = screen.sites
    return np.flatnonzero((sites["experiment"] == experiment) & sites["role"].str.startswith(role)).tolist()


def expected_embedding(run: Path, screen: Screen, rows: list[int], *, views: int = 1) -> np.ndarray:
    """Predict the screen as a run does."""
    model, card = load_model(run / "checkpoints" / "model.safetensors")
    store = ImageCache(screen, card.preprocessing)
    all_rows = list(range(len(screen.sites)))
    _, statistics = fit_normalization(store, all_rows)
    norms = collect_plate_statistics(
        model, store, all_rows, statistics, choice=card.batch_norm, cell_types=lambda rows: None
    )
    options = PredictionOptions(views=(views,), norms=norms)
    return predict_by_views(model, card, store, options)[0].embedding[rows]


def difference(result: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest difference as a share of the largest value."""
    return float(np.abs(result - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize(
    ("preprocessing", "views"),
    [
        (Preprocessing(binning=2, transform="sqrt"), 8),
        (Preprocessing(standardize="training", fixed=((60.0, 70.0), (16.0, 32.0))), 1),
    ],
)
def test_embeddings_are_those_of_the_prediction(
    tmp_path: Path, screen: Screen, preprocessing: Preprocessing, views: int
) -> None:
    run = run_with(tmp_path, preprocessing)
    rows = [3, 0, 11, 20]
    embedder = Embedder(run, views=views).fit(pixels_of(screen, rows[:1]))
    result = embedder.transform(pixels_of(screen, rows))
    np.testing.assert_array_equal(result, expected_embedding(run, screen, rows, views=views))
    assert result.dtype == np.float32
    assert result.std(axis=0).min() > 1e-3  # the images differ


@pytest.mark.parametrize(
    ("standardize", "norms", "role"),
    [
        ("plate", "running", ""),
        ("controls", "running", "negative"),
        ("image", "plate", ""),
        ("experiment", "plate", ""),
    ],
)
def test_the_images_of_fit_are_the_group(
    tmp_path: Path, screen: Screen, standardize: Any, norms: str, role: str
) -> None:
    run = run_with(tmp_path, Preprocessing(standardize=standardize), norms=norms)
    rows = rows_of(screen, "E2")
    embedder = Embedder(run).fit(pixels_of(screen, rows_of(screen, "E2", role)))
    reference = expected_embedding(run, screen, rows)
    assert difference(embedder.transform(pixels_of(screen, rows)), reference) < 1e-5
    other = Embedder(run).fit(pixels_of(screen, rows_of(screen, "E2", "treatment")))
    assert difference(other.transform(pixels_of(screen, rows)), reference) > 1e-3


@pytest.mark.parametrize("method", ["center", "standardize"])
def test_controls_correct_the_other_wells_as_in_the_prediction(tmp_path: Path, screen: Screen, method: Any) -> None:
    run = run_with(tmp_path, correction=Correction(method=method), freeze_backbone=True)
    treatments = rows_of(screen, "E2", "treatment")
    embedder = Embedder(run).fit(pixels_of(screen, rows_of(screen, "E2", "negative")))
    reference = expected_embedding(run, screen, treatments)
    assert difference(embedder.transform(pixels_of(screen, treatments)), reference) < 1e-5
    other = Embedder(run).fit(pixels_of(screen, treatments))
    assert difference(other.transform(pixels_of(screen, treatments)), reference) > 1e-3


def test_embeddings_in_bf16_point_the_same_way(tmp_path: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distangle.model.cpu_inference.multiplies_bf16", lambda device: True)
    run, images = run_with(tmp_path), pixels_of(screen, rows_of(screen, "E2"))
    reference = Embedder(run).fit(images).transform(images)
    embedder = Embedder(run, precision="bf16", batch_size=5).fit(images)
    result = embedder.transform(images)
    assert embedder.precision_ == "bf16"
    assert result.dtype == np.float32
    lengths = np.linalg.norm(result, axis=1) * np.linalg.norm(reference, axis=1)
    assert ((result * reference).sum(axis=1) / lengths).min() > 0.999
    assert difference(result, reference) > 1e-6
    np.testing.assert_array_equal(np.concatenate([embedder.transform(images[k : k + 1]) for k in range(5)]), result[:5])


def test_a_processor_without_bf16_gives_the_embeddings_of_fp32(
    tmp_path: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distangle.model.cpu_inference.multiplies_bf16", lambda device: False)
    run, images = run_with(tmp_path), pixels_of(screen, [0, 1, 2])
    embedder = Embedder(run, precision="bf16").fit(images)
    assert embedder.precision_ == "fp32"
    np.testing.assert_array_equal(embedder.transform(images), Embedder(run).fit(images).transform(images))


def test_an_embedding_does_not_depend_on_the_batch(tmp_path: Path, screen: Screen) -> None:
    images = pixels_of(screen, [0, 1, 2, 3, 4])
    embedder = Embedder(run_with(tmp_path), batch_size=2).fit(images)
    all_at_once = embedder.transform(images)
    np.testing.assert_array_equal(
        np.concatenate([embedder.transform(images[k : k + 1]) for k in range(5)]), all_at_once
    )


def test_the_cell_type_is_an_input(tmp_path: Path, screen: Screen) -> None:
    images = pixels_of(screen, [0, 1])
    run = run_with(tmp_path, n_cell_types=2)
    one, other = (Embedder(run, cell_type=name).fit_transform(images) for name in ("HUVEC", "RPE"))
    assert np.abs(one - other).max() > 1e-3
    with pytest.raises(ConfigError, match=r"cell_type is None\. .*Known: HUVEC, RPE"):
        Embedder(run).fit(images)
    with pytest.raises(ConfigError, match=r"cell_type is 'HUVEC', and the network takes no cell type"):
        Embedder(run_with(tmp_path / "other"), cell_type="HUVEC").fit(images)


def test_it_is_an_estimator_of_scikit_learn(tmp_path: Path, screen: Screen) -> None:
    run, images = run_with(tmp_path), pixels_of(screen, [0, 1, 2, 3])
    embedder = Embedder(run=run, batch_size=4)
    defaults = {"device": "cpu", "views": 1, "cell_type": None, "precision": "fp32"}
    assert embedder.get_params() == {"run": run, "batch_size": 4, **defaults}
    with pytest.raises(NotFittedError):
        embedder.transform(images)
    with pytest.raises(NotFittedError):
        embedder.get_feature_names_out()
    result = embedder.fit_transform(images)
    copy = clone(embedder)
    assert copy.get_params() == embedder.get_params()
    assert not hasattr(copy, "model_")
    assert copy.set_params(views=8).views == 8
    assert list(embedder.get_feature_names_out()) == [f"embedding_{k}" for k in range(8)]
    frame = embedder.set_output(transform="pandas").transform(images)
    assert list(frame) == list(embedder.get_feature_names_out())
    pipeline = make_pipeline(Embedder(run, batch_size=4), PCA(2, random_state=0))
    np.testing.assert_allclose(pipeline.fit_transform(images), PCA(2, random_state=0).fit_transform(result), atol=1e-6)
    assert list(pipeline.get_feature_names_out()) == ["pca0", "pca1"]
    assert "Embedder" in repr(pipeline)
    assert "Embedder" in pipeline._repr_html_()


def test_bad_input_is_refused(tmp_path: Path, screen: Screen) -> None:
    run, images = run_with(tmp_path, Preprocessing(binning=2)), pixels_of(screen, [0])
    with pytest.raises(ConfigError, match=r"shape \(1, 1, 32, 32\)\. Expected .* the 2 channels DNA, actin"):
        Embedder(run).fit(images[:, :1])
    with pytest.raises(ConfigError, match=r"shape \(2, 32, 32\)"):
        Embedder(run).fit(images[0])
    with pytest.raises(ConfigError, match=r"pixels are float64\. Expected uint8 or uint16"):
        Embedder(run).fit(images.astype(float))
    with pytest.raises(ConfigError, match=r"1 x 32 pixels, and the run bins 2 x 2"):
        Embedder(run).fit(images[:, :, :1])
    with pytest.raises(ConfigError, match=r"views is 2"):
        Embedder(run, views=2).fit(images)
    with pytest.raises(ConfigError, match=r"precision is 'bf1'\. Expected fp32 or bf16"):
        Embedder(run).set_params(precision="bf1").fit(images)
    with pytest.raises(ConfigError, match=r"expected cpu, cuda"):
        Embedder(run, device="gpu").fit(images)
    with pytest.raises(RunError, match=r"is not a run"):
        Embedder(tmp_path / "nosuch").fit(images)
    controls = run_with(tmp_path / "controls", norms="controls")
    with pytest.raises(RunError, match=r"has no contrast of its training plates yet\. Run `distangle predict"):
        Embedder(controls).fit(pixels_of(screen, [0, 1]))
    with pytest.raises(ConfigError, match=r"by statistics of a group \(batch_norm\.statistics=controls\).*Use precisi"):
        Embedder(controls, precision="bf16").fit(pixels_of(screen, [0, 1]))
