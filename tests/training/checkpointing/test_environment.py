"""The environment (folder, time zone, language, rights, limits, few sites) changes no byte of a run, or is refused."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.errors import ConfigError, FoldError
from distangle.inference import open_model
from distangle.results import RunFolder
from distangle.screen import Screen, hold_out, read_screen
from distangle.training import resolve_config, start_run
from tiny_run import TRAINING, fingerprints, finish_run, tiny_screen, tiny_start

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/ and runs/whole, in a folder with a blank in its name."""
    root = tmp_path_factory.mktemp("a lab folder")
    finish_run(tiny_start(tiny_screen(root), root / "runs/whole", epochs=2))
    return root


def test_language_time_zone_rights_working_folder_blanks_and_few_open_files_change_no_byte(
    folder: Path, tmp_path: Path
) -> None:
    """In a process of its own: 64 open files, files for nobody else, Kathmandu, other hashes, decimal commas."""
    run = Path(shutil.copytree(folder / "runs/whole", folder / "runs/one more"))
    for path in [*run.glob("checkpoints/*"), run / "metrics.csv", run / "timing.csv"]:
        path.unlink()
    content = (run / "run.json").read_text().replace('"finished": true', '"finished": false')
    (run / "run.json").write_text(content)
    shutil.rmtree(run / "tensorboard", ignore_errors=True)
    surroundings = {
        **os.environ,
        "LC_ALL": "de_DE.UTF-8",
        "LANG": "tr_TR.UTF-8",
        "TZ": "Asia/Kathmandu",
        "PYTHONHASHSEED": "7",
        "OMP_NUM_THREADS": "1",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT / "src"),
    }
    script = f'umask 077; ulimit -n 64; exec "{sys.executable}" -m distangle train --resume "../{run.name}"'
    process = subprocess.run(
        ["bash", "-c", script], cwd=folder / "runs/whole", env=surroundings, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert fingerprints(run) == fingerprints(folder / "runs/whole")
    assert (run / "metrics.csv").stat().st_mode & 0o077 == 0


def test_a_clock_that_jumps_changes_no_byte(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    run = tiny_start(read_screen(folder / "screen"), folder / "runs/jumping", epochs=2)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(time, "time", lambda: float(rng.integers(0, 2**33)))
    finish_run(run)
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")


def with_columns(screen: Screen, **columns: object) -> Screen:
    return dataclasses.replace(screen, sites=screen.sites.assign(**columns))


def write_again(screen: Screen, folder: Path) -> Screen:
    from distangle.screen import write_screen

    write_screen(dataclasses.replace(screen, folder=folder), folder)
    return read_screen(folder)


def test_a_class_with_no_site_and_one_with_a_single_site_train_and_are_listed(folder: Path) -> None:
    screen = read_screen(folder / "screen")
    names = screen.sites["perturbation"].where(screen.sites["experiment"] != "E3", "")
    single = np.flatnonzero(names == "taxol")[0]
    one_well_left = names.where((names != "taxol") | (np.arange(len(names)) == single), "")
    no_well_left = one_well_left.where(one_well_left != "nocodazole", "")
    few_screen = with_columns(screen, perturbation=no_well_left)
    run = start_run(
        write_again(few_screen, folder / "few"),
        hold_out(few_screen, column="experiment", values=["E3"]),
        resolve_config("scratch", [*TRAINING], epochs=1),
        folder / "runs/few",
    )
    messages: list[str] = []
    finish_run(run, say=messages.append)
    _, card = open_model(run)
    counts = dict(zip(card.classes, card.class_sites, strict=True))
    assert counts == {"DMSO": 6, "taxol": 1, "nocodazole": 0}
    assert any("have no known perturbation and are not used" in sentence for sentence in messages)
    assert "held_out_loss" not in pd.read_csv(run.metrics).columns  # no held-out site has a label


@pytest.mark.parametrize(
    ("names_with_label", "message"),
    [
        (("DMSO",), r"The fold has 6 readable sites with a known perturbation in 1 class\(es\); at least two classes"),
        ((), r"The fold has 0 readable sites with a known perturbation in 0 class\(es\)"),
    ],
)
def test_a_training_fold_of_one_class_or_none_is_refused(
    folder: Path, names_with_label: tuple[str, ...], message: str
) -> None:
    screen = read_screen(folder / "screen")
    in_fold = screen.sites["experiment"] != "E3"
    names = screen.sites["perturbation"].where(~in_fold | screen.sites["perturbation"].isin(names_with_label), "")
    other = with_columns(screen, perturbation=names)
    name = f"one class {len(names_with_label)}"
    run = start_run(
        write_again(other, folder / name),
        hold_out(other, column="experiment", values=["E3"]),
        resolve_config("scratch", [*TRAINING], epochs=1),
        folder / "runs" / name,
    )
    with pytest.raises(FoldError, match=message):
        finish_run(run)


def test_two_sites_are_a_batch_and_a_batch_of_one_is_refused(folder: Path) -> None:
    screen = read_screen(folder / "screen")
    rows = [0, 1, *np.flatnonzero(screen.sites["experiment"] == "E3")]
    two = dataclasses.replace(screen, sites=screen.sites.iloc[rows].reset_index(drop=True))
    two = dataclasses.replace(two, metadata=two.metadata.model_copy(update={"found": len(rows), "indexed": len(rows)}))
    run = start_run(
        write_again(two, folder / "two"),
        hold_out(two, column="experiment", values=["E3"]),
        resolve_config("scratch", [*TRAINING, "preprocessing.standardize=image"], epochs=1),
        folder / "runs/two",
    )
    finish_run(run)
    assert "nan" not in run.metrics.read_text()
    with pytest.raises(ConfigError, match="batch_size = 1: input should be greater than or equal to 2"):
        resolve_config("scratch", ["batch_size=1"])


@pytest.mark.parametrize(
    ("values", "message"),
    [(["E1", "E2", "E3"], "The training fold of experiment=E1,E2,E3 is empty: 24 sites"), (["E9"], "E9")],
)
def test_a_split_that_leaves_one_side_empty_is_refused(folder: Path, values: list[str], message: str) -> None:
    with pytest.raises(FoldError, match=message):
        hold_out(read_screen(folder / "screen"), column="experiment", values=values)


def test_the_run_of_one_place_is_the_run_of_another(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "plates", tmp_path / "x" / "plates")
    shutil.copytree(folder / "screen", tmp_path / "x" / "screen")
    run = tiny_start(read_screen(tmp_path / "x" / "screen"), tmp_path / "x" / "runs" / "y", epochs=2)
    finish_run(RunFolder(run.root))
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")
