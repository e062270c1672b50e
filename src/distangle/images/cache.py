"""One site of a screen: the image that was indexed, or a refusal.

The images of a screen by row: read once, kept in memory while they fit.

Sites in order, standardised, in batches of one constant size.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from distangle.core.progress import count_items
from distangle.errors import ConfigError, ImageError, OutOfMemoryError, ScreenError
from distangle.images.augmentation import Augmentation, augment
from distangle.images.preprocessing import (
    GROUP,
    Preprocessing,
    bin_pixels,
    channel_statistics,
    pooled_statistics,
    standardize,
    statistics_by_site,
)
from distangle.images.readers.read import has_checksum, read_image
from distangle.images.thread_pool import ForkSafeThreadPool
from distangle.screen import Screen, sha256_of_site
from distangle.screen.indexing.hashing import size_and_mtime
from distangle.screen.plate_groups import group_codes


class VerifiedReader:
    """Read images of a screen; refuse those whose files changed after indexing.

    Sizes are compared every time. The bytes are compared with the SHA-256 of the index, where the screen was indexed
    with hashes, when they are first read and whenever they were written anew. One file with a checksum of its own (see
    `has_checksum`) that is as large and as old as the index says is believed; of several, two may be exchanged.

    Args:
        screen: With images.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._right_at = np.full(len(screen.sites), np.nan)  # when the newest file of a site was written

    def read(self, row: int) -> np.ndarray:
        """Return the image of a site, uint8 or uint16 [channel, height, width].

        Args:
            row: Position in the screen's sites.

        Raises:
            ImageError: A file is damaged, or another than when it was indexed.
            ScreenError: The screen was indexed without looking for images.
            RemoteError: A file cannot be fetched.
            MemoryError: There is no room for the pixels.
        """
        paths, pages = self._screen.image_paths(row), self._screen.pages(row)
        image = read_image(paths, pages)
        sizes, times = zip(*(size_and_mtime(path) for path in dict.fromkeys(paths)), strict=True)
        self._check_size(row, paths, sum(sizes))
        if self._right_at[row] != max(times):
            self._check_bytes(row, paths, pages, written=max(times))
            self._right_at[row] = max(times)
        return image

    def _check_size(self, row: int, paths: Sequence[Path], found: int) -> None:
        expected = self._indexed("size", row)
        if expected is not None and found != expected:
            raise ImageError(
                f"{_named(paths)}: {found} bytes now, {expected} when it was indexed. Index the screen again; "
                "`distangle check` finds all such files."
            )

    def _check_bytes(self, row: int, paths: Sequence[Path], pages: Sequence[int | None], *, written: float) -> None:
        expected = self._indexed("sha256", row)
        alone = len(set(paths)) == 1 and has_checksum(paths[0])
        if not expected or (alone and written == self._indexed("mtime", row)):
            return
        if sha256_of_site(paths, pages) != expected:
            raise ImageError(
                f"{_named(paths)}: as many bytes as when it was indexed, but not the same ones (SHA-256). Copy it "
                "again from where it came, or, if it was meant, index the screen again; `distangle verify` finds all "
                "such files."
            )

    def _indexed(self, column: str, row: int) -> object:
        """What the index says; None in a table made by hand that does not say."""
        return self._screen.sites[column].iat[row] if column in self._screen.sites else None


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(dict.fromkeys(str(path) for path in paths))


SHORT = "End other programs, ask for more memory, or take smaller batches, then start again."


