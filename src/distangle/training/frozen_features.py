"""Measure the features of a frozen backbone once for a run and all its folds."""

import contextlib
from collections.abc import Callable, Iterator

import torch

from distangle.core.distributed import is_first, wait_for_all
from distangle.core.progress import count_items, no_progress
from distangle.core.shrinkage import Correction
from distangle.images import ImageCache
from distangle.model.features import BATCH_SIZE, FixedViews, measure_features, read_features
from distangle.results import RunFolder
from distangle.results.backbone_features import CARD, Features
from distangle.training.config import TrainingConfig
from distangle.training.initial_state import build_network

Say = Callable[[str], None]


def open_features(
    run: RunFolder, store: ImageCache, config: TrainingConfig, *, before_batch: Callable[[], None], say: Say
) -> Features | None:
    """Open the features of a run; measure missing ones.

    Args:
        run: The run that keeps the features or names the run that does.
        store: The images.
        config: Resolved configuration.
        before_batch: Called before each batch; an exception of it ends the measurement and keeps finished batches.
        say: Called with messages for the user.

    Raises:
        WeightsError: The weights of the backbone are missing, or belong to another network.
        RunError: The folder holds features of another screen.
        StorageError: The folder cannot be written to.
    """
    if not config.uses_features:
        return None
    folder, options = run.features, config.augmentation
    fixed = FixedViews(config.network.n_fixed_views, options.min_crop, options.gain, options.offset)
    if is_first():
        features = read_features(store, fixed, folder)
        if features is None:
            say(f"features: {len(store.screen.sites):,} sites, once each in {fixed.n} views")
            model = build_network(
                store.screen, config, n_classes=2, correction=Correction(), pretrained=True, say=no_progress
            )
            features = measure_features(
                model,
                store,
                fixed,
                folder,
                before_batch=_FeatureProgress(before_batch, len(store.screen.sites), fixed.n),
            )
        owner = RunFolder(folder.resolve().parent)
        if (owner.root / "run.json").is_file() and not owner.lists(owner.features / CARD):
            owner.record(*sorted(path for path in owner.features.iterdir() if path.is_file()))
    wait_for_all("the features")
    return features if is_first() else Features(folder)


class _FeatureProgress:
    """Counts the measured batches, and shows the progress."""

    def __init__(self, before_batch: Callable[[], None], n_sites: int, n_views: int) -> None:
        self._before_batch, self._n_sites, self._n_views = before_batch, n_sites, n_views
        self._show = count_items("measuring features", n_sites, "sites")
        self._n_views_done = 0

    def __call__(self) -> None:
        self._show(min(self._n_sites, self._n_views_done // self._n_views * BATCH_SIZE))
        self._n_views_done += 1
        self._before_batch()


@contextlib.contextmanager
def limit_threads() -> Iterator[None]:
    """Restore the number of torch threads at the end of a `with` block."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
