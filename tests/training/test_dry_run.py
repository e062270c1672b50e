"""A dry run writes nothing, and its projections match the training."""

import time
from pathlib import Path
from typing import Any

import pytest

from distangle.cli import main
from distangle.errors import ConfigError
from distangle.images import ImageCache
from distangle.screen import Folds, Screen, hold_out
from distangle.training import DryRunReport, dry_run, resolve_config
from tiny_run import TRAINING, tiny_screen


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("rehearse"), n_wells=24)


@pytest.fixture(scope="module")
def folds(screen: Screen) -> Folds:
    return hold_out(screen, column="experiment", values=["E3"])


def test_the_projection_is_the_sum_of_its_parts() -> None:
    report = DryRunReport(
        device="the processor",
        steps=5,
        step_s=2.0,
        stall=0.02,
        steps_per_epoch=100,
        epochs=90,
        validation_s=40.0,
        reading_s=600.0,
        memory=3 << 30,
    )
    assert report.hours == pytest.approx((600 + 90 * (100 * 2.0 + 40.0)) / 3600)
    assert report.sentences() == [
        "5 step(s) on the processor: 2 s each, 2.0% waiting for images",
        "whole training: 90 epochs of 100 steps, 6.2 h (reading 10.0 min, validation 40 s an epoch)",
        "peak memory: 3.00 GiB",
        "nothing was written",
    ]


def test_waiting_for_images_is_said_with_the_way_out() -> None:
    times = dict.fromkeys(("step_s", "validation_s", "reading_s"), 1.0)
    report = DryRunReport(device="a GPU", steps=5, stall=0.2, steps_per_epoch=1, epochs=1, memory=1, **times)
    assert report.sentences()[1].startswith("the network waits for images: use a faster disk")


def test_a_slow_disk_shows_as_waiting(screen: Screen, folds: Folds, monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve_config("scratch", TRAINING, epochs=7)
    report, read_images = dry_run(screen, folds, config, limit=3), ImageCache.images

    def slowly(store: ImageCache, rows: Any) -> Any:
        time.sleep(max(0.2, 2 * report.step_s))
        return read_images(store, rows)

    monkeypatch.setattr(ImageCache, "images", slowly)
    slow = dry_run(screen, folds, config, limit=3)
    assert slow.stall > 0.5  # two batches of at least two step times each, less the step itself


def test_what_the_projection_leaves_out_is_said(screen: Screen, folds: Folds) -> None:
    changes = [
        *TRAINING,
        "pseudo_labels.strategy=progressive",
        "batch_norm.n_controls=4",
        "batch_norm.statistics=plate",
    ]
    report = dry_run(screen, folds, resolve_config("scratch", changes, epochs=7), limit=2)
    assert report.sentences()[2] == (
        "not included: pseudo labels, and the steps that they add; the 4 controls of each batch; "
        "norm statistics of each plate in the validation"
    )


def test_a_rehearsal_counts_the_steps_of_the_whole(screen: Screen, folds: Folds) -> None:
    before = sorted(path for path in Path(str(screen.folder)).parent.rglob("*"))
    config = resolve_config("scratch", TRAINING, epochs=7)
    report = dry_run(screen, folds, config, limit=3)
    assert (report.steps, report.steps_per_epoch, report.epochs) == (3, 48 // 8, 7)  # 48 sites, 4 x 2 to a step
    assert 0 <= report.stall < 1
    assert 0 < report.step_s < 10
    assert report.memory > 50 << 20
    assert report.hours * 3600 == pytest.approx(report.reading_s + 7 * (6 * report.step_s + report.validation_s))
    assert sorted(path for path in Path(str(screen.folder)).parent.rglob("*")) == before
    assert dry_run(screen, folds, config, limit=1000).steps == 6  # no more than an epoch has


def test_one_step_is_too_few(screen: Screen, folds: Folds) -> None:
    with pytest.raises(ConfigError, match="--dry-run is 1. Expected 2 steps or more: the first one is a warm-up"):
        dry_run(screen, folds, resolve_config("scratch"), limit=1)


def test_the_command_line_says_the_projection_and_needs_no_folder(
    screen: Screen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [word for change in TRAINING for word in ("--set", change)]
    held_out = ["--hold-out", "experiment=E3", "--dry-run", "2"]
    main(["train", str(screen.folder), "--preset", "small", *flags, *held_out])
    main(["train", str(screen.folder), "--preset", "small", *flags, *held_out, "--out", str(tmp_path / "run")])
    output = capsys.readouterr().out
    assert output.count("2 step(s) on the processor") == 2
    assert output.count("whole training: 60 epochs of 6 steps") == 2
    assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit):
        main(["train", "--resume", str(tmp_path), "--dry-run", "2"])
    assert "--dry-run" in capsys.readouterr().err
