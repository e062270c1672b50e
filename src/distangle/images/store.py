"""The images of a screen by row: read once, kept in memory while they fit."""

import contextlib
import threading
from collections.abc import Iterable

import numpy as np

from distangle.errors import ImageError, MemoryShortage, ScreenError
from distangle.images.intensity import channel_statistics
from distangle.images.preparation import Preparation, bin_pixels
from distangle.images.site import SiteReader
from distangle.images.threads import Threads
from distangle.progress import counting
from distangle.screen import Screen

SHORT = "End other programs, ask for more memory, or take smaller batches, then start again."


class ImageStore:
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
        preparation: Preparation | None = None,
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
        self.preparation = preparation or Preparation()
        self.reasons: dict[int, str] = {}
        self.statistics = np.full((len(screen.sites), 2, len(screen.card.channels)), np.nan, dtype=np.float32)
        self._reader = SiteReader(screen)
        self._memory = memory
        self._cached: dict[int, np.ndarray] = {}
        self._cached_bytes = 0
        self._lock = threading.Lock()  # of the two above: several threads decode
        self._threads = Threads(workers, name="decode")

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
            raise MemoryShortage(
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
        except MemoryShortage as error:
            named = "; ".join(self._files(row) for row in rows[:4])
            more = ", ..." if len(rows) > 4 else ""
            raise MemoryShortage(f"{error} Its batch has {len(rows)} images: {named}{more}.") from error

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
        read = counting("reading images", len(missing), "images") if missing else None
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
