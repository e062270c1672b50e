"""Tables of RxRx1's size: time, memory and exponent of everything that works on rows.

The stand-in has 51 experiments of 4 plates of 308 wells of 2 sites, 1,108 treatments and 30 positive controls; of its
sites the first 125,510 are taken, RxRx1's number. Smaller parts have fewer experiments, four times as many sites have
204. No image exists: paths and hashes are made up, so a case takes the time of its tables alone.

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
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

import measure  # before numpy: it holds the thread pools at one

N_SITES = 125_510
N_EXPERIMENTS, N_PLATES, N_CHANNELS = 51, 4, 6
N_TREATMENTS, N_POSITIVE = 1_108, 30
ROWS, COLUMNS = "BCDEFGHIJKLMNO", range(2, 24)
CELL_TYPES = ("HEPG2", "HUVEC", "RPE", "U2OS")
HELD_OUT_SHARE = 0.51  # of the experiments: 64,032 sites of all
N_FEATURES = 128
N_WARM_UP = 2_600  # sites: two experiments
FOLDERS: list[Path] = []  # of this process, removed at its end
MAX_EXPONENT = 1.1


@dataclass(frozen=True)
class Cost:
    """What a case took: seconds of wall and CPU, and bytes above those of its input."""

    wall: float
    cpu: float
    added: int


def make_sites(n_sites: int) -> pd.DataFrame:
    """Return a table of sites without files; the last columns are those of `read_screen`."""
    wells = [(row, column) for row in range(len(ROWS)) for column in range(len(COLUMNS))]
    names = np.array([f"{ROWS[row]}{COLUMNS[column]:02d}" for row, column in wells], dtype=object)
    per_experiment = N_PLATES * len(wells) * 2
    n_experiments = -(-n_sites // per_experiment)
    experiments = [f"{CELL_TYPES[k % 4]}-{k + 1:03d}" for k in range(n_experiments)]
    groups = np.array_split(np.arange(N_TREATMENTS), N_PLATES)
    labels, roles = [], []
    for k in range(n_experiments):
        rng = np.random.default_rng(k)
        for plate in range(N_PLATES):
            treatments = [f"sirna_{name}" for name in groups[plate]]
            controls = [f"sirna_{N_TREATMENTS + name}" for name in range(N_POSITIVE)]
            content = [
                *((name, "treatment") for name in treatments),
                *((name, "positive_control") for name in controls),
            ]
            content += [("EMPTY", "untreated")] * (len(wells) - len(content))
            for index in rng.permutation(len(wells)):
                labels.append(content[index][0])
                roles.append(content[index][1])
    n_wells = len(labels)
    well = np.tile(np.arange(len(wells)), n_experiments * N_PLATES)
    plate = np.repeat(np.tile(np.arange(N_PLATES) + 1, n_experiments), len(wells))
    experiment = np.repeat(np.array(experiments, dtype=object), len(wells) * N_PLATES)
    position = np.array(wells)[well]
    table = pd.DataFrame(
        {
            "experiment": experiment,
            "plate": plate.astype(str).astype(object),
            "well": names[well],
            "row": position[:, 0] + 1,
            "column": position[:, 1] + 1,
            "cell_type": np.array([name.partition("-")[0] for name in experiment], dtype=object),
            "perturbation": np.array(labels, dtype=object),
            "role": np.array(roles, dtype=object),
            "split": np.full(n_wells, "", dtype=object),
        }
    )
    sites = table.loc[np.repeat(np.arange(n_wells), 2)].reset_index(drop=True)
    sites.insert(5, "site", np.tile([1, 2], n_wells))
    sites = sites.iloc[:n_sites].reset_index(drop=True)
    stem = sites["experiment"] + "/Plate" + sites["plate"] + "/" + sites["well"] + "_s" + sites["site"].astype(str)
    for k in range(1, N_CHANNELS + 1):
        sites[f"path_{k}"] = (stem + f"_w{k}.png").astype("str")
        sites[f"page_{k}"] = np.int64(-1)
    sites["size"], sites["mtime"] = np.int64(540_000), 1.7e9
    sites["sha256"] = [f"{k:064x}" for k in range(n_sites)]
    texts = ("experiment", "plate", "well", "cell_type", "perturbation", "role", "split", "sha256")
    return sites.astype(dict.fromkeys(texts, "str"))


def make_screen(n_sites: int):  # noqa: ANN201 - the type is imported where it is needed
    """Return the stand-in as a screen in memory."""
    from distangle.screen import Screen
    from distangle.screen.roles import named_channels, ordered_classes, ordered_classes_sha256
    from distangle.screen.screen import PROBLEM_COLUMNS, ScreenMetadata

    sites = make_sites(n_sites)
    classes = ordered_classes(sites["perturbation"])
    metadata = ScreenMetadata(
        layout="rxrx1",
        source="images",
        channels=named_channels([f"w{k}" for k in range(1, N_CHANNELS + 1)]),
        dtype="uint8",
        shape=(512, 512),
        plate_rows=16,
        plate_columns=24,
        perturbations=classes,
        perturbations_sha256=ordered_classes_sha256(classes),
        cell_types=tuple(sorted(set(sites["cell_type"]))),
        extra_columns=(),
        found=n_sites,
        indexed=n_sites,
        refused=0,
    )
    problems = pd.DataFrame({name: pd.Series(dtype="str") for name in PROBLEM_COLUMNS}).astype({"count": "int64"})
    return Screen(metadata=metadata, sites=sites, problems=problems)


def make_folds(screen):  # noqa: ANN001, ANN201
    """Hold out the last half of the experiments."""
    from distangle.screen.folds.folds import hold_out

    names = list(dict.fromkeys(screen.sites["experiment"]))
    n = min(max(1, round(HELD_OUT_SHARE * len(names))), len(names) - 1)
    return hold_out(screen, values=names[-n:])


def make_predictions(screen, folds):  # noqa: ANN001, ANN201
    """Return predictions of the sites of a screen: a third of them right."""
    from distangle.results import Predictions

    sites, rng = screen.sites, np.random.default_rng(0)
    classes = screen.metadata.perturbations
    code = pd.Categorical(sites["perturbation"], categories=classes).codes.astype(np.int64)
    logits = rng.standard_normal((len(sites), len(classes)), dtype=np.float32)
    logits[np.arange(len(sites)), code] += np.where(rng.random(len(sites)) < 1 / 3, 6, 0).astype(np.float32)
    names = ("experiment", "plate", "well", "site", "cell_type", "role")
    table = pd.DataFrame({f"Metadata_{name.title()}": sites[name] for name in names})
    table["Metadata_Fold"] = pd.Series(folds.of(screen), dtype="str")
    table["perturbation"] = sites["perturbation"]
    table["predicted"] = pd.Series(np.array(classes, dtype=object)[logits.argmax(axis=1)], dtype="str")
    table["confidence"] = rng.random(len(sites))
    table["reason"] = pd.Series([""] * len(sites), dtype="str")
    embedding = np.zeros((len(sites), N_FEATURES), dtype=np.float32)
    return Predictions(
        level="site", table=table, logits=logits, embedding=embedding, perturbations=tuple(classes), views=1
    )


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


def tiny_png(number: int) -> bytes:
    """Return a PNG file of 16 x 16 gray pixels, another one for every number."""
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 1)),
        (b"IEND", b""),
    ]
    parts = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def make_files(n_sites: int) -> Path:
    """Write the stand-in as Kaggle's archive has it, in memory where there is such a file system."""
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix="distangle-scale-", dir=in_memory))
    FOLDERS.append(folder)
    sites = make_sites(n_sites)
    wells = sites.drop_duplicates(["experiment", "plate", "well"])
    code = wells["experiment"] + "_" + wells["plate"] + "_" + wells["well"]
    table = pd.DataFrame({"id_code": code, "experiment": wells["experiment"], "plate": wells["plate"]})
    sirna = np.where(wells["role"] == "untreated", "sirna_1138", wells["perturbation"])
    table.assign(well=wells["well"], sirna=sirna).to_csv(folder / "train.csv", index=False)
    for place in (sites["experiment"] + "/Plate" + sites["plate"]).unique():
        (folder / "train" / place).mkdir(parents=True)
    number = 0
    for k in range(1, N_CHANNELS + 1):
        for path in sites[f"path_{k}"].tolist():
            (folder / "train" / path).write_bytes(tiny_png(number))
            number += 1
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
