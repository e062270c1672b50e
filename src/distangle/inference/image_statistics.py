"""Store the means and standard deviations of the images of a run's own screen."""

from pathlib import Path

import numpy as np

from distangle.core.io import atomic_write
from distangle.core.untrusted_files import UnexpectedContent, read_regular_file
from distangle.images import ImageCache
from distangle.results import RunFolder, refuse_altered
from distangle.results.run_screen import is_own

FILE_NAME = "image_statistics.npy"  # in `predictions/`


def store_statistics(run: RunFolder, store: ImageCache) -> list[Path]:
    """Write the statistics of all images, if images are standardized by others.

    Args:
        run: The run; its own screen was predicted as a whole.
        store: The images.

    Returns:
        The file, or one that was removed; none if it is not needed.
    """
    path = run.predictions / FILE_NAME
    if not store.preprocessing.transductive:
        path.unlink(missing_ok=True)
        return []
    with atomic_write(path, size=store.statistics.nbytes) as temporary, temporary.open("wb") as file:
        np.save(file, store.statistics)
    return [path]


def recall_statistics(run: RunFolder, store: ImageCache) -> bool:
    """Give a store the statistics that the run has of its own screen.

    Then no image is decoded for them.

    The hash of the file is compared with the manifest of the run. An image that is used later is still compared with
    the index of the screen.

    Args:
        run: A run that has been predicted.
        store: The images of a screen.

    Returns:
        Whether the store has them. False for another screen, for a part of one, and for runs of older versions; then
        they are measured.

    Raises:
        RunError: The file was changed since it was written.
    """
    path = run.predictions / FILE_NAME
    if not store.preprocessing.transductive or not path.exists() or not run.lists(path):
        return False
    if not is_own(run, store.screen):
        return False
    refuse_altered(run, f"{run.predictions.name}/{FILE_NAME}")
    with read_regular_file(path, fix=f"Make it again: `distangle predict {run.root}`."):
        statistics = np.load(path, allow_pickle=False)
        if statistics.dtype != np.float32 or statistics.ndim != 3:
            raise UnexpectedContent(f"it is {statistics.dtype} {statistics.shape}, not float32 [site, 2, channel]")
    if statistics.shape != store.statistics.shape:
        return False
    store.statistics[:] = statistics
    return True
