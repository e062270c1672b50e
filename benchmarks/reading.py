"""Reading an image of six stains: packed, and from the six PNG files, against OpenCV and the recipe of 2019.

Images: those of a screen (`--screen`), else the first sites of a simulated one. Bit-equal output is checked before
anything is timed. OpenCV is the peer and no dependency: `pip install -e '.[bench]'`.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import measure
from distangle.images import augment, channel_statistics, pack_screen, probe_image, read_image, standardize
from distangle.images.augmentation import N_VIEWS, Augmentation
from distangle.screen import Screen, index, read_screen
from distangle.synthetic import SimulationConfig, simulate

N_IMAGES = 6
STORES = ("ome-zarr", "records")

OPENCV, RECIPE, TUNED = "OpenCV, six PNG files", "recipe of 2019, from PNG to floats", "the same in tuned NumPy"


def a_screen(folder: Path) -> Screen:
    config = SimulationConfig(image_size=512, cell_types=["HUVEC"], experiments_per_cell_type=1, n_treatments=2)
    simulate(folder / "plates", config, workers=1)
    return index(folder / "plates", layout="rxrx1", probe=probe_image)


def subset(screen: Screen) -> Screen:
    """`N_IMAGES` sites spread over the screen, or all of a smaller one."""
    rows = list(range(0, len(screen.sites), max(1, len(screen.sites) // N_IMAGES)))[:N_IMAGES]
    metadata = screen.metadata.model_copy(update={"found": len(rows), "indexed": len(rows), "refused": 0})
    return Screen(
        metadata=metadata,
        sites=screen.sites.iloc[rows].reset_index(drop=True),
        problems=screen.problems.iloc[:0],
        folder=screen.folder,
    )


class Peers:
    """What others do with the six PNG files of one image."""

    def __init__(self, screen: Screen) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._read = lambda path: cv2.imread(path, cv2.IMREAD_UNCHANGED)
        self._names = [[str(path) for path in screen.image_paths(row)] for row in range(len(screen.sites))]

    def image(self, row: int) -> np.ndarray:
        """(channel, height, width) as stored."""
        return np.stack([self._read(path) for path in self._names[row]])

    def recipe(self, row: int) -> torch.Tensor:
        """A flipped image standardised by its own channels, in the order and with the calls of 2019."""
        image = np.stack([self._read(path) for path in self._names[row]], axis=2)
        rotated = np.ascontiguousarray(image[::-1])
        floats = torch.from_numpy(rotated.transpose(2, 0, 1)).contiguous().float().div(255)
        flat = floats.view(len(floats), -1)
        mean, spread = flat.mean(1)[:, None, None], flat.std(1)[:, None, None]
        return (floats - mean) / spread

    def fast_arrays(self, row: int) -> np.ndarray:
        """The same as arrays, written for speed."""
        image = np.stack([self._read(path) for path in self._names[row]], axis=2)
        floats = np.ascontiguousarray(image[::-1].transpose(2, 0, 1)).astype(np.float32) / 255
        mean, spread = floats.mean((1, 2), keepdims=True), floats.std((1, 2), keepdims=True)
        return (floats - mean) / spread


class LibraryReader:
    """The same by this library, from files or from a store, into buffers that are used again."""

    def __init__(self, screens: dict[str, Screen]) -> None:
        n_images = len(screens["files"].sites)
        self._where = {
            kind: [(screen.image_paths(row), screen.pages(row)) for row in range(n_images)]
            for kind, screen in screens.items()
        }
        first = self.image("files", 0)
        self.flipped = np.empty((1, *first.shape), first.dtype)
        self._ready = np.empty((1, *first.shape), np.float32)

    def image(self, kind: str, row: int) -> np.ndarray:
        """(channel, height, width) as stored."""
        return read_image(*self._where[kind][row])

    def whole(self, kind: str, row: int) -> np.ndarray:
        """A flipped image as stored: what goes to an accelerator."""
        augment(self.image(kind, row), Augmentation(1), out=self.flipped[0])
        return self.flipped

    def floats(self, kind: str, row: int) -> np.ndarray:
        """The same, standardised by its own channels: what the network takes."""
        image = self.image(kind, row)
        augment(image, Augmentation(1), out=self.flipped[0])
        statistics = channel_statistics(image, transform="none")[None]
        standardize(self.flipped, statistics, out=self._ready, transform="none")
        return self._ready


def check_equal(peers: Peers, ours: LibraryReader, n_images: int) -> None:
    """Ours against theirs: the pixels bit by bit, the floats within rounding."""
    for row in range(n_images):
        pixels, expected = peers.image(row), peers.fast_arrays(row)
        np.testing.assert_allclose(peers.recipe(row).numpy(), expected, atol=1e-4)  # torch divides by n - 1
        for kind in ("files", *STORES):
            np.testing.assert_array_equal(ours.image(kind, row), pixels)
            np.testing.assert_array_equal(ours.whole(kind, row)[0], pixels[:, ::-1])
            np.testing.assert_allclose(ours.floats(kind, row)[0], expected, atol=1e-4)


def cpu_seconds(peers: Peers, ours: LibraryReader, n_images: int) -> dict[str, float]:
    """Median CPU seconds of `n_images` images by each reader, interleaved."""

    def for_each_row(call: Callable[[int], object]) -> Callable[[], None]:
        def run() -> None:
            for row in range(n_images):
                call(row)

        return run

    times = measure.time_variants(
        {
            OPENCV: for_each_row(peers.image),
            "ours, six PNG files": for_each_row(lambda row: ours.image("files", row)),
            "ours, ome-zarr": for_each_row(lambda row: ours.image("ome-zarr", row)),
            "ours, records": for_each_row(lambda row: ours.image("records", row)),
            RECIPE: for_each_row(peers.recipe),
            TUNED: for_each_row(peers.fast_arrays),
            "ours, from PNG to floats": for_each_row(lambda row: ours.floats("files", row)),
            "ours, from ome-zarr to floats": for_each_row(lambda row: ours.floats("ome-zarr", row)),
            "ours, from records to floats": for_each_row(lambda row: ours.floats("records", row)),
            "ours, from records to uint8": for_each_row(lambda row: ours.whole("records", row)),
            "copy of the pixels (limit)": for_each_row(lambda row: np.copyto(ours.flipped[0], ours.flipped[0][::-1])),
        },
        rounds=9,
        warmups=3,  # the quick readers begin when their start has paid
    )
    measure.show_times(times)
    return {name: timing.median for name, timing in times.items()}


def verdicts(cpu: dict[str, float], bytes_share: dict[str, float]) -> list[bool]:
    """Ours beside theirs, each ratio printed with its limit; OME-Zarr has none, since `records` is the quick store."""
    speed_verdicts = []
    for kind, faster, smaller in (("ome-zarr", None, None), ("records", 8.0, 1.05)):
        ratio = cpu[OPENCV] / cpu[f"ours, {kind}"]
        speed_verdicts.append(measure.verdict(f"images a second, {kind} / OpenCV", ratio, at_least=faster))
        speed_verdicts.append(measure.verdict(f"bytes, {kind} / PNG", bytes_share[kind], at_most=smaller))
    for step, limit in (("from PNG to floats", 1.9), ("from records to floats", 8.0), ("from records to uint8", 14.0)):
        own_time = cpu[f"ours, {step}"]
        speed_verdicts.append(measure.verdict(f"recipe of 2019 / ours, {step}", cpu[RECIPE] / own_time, at_least=limit))
        measure.verdict(f"the same in tuned NumPy / ours, {step}", cpu[TUNED] / own_time)
    files = cpu[OPENCV] / cpu["ours, six PNG files"]
    speed_verdicts.append(measure.verdict("OpenCV / ours, six PNG files", files, at_least=1.5))
    return speed_verdicts


def view_verdict() -> bool:
    """Time a crop of 400 resized to 384 in each of the eight orientations, 6 x 512 x 512."""
    image = np.random.default_rng(0).integers(0, 255, (6, 512, 512)).astype(np.uint8)
    out = np.empty((6, 384, 384), np.uint8)

    def view_all() -> None:
        for number in range(N_VIEWS):
            augment(image, Augmentation(number, top=50, left=60, size=400), out=out)

    times = measure.time_variants({"eight resized views": view_all}, rounds=25, warmups=3)
    measure.show_times(times)
    milliseconds = times["eight resized views"].median / N_VIEWS * 1000
    return measure.verdict("ms CPU of a resized view", milliseconds, at_most=1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screen", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        screen = subset(a_screen(folder) if arguments.screen is None else read_screen(arguments.screen))
        try:
            peers = Peers(screen)
        except ImportError:
            print("OpenCV is not installed: there is nothing to compare with (pip install -e '.[bench]').")
            return 1
        packs = {kind: pack_screen(screen, folder / kind, format=kind) for kind in STORES}
        ours = LibraryReader({"files": screen, **{kind: pack.screen for kind, pack in packs.items()}})
        n_images = len(screen.sites)
        check_equal(peers, ours, n_images)
        paths = {path for row in range(n_images) for path in screen.image_paths(row)}
        before = sum(path.stat().st_size for path in paths)
        cpu = cpu_seconds(peers, ours, n_images)
        all_verdicts = verdicts(cpu, {kind: pack.bytes_after / before for kind, pack in packs.items()})
        all_verdicts.append(view_verdict())
        return 0 if all(all_verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
