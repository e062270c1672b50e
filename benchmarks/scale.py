"""Tables of RxRx1's size: time, memory and exponent of everything that works on rows.

Of the stand-in (`stand_in.py`) the first 125,510 sites are taken, RxRx1's number. Smaller parts have fewer
experiments, four times as many sites have 204. Only `index` and `verify` have images: for the others, paths and hashes
are made up, so a case takes the time of its tables alone.

Every case runs in a process of its own, one thread: wall time, CPU time, and memory above that of its input.

    python benchmarks/scale.py                     # every case at 1/32, 1/8 and 1/1
    python benchmarks/scale.py --cases read_screen evaluate --scales 1 4
    python benchmarks/scale.py --cases index --scales 0.125 1 --all-files
"""

import argparse
import gc
import json
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import measure  # before numpy: it holds the thread pools at one
from stand_in import N_CHANNELS, make_folds, make_predictions, make_screen, write_files

N_SITES = 125_510
N_WARM_UP = 2_600  # sites: two experiments
FOLDERS: list[Path] = []  # of this process, removed at its end
MAX_EXPONENT = 1.1


@dataclass(frozen=True)
class Cost:
    """What a case took: seconds of wall and CPU, and bytes above those of its input."""

    wall: float
    cpu: float
    added: int


def read_screen(n_sites: int) -> Callable[[], object]:
    from distangle.screen import read_screen, write_screen

    folder = Path(tempfile.mkdtemp(prefix="distangle-scale-"))
    FOLDERS.append(folder)
    write_screen(make_screen(n_sites), folder)
    return lambda: read_screen(folder)


def check_tables(n_sites: int) -> Callable[[], object]:
    from distangle.screen.checks import check_tables

    return partial(check_tables, make_screen(n_sites))


def find_leaks(n_sites: int) -> Callable[[], object]:
    from distangle.screen.checks.leaks import find_leaks

    screen = make_screen(n_sites)
    return partial(find_leaks, screen, make_folds(screen))


def hold_out(n_sites: int) -> Callable[[], object]:
    screen = make_screen(n_sites)
    return lambda: make_folds(screen)


def folds_of(n_sites: int) -> Callable[[], object]:
    screen = make_screen(n_sites)
    folds = make_folds(screen)
    return lambda: folds.of(screen)


def statistics(n_sites: int) -> Callable[[], object]:
    from distangle.screen.statistics import statistics

    return partial(statistics, make_screen(n_sites))


def plate_groups(n_sites: int) -> Callable[[], object]:
    from distangle.screen.plate_groups import statistics_groups

    screen = make_screen(n_sites)
    fold = make_folds(screen).of(screen)
    rows = range(n_sites)
    return partial(statistics_groups, screen, rows, by="plate", min_sites=64, source_rows=rows, fold=fold)


def control_sites(n_sites: int) -> Callable[[], object]:
    from distangle.training.config import PRESETS, TrainingConfig
    from distangle.training.data import sites

    screen = make_screen(n_sites)
    config = TrainingConfig(**{**PRESETS["scratch"], "batch_norm": {"n_controls": 4}, "batches": {"pure": "plate"}})
    sites.fit_normalization = lambda _, rows: (list(rows), np.zeros((n_sites, 2, N_CHANNELS), dtype=np.float32))
    store = SimpleNamespace(screen=screen, preprocessing=config.preprocessing)
    return partial(sites.control_sites, store, make_folds(screen), config, say=lambda _: None)


def evaluate(n_sites: int, *, predictions=None, screen=None) -> Callable[[], object]:  # noqa: ANN001
    from distangle.inference import evaluate

    screen = screen or make_screen(n_sites)
    predictions = predictions or make_predictions(screen, make_folds(screen))
    trained = set(screen.sites["perturbation"])
    metadata = SimpleNamespace(
        trained_classes=trained,
        classes=screen.metadata.perturbations,
        preprocessing=SimpleNamespace(standardize="image"),
        correction=SimpleNamespace(method="none"),
    )
    run = {"target": "perturbation", "held_out": "half", "forced": False, "unlabelled": ""}
    labels = predictions.table["perturbation"].to_numpy(dtype=object)
    baselines = {"site": {name: labels[::-1] for name in ("position", "plate", "intensity")}}
    return partial(evaluate, [predictions], card=metadata, run=run, baselines=baselines)


def calibrate(n_sites: int) -> Callable[[], object]:
    """Fit the temperatures, with the confidences of every row."""
    from distangle.inference.cross_fit import cross_fit

    screen = make_screen(n_sites)
    return partial(cross_fit, make_predictions(screen, make_folds(screen)), set(screen.metadata.perturbations))


def baselines(n_sites: int) -> Callable[[], object]:
    from distangle.inference.baselines import predict_without_cells

    screen = make_screen(n_sites)
    predictions = make_predictions(screen, make_folds(screen))
    statistics = np.random.default_rng(1).random((n_sites, 2, N_CHANNELS), dtype=np.float32)
    return partial(predict_without_cells, predictions, predictions, statistics)


def make_files(n_sites: int) -> Path:
    """Write the files of the stand-in, in memory where there is such a file system."""
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix="distangle-scale-", dir=in_memory))
    FOLDERS.append(folder)
    write_files(folder, n_sites)
    return folder


def index(n_sites: int) -> Callable[[], object]:
    """Index with hashing."""
    from distangle.images import find_zeroed_rows, probe_image
    from distangle.screen import index

    folder = make_files(n_sites)
    return partial(index, folder, layout="rxrx1", probe=probe_image, find_zeroed_rows=find_zeroed_rows)


