"""Measure the features of a frozen backbone once, in fixed views of every site."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from distangle.screen import Screen

CARD = "features.json"
SITES_PER_FILE = 256
AT_ONCE = 32


@dataclass(frozen=True)
class FixedViews:
    """The views of a site, the same in every epoch.

    They are the eight flips and turns, then random crops.

    Attributes:
        n: How many, at least 8.
        smallest_crop: Share of the shorter side.
        gain: Standard deviation of a factor around 1, per crop and channel.
        offset: Standard deviation of a summand, in standardised units.
    """

    n: int
    smallest_crop: float = 1.0
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
        view = random_augmentation(rng, height=height, width=width, min_share=self.smallest_crop)
        gain, offset = rng.normal(1.0, self.gain, channels), rng.normal(0.0, self.offset, channels)
        return view, gain.astype(np.float32), offset.astype(np.float32)


class Features:
    """The numbers of every site and view, in files that are mapped into memory.

    Args:
        folder: As `measure_features` wrote it.

    Attributes:
        reasons: Of each site that could not be read, why.
        statistics: float32 [site, 2, channel], mean and spread of each image; NaN where it could not be read.
        n_sites: Sites of the screen.
        n_views: Views of each.
        n_numbers: Numbers of each view.
        card: What the features were measured with.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        self.card: Mapping[str, Any] = card
        self.statistics: np.ndarray = np.load(folder / "statistics.npy")
        self.reasons: dict[int, str] = {int(row): reason for row, reason in card["unreadable"].items()}
        self.n_sites, self.n_views, self.n_numbers = card["shape"]
        self._parts = [np.load(path, mmap_mode="r") for path in _part_paths(folder, self.n_sites)]

    def readable(self, rows: Sequence[int] | np.ndarray) -> list[int]:
        """Return the rows that could be read, in their order."""
        return [int(row) for row in rows if int(row) not in self.reasons]

    def take(self, rows: Sequence[int] | np.ndarray, views: np.ndarray | int = 0) -> np.ndarray:
        """Return the numbers of rows, each in its view, float32 [row, number]."""
        rows = np.asarray(rows, dtype=int)
        chosen = np.broadcast_to(np.asarray(views, dtype=int), rows.shape)
        taken = np.empty((len(rows), self.n_numbers), dtype=np.float32)
        part = rows // SITES_PER_FILE
        for number in np.unique(part):
            here = np.flatnonzero(part == number)
            taken[here] = self._parts[number][rows[here] % SITES_PER_FILE, chosen[here]]
        return taken

    def numbers_of(self, rows: Sequence[int]) -> tuple[list[int], np.ndarray]:
        """Return the readable rows and the features of their whole images."""
        readable = self.readable(rows)
        return readable, self.take(readable)


def read_features(store: ImageCache, views: FixedViews, folder: Path) -> Features | None:
    """Return what `measure_features` wrote; None where it has not, or not to the end.

    Args:
        store: The images that were measured.
        views: The views.
        folder: Holds the files.

    Raises:
        RunError: It holds features of another screen, or measured in another way.
    """
    if not (folder / CARD).is_file():
        return None
    features = Features(folder)
    if other := [name for name, value in _measured_with(store, views).items() if features.card[name] != value]:
        raise RunError(f"{folder} holds features of another {other[0]}. Remove the folder, or train into a new one.")
    return features


def _measured_with(store: ImageCache, views: FixedViews) -> dict[str, Any]:
    return {
        "screen": store.screen.card.sites_sha256,
        "preparation": store.preparation.model_dump(mode="json"),
        "views": asdict(views),
    }