class ImageCache:
    """A cache of binned images, uint8 or uint16 [channel, height, width], by row.

    Args:
        screen: Where the files are.
        preparation: How images are to be binned and their intensities transformed.
        fold: Of each site, from `Folds.of`: what is estimated from wells (means, spreads, references, norms) is
            estimated in each fold by itself, so that no two folds share an estimate. None: the screen is one fold.
        memory: Bytes of decoded images to keep; the rest is read anew each time.
        workers: Threads that decode (the decoders release the interpreter lock).

    Raises:
        ScreenError: The screen has no images.
        ValueError: `fold` is of another length.
    """

    def __init__(
        self,
        screen: Screen,
        preparation: Preprocessing | None = None,
        *,
        fold: np.ndarray | None = None,
        memory: int = 4 << 30,
        workers: int = 2,
    ) -> None:
        if screen.card.tables_only:
            raise ScreenError(
                "This screen was indexed with --tables-only, so it has no images. Index it again where they are."
            )
        if fold is not None and len(fold) != len(screen.sites):
            raise ValueError(
                f"{len(fold)} folds were given for {len(screen.sites)} sites. Give one each: `Folds.of(screen)`."
            )
        self.screen = screen
        self.fold = fold
        self.preparation = preparation or Preprocessing()
        self.reasons: dict[int, str] = {}
        self.statistics = np.full((len(screen.sites), 2, len(screen.card.channels)), np.nan, dtype=np.float32)
        self._reader = VerifiedReader(screen)
        self._memory = memory
        self._cached: dict[int, np.ndarray] = {}
        self._cached_bytes = 0
        self._lock = threading.Lock()  # of the two above: several threads decode
        self._threads = ForkSafeThreadPool(workers, name="decode")

    def image(self, row: int) -> np.ndarray:
        """Return one image.

        Raises:
            ImageError: It cannot be read; the message names file, plate, well and site.
            MemoryShortage: There is no memory for it; that says nothing against its files.
        """
        cached = self._cached.get(row)
        if cached is not None:
            return cached
        try:
            image = self._reader.read(row)
            expected = self.screen.card.shape
            if expected is not None and image.shape[1:] != tuple(expected):
                raise ImageError(f"the image is {image.shape[1:]}, but the screen was indexed as {tuple(expected)}")
            image = bin_pixels(image, self.preparation.binning)
            self.statistics[row] = channel_statistics(image, transform=self.preparation.transform)
        except ImageError as error:
            message = f"{self._place(row)}: {error}"
            self.reasons[row] = message
            raise ImageError(message) from error
        except MemoryError as error:
            self._clear()  # what ends now may need some
            raise OutOfMemoryError(
                f"Memory ran out while {self._place(row)} was decoded ({self._files(row)}). {SHORT}"
            ) from error
        return self._cache(row, image)

    def images(self, rows: Iterable[int]) -> list[np.ndarray]:
        """Return several images, decoded side by side, in the order asked for.

        Raises:
            ImageError: One of them cannot be read.
            MemoryShortage: There is no memory for them; names the files of the batch.
        """
        rows = list(rows)
        try:
            return list(self._threads.map(self.image, rows))
        except OutOfMemoryError as error:
            named = "; ".join(self._files(row) for row in rows[:4])
            more = ", ..." if len(rows) > 4 else ""
            raise OutOfMemoryError(f"{error} Its batch has {len(rows)} images: {named}{more}.") from error

    def measure(self, rows: Iterable[int]) -> list[int]:
        """Read images once for their statistics; return the rows that can be read.

        What cannot be read is kept with its reason in `reasons`.

        Raises:
            MemoryShortage: There is no memory to decode one.
        """

        def try_image(row: int) -> None:
            with contextlib.suppress(ImageError):  # `image` has noted the reason
                self.image(row)

        rows = list(rows)
        missing = [row for row in rows if row not in self.reasons and not np.isfinite(self.statistics[row]).all()]
        read = count_items("reading images", len(missing), "images") if missing else None
        for k, _ in enumerate(self._threads.map(try_image, missing), start=1):
            if read is not None:
                read(k)
        return [row for row in rows if row not in self.reasons]

    @property
    def kept_bytes(self) -> int:
        """Bytes of the images in memory."""
        return self._cached_bytes

    def _cache(self, row: int, image: np.ndarray) -> np.ndarray:
        """Keep an image while the budget lasts; return the copy kept first."""
        with self._lock:
            if row not in self._cached and self._cached_bytes + image.nbytes <= self._memory:
                self._cached[row] = image
                self._cached_bytes += image.nbytes
            return self._cached.get(row, image)

    def _clear(self) -> None:
        with self._lock:
            self._cached.clear()
            self._cached_bytes = 0

    def _place(self, row: int) -> str:
        site = self.screen.sites.iloc[row]
        return f"Experiment {site.experiment} plate {site.plate} well {site.well} site {site.site}"

    def _files(self, row: int) -> str:
        return ", ".join(dict.fromkeys(str(path) for path in self.screen.image_paths(row)))

    def close(self) -> None:
        """Let go of the threads and the memory."""
        self._threads.close()
        self._clear()


SAMPLE = 1000  # images that the mean and spread of the training rest on