def verify(n_sites: int) -> Callable[[], object]:
    """Verify the images of a screen."""
    from distangle.results import verify_screen
    from distangle.screen import read_screen, write_screen

    folder = make_files(n_sites)
    from distangle.screen import index

    write_screen(index(folder, layout="rxrx1"), folder / "screen")
    screen = read_screen(folder / "screen")
    return partial(verify_screen, screen)


def report(n_sites: int) -> Callable[[], object]:
    """Draw what grows with classes and plates: scores, confusion and plate maps, on one page."""
    from distangle.inference import average_wells
    from distangle.report import html
    from distangle.report.sections import scores as sections

    screen = make_screen(n_sites)
    predictions = make_predictions(screen, make_folds(screen))
    scores = evaluate(n_sites, predictions=predictions, screen=screen)()
    wells = average_wells(predictions)
    data = SimpleNamespace(
        scores=scores, wells=wells, screen=screen, stamp="", holds_nothing_out=False, command_path="runs/first"
    )

    def draw() -> None:
        contents = {"confusion": sections.confusion(data, lambda name, _: name), "plates": sections.plate_maps(data)}
        parts = [html.Section(name=name, title=name, content=content) for name, content in contents.items()]
        page = html.render_page("scale", stamp="", header=html.paragraph("scale"), sections=parts)
        if n_sites > N_WARM_UP:
            n_json = len(json.dumps(scores.model_dump(mode="json"), indent=2))
            print(f"page {len(page.encode()) / 1e6:.2f} MB, scores.json {n_json / 1e3:.0f} kB, {n_sites:,} sites")

    return draw


@dataclass(frozen=True)
class Case:
    """What to measure, and its limits: scale to seconds of CPU, and MiB above the input at the largest."""

    prepare: Callable[[int], Callable[[], object]]
    seconds: dict[float, float]
    mib: float


CASES = {
    "read_screen": Case(read_screen, {1: 0.5, 4: 2.0}, 1024),
    "check_tables": Case(check_tables, {4: 10.0}, 1024),
    "find_leaks": Case(find_leaks, {4: 10.0}, 1024),
    "hold_out": Case(hold_out, {1: 1.0, 4: 4.0}, 1024),
    "folds_of": Case(folds_of, {1: 0.5, 4: 2.0}, 1024),
    "statistics": Case(statistics, {1: 1.0, 4: 4.0}, 1024),
    "plate_groups": Case(plate_groups, {1: 2.0, 4: 8.0}, 1024),
    "control_sites": Case(control_sites, {1: 1.0, 4: 4.0}, 1024),
    "evaluate": Case(evaluate, {1: 3.0}, 300),
    "calibrate": Case(calibrate, {1: 10.0}, 300),
    "baselines": Case(baselines, {1: 3.0}, 300),
    "report": Case(report, {1: 10.0}, 300),
    "index": Case(index, {1 / 8: 90 / 8, 1: 90.0}, 500),
    "verify": Case(verify, {1 / 8: 60 / 8, 1: 60.0}, 500),
}
WITH_FILES = ("index", "verify")  # at an eighth at most, unless all files are asked for
NEED_LOGITS = ("evaluate", "baselines", "calibrate", "report")


def _measure(name: str, n_sites: int, answers: Connection) -> None:
    CASES[name].prepare(N_WARM_UP)()  # what is imported on first use is no cost of a row
    call = CASES[name].prepare(n_sites)
    measure.hold_one_thread()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of the input: start again from here
    start = measure.resident()
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    answers.send(Cost(wall=wall, cpu=cpu, added=measure.peak_resident() - start))
    for folder in FOLDERS:
        shutil.rmtree(folder)


def cost_of(name: str, n_sites: int) -> Cost:
    """Measure a case in a process of its own."""
    fresh = multiprocessing.get_context("spawn")
    receiver, sender = fresh.Pipe(duplex=False)
    child = fresh.Process(target=_measure, args=(name, n_sites, sender))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        child.join()


def measure_case(name: str, scales: list[float], *, all_files: bool) -> bool:
    """Print the costs of a case at every scale, its exponent and its limits."""
    case, costs, verdicts = CASES[name], {}, []
    for scale in scales if all_files or name not in WITH_FILES else [min(scale, 1 / 8) for scale in scales]:
        if name in NEED_LOGITS and scale > 1:  # 502,000 rows of 1,139 float32 logits are 2.3 GB
            continue
        n_sites = round(N_SITES * scale)
        costs[n_sites] = cost = cost_of(name, n_sites)
        print(f"{name:14s} {n_sites:9,d} sites {cost.wall:8.2f} s {cost.cpu:8.2f} s CPU {cost.added / 2**20:8.0f} MiB")
        if scale in case.seconds:
            verdicts.append(measure.verdict(f"{name}, seconds of CPU", cost.cpu, at_most=case.seconds[scale]))
    if len(costs) > 1:
        (n_few, first), *_, (n_many, last) = costs.items()
        verdicts.append(measure.verdict(f"{name}, MiB above the input", last.added / 2**20, at_most=case.mib))
        exponent = math.log(last.cpu / max(first.cpu, 1e-3)) / math.log(n_many / n_few)
        verdicts.append(measure.verdict(f"{name}, exponent", exponent, at_most=MAX_EXPONENT))
    return all(verdicts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--scales", nargs="*", type=float, default=[1 / 32, 1 / 8, 1])
    parser.add_argument("--all-files", action="store_true", help="write and read up to 753,060 files (3 GB)")
    arguments = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}")
    verdicts = [measure_case(name, arguments.scales, all_files=arguments.all_files) for name in arguments.cases]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
