"""A run knows its own screen, also one that was indexed again, and refuses another."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distangle.errors import ConfigError, RunError, WeightsError
from distangle.images import probe_image
from distangle.model.backbones import BACKBONES
from distangle.results import RunFolder, refuse_altered
from distangle.results.run_screen import check_same_screen, is_own, own_screen
from distangle.screen import Screen, index, read_screen, write_screen
from tiny_run import tiny_screen, tiny_start


@pytest.fixture(scope="module")
def screen_and_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Screen, RunFolder]:
    root = tmp_path_factory.mktemp("begun")
    screen = tiny_screen(root, n_wells=3, hash_files=True)
    return screen, tiny_start(screen, root / "runs" / "a")


def index_again(plates: Path, out: Path) -> Screen:
    second_screen = index(plates / "table.csv", layout="table", channels=("DNA", "actin"), probe=probe_image)
    write_screen(second_screen, out)
    return read_screen(out)


def test_the_screen_is_found_where_the_run_says(screen_and_run: tuple[Screen, RunFolder]) -> None:
    screen, run = screen_and_run
    assert own_screen(run).metadata == screen.metadata
    assert is_own(run, screen)


def test_one_that_was_indexed_again_after_its_files_were_copied_is_the_same(
    screen_and_run: tuple[Screen, RunFolder], tmp_path: Path
) -> None:
    screen, run = screen_and_run
    shutil.copytree(screen.source, tmp_path / "plates")  # type: ignore[arg-type]
    for path in (tmp_path / "plates" / "images").iterdir():
        os.utime(path, (1, 1))
    second_screen = index_again(tmp_path / "plates", tmp_path / "screen")
    assert second_screen.metadata.sites_sha256 != screen.metadata.sites_sha256
    check_same_screen(run, second_screen)
    assert own_screen(run, tmp_path / "screen").metadata == second_screen.metadata


@pytest.mark.parametrize("change", ["label", "image", "well"])
def test_one_with_another_label_image_or_well_is_another(
    screen_and_run: tuple[Screen, RunFolder], tmp_path: Path, change: str
) -> None:
    screen, run = screen_and_run
    plates = tmp_path / "plates"
    shutil.copytree(screen.source, plates)  # type: ignore[arg-type]
    table = (plates / "table.csv").read_text()
    if change == "label":
        table = table.replace("taxol", "other").replace("nocodazole", "taxol").replace("other", "nocodazole")
    if change == "image":
        Image.fromarray(np.full((24, 24), 7, np.uint8)).save(plates / "images" / "E1_1_0.png")
    if change == "well":
        table = table.replace("B02", "C02")
    (plates / "table.csv").write_text(table)
    second_screen = index_again(plates, tmp_path / "screen")
    with pytest.raises(RunError, match="is not the screen of .*its wells, labels or images.*--out DIR"):
        check_same_screen(run, second_screen)


def test_other_channels_and_other_classes_are_named(screen_and_run: tuple[Screen, RunFolder]) -> None:
    screen, run = screen_and_run
    reversed_screen = replace(
        screen, metadata=screen.metadata.model_copy(update={"channels": screen.metadata.channels[::-1]})
    )
    with pytest.raises(RunError, match="its channels are actin, DNA, the run's are DNA, actin"):
        check_same_screen(run, reversed_screen)
    other = replace(screen, metadata=screen.metadata.model_copy(update={"perturbations_sha256": "0" * 64}))
    with pytest.raises(RunError, match="it has another class list"):
        check_same_screen(run, other)


def test_an_altered_file_is_refused_before_anything_rests_on_it(
    screen_and_run: tuple[Screen, RunFolder], tmp_path: Path
) -> None:
    shutil.copytree(screen_and_run[1].root, tmp_path / "run")
    run = RunFolder.open(tmp_path / "run")
    refuse_altered(run, "")
    run.config.write_text(run.config.read_text().replace("seed: 0", "seed: 1"))
    refuse_altered(run, "folds.parquet")
    with pytest.raises(RunError, match=r"config\.yaml is damaged: it was changed since it was written.*verify"):
        refuse_altered(run, "config.yaml")


def test_of_a_large_file_only_the_size_is_compared(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    big = run.root / "predictions" / "sites.safetensors"
    big.parent.mkdir()
    big.write_bytes(b"12345678")
    run.record(big)
    big.write_bytes(b"12345679")
    refuse_altered(run, "predictions/", largest_hash=7)
    with pytest.raises(RunError, match=r"sites\.safetensors is damaged"):
        refuse_altered(run, "predictions/", largest_hash=8)
    big.write_bytes(b"1234567")
    with pytest.raises(RunError, match=r"Make it again: `distangle predict"):
        refuse_altered(run, "predictions/", largest_hash=7)


@pytest.mark.parametrize("kind", ["absent", "pickled", "of another network", "cut", "of another kind"])
def test_weights_that_cannot_be_had_leave_no_run_behind(
    screen_and_run: tuple[Screen, RunFolder], tmp_path: Path, kind: str
) -> None:
    """The corrected command must be able to use the folder."""
    weights = tmp_path / ("weights.txt" if kind == "of another kind" else "weights.pth")
    if kind == "pickled":
        torch.save({"tensor": torch.ones(1), "path": Path("x")}, weights)
    elif kind != "absent":
        torch.save(BACKBONES["resnet_small"](n_channels=3, recompute=False).state_dict(), weights)
        if kind == "cut":
            weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(WeightsError) as error:
        tiny_start(screen_and_run[0], tmp_path / "runs" / "x", f'network.weights="{weights}"')
    assert "weights_only" not in str(error.value)
    assert weights.name in str(error.value)
    assert not (tmp_path / "runs" / "x").exists()
    assert tiny_start(screen_and_run[0], tmp_path / "runs" / "x").run.exists()


def test_images_too_small_for_a_backbone_are_refused_before_a_run_is_made(
    screen_and_run: tuple[Screen, RunFolder], tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match=r"densenet121 needs images of 32 px or more, and these have 24 px.*--preset scratch"
    ):
        tiny_start(screen_and_run[0], tmp_path / "runs" / "x", "network.backbone=densenet121")
    assert not (tmp_path / "runs").exists()
