"""Compute the features of a frozen backbone in fixed augmentations of every site."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distangle.core.io import atomic_write, make_folder, write_json
from distangle.core.progress import no_progress
from distangle.core.random import rng_for
from distangle.errors import RunError
from distangle.images import Augmentation, ImageCache, augment, fit_normalization, random_augmentation, standardize
from distangle.images.augmentation import N_VIEWS
from distangle.model.classifier import PerturbationClassifier
from distangle.model.modes import eval_mode
from distangle.results.backbone_features import CARD, SITES_PER_FILE, Features, chunk_paths
from distangle.screen import Screen
from distangle.screen.screen import KEY_COLUMNS

BATCH_SIZE = 32


@dataclass(frozen=True)
class FixedViews:
    """Augmentations of a site that are the same in every epoch.

    The first eight are the flips and rotations, all others are random crops.

    Attributes:
        n: How many, at least 8.
        min_crop: Share of the shorter side.
        gain: Standard deviation of a factor around 1, per crop and channel.
        offset: Standard deviation of a summand, in standardized units.
    """

    n: int
    min_crop: float = 1.0
    gain: float = 0.0
    offset: float = 0.0

    def view(self, site: str, k: int, *, shape: tuple[int, int, int]) -> tuple[Augmentation, np.ndarray, np.ndarray]:
        """Return view k of a site, and gain and offset of its channels.

        The name of the site is the key of the random numbers.
        """
        channels, height, width = shape
        if k < N_VIEWS:
            return Augmentation(k), np.ones(channels, np.float32), np.zeros(channels, np.float32)
        rng = rng_for(0, "fixed view", site, k)
        view = random_augmentation(rng, height=height, width=width, min_share=self.min_crop)
        gain, offset = rng.normal(1.0, self.gain, channels), rng.normal(0.0, self.offset, channels)
        return view, gain.astype(np.float32), offset.astype(np.float32)


def read_features(store: ImageCache, views: FixedViews, folder: Path) -> Features | None:
    """Return the features in a folder; None if they are not complete.

    Args:
        store: The images that were measured.
        views: The views.
        folder: Holds the files.

    Raises:
        RunError: The features belong to another screen, preprocessing or set of views.
    """
    if not (folder / CARD).is_file():
        return None
    features = Features(folder)
    if other := [name for name, value in _provenance(store, views).items() if features.card[name] != value]:
        raise RunError(f"{folder} holds features of another {other[0]}. Remove the folder, or train into a new one.")
    return features


def measure_features(
    model: PerturbationClassifier,
    store: ImageCache,
    views: FixedViews,
    folder: Path,
    *,
    before_batch: Callable[[], None] = lambda: None,
    advance: Callable[[str], None] = no_progress,
) -> Features:
    """Compute the features of every site in every view, decoding each image once.

    A second call continues where the first one stopped.

    Args:
        model: With a frozen backbone; its mode is restored.
        store: The images.
        views: Which views.
        folder: Holds the files; each is written atomically.
        before_batch: Called before each batch; an exception stops the computation, and finished files stay.
        advance: Called after each file.

    Raises:
        StorageError: The folder cannot be written.
        RunError: The folder holds features of another screen, preprocessing or set of views.
    """
    stored = read_features(store, views, folder)
    if stored is not None:
        return stored
    provenance = _provenance(store, views)
    make_folder(folder)
    n_sites = len(store.screen.sites)
    names = site_names(store.screen, range(n_sites))
    unreadable: dict[str, str] = {}
    paths = chunk_paths(folder, n_sites)
    for number, path in enumerate(paths):
        rows = list(range(number * SITES_PER_FILE, min(n_sites, (number + 1) * SITES_PER_FILE)))
        readable, statistics = fit_normalization(store, rows)
        unreadable |= {str(row): store.reasons[row] for row in sorted(set(rows) - set(readable))}
        if not path.is_file():
            chunk = np.full((len(rows), views.n, model.n_features), np.nan, dtype=np.float32)
            for batch, k, values in _measure_views(
                model, store, readable, statistics, names=names, views=views, before_batch=before_batch
            ):
                chunk[np.asarray(batch) - rows[0], k] = values
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.save(file, chunk)
        advance(f"features {min(n_sites, rows[-1] + 1)} of {n_sites} sites")
    with atomic_write(folder / "statistics.npy") as temporary, temporary.open("wb") as file:
        np.save(file, store.statistics)
    shape = [n_sites, views.n, model.n_features]
    write_json(folder / CARD, {"shape": shape, "unreadable": unreadable, **provenance})
    return Features(folder)


def site_names(screen: Screen, rows: Sequence[int]) -> tuple[str, ...]:
    """Return `experiment/plate/well/site` of each row."""
    sites = screen.sites.iloc[list(rows)]
    keys = sites[list(KEY_COLUMNS)].itertuples(index=False)
    return tuple("/".join(map(str, key)) for key in keys)


def _provenance(store: ImageCache, views: FixedViews) -> dict[str, Any]:
    return {
        "screen": store.screen.metadata.sites_sha256,
        "preprocessing": store.preprocessing.model_dump(mode="json"),
        "views": asdict(views),
    }


def _measure_views(
    model: PerturbationClassifier,
    store: ImageCache,
    rows: Sequence[int],
    statistics: np.ndarray,
    *,
    names: Sequence[str],
    views: FixedViews,
    before_batch: Callable[[], None],
) -> Iterator[tuple[list[int], int, np.ndarray]]:
    """Yield the features of sites view by view.

    Batches are padded to one size, so that no result depends on its position.
    """
    device = next(model.parameters()).device
    for start in range(0, len(rows), BATCH_SIZE):
        batch = list(rows[start : start + BATCH_SIZE])
        padded = batch + [batch[-1]] * (BATCH_SIZE - len(batch))
        images = store.images(padded)
        shape = images[0].shape
        for k in range(views.n):
            before_batch()
            augmentations = [views.view(names[row], k, shape=shape) for row in padded]
            height, width = _augmented_shape(shape, k)
            pixels = np.empty((BATCH_SIZE, shape[0], height, width), dtype=images[0].dtype)
            for slot, (image, (augmentation, _, _)) in enumerate(zip(images, augmentations, strict=True)):
                augment(image, augmentation, out=pixels[slot])
            standardized = np.empty(pixels.shape, dtype=np.float32)
            standardize(pixels, statistics[padded], out=standardized, transform=store.preprocessing.transform)
            if k >= N_VIEWS:
                standardized *= np.stack([gain for _, gain, _ in augmentations])[:, :, None, None]
                standardized += np.stack([offset for _, _, offset in augmentations])[:, :, None, None]
            with eval_mode(model), torch.no_grad():
                pooled = model.pool(model.feature_maps(torch.from_numpy(standardized).to(device)))
                yield batch, k, model.image_features(pooled)[: len(batch)].float().cpu().numpy()


def _augmented_shape(shape: tuple[int, ...], k: int) -> tuple[int, int]:
    _, height, width = shape
    if k < N_VIEWS:
        return (width, height) if k & 4 else (height, width)
    return min(height, width), min(height, width)
