"""Read, verify and cache the images of a screen, and standardize them in batches."""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from distangle.core.progress import count_items
from distangle.errors import ImageError, OutOfMemoryError, ScreenError
from distangle.images.augmentation import Augmentation, augment
from distangle.images.preprocessing import Preprocessing, bin_pixels, channel_statistics, standardize
from distangle.images.readers.read import has_checksum, read_image
from distangle.images.thread_pool import ForkSafeThreadPool
from distangle.screen import Screen, sha256_of_site
from distangle.screen.indexing.hashing import size_and_mtime
from distangle.screen.plate_groups import group_codes

MEMORY_ADVICE = "End other programs, request more memory, or use smaller batches, then start again."


class VerifiedReader:
    """Read images of a screen; refuse those whose files changed after indexing.

    Sizes are compared on every read. If the screen was indexed with hashes, the SHA-256 is compared on the first read
    and whenever a file has a new mtime. A single file with its own checksum (see `has_checksum`) whose size and mtime
    equal the index is trusted; with several files per site, two could have been exchanged.

    Args:
        screen: A screen with images.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._verified_mtime = np.full(len(screen.sites), np.nan)  # newest mtime at the last check

    def read(self, row: int) -> np.ndarray:
        """Return the image of a site, uint8 or uint16 [channel, height, width].

        Args:
            row: Position in the screen's sites.

        Raises:
            ImageError: A file is damaged, or differs from the indexed one.
            ScreenError: The screen was indexed without images.
            RemoteError: A file cannot be downloaded.
            MemoryError: Memory is too small for the pixels.
        """
        paths, pages = self._screen.image_paths(row), self._screen.pages(row)
        image = read_image(paths, pages)
        sizes, times = zip(*(size_and_mtime(path) for path in dict.fromkeys(paths)), strict=True)
        self._check_size(row, paths, sum(sizes))
        if self._verified_mtime[row] != max(times):
            self._check_bytes(row, paths, pages, written=max(times))
            self._verified_mtime[row] = max(times)
        return image

    def _check_size(self, row: int, paths: Sequence[Path], size: int) -> None:
        expected = self._index_value("size", row)
        if expected is not None and size != expected:
            raise ImageError(
                f"{_join_paths(paths)}: {size} bytes now, {expected} when it was indexed. Index the screen again; "
                "`distangle check` finds all such files."
            )

    def _check_bytes(self, row: int, paths: Sequence[Path], pages: Sequence[int | None], *, written: float) -> None:
        expected = self._index_value("sha256", row)
        is_single_file = len(set(paths)) == 1 and has_checksum(paths[0])
        if not expected or (is_single_file and written == self._index_value("mtime", row)):
            return
        if sha256_of_site(paths, pages) != expected:
            raise ImageError(
                f"{_join_paths(paths)}: as many bytes as when it was indexed, but other ones (SHA-256). Copy it "
                "again from its source, or, if the change was intended, index the screen again; `distangle verify` "
                "finds all such files."
            )

    def _index_value(self, column: str, row: int) -> object:
        """Return a value of the index; None in a hand-made table without the column."""
        return self._screen.sites[column].iat[row] if column in self._screen.sites else None


def _join_paths(paths: Sequence[Path]) -> str:
    return ", ".join(dict.fromkeys(str(path) for path in paths))


class ImageCache:
    """Cache binned images, uint8 or uint16 [channel, height, width], by row.

    Args:
        screen: A screen with images.
        preprocessing: Binning, transform and standardization.
        fold: Fold of each site, from `Folds.of`. Estimates from wells (means, standard deviations, references, norms)
            are computed per fold, so that no two folds share an estimate. None: the screen is one fold.
        memory: Bytes of decoded images to keep; further images are read again each time.
        workers: Decoding threads (the decoders release the interpreter lock).

    Raises:
        ScreenError: The screen has no images.
        ValueError: `fold` has another length than the sites.
    """

    def __init__(
        self,
        screen: Screen,
        preprocessing: Preprocessing | None = None,
        *,
        fold: np.ndarray | None = None,
        memory: int = 4 << 30,
        workers: int = 2,
    ) -> None:
        if screen.metadata.tables_only:
            raise ScreenError(
                "This screen was indexed with --tables-only, so it has no images. Index it again without --tables-only."
            )
        if fold is not None and len(fold) != len(screen.sites):
            raise ValueError(
                f"{len(fold)} folds were given for {len(screen.sites)} sites. Give one each: `Folds.of(screen)`."
            )
        self.screen = screen
        self.fold = fold
        self.preprocessing = preprocessing or Preprocessing()
        self.reasons: dict[int, str] = {}
        self.statistics = np.full((len(screen.sites), 2, len(screen.metadata.channels)), np.nan, dtype=np.float32)
        self._reader = VerifiedReader(screen)
        self._memory = memory
        self._cached: dict[int, np.ndarray] = {}
        self._cached_bytes = 0
        self._codes: dict[tuple[str, ...], np.ndarray] = {}
        self._lock = threading.Lock()  # guards the two above: several threads decode
        self._threads = ForkSafeThreadPool(workers, name="decode")

    def image(self, row: int) -> np.ndarray:
        """Return one image.

        Raises:
            ImageError: It cannot be read; the message names file, plate, well and site.
            OutOfMemoryError: Memory is too small for it; its files may be intact.
        """
        cached = self._cached.get(row)
        if cached is not None:
            return cached
        try:
            image = self._reader.read(row)
            shape = self.screen.metadata.shape
            if shape is not None and image.shape[1:] != tuple(shape):
                raise ImageError(f"the image is {image.shape[1:]}, but the screen was indexed as {tuple(shape)}")
            image = bin_pixels(image, self.preprocessing.binning)
            if not np.isfinite(self.statistics[row]).all():
                self.statistics[row] = channel_statistics(image, transform=self.preprocessing.transform)
        except ImageError as error:
            message = f"{self._site_name(row)}: {error}"
            self.reasons[row] = message
            raise ImageError(message) from error
        except MemoryError as error:
            self._clear()  # the caller may need memory to end cleanly
            raise OutOfMemoryError(
                f"Memory ran out while {self._site_name(row)} was decoded ({self._file_names(row)}). {MEMORY_ADVICE}"
            ) from error
        return self._cache(row, image)

    def images(self, rows: Iterable[int]) -> list[np.ndarray]:
        """Return several images, decoded in parallel, in the order of the rows.

        Raises:
            ImageError: One of them cannot be read.
            OutOfMemoryError: Memory is too small for them; the message names the files of the batch.
        """
        rows = list(rows)
        try:
            return list(self._threads.map(self.image, rows))
        except OutOfMemoryError as error:
            names = "; ".join(self._file_names(row) for row in rows[:4])
            ellipsis = ", ..." if len(rows) > 4 else ""
            raise OutOfMemoryError(f"{error} Its batch has {len(rows)} images: {names}{ellipsis}.") from error

    def measure(self, rows: Iterable[int]) -> list[int]:
        """Read images once for their statistics; return the readable rows.

        The reasons of unreadable rows are in `reasons`.

        Raises:
            OutOfMemoryError: Memory is too small to decode an image.
        """

        def try_image(row: int) -> None:
            with contextlib.suppress(ImageError):  # `image` records the reason
                self.image(row)

        rows = list(rows)
        unmeasured = [row for row in rows if row not in self.reasons and not np.isfinite(self.statistics[row]).all()]
        show_count = count_items("reading images", len(unmeasured), "images") if unmeasured else None
        for k, _ in enumerate(self._threads.map(try_image, unmeasured), start=1):
            if show_count is not None:
                show_count(k)
        return [row for row in rows if row not in self.reasons]

    def readable_images(self, rows: Iterable[int]) -> list[tuple[int, np.ndarray]]:
        """Return the images that can be read, with their rows, in the order of the rows.

        The reasons of unreadable rows are in `reasons`; such a row is not tried again.

        Raises:
            OutOfMemoryError: Memory is too small to decode an image.
        """

        def try_image(row: int) -> np.ndarray | None:
            try:
                return self.image(row)
            except ImageError:  # `image` records the reason
                return None

        tried = [row for row in rows if row not in self.reasons]
        images = list(self._threads.map(try_image, tried))
        return [(row, image) for row, image in zip(tried, images, strict=True) if image is not None]

    def release(self, rows: Iterable[int]) -> None:
        """Give back the memory of images; their statistics stay."""
        with self._lock:
            for row in rows:
                image = self._cached.pop(row, None)
                self._cached_bytes -= 0 if image is None else image.nbytes

    def codes(self, columns: tuple[str, ...]) -> np.ndarray:
        """Return the group of each site by columns and fold, int64 [site]."""
        if columns not in self._codes:
            self._codes[columns] = group_codes(self.screen.sites, columns, self.fold)
        return self._codes[columns]

    @property
    def cached_bytes(self) -> int:
        """Bytes of the images in memory."""
        return self._cached_bytes

    def _cache(self, row: int, image: np.ndarray) -> np.ndarray:
        """Keep an image while the budget lasts; return the copy that was kept first."""
        with self._lock:
            if row not in self._cached and self._cached_bytes + image.nbytes <= self._memory:
                self._cached[row] = image
                self._cached_bytes += image.nbytes
            return self._cached.get(row, image)

    def _clear(self) -> None:
        with self._lock:
            self._cached.clear()
            self._cached_bytes = 0

    def _site_name(self, row: int) -> str:
        site = self.screen.sites.iloc[row]
        return f"Experiment {site.experiment} plate {site.plate} well {site.well} site {site.site}"

    def _file_names(self, row: int) -> str:
        return ", ".join(dict.fromkeys(str(path) for path in self.screen.image_paths(row)))

    def close(self) -> None:
        """Stop the threads and free the memory."""
        self._threads.close()
        self._clear()


def normalized_batches(
    cache: ImageCache, rows: Sequence[int], statistics: np.ndarray, *, batch_size: int, view: int = 0
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield standardized batches.

    The last batch is padded to full size, so that no result depends on its size.

    Args:
        cache: The images.
        rows: Readable sites of the screen.
        statistics: From `fit_normalization`.
        batch_size: Sites in every batch.
        view: Number of the test-time augmentation, 0-7.

    Yields:
        The rows of the batch (fewer than its size in the last), and float32 [batch_size, channel, height, width] in a
        buffer that the next batch reuses.
    """
    buffer = np.empty(0, dtype=np.float32)
    for batch, pixels in raw_batches(cache, rows, batch_size=batch_size, view=view):
        padded = batch + [batch[-1]] * (batch_size - len(batch))
        buffer = buffer if buffer.shape == pixels.shape else np.empty(pixels.shape, dtype=np.float32)
        standardize(pixels, statistics[padded], out=buffer, transform=cache.preprocessing.transform)
        yield batch, buffer


