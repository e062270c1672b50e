"""Random streams of a training: no two draws share a stream, and the order of draws does not matter."""

import itertools

import numpy as np
import pytest

import distangle.training.data.loader as batches
import distangle.training.data.sampler as composition
import distangle.training.schedule as schedule
from distangle.core.random import rng_for
from distangle.images import ImageCache
from distangle.screen import TRAIN, Screen, hold_out
from distangle.training import resolve_config
from distangle.training.data.loader import BatchLoader
from distangle.training.data.sites import class_names, labelled_sites
from distangle.training.schedule import epoch_order
from tiny_run import TRAINING, tiny_screen

EPOCHS = 4
VIEWS = (
    "augmentation.min_crop=0.5",
    "augmentation.gain=0.1",
    "augmentation.offset=0.1",
    "cutmix.probability=0.7",
    "class_balance=1",
)


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("streams"))


class Recorder:
    """Replace `rng_for`, and record the keys of the streams."""

    def __init__(self) -> None:
        self.keys: list[tuple[int | str, ...]] = []

    def __call__(self, *key: int | str) -> np.random.Generator:
        self.keys.append(key)
        return rng_for(*key)


def batches_of(
    screen: Screen, *changes: str, seed: int = 0, workers: int = 2, backwards: bool = False
) -> list[dict[int, tuple[np.ndarray, np.ndarray]]]:
    """Images and labels of the batches of every epoch by their number."""
    config = resolve_config("scratch", [*TRAINING, *VIEWS, *changes], seed=seed)
    store = ImageCache(screen, config.preprocessing.model_copy(update={"binning": 1}), workers=workers)
    classes = class_names(screen, config.target)
    rows = np.flatnonzero(hold_out(screen, values=["E3"]).of(screen) == TRAIN)
    sites, _ = labelled_sites(store, rows, classes, config)
    maker = BatchLoader(store, sites, config, n_perturbations=len(classes))
    contents = []
    for epoch in range(EPOCHS):
        order = epoch_order(sites.labels, balance=config.class_balance, seed=config.seed, epoch=epoch)
        numbers = list(range(len(maker.split(order, epoch))))[::-1] if backwards else None
        contents.append(
            {
                number: (batch.pixels.numpy().copy(), batch.labels.numpy().copy())
                for number, batch in zip(
                    numbers or itertools.count(), maker.epoch(order, epoch, numbers=numbers), strict=False
                )
            }
        )
    maker.close()
    store.close()
    return contents


@pytest.mark.parametrize("pure", ["none", "plate"])
def test_every_epoch_image_and_operation_has_a_stream_of_its_own(
    screen: Screen, pure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    for module in (batches, composition, schedule):
        monkeypatch.setattr(module, "rng_for", recorder)
    for seed in (0, 1):
        batches_of(screen, f"batches.pure={pure}", seed=seed)
    assert len(recorder.keys) > 2 * EPOCHS * 16  # one augmentation per visit, and the draws per batch
    assert len(set(recorder.keys)) == len(recorder.keys)
    first = {rng_for(*key).integers(0, 2**62) for key in recorder.keys}
    assert len(first) == len(recorder.keys)
    assert {key[0] for key in recorder.keys} == {0, 1}
    assert {key[1] for key in recorder.keys} == set(range(EPOCHS))


def test_streams_of_neighboring_keys_are_independent() -> None:
    # 2,000 streams that differ only in the epoch: uniform, and uncorrelated between epochs.
    draws = np.array([rng_for(0, epoch, "E1/1/B02/1", "view 0 0").random(8) for epoch in range(2000)])
    assert draws.mean() == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / draws.size))
    correlation = np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(draws[1:].size)


def test_an_epoch_differs_from_every_other_and_a_seed_from_another(screen: Screen) -> None:
    one, other = batches_of(screen), batches_of(screen, seed=1)
    first = [epoch[0][0] for epoch in (*one, *other)]
    assert all(not np.array_equal(a, b) for k, a in enumerate(first) for b in first[:k])


def test_batches_are_the_same_in_whatever_order_and_by_however_many_workers_they_are_made(screen: Screen) -> None:
    plain = batches_of(screen)
    for others in (batches_of(screen, backwards=True), batches_of(screen, workers=1), batches_of(screen, workers=5)):
        for batch, other in zip(plain, others, strict=True):
            assert batch.keys() == other.keys()
            for number, (images, labels) in batch.items():
                assert np.array_equal(images, other[number][0])
                assert np.array_equal(labels, other[number][1])
