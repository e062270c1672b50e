"""A screen of a few dozen tiny images and a run of a fraction of a second, for tests that stop runs."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import distangle.training.checkpointing.manager as training
from distangle.core.progress import no_progress
from distangle.images import probe_image
from distangle.inference import predict_run
from distangle.results import RunFolder
from distangle.screen import Screen, hold_out, index, read_screen, write_screen
from distangle.training import resolve_config, start_run, train
from distangle.training.checkpointing.checkpoints import save_state

CLASSES = ("DMSO", "taxol", "nocodazole")
# Everything that keeps state between two steps: dropout, weight average, gradient accumulation, two views.
TRAINING = (
    "batch_size=4",
    "gradient_accumulation=2",
    "ema_decay=0.9",
    "precision=fp32",
    "network.handcrafted_features=false",
    "network.neck_dropout=0.3",
    "network.backbone=densenet_small",
    "network.embedding_size=8",
    "optim.warmup_epochs=1",
)


def tiny_screen(
    folder: Path, *, n_wells: int = 8, size: int = 24, seed: int = 0, hash_files: bool = False, dark: str = ""
) -> Screen:
    """Write plates/ and screen/ under a folder: three experiments, two stains, a perturbation brightens the second.

    The images of the experiment `dark` have an eighth of the light.
    """
    rng = np.random.default_rng(seed)
    (folder / "plates" / "images").mkdir(parents=True)
    rows = []
    for experiment in ("E1", "E2", "E3"):
        for well in range(n_wells):
            kind = well % len(CLASSES)
            names = []
            for channel in range(2):
                level = 60 + 30 * channel * kind
                name = f"images/{experiment}_{well}_{channel}.png"
                pixels = rng.integers(level, level + 50, (size, size)).astype(np.uint8)
                Image.fromarray(pixels // 8 if experiment == dark else pixels).save(folder / "plates" / name)
                names.append(name)
            role = "negative_control" if kind == 0 else "treatment"
            rows.append((experiment, "1", f"B{well + 2:02d}", CLASSES[kind], role, *names))
    header = ("experiment", "plate", "well", "perturbation", "role", "DNA", "actin")
    return screen_of_rows(folder, header, rows, hash_files=hash_files)


def screen_of_rows(
    folder: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, hash_files: bool = False
) -> Screen:
    """Write a table of two channels to plates/table.csv, index it to screen/ and read the screen."""
    table = folder / "plates" / "table.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    screen = index(table, layout="table", channels=("DNA", "actin"), probe=probe_image, hash_files=hash_files)
    write_screen(screen, folder / "screen")
    return read_screen(folder / "screen")


def tiny_start(screen: Screen, out: Path, *changes: str, epochs: int = 3) -> RunFolder:
    """Make the folder of a run that has not been trained."""
    folds = hold_out(screen, column="experiment", values=["E3"])
    return start_run(screen, folds, resolve_config("scratch", [*TRAINING, *changes], epochs=epochs), out)


def finish_run(run: RunFolder, *, say: Callable[[str], None] = no_progress) -> None:
    """Train a run to its end."""
    train(run, advance=no_progress, say=say)


def whole_and_fresh(root: Path, *, epochs: int) -> Path:
    """Write screen/, runs/whole (trained without a stop) and runs/fresh (not trained), a checkpoint a step."""
    screen = tiny_screen(root)
    for name in ("whole", "fresh"):
        tiny_start(screen, root / "runs" / name, "checkpointing.every_steps=1", epochs=epochs)
    finish_run(RunFolder.open(root / "runs/whole"))
    return root


class StoppedHere(Exception):
    """Raised in place of the end of the process."""


def stop_at_save(run: RunFolder, n: int, *, is_written: bool = True) -> None:
    """Train a run until its n-th checkpoint, and stop there: after it was written, or just before."""
    calls = 0

    def save_and_stop(*args: object, **options: object) -> list[Path]:
        nonlocal calls
        calls += 1
        if calls == n and not is_written:
            raise StoppedHere
        files = save_state(*args, **options)  # type: ignore[arg-type]
        if calls == n:
            raise StoppedHere
        return files

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "save_state", save_and_stop)
        with pytest.raises(StoppedHere):
            finish_run(run)


# Files that differ between equal runs: times, manifest, event files.
VOLATILE = ("manifest.json", "timing.csv", "tensorboard/")


def fingerprints(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a run that is a function of its configuration."""
    return {
        name: hashlib.sha256(_content(path)).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not (name := path.relative_to(root).as_posix()).startswith(VOLATILE)
    }


def _content(path: Path) -> bytes:
    if path.name != "run.json":
        return path.read_bytes()
    # The typed commands are history, not a result.
    content = json.loads(path.read_text())
    return json.dumps({name: value for name, value in content.items() if name != "commands"}).encode()


def predicted_in_one_pass(root: Path) -> Path:
    """Write screen/, runs/a (trained), and whole/ (predicted in one pass); return the folder."""
    run = tiny_start(tiny_screen(root), root / "runs/a", epochs=1)
    finish_run(run)
    predict_run(run, read_screen(root / "screen"), out=root / "whole")
    return root
