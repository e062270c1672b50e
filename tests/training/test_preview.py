"""The messages before the first epoch: sites, folds, preset, device, and a warning without a GPU."""

from pathlib import Path

import pytest
import torch

from distangle.cli import main
from distangle.screen import Screen, hold_nothing_out, hold_out
from distangle.training import is_slow_here, preview, resolve_config, start_cross_validation, start_run
from tiny_run import TRAINING, tiny_screen, tiny_start


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("outlook"), hash_files=True)


def test_sites_classes_folds_preset_and_device_are_in_one_paragraph(screen: Screen, tmp_path: Path) -> None:
    run = tiny_start(screen, tmp_path / "run")
    assert preview(run, screen) == (
        "Training on 16 sites of 2 plates in 2 experiments, with 3 values of perturbation. Held out: experiment=E3 "
        "(8 sites). Preset scratch: densenet_small, 3 epochs, on the processor."
    )
    assert is_slow_here(run) == ""


def test_a_run_that_holds_nothing_out_says_that_nothing_is_scored(screen: Screen, tmp_path: Path) -> None:
    run = start_run(screen, hold_nothing_out(screen), resolve_config("scratch", TRAINING, epochs=1), tmp_path / "run")
    assert "Training on 24 sites of 3 plates in 3 experiments" in preview(run, screen)
    assert "No sites are held out, so there will be no scores." in preview(run, screen)
    assert "1 epoch, on" in preview(run, screen)


def test_a_cross_validation_says_what_its_folds_are(screen: Screen, tmp_path: Path) -> None:
    run = start_cross_validation(screen, resolve_config("scratch", TRAINING), tmp_path / "run", n_folds=3)
    assert "Before it, cross-validation over 3 sets of whole experiments: each fold is scored on" in preview(
        run, screen
    )


@pytest.mark.parametrize(("preset", "gpu"), [("seed", False), ("rcic1st", False), ("seed", True)])
def test_a_preset_for_a_gpu_warns_on_a_processor_only(
    preset: str, gpu: bool, screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = tiny_screen(tmp_path, n_wells=2, size=32)  # a DenseNet takes no smaller images
    folds = hold_out(screen, column="experiment", values=["E3"])
    run = start_run(screen, folds, resolve_config(preset, ["precision=fp32"]), tmp_path / "run")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    message = is_slow_here(run)
    assert message.startswith(f"Preset {preset} is made for a GPU, and this training uses the CPU") is not gpu
    assert ("`--preset small`" in message and "--dry-run 3" in message) is not gpu


def test_train_says_it_before_the_first_epoch(
    screen: Screen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--{setting}" for setting in TRAINING]
    arguments = ["--preset", "scratch", "--hold-out", "experiment=E3", "--epochs", "1", "--device", "cpu", *flags]
    main(["train", str(screen.folder), "--out", str(tmp_path / "run"), *arguments])
    output = capsys.readouterr()
    first, last = output.err.index("Training on 16 sites"), output.err.index("train: 1/1 epoch")
    assert first < last
    assert output.out.splitlines()[-1] == str(tmp_path / "run")