def measure_features(
    model: PerturbationClassifier,
    store: ImageCache,
    views: FixedViews,
    folder: Path,
    *,
    before_batch: Callable[[], None] = lambda: None,
    advance: Callable[[str], None] = no_progress,
) -> Features:
    """Measure every site of a screen in every view, each image decoded once.

    A second call goes on where the first one stopped.

    Args:
        model: With a frozen backbone; left in the mode it was in.
        store: The images.
        views: Which views.
        folder: Holds the files; each is written whole or not at all.
        before_batch: Called before each batch; what it raises ends the measuring, and what is done stays.
        advance: Called after each file.

    Raises:
        StorageError: The folder cannot be written to.
        RunError: It holds features of another screen, or measured in another way.
    """
    known = read_features(store, views, folder)
    if known is not None:
        return known
    asked = _measured_with(store, views)
    make_folder(folder)
    n_sites = len(store.screen.sites)
    names = site_names(store.screen, range(n_sites))
    unreadable: dict[str, str] = {}
    paths = _part_paths(folder, n_sites)
    for number, path in enumerate(paths):
        rows = list(range(number * SITES_PER_FILE, min(n_sites, (number + 1) * SITES_PER_FILE)))
        readable, statistics = fit_normalization(store, rows)
        unreadable |= {str(row): store.reasons[row] for row in sorted(set(rows) - set(readable))}
        if not path.is_file():
            part = np.full((len(rows), views.n, model.n_numbers), np.nan, dtype=np.float32)
            for chosen, k, numbers in _measured(
                model, store, readable, statistics, names=names, views=views, look=before_batch
            ):
                part[np.asarray(chosen) - rows[0], k] = numbers
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.save(file, part)
        advance(f"features {min(n_sites, rows[-1] + 1)} of {n_sites} sites")
    with atomic_write(folder / "statistics.npy") as temporary, temporary.open("wb") as file:
        np.save(file, store.statistics)
    shape = [n_sites, views.n, model.n_numbers]
    write_json(folder / CARD, {"shape": shape, "unreadable": unreadable, **asked})
    return Features(folder)


def site_names(screen: Screen, rows: Sequence[int]) -> tuple[str, ...]:
    """Return `experiment/plate/well/site` of each row."""
    sites = screen.sites.iloc[list(rows)]
    keys = sites[["experiment", "plate", "well", "site"]].itertuples(index=False)
    return tuple("/".join(map(str, key)) for key in keys)


def _measured(
    model: PerturbationClassifier,
    store: ImageCache,
    rows: Sequence[int],
    statistics: np.ndarray,
    *,
    names: Sequence[str],
    views: FixedViews,
    look: Callable[[], None],
) -> Iterator[tuple[list[int], int, np.ndarray]]:
    """Give the numbers of sites view by view; batches are padded to one size, so that none depends on its place."""
    device = next(model.parameters()).device
    for start in range(0, len(rows), AT_ONCE):
        chosen = list(rows[start : start + AT_ONCE])
        padded = chosen + [chosen[-1]] * (AT_ONCE - len(chosen))
        images = store.images(padded)
        shape = images[0].shape
        for k in range(views.n):
            look()
            drawn = [views.view(names[row], k, shape=shape) for row in padded]
            height, width = _view_shape(shape, k)
            pixels = np.empty((AT_ONCE, shape[0], height, width), dtype=images[0].dtype)
            for slot, (image, (view, _, _)) in enumerate(zip(images, drawn, strict=True)):
                augment(image, view, out=pixels[slot])
            ready = np.empty(pixels.shape, dtype=np.float32)
            standardize(pixels, statistics[padded], out=ready, transform=store.preparation.transform)
            if k >= N_VIEWS:
                ready *= np.stack([gain for _, gain, _ in drawn])[:, :, None, None]
                ready += np.stack([offset for _, _, offset in drawn])[:, :, None, None]
            with eval_mode(model), torch.no_grad():
                pooled = model.pool(model.feature_maps(torch.from_numpy(ready).to(device)))
                yield chosen, k, model.numbers(pooled)[: len(chosen)].float().cpu().numpy()


def _view_shape(shape: tuple[int, ...], k: int) -> tuple[int, int]:
    _, height, width = shape
    if k < N_VIEWS:
        return (width, height) if k & 4 else (height, width)
    return min(height, width), min(height, width)


def _part_paths(folder: Path, n_sites: int) -> list[Path]:
    return [folder / f"{number:05d}.npy" for number in range(-(-n_sites // SITES_PER_FILE))]