def fit_normalization(store: ImageCache, rows: Sequence[int]) -> tuple[list[int], np.ndarray]:
    """Read the images that the standardisation of `rows` rests on.

    Of a plate or experiment in several folds of the store, a site rests on the sites of its own fold.

    Args:
        store: The images and how they are prepared.
        rows: The sites that will be used.

    Returns:
        The rows that can be read (the others are in `store.reasons`), and float32 [site of the screen, 2,
        channel]: what each site is to be standardised by.

    Raises:
        ConfigError: A plate has no negative control, and standardising needs one.
    """
    by = store.preparation.standardize
    sites = store.screen.sites
    needed = list(rows)
    if store.preparation.transductive:
        codes = group_codes(sites, GROUP[by], store.fold)
        needed = np.flatnonzero(np.isin(codes, codes[list(rows)])).tolist()
    store.measure(needed)
    readable = [row for row in rows if row not in store.reasons]
    if by == "training":
        if store.preparation.fixed is None:
            raise ConfigError(
                "standardize=training needs the mean and spread of training images. Call `fix_statistics` first."
            )
        fixed = np.asarray(store.preparation.fixed, dtype=np.float32)
        return readable, np.broadcast_to(fixed, (len(sites), *fixed.shape))
    return readable, statistics_by_site(store.screen, store.statistics, by=by, rows=readable, fold=store.fold)


def fix_statistics(store: ImageCache, rows: Sequence[int]) -> Preprocessing:
    """Return the preparation, with training statistics if standardize=training.

    It is one affine map of all pixels of a channel, and knows neither plates nor labels. The spread is rounded to a
    power of two and the mean to a multiple of it: no more than the order of magnitude is taken from the wells, and
    the folds of a cross-validation, each from its own wells, nearly always agree and can share features.

    Args:
        store: The images.
        rows: Sites of the training fold; of more than a thousand, a thousand spread evenly are read.

    Raises:
        ImageError: None of them can be read.
    """
    preparation = store.preparation
    if preparation.standardize != "training" or preparation.fixed is not None:
        return preparation
    chosen = [rows[k] for k in np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(int)] if len(rows) else []
    readable = store.measure(chosen)
    if not readable:
        reason = f"; the first: {store.reasons[chosen[0]]}" if chosen else ""
        raise ImageError(
            f"None of {len(chosen)} training images can be read to standardise by{reason}. Check the screen."
        )
    mean, spread = pooled_statistics(store.statistics[readable]).astype(np.float64)
    octave = np.exp2(np.rint(np.log2(np.where(spread > 0, spread, 1.0))))
    rounded = np.rint(mean / octave) * octave
    fixed = (tuple(float(value) for value in rounded), tuple(float(value) for value in octave))
    return preparation.model_copy(update={"fixed": fixed})


def normalized_batches(
    store: ImageCache, rows: Sequence[int], statistics: np.ndarray, *, batch_size: int, view: int = 0
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Give standardised batches.

    The last is padded to full size, so that no result depends on its place.

    Args:
        store: The images.
        rows: Readable sites of the screen.
        statistics: From `measure_sites`.
        batch_size: Sites in every batch.
        view: Number of the dihedral view, 0-7.

    Yields:
        The rows of the batch (fewer than its size in the last), and float32 [batch_size, channel, height,
        width] in a buffer that the next batch reuses.
    """
    ready = np.empty(0, dtype=np.float32)
    for chosen, raw in raw_batches(store, rows, batch_size=batch_size, view=view):
        padded = chosen + [chosen[-1]] * (batch_size - len(chosen))
        ready = ready if ready.shape == raw.shape else np.empty(raw.shape, dtype=np.float32)
        standardize(raw, statistics[padded], out=ready, transform=store.preparation.transform)
        yield chosen, ready


def raw_batches(
    store: ImageCache, rows: Sequence[int], *, batch_size: int, view: int = 0
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Give the pixels that `ready_batches` standardises, uint8 or uint16.

    They are turned, padded and in the same order.

    Args:
        store: The images.
        rows: Readable sites of the screen.
        batch_size: Sites in every batch.
        view: Number of the dihedral view, 0-7.

    Yields:
        The rows of the batch, and [batch_size, channel, height, width] in a buffer that the next batch reuses.
    """
    raw = np.empty(0, dtype=np.uint8)
    for start in range(0, len(rows), batch_size):
        chosen = list(rows[start : start + batch_size])
        images = store.images(chosen)
        if start == 0:
            channels, height, width = images[0].shape
            shape = (channels, width, height) if view & 4 else (channels, height, width)
            raw = np.empty((batch_size, *shape), dtype=images[0].dtype)
        for slot, image in enumerate(images):
            augment(image, Augmentation(view), out=raw[slot])
        raw[len(images) :] = raw[len(images) - 1]
        yield chosen, raw
