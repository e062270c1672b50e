"""Reading an image of six stains: packed, and from the six PNG files, against OpenCV and the recipe of 2019.

Images: those of a screen (`--screen`), else the first sites of a simulated one. Bit-equal output is checked before
anything is timed. OpenCV is the peer and no dependency: `pip install opencv-python-headless`.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import measure
from distangle.images import channel_statistics, pack_screen, probe_image, read_image, standardise, take_view
from distangle.images.views import View
from distangle.screen import Screen, index, read_screen
from distangle.synthetic import SimulationConfig, simulate

N_IMAGES = 6


def a_screen(folder: Path) -> Screen:
    config = SimulationConfig(image_size=512, cell_types=["HUVEC"], experiments_per_cell_type=1, n_treatments=2)
    simulate(folder / "plates", config, workers=1)
    return index(folder / "plates", layout="rxrx1", probe=probe_image)


def cut(screen: Screen, rows: list[int]) -> Screen:
    card = screen.card.model_copy(update={"found": len(rows), "indexed": len(rows), "refused": 0})
    return Screen(
        card=card,
        sites=screen.sites.iloc[rows].reset_index(drop=True),
        problems=screen.problems.iloc[:0],
        folder=screen.folder,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screen", type=Path)
    given = parser.parse_args()
    try:
        import cv2
    except ImportError:
        print("OpenCV is not installed: there is nothing to compare with (pip install opencv-python-headless).")
        return 0
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        screen = a_screen(folder) if given.screen is None else read_screen(given.screen)
        step = max(1, len(screen.sites) // N_IMAGES)
        screen = cut(screen, list(range(0, len(screen.sites), step))[:N_IMAGES])
        kinds = {kind: pack_screen(screen, folder / kind, format=kind) for kind in ("ome-zarr", "records")}
        screens = {"files": screen, **{kind: packed.screen for kind, packed in kinds.items()}}
        where = {kind: [(one.image_paths(r), one.pages(r)) for r in range(N_IMAGES)] for kind, one in screens.items()}
        names = [[str(path) for path in paths] for paths, _ in where["files"]]

        def peer(row: int) -> np.ndarray:
            return np.stack([cv2.imread(path, cv2.IMREAD_UNCHANGED) for path in names[row]])

        for row in range(N_IMAGES):
            for kind in where:
                np.testing.assert_array_equal(read_image(*where[kind][row]), peer(row))

        def each(call: Callable[[int], object]) -> Callable[[], None]:
            def run() -> None:
                for row in range(N_IMAGES):
                    call(row)

            return run

        shape = peer(0).shape
        raw, ready = np.empty((1, *shape), peer(0).dtype), np.empty((1, *shape), np.float32)

        def recipe(row: int) -> torch.Tensor:
            image = np.stack([cv2.imread(path, cv2.IMREAD_UNCHANGED) for path in names[row]], axis=2)
            turned = np.ascontiguousarray(image[::-1])
            floats = torch.from_numpy(turned.transpose(2, 0, 1)).contiguous().float().div(255)
            flat = floats.view(len(floats), -1)
            mean, spread = flat.mean(1)[:, None, None], flat.std(1)[:, None, None]
            return (floats - mean) / spread

        def by_arrays(row: int) -> np.ndarray:
            image = np.stack([cv2.imread(path, cv2.IMREAD_UNCHANGED) for path in names[row]], axis=2)
            floats = np.ascontiguousarray(image[::-1].transpose(2, 0, 1)).astype(np.float32) / 255
            mean, spread = floats.mean((1, 2), keepdims=True), floats.std((1, 2), keepdims=True)
            return (floats - mean) / spread

        def ours(kind: str, row: int, *, floats: bool = True) -> np.ndarray:
            image = read_image(*where[kind][row])
            take_view(image, View(1), out=raw[0])
            if not floats:
                return raw
            standardise(raw, channel_statistics(image, transform="none")[None], out=ready, transform="none")
            return ready

        for row in range(N_IMAGES):
            expected = by_arrays(row)
            np.testing.assert_allclose(recipe(row).numpy(), expected, atol=1e-4)  # torch divides by n - 1
            for kind in where:
                np.testing.assert_allclose(ours(kind, row)[0], expected, atol=1e-4)
        times = measure.time_variants(
            {
                "OpenCV, six PNG files": each(peer),
                "ours, six PNG files": each(lambda row: read_image(*where["files"][row])),
                "ours, OME-Zarr": each(lambda row: read_image(*where["ome-zarr"][row])),
                "ours, records": each(lambda row: read_image(*where["records"][row])),
                "recipe of 2019, from PNG to floats": each(recipe),
                "the same in tuned NumPy": each(by_arrays),
                "ours, from PNG to floats": each(lambda row: ours("files", row)),
                "ours, from OME-Zarr to floats": each(lambda row: ours("ome-zarr", row)),
                "ours, from records to floats": each(lambda row: ours("records", row)),
                "ours, from records to uint8": each(lambda row: ours("records", row, floats=False)),
                "copy of the pixels (limit)": each(lambda row: np.copyto(raw[0], raw[0][::-1])),
            },
            rounds=9,
            warmups=3,  # the quick readers begin when their start has paid
        )
        measure.show_times(times)
        cpu = {name: timing.median for name, timing in times.items()}
        before = sum(path.stat().st_size for paths, _ in where["files"] for path in set(paths))
        kept = []
        for kind, faster in (("ome-zarr", None), ("records", 8.0)):
            share = kinds[kind].bytes_after / before
            ratio = cpu["OpenCV, six PNG files"] / cpu["ours, OME-Zarr" if kind == "ome-zarr" else "ours, records"]
            kept.append(measure.verdict(f"images a second, {kind} / OpenCV", ratio, at_least=faster))
            kept.append(measure.verdict(f"bytes, {kind} / PNG", share, at_most=None if faster is None else 1.05))
        base = cpu["recipe of 2019, from PNG to floats"]
        for what, limit in (
            ("from PNG to floats", 1.9),
            ("from records to floats", 8.0),
            ("from records to uint8", 14.0),
        ):
            kept.append(measure.verdict(f"recipe of 2019 / ours, {what}", base / cpu[f"ours, {what}"], at_least=limit))
            tuned = cpu["the same in tuned NumPy"] / cpu[f"ours, {what}"]
            measure.verdict(f"the same in tuned NumPy / ours, {what}", tuned)
        kept.append(
            measure.verdict(
                "OpenCV / ours, six PNG files", cpu["OpenCV, six PNG files"] / cpu["ours, six PNG files"], at_least=1.5
            )
        )
        return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
