"""Measure the features of a frozen backbone once for a run and all its folds."""

import contextlib
from collections.abc import Callable, Iterator

import torch

from distangle.core.distributed import is_first, wait_for_all
from distangle.core.progress import count_items, no_progress
from distangle.core.shrinkage import Correction
from distangle.images import ImageCache
from distangle.model.features import BATCH_SIZE, CARD, Features, FixedViews, measure_features, read_features
from distangle.results import RunFolder
from distangle.training.config import TrainingConfig
from distangle.training.initial_state import build_network

Say = Callable[[str], None]


def open_features(
    run: RunFolder, store: ImageCache, config: TrainingConfig, *, look: Callable[[], None], say: Say
) -> Features | None:
    """Open the features of a run; measure those that are missing.

    Args:
        run: Keeps them, or says which run does.
        store: The images.
        config: From `resolved`.
        look: Called before each batch; what it raises ends the measuring, and what is done stays.
        say: Told what was loaded.

    Raises:
        WeightsError: The weights of the backbone are not there, or are of another network.
        RunError: The folder holds features of another screen.
        StorageError: It cannot be written to.
    """
    if not config.uses_features:
        return None
    folder, options = run.features, config.augmentation
    fixed = FixedViews(config.network.n_fixed_views, options.min_crop, options.gain, options.offset)
    if is_first():
        known = read_features(store, fixed, folder)
        if known is None:
            say(f"features: {len(store.screen.sites):,} sites, once each in {fixed.n} views")
            model = build_network(
                store.screen, config, n_classes=2, correction=Correction(), pretrained=True, say=no_progress
            )
            known = measure_features(
                model, store, fixed, folder, before_batch=_CountedViews(look, len(store.screen.sites), fixed.n)
            )
        owner = RunFolder(folder.resolve().parent)
        if (owner.root / "run.json").is_file() and not owner.lists(owner.features / CARD):
            owner.record(*sorted(path for path in owner.features.iterdir() if path.is_file()))
    wait_for_all("the features")
    return known if is_first() else Features(folder)


class _CountedViews:
    """Counts the views of batches that are measured, and shows how far the measuring is."""

    def __init__(self, look: Callable[[], None], n_sites: int, n_views: int) -> None:
        self._look, self._n_sites, self._n_views = look, n_sites, n_views
        self._show = count_items("measuring features", n_sites, "sites")
        self._views_done = 0

    def __call__(self) -> None:
        self._show(min(self._n_sites, self._views_done // self._n_views * BATCH_SIZE))
        self._views_done += 1
        self._look()


@contextlib.contextmanager
def limit_threads() -> Iterator[None]:
    """Give torch back the number of its threads that it had before a `with`."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
