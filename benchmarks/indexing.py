"""What comes before any training: indexing a screen of RxRx1's size, hashing its files, measuring its images.

The 753,060 files are hollow, on a file system in memory where there is one: it is the program that is measured, and no
disk. Hashing is measured on files of the size of a PNG file of RxRx1, statistics on pixels in memory.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import measure
from distangle.core.io import sha256_of
from distangle.images import channel_statistics
from distangle.images.jit_threshold import JIT_THRESHOLD
from distangle.screen import index

CELL_TYPES = {"HEPG2": 11, "HUVEC": 24, "RPE": 11, "U2OS": 5}
ROWS, COLUMNS, PLATES = "BCDEFGHIJKLMNO", range(2, 24), 4
N_WELLS, N_SITES, N_CHANNELS = 62_755, 2, 6
PNG_BYTES, N_PNG = 90_000, 600


def wells() -> list[tuple[str, int, str]]:
    experiments = [f"{name}-{k + 1:02d}" for name, n in CELL_TYPES.items() for k in range(n)]
    names = [f"{row}{column:02d}" for row in ROWS for column in COLUMNS]
    all_wells = [
        (experiment, plate, well) for experiment in experiments for plate in range(1, PLATES + 1) for well in names
    ]
    return all_wells[:N_WELLS]


def make_screen(folder: Path) -> None:
    """Write a table and empty files as Kaggle's archive has them."""
    lines = ["id_code,experiment,plate,well,sirna"]
    for k, (experiment, plate, well) in enumerate(wells()):
        lines.append(f"{experiment}_{plate}_{well},{experiment},{plate},{well},sirna_{k * 7919 % 1108}")
        plate_folder = folder / "train" / experiment / f"Plate{plate}"
        if well == "B02":
            plate_folder.mkdir(parents=True)
        for site in range(1, N_SITES + 1):
            for channel in range(1, N_CHANNELS + 1):
                descriptor = os.open(f"{plate_folder}/{well}_s{site}_w{channel}.png", os.O_CREAT | os.O_WRONLY)
                os.ftruncate(descriptor, 1)  # a file of no byte at all is refused; this one takes no room either
                os.close(descriptor)
    (folder / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def time_indexing(folder: Path) -> bool:
    make_screen(folder)
    start, wall = time.process_time(), time.perf_counter()
    screen = index(folder, layout="rxrx1", hash_files=False)
    cpu, wall = time.process_time() - start, time.perf_counter() - wall
    assert len(screen.sites) == screen.metadata.found == N_WELLS * N_SITES, screen.metadata  # noqa: S101
    start = time.process_time()
    for place, _, files in os.walk(folder):
        for name in files:
            Path(place, name).stat()
    n_sites = len(screen.sites)
    print(f"{N_WELLS:,} wells, {n_sites:,} sites, {n_sites * N_CHANNELS:,} files: {wall:.1f} s wall")
    print(f"asking the system for every file (limit): {time.process_time() - start:.2f} s CPU")
    return measure.verdict("seconds of CPU to index RxRx1", cpu, at_most=20.0)


def time_hashing(folder: Path) -> bool:
    paths = [folder / f"{k}.png" for k in range(N_PNG)]
    for path in paths:
        path.write_bytes(os.urandom(PNG_BYTES))
    pixels = np.empty(PNG_BYTES, dtype=np.uint8)
    copy = np.empty_like(pixels)
    times = measure.time_variants(
        {
            "hash of files": lambda: [sha256_of(path) for path in paths],
            "the files read": lambda: [path.read_bytes() for path in paths],
            "as many bytes copied (limit)": lambda: [np.copyto(copy, pixels) for _ in paths],
        },
        rounds=7,
    )
    measure.show_times(times)
    rates = {name: N_PNG * PNG_BYTES / timing.median / 1e9 for name, timing in times.items()}
    print(", ".join(f"{name}: {rate:.2f} GB/s" for name, rate in rates.items()))
    return measure.verdict("GB a second and core, hash of files", rates["hash of files"], at_least=1.0)


def statistics() -> bool:
    JIT_THRESHOLD.count(1 << 40)
    verdicts = []
    for dtype in ("uint8", "uint16"):
        image = np.random.default_rng(0).poisson(12, (N_CHANNELS, 512, 512)).astype(dtype)
        moments = channel_statistics(image)
        np.testing.assert_allclose(moments, [[p.mean() for p in image], [p.std() for p in image]], rtol=1e-7)  # float32
        copy = np.empty_like(image)
        times = measure.time_variants(
            {
                "numpy, mean and std of each plane": lambda image=image: [(p.mean(), p.std()) for p in image],
                "ours": lambda image=image: channel_statistics(image),
                "copy of the pixels (limit)": lambda image=image, copy=copy: np.copyto(copy, image),
            },
            rounds=9,
            calls=20,
            warmups=2,
        )
        measure.show_times(times)
        first, ours, *_ = (timing.median for timing in times.values())
        verdicts.append(measure.verdict(f"numpy / ours, {dtype}", first / ours, at_least=20.0))
    return all(verdicts)


def main() -> int:
    print(f"load average {os.getloadavg()[0]:.1f}")
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
    with tempfile.TemporaryDirectory() as name:
        verdicts = [statistics(), time_hashing(Path(name))]
    with tempfile.TemporaryDirectory(dir=in_memory) as name:
        verdicts.append(time_indexing(Path(name)))
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
