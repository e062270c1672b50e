"""Read images of sites, average them, and merge channels to pictures."""

import io
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from PIL import Image

from distangle.errors import DistangleError
from distangle.images.cache import VerifiedReader
from distangle.screen import Screen
from distangle.web.answers import AnswerError
from distangle.web.index import ViewIndex
from distangle.web.source import Notice, notice_of

Value = TypeVar("Value")
CACHE_BYTES = 64 * 2**20
THUMBNAIL_BYTES = 16 * 2**20
THUMBNAIL_PX = 96
SMALLEST_LEVEL = 32  # pixels of the shorter side of the coarsest level
CONTROL_SITES = 4  # read for the contrast of a plate
PERCENTILES = (0.1, 99.9)
BRIGHTEST_SUM = 1.8  # of a component over all channels; assets/color.js has the same
AT_ONCE = 4  # images that are decoded at the same time
FALLBACK_COLORS = ("#3b6fff", "#2ee66b", "#ff3b30", "#2fd6e6", "#f04df0", "#f5e146")
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")


@dataclass(frozen=True)
class Layer:
    """A channel of a composite.

    Attributes:
        channel: Number of the channel, from 0.
        color: Red, green and blue, 0 to 255.
        low: Pixel value drawn as black.
        high: Pixel value drawn at full brightness.
        gamma: Exponent of the brightness.
    """

    channel: int
    color: tuple[int, int, int]
    low: float
    high: float
    gamma: float = 1.0


class Cache(Generic[Value]):
    """Values by their key, up to a number of bytes; each is made by one thread.

    Args:
        limit: Bytes at most.
        size: Function that returns the bytes of a value.
    """

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self._limit, self._size = limit, size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()
        self.n_bytes = 0

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return a value; make it if it is not there.

        Args:
            key: The key.
            make: Makes the value; its error is raised and nothing is stored.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            own = self._making.setdefault(key, threading.Lock())
        with own:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            try:
                value = make()
            except BaseException:
                with self._lock:
                    self._making.pop(key, None)
                raise
            with self._lock:
                self._making.pop(key, None)
                self._values[key] = value
                self.n_bytes += self._size(value)
                while self.n_bytes > self._limit and len(self._values) > 1:
                    self.n_bytes -= self._size(self._values.popitem(last=False)[1])
            return value


