"""The viewer on a stand-in of RxRx1's size: 125,510 site rows, 1,139 perturbations, images for two plates.

The server runs as a user starts it, `distangle view RUN`, in a process of its own; requests come from this one. CPU
time is that of the server. Wall times are printed beside it, and depend on what else the machine does.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.numpy import save_file

import measure
from distangle.screen import Channel, Screen, ScreenMetadata, ordered_classes_sha256, write_screen
from distangle.screen.screen import PROBLEM_COLUMNS

CELL_TYPES = {"HEPG2": 11, "HUVEC": 24, "RPE": 11, "U2OS": 5}
ROWS, COLUMNS, PLATES = "BCDEFGHIJKLMNO", range(2, 24), 4
N_WELLS, N_SITES, N_CHANNELS, N_PERTURBATIONS, N_FEATURES = 62_755, 2, 6, 1139, 128
PIXELS, IMAGE_PLATES = 512, 2
NAMES = ("nuclei", "ER", "actin", "RNA", "mitochondria", "Golgi")
N_CLIENTS, CLIENT_SECONDS = 20, 6.0


def site_table() -> pd.DataFrame:
    experiments = [f"{name}-{k + 1:02d}" for name, n in CELL_TYPES.items() for k in range(n)]
    wells = [
        (experiment, str(plate), f"{row}{column:02d}", "ABCDEFGHIJKLMNOP".index(row), column - 1)
        for experiment in experiments
        for plate in range(1, PLATES + 1)
        for row in ROWS
        for column in COLUMNS
    ][:N_WELLS]
    table = pd.DataFrame(wells, columns=["experiment", "plate", "well", "row", "column"])
    number = np.arange(len(table)) * 7919 % N_PERTURBATIONS
    table["perturbation"] = [f"sirna_{k}" for k in number]
    table["role"] = np.where(number == 0, "negative_control", "treatment")
    table["cell_type"], table["split"] = table["experiment"].str.partition("-")[0], "train"
    table = table.loc[table.index.repeat(N_SITES)].reset_index(drop=True)
    table["site"] = np.arange(len(table)) % N_SITES + 1
    first = ["experiment", "plate", "well", "row", "column", "site", "cell_type", "perturbation", "role", "split"]
    table = table[first]
    for k in range(1, N_CHANNELS + 1):
        folder = "train/" + table["experiment"] + "/Plate" + table["plate"]
        table[f"path_{k}"] = folder + "/" + table["well"] + "_s" + table["site"].astype(str) + f"_w{k}.png"
        table[f"page_{k}"] = -1
    table["size"], table["mtime"], table["sha256"] = 0, 0.0, ""
    return table


def write_images(folder: Path, table: pd.DataFrame) -> int:
    """Write images like cells for the first plates; return how many sites have them."""
    random_numbers = np.random.default_rng(0)
    ground = random_numbers.gamma(2.0, 9.0, (PIXELS, PIXELS))
    n_sites = IMAGE_PLATES * len(ROWS) * len(COLUMNS) * N_SITES
    pictures = []
    for k in range(N_CHANNELS):
        picture = np.clip(np.roll(ground, 37 * k, axis=k % 2) + random_numbers.poisson(6, ground.shape), 0, 255)
        path = folder / f"picture{k}.png"
        Image.fromarray(picture.astype(np.uint8)).save(path)
        pictures.append(path)
    for site in range(n_sites):
        for k, path in enumerate(pictures):
            target = folder / table[f"path_{k + 1}"].iat[site]
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    table.loc[: n_sites - 1, "size"] = sum(path.stat().st_size for path in pictures)
    return n_sites


def write_run(folder: Path) -> int:
    """Write a screen and a run with predictions; return how many sites have images."""
    table = site_table()
    n_images = write_images(folder, table)
    names = tuple(f"sirna_{k}" for k in range(N_PERTURBATIONS))
    metadata = ScreenMetadata(
        layout="rxrx1",
        source=str(folder),
        channels=tuple(Channel(name=name) for name in NAMES),
        dtype="uint8",
        shape=(PIXELS, PIXELS),
        plate_rows=16,
        plate_columns=24,
        perturbations=names,
        perturbations_sha256=ordered_classes_sha256(names),
        cell_types=tuple(CELL_TYPES),
        extra_columns=(),
        found=len(table),
        indexed=len(table),
        refused=0,
    )
    problems = pd.DataFrame({name: pd.Series([], dtype="str") for name in PROBLEM_COLUMNS}).astype({"count": "int64"})
    write_screen(Screen(metadata=metadata, sites=table, problems=problems), folder / "screen")
    run = folder / "run"
    (run / "predictions").mkdir(parents=True)
    (run / "screen.json").write_text((folder / "screen/screen.json").read_text())
    (run / "run.json").write_text(json.dumps({"screen": "../screen", "target": "perturbation", "finished": True}))
    for level, part in (("site", table), ("well", table[::N_SITES])):
        random_numbers = np.random.default_rng(1)
        rows = pd.DataFrame(
            {
                "Metadata_Experiment": part["experiment"],
                "Metadata_Plate": part["plate"],
                "Metadata_Well": part["well"],
                **({"Metadata_Site": part["site"]} if level == "site" else {}),
                "Metadata_Fold": np.where(part["experiment"].str.endswith("01"), "held_out", "train"),
                "perturbation": part["perturbation"],
                "predicted": np.roll(part["perturbation"], 1),
                "confidence": random_numbers.random(len(part)),
                "reason": "",
            }
        )
        rows.to_parquet(run / f"predictions/{level}s.parquet", index=False)
        arrays = {"embedding": random_numbers.normal(size=(len(part), N_FEATURES)).astype(np.float32)}
        if level == "well":
            arrays["logits"] = random_numbers.normal(size=(len(part), N_PERTURBATIONS)).astype(np.float32)
        names_text = {"perturbations": "\x1f".join(names), "views": "1"}
        save_file(arrays, run / f"predictions/{level}s.safetensors", metadata=names_text)
    return n_images


class Client:
    """A browser with the cookie of a viewer."""

    def __init__(self, url: str) -> None:
        self.base = url.partition("?")[0].rstrip("/")
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        self.opener.open(url).read()

    def get(self, path: str) -> bytes:
        """Return the bytes of an answer."""
        request = urllib.request.Request(self.base + path, headers={"Accept-Encoding": "gzip"})  # noqa: S310
        with self.opener.open(request) as answer:
            return bytes(answer.read())


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def start(folder: Path) -> tuple["subprocess.Popen[str]", str]:
    """Start a viewer; with compiled modules from its second start on, as an installed package has them."""
    command = [sys.executable, "-m", "distangle", "view", str(folder), "--no-browser"]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout or ():
        if match := re.search(r"http\S+token=\S+", line):
            return process, match[0]
    raise RuntimeError(f"The viewer ended with status {process.wait()}.")


def well_images(client: Client, process: int, sites: list[int]) -> tuple[float, float]:
    """Return wall and CPU milliseconds of a well image with six channels: contrast, then every plane."""
    client.get(f"/api/sites/{sites[0]}/image")  # the contrast of the plate
    wall, cpu = time.perf_counter(), cpu_seconds(process)
    for site in sites[1:]:
        client.get(f"/api/sites/{site}/image")
        for channel in range(N_CHANNELS):
            client.get(f"/api/sites/{site}/channels/{channel}")
    n = len(sites) - 1
    return (time.perf_counter() - wall) / n * 1000, (cpu_seconds(process) - cpu) / n * 1000


def many_clients(url: str, n_images: int, n_wells: int) -> tuple[int, int]:
    """Return how many requests were answered, and how many failed, with 20 clients at once."""
    counts = [[0, 0] for _ in range(N_CLIENTS)]

    def work(k: int) -> None:
        numbers = random.Random(k)
        end = time.monotonic() + CLIENT_SECONDS
        client = Client(url)
        while time.monotonic() < end:
            path = numbers.choice(
                [
                    "/api/summary",
                    f"/api/wells/{numbers.randrange(n_wells)}",
                    f"/api/sites/{numbers.randrange(n_images)}/thumbnail.png",
                    f"/api/sites/{numbers.randrange(n_images)}/channels/{numbers.randrange(6)}?level=1",
                    "/api/plates",
                ]
            )
            try:
                client.get(path)
                counts[k][0] += 1
            except OSError as error:
                print(f"client {k}: {path}: {error}")
                counts[k][1] += 1

    threads = [threading.Thread(target=work, args=(k,)) for k in range(N_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(pair[0] for pair in counts), sum(pair[1] for pair in counts)


def main() -> int:
    print(f"load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        n_images = write_run(Path(name))
        start(Path(name) / "run")[0].terminate()  # compiles the modules
        wall = time.perf_counter()
        process, url = start(Path(name) / "run")
        try:
            startup, started_cpu = time.perf_counter() - wall, cpu_seconds(process.pid)
            client = Client(url)
            wall, cpu = time.perf_counter(), cpu_seconds(process.pid)
            plates = client.get("/api/plates")
            plates_wall, plates_cpu = time.perf_counter() - wall, cpu_seconds(process.pid) - cpu
            wall = time.perf_counter()
            sites = client.get("/api/sites")
            print(f"sites of the screen: {len(sites):,} bytes, {time.perf_counter() - wall:.2f} s wall")
            wall, cpu = time.perf_counter(), cpu_seconds(process.pid)
            points = client.get("/api/points?of=sites")
            points_wall, points_cpu = time.perf_counter() - wall, cpu_seconds(process.pid) - cpu
            wall = time.perf_counter()
            client.get("/api/wells/30000")
            print(f"a well with its nearest wells: {time.perf_counter() - wall:.2f} s wall")
            image_wall, image_cpu = well_images(client, process.pid, list(range(0, 80, 2)))
            n_answered, n_failed = many_clients(url, n_images, N_WELLS)
            peak = peak_bytes(process.pid)
        finally:
            process.terminate()
            process.wait()
    print(f"start {startup:.2f} s wall; plates {plates_wall:.2f} s wall, {len(plates):,} bytes")
    print(f"map {points_wall:.2f} s wall, {len(points):,} bytes; well image {image_wall:.0f} ms wall")
    print(f"{N_CLIENTS} clients: {n_answered} answers in {CLIENT_SECONDS:g} s")
    verdicts = [
        measure.verdict("seconds of CPU from the command to the URL", started_cpu, at_most=2.0),
        measure.verdict("seconds of CPU, first plate index", plates_cpu, at_most=1.0),
        measure.verdict("megabytes of the plate index", len(plates) / 1e6, at_most=5.0),
        measure.verdict("seconds of CPU, map of 125,510 sites", points_cpu, at_most=1.0),
        measure.verdict("milliseconds of CPU, well image of six channels", image_cpu, at_most=150.0),
        measure.verdict("megabytes of memory at the peak", peak / 1e6, at_most=500.0),
        measure.verdict("requests of 20 clients that failed", n_failed, at_most=0),
    ]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
