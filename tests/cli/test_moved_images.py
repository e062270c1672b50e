"""Moved images or screens: every verb reports it and accepts the new folder, but no other screen."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from distangle.cli import main
from distangle.errors import ScreenError
from distangle.inference import predict_run
from distangle.results import RunFolder
from distangle.results.run_screen import is_own
from distangle.screen import check_images, read_screen, with_images
from tiny_run import finish_run, tiny_screen, tiny_start


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plates/, screen/ and runs/a, trained for one epoch and predicted."""
    root = tmp_path_factory.mktemp("moved")
    screen = tiny_screen(root, hash_files=True)
    run = tiny_start(screen, root / "runs" / "a", epochs=1)
    finish_run(run)
    predict_run(run, screen)
    return root


@pytest.fixture
def moved_lab(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, with its images in archive/plates of 2024."""
    (lab / "archive").mkdir(exist_ok=True)
    (lab / "plates").rename(lab / "archive" / "plates of 2024")
    monkeypatch.chdir(lab)
    yield lab
    (lab / "archive" / "plates of 2024").rename(lab / "plates")


VERBS = {
    "train": "train screen --preset scratch --out runs/b",
    "rehearsal": "train screen --preset scratch --dry-run 2",
    "from": "train --from runs/a --out runs/b",
    "resume": "train --resume runs/a",
    "predict": "predict runs/a",
    "explain": "explain runs/a --n-sites 2 --parts none",
    "check": "check screen",
    "verify": "verify screen",
    "statistics": "statistics screen --out card",
    "pack": "pack screen --out packed",
}


@pytest.mark.parametrize("arguments", VERBS.values(), ids=VERBS)
def test_a_verb_says_that_the_folder_is_gone_and_how_to_name_the_new_one(
    arguments: str, moved_lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments.split())
    assert exit_info.value.code == 1
    output = capsys.readouterr().err
    assert f"are missing: the folder {moved_lab / 'plates'} does not exist" in output
    assert "add `--images FOLDER`, with the folder that now holds images/E1_0_0.png" in output
    assert "old out less" not in output
    assert not (moved_lab / "runs/b").exists()


@pytest.mark.parametrize("verb", ["figures --only 1", "report"])
def test_a_page_can_be_made_without_images_and_says_what_it_lacks(
    verb: str, moved_lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*verb.split(), "runs/a"])
    output = capsys.readouterr().err
    assert "does not exist. If they were moved, add `--images FOLDER`" in output
    assert "Without them, pictures of cells are left out." in output


@pytest.mark.parametrize("verb", ["resume", "predict", "explain", "check", "verify"])
def test_the_option_works(verb: str, moved_lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*VERBS[verb].split(), "--images", "archive/plates of 2024"])
    output = capsys.readouterr()
    assert "are missing" not in output.err
    if verb == "verify":
        assert "all unchanged" in output.out
    if verb == "explain":
        assert "explain, step 1 of 2, reading the selected sites\n" in output.err
        assert "explain, step 2 of 2, maps and channel scores: 1/1 batch 2 sites\n" in output.err
    if verb == "predict":
        table = pd.read_parquet("runs/a/predictions/sites.parquet")
        assert (table["reason"] == "").all()


@pytest.mark.parametrize("verb", ["figures --only 1", "report"])
def test_pictures_are_drawn_from_the_folder_that_was_named(
    verb: str, moved_lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*verb.split(), "runs/a", "--images", "archive/plates of 2024"])
    output = capsys.readouterr()
    assert "pictures of cells are left out" not in output.err
    assert "cannot be opened" not in output.err


def test_a_folder_one_too_deep_or_too_high_is_answered_with_the_right_one(moved_lab: Path) -> None:
    screen, archive = read_screen(Path("screen")), Path("archive")
    with pytest.raises(ScreenError, match=r"there is no .*E1_0_0.png. Did you mean `--images archive/plates of 2024`"):
        with_images(screen, archive / "plates of 2024" / "images")
    with pytest.raises(ScreenError, match="Did you mean `--images archive/plates of 2024`"):
        with_images(screen, archive)
    with pytest.raises(ScreenError, match="there is no folder nowhere. Name the folder that holds images/E1_0_0.png"):
        with_images(screen, Path("nowhere"))
    assert with_images(screen, archive / "plates of 2024").source == (moved_lab / "archive/plates of 2024")


def test_a_source_that_stayed_while_its_images_went_is_told_from_one_that_is_gone(moved_lab: Path) -> None:
    Path("plates").mkdir()
    try:
        with pytest.raises(ScreenError, match=r"images/E1_0_0.png and 23 other sampled files are not in "):
            check_images(read_screen(Path("screen")))
    finally:
        Path("plates").rmdir()


def test_one_folder_of_several_that_is_gone_is_said_and_the_rest_goes_on(lab: Path, tmp_path: Path) -> None:
    screen = read_screen(lab / "screen")
    sites = screen.sites.copy()
    for k in (1, 2):
        sites[f"path_{k}"] = sites["experiment"] + "/" + sites[f"path_{k}"].str.removeprefix("images/")
    for name in ("E1", "E3"):
        shutil.copytree(lab / "plates/images", tmp_path / name)
    metadata = screen.metadata.model_copy(update={"source": str(tmp_path)})
    output = check_images(type(screen)(metadata=metadata, sites=sites, problems=screen.problems, folder=screen.folder))
    assert output.startswith("1 of 3 image folders of the screen ")
    assert f"such as {tmp_path / 'E2'}. Their sites cannot be read." in output


def test_a_screen_behind_a_url_or_without_images_is_not_looked_for(lab: Path) -> None:
    screen = read_screen(lab / "screen")
    metadata = screen.metadata.model_copy(update={"source": "https://example.org/plates"})
    assert check_images(type(screen)(metadata=metadata, sites=screen.sites, problems=screen.problems)) == ""
    bare = screen.sites.assign(path_1="", path_2="")
    assert check_images(type(screen)(metadata=screen.metadata, sites=bare, problems=screen.problems)) == ""


def test_a_run_is_predicted_with_its_screen_where_that_lies_now(
    lab: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (lab / "screen").rename(lab / "screen elsewhere")
    try:
        with pytest.raises(SystemExit):
            main(["predict", str(lab / "runs/a")])
        assert "If the screen was moved, name its folder: `--screen FOLDER`" in capsys.readouterr().err
        before = json.loads((lab / "runs/a/predictions/scores.json").read_text())
        main(["predict", str(lab / "runs/a"), "--screen", str(lab / "screen elsewhere")])
        assert json.loads((lab / "runs/a/predictions/scores.json").read_text()) == before
    finally:
        (lab / "screen elsewhere").rename(lab / "screen")


def test_another_screen_of_the_same_names_is_new_and_is_never_taken_for_the_moved_one(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_screen(tmp_path, seed=1, hash_files=True)  # E1, E2, E3 again, other cells
    with pytest.raises(SystemExit):
        main(["predict", str(lab / "runs/a"), str(tmp_path / "screen")])
    output = capsys.readouterr().err
    assert "its wells, labels or images are not those that the run was trained on" in output
    assert "predict this one as another: `distangle predict" in output
    main(["predict", str(lab / "runs/a"), str(tmp_path / "screen"), "--out", str(tmp_path / "new")])
    table = pd.read_parquet(tmp_path / "new/sites.parquet")
    assert set(table["Metadata_Fold"]) == {"new"}
    scores = json.loads((tmp_path / "new/scores.json").read_text())
    assert {row["n"] for row in scores["rows"] if (row["level"], row["subset"]) == ("site", "all")} == {15, 24}
    assert is_own(RunFolder.open(lab / "runs/a"), read_screen(lab / "screen"))