class SitePixels:
    """Pixels of the sites of a source.

    Args:
        index: The source; it must have images.
        screen: Its screen.
    """

    def __init__(self, index: ViewIndex, screen: Screen) -> None:
        self._index, self._reader = index, VerifiedReader(screen)
        self._images: Cache[np.ndarray] = Cache(CACHE_BYTES, lambda image: image.nbytes)
        self._thumbnails: Cache[bytes] = Cache(THUMBNAIL_BYTES, len)
        self._limits: Cache[np.ndarray] = Cache(2**20, lambda limits: limits.nbytes)
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self.colors = channel_colors([channel.color for channel in screen.metadata.channels])

    def image(self, site: int) -> np.ndarray:
        """Return the image of a site, uint8 or uint16 [channel, height, width].

        Raises:
            AnswerError: It cannot be read.
        """

        def read() -> np.ndarray:
            try:
                with self._turns:
                    return self._reader.read(site)
            except (DistangleError, MemoryError) as error:
                hide = self._index.source.without_folders
                notice = notice_of(error) if isinstance(error, DistangleError) else Notice("Memory is too small.")
                moved = "" if "--images" in str(error) else "Start the viewer with `--images FOLDER` if it was moved."
                next_step = f"{hide(notice.next_step)} {moved}".strip()
                raise AnswerError(410, f"The image cannot be read: {hide(notice.text)}", next_step) from error

        return self._images.get(site, read)

    def level(self, site: int, level: int) -> np.ndarray:
        """Return the image of a site, averaged over squares of 2^level pixels.

        Raises:
            AnswerError: There is no such level, or the image cannot be read.
        """
        image = self.image(site)
        if not 0 <= level < n_levels(image.shape[1:]):
            raise AnswerError(400, f"No level {level}: expected 0 to {n_levels(image.shape[1:]) - 1}.")
        return average(image, 2**level)

    def limits(self, site: int) -> np.ndarray:
        """Return the default contrast of a site, float64 [channel, (low, high)].

        The controls of a plate set the contrast of its sites; a plate without readable controls has that of each site.

        Raises:
            AnswerError: The image cannot be read.
        """
        plate = int(self._index.plate_of_well[self._index.well_of_site[site]])
        limits = self._limits.get(plate, lambda: self._plate_limits(plate))
        return limits if len(limits) else contrast([self.image(site)])

    def composite(self, site: int, level: int, layers: Sequence[Layer]) -> bytes:
        """Return the composite of a site as PNG.

        Raises:
            AnswerError: There is no such level or channel, or the image cannot be read.
        """
        image = self.level(site, level)
        for layer in layers:
            check_channel(layer.channel, len(image))
        return encode_png(merge(image, layers))

    def thumbnail(self, site: int) -> bytes:
        """Return a small composite in default contrast as PNG.

        Raises:
            AnswerError: The image cannot be read.
        """

        def draw() -> bytes:
            image = self.image(site)
            limits = self.limits(site)
            small = average(image, max(1, -(-max(image.shape[1:]) // THUMBNAIL_PX)))
            layers = [
                Layer(channel, color, float(low), float(high))
                for channel, (color, (low, high)) in enumerate(zip(dim(self.colors), limits, strict=True))
            ]
            return encode_png(merge(small, layers))

        return self._thumbnails.get(site, draw)

    def _plate_limits(self, plate: int) -> np.ndarray:
        wells = self._index.wells_of(plate)
        controls = wells[self._index.is_control[wells]]
        images: list[np.ndarray] = []
        for well in controls[:: max(1, len(controls) // CONTROL_SITES)][:CONTROL_SITES]:
            try:
                images.append(self.image(int(self._index.first_site[well])))
            except AnswerError:
                continue  # the page shows the reason at the site
        same = [image for image in images if len(image) == len(images[0])]
        return contrast(same) if same else np.empty((0, 2))


def dim(colors: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return colors dim enough not to add up to white, as the page does.

    Args:
        colors: Red, green and blue of the channels that are on, 0 to 255.
    """
    if not colors:
        return []
    brightest = max(sum(parts) for parts in zip(*colors, strict=True)) / 255
    k = min(1.0, BRIGHTEST_SUM / max(brightest, 1e-9))
    return [(round(k * red), round(k * green), round(k * blue)) for red, green, blue in colors]


def channel_colors(names: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return red, green and blue of every channel; a single channel is white.

    Args:
        names: `#RRGGBB` of every channel; another text gets one of six colors.
    """
    if len(names) == 1:
        return [(255, 255, 255)]
    colors = [
        name if _COLOR.fullmatch(name) else FALLBACK_COLORS[k % len(FALLBACK_COLORS)] for k, name in enumerate(names)
    ]
    return [(int(name[1:3], 16), int(name[3:5], 16), int(name[5:7], 16)) for name in colors]


def check_channel(channel: int, n_channels: int) -> None:
    """Check that there is a channel.

    Raises:
        AnswerError: There is none.
    """
    if not 0 <= channel < n_channels:
        raise AnswerError(404, f"No channel {channel}: expected 0 to {n_channels - 1}.")


def contrast(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return the pixel values of black and full brightness, float64 [channel, 2].

    Every 7th pixel is used.
    """
    return np.array(
        [
            np.percentile(np.concatenate([image[channel].ravel()[::7] for image in images]), PERCENTILES)
            for channel in range(len(images[0]))
        ]
    )


def n_levels(shape: tuple[int, ...]) -> int:
    """Return the number of levels of an image of a height and width."""
    return max(1, int(np.floor(np.log2(max(1, min(shape)) / SMALLEST_LEVEL))) + 1)


def average(image: np.ndarray, factor: int) -> np.ndarray:
    """Return the rounded means over squares; incomplete ones are left out.

    Args:
        image: uint8 or uint16 [channel, height, width].
        factor: Side of a square in pixels.
    """
    if factor == 1:
        return image
    n_channels, height, width = len(image), image.shape[1] // factor, image.shape[2] // factor
    squares = image[:, : height * factor, : width * factor].reshape(n_channels, height, factor, width, factor)
    means: np.ndarray = squares.mean(axis=(2, 4), dtype=np.float32)
    return np.asarray(np.rint(means), dtype=image.dtype)


def merge(image: np.ndarray, layers: Sequence[Layer]) -> np.ndarray:
    """Add channels in their colors, uint8 [height, width, 3].

    Every channel is scaled between its limits, clipped, raised to gamma and multiplied by its color. A channel whose
    limits are equal is black.

    Args:
        image: [channel, height, width].
        layers: The channels that are shown.
    """
    total = np.zeros((*image.shape[1:], 3), dtype=np.float32)
    n_values = 256 if image.dtype == np.uint8 else 65536
    for layer in layers:
        if layer.high <= layer.low:
            continue
        values = np.arange(n_values, dtype=np.float64)
        shares = np.clip((values - layer.low) / (layer.high - layer.low), 0, 1) ** layer.gamma
        total += (shares[:, None] * np.array(layer.color, dtype=np.float64)).astype(np.float32)[image[layer.channel]]
    return np.floor(np.clip(total, 0, 255) + 0.5).astype(np.uint8)


def encode_png(picture: np.ndarray) -> bytes:
    """Return a picture as PNG; fast rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