def raw_batches(
    cache: ImageCache, rows: Sequence[int], *, batch_size: int, view: int = 0
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield the pixels that `normalized_batches` standardizes, uint8 or uint16.

    They are augmented, padded and in the same order.

    Args:
        cache: The images.
        rows: Readable sites of the screen.
        batch_size: Sites in every batch.
        view: Number of the test-time augmentation, 0-7.

    Yields:
        The rows of the batch, and [batch_size, channel, height, width] in a buffer that the next batch reuses.
    """
    buffer = np.empty(0, dtype=np.uint8)
    for start in range(0, len(rows), batch_size):
        batch = list(rows[start : start + batch_size])
        images = cache.images(batch)
        if start == 0:
            channels, height, width = images[0].shape
            shape = (channels, width, height) if view & 4 else (channels, height, width)
            buffer = np.empty((batch_size, *shape), dtype=images[0].dtype)
        for slot, image in enumerate(images):
            augment(image, Augmentation(view), out=buffer[slot])
        buffer[len(images) :] = buffer[len(images) - 1]
        yield batch, buffer


def readable_batches(
    cache: ImageCache, rows: Sequence[int], *, batch_size: int, keep: bool = True
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield the pixels of the sites that can be read, each decoded once.

    Batches are padded as in `raw_batches`.

    Args:
        cache: The images; it has the reasons of the others afterwards.
        rows: Sites of the screen.
        batch_size: Sites in every batch.
        keep: Leave the images in the cache; False gives their memory back.

    Yields:
        The rows of the batch, and uint8 or uint16 [batch_size, channel, height, width] in a buffer that the next batch
        reuses.
    """
    buffer = np.empty(0, dtype=np.uint8)
    pending: list[tuple[int, np.ndarray]] = []
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        pending += cache.readable_images(part)
        if not keep:
            cache.release(part)
        is_last = start + batch_size >= len(rows)
        while len(pending) >= batch_size or (is_last and pending):
            batch, pending = pending[:batch_size], pending[batch_size:]
            if buffer.shape[1:] != batch[0][1].shape:
                buffer = np.empty((batch_size, *batch[0][1].shape), dtype=batch[0][1].dtype)
            for slot, (_, image) in enumerate(batch):
                buffer[slot] = image
            buffer[len(batch) :] = buffer[len(batch) - 1]
            yield [row for row, _ in batch], buffer
