import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from distangle.cli import main


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    """One plate of four wells, one file damaged after it was indexed."""
    lines = ["plate,well,perturbation,role,dna"]
    rng = np.random.default_rng(0)
    for k in range(4):
        Image.fromarray(rng.integers(1, 200, (64, 64)).astype(np.uint8)).save(tmp_path / f"{k}.png")
        lines.append(f"1,B0{k + 2},{'DMSO' if k else 'a'},{'negative_control' if k else 'treatment'},{k}.png")
    (tmp_path / "wells.csv").write_text("\n".join(lines) + "\n")
    arguments = ["index", str(tmp_path / "wells.csv"), "--layout", "table", "--channels", "dna"]
    main([*arguments, "--out", str(tmp_path / "screen")])
    return tmp_path / "screen"


def test_a_clean_screen_ends_with_status_0_and_leaves_three_files(
    screen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", str(screen), "--expect", "wells=4,plates=1"])
    message = capsys.readouterr().out
    assert "index: found 4 = indexed 4 + refused 0" in message
    assert "pixels: planes 4 = read 4 + unreadable 0 + not looked at 0" in message
    assert "0 errors, 0 warnings, 0 notes" in message
    assert sorted(path.name for path in (screen / "checks").iterdir()) == [
        "checks.json",
        "findings.csv",
        "planes.parquet",
    ]


def test_a_damaged_file_ends_with_status_1_and_is_named_with_well_and_fix(
    screen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = screen.parent / "2.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SystemExit) as exit_info:
        main(["check", str(screen), "--out", str(screen.parent / "found")])
    assert exit_info.value.code == 1
    output = capsys.readouterr()
    assert "unreadable image" in output.out
    assert "well B04 site 1 channel dna" in output.err
    assert output.err.count("Copy it again") == 1
    table = pd.read_csv(screen.parent / "found" / "findings.csv", dtype=str, keep_default_na=False)
    assert set(table["kind"]) == {"unreadable image", "file changed since indexing"}
    assert set(table["well"]) == {"B04"}
    checks = json.loads((screen.parent / "found" / "checks.json").read_text())
    assert checks["counts"] == {"error": 2, "warning": 0, "note": 0}
    main(["check", str(screen), "--no-pixels"])
    main(["check", str(screen), "--fail-on", "never"])


def test_totals_are_whole_numbers(screen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", str(screen), "--expect", "wells=many"])
    assert "--expect wells=many: 'many' is not an integer" in capsys.readouterr().err


def test_folds_that_part_a_plate_are_named_by_the_file_of_the_folds(
    screen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(screen.parent / "folds.parquet")
    main(["folds", str(screen), "--group", "well", "--n", "2", "--force-split", "--out", path])
    capsys.readouterr()
    main(["check", str(screen), "--no-pixels"])
    assert "on both sides" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_info:
        main(["check", str(screen), "--no-pixels", "--fold-file", path])
    assert exit_info.value.code == 1
    message = capsys.readouterr()
    assert "1 error" in message.out
    assert "plate" in message.err


def test_an_index_anew_takes_away_what_was_found_in_another_screen(screen: Path) -> None:
    arguments = ["index", str(screen.parent / "wells.csv"), "--channels", "dna", "--out", str(screen)]
    main(["check", str(screen)])
    path = screen / "checks" / "mine.txt"
    path.write_text("x")
    main(arguments)
    assert (screen / "checks" / "checks.json").exists()  # the same screen
    table = screen.parent / "wells.csv"
    table.write_text(table.read_text().replace(",a,", ",b,"))
    main(arguments)
    assert [path.name for path in (screen / "checks").iterdir()] == ["mine.txt"]


def test_a_check_without_pixels_leaves_no_planes_of_an_earlier_one(screen: Path) -> None:
    main(["check", str(screen)])
    assert (screen / "checks" / "planes.parquet").exists()
    main(["check", str(screen), "--no-pixels"])
    assert not (screen / "checks" / "planes.parquet").exists()


def test_a_screen_lies_in_a_folder_of_its_own(screen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "index",
        str(screen.parent),
        "--tables",
        str(screen.parent / "wells.csv"),
        "--channels",
        "dna",
        "--out",
    ]
    (screen.parent / "file").write_text("x")
    for out, message in (("file", "is a file. Expected a new folder"), (".", "is the source folder")):
        with pytest.raises(SystemExit):
            main([*arguments, str(screen.parent / out)])
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["check", str(screen), "--out", str(screen.parent / "file")])
    message = capsys.readouterr().err
    assert "was not written: file exists" in message
    assert "name another folder" in message
    assert (screen.parent / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pack", "{screen}", "--out", "{new}", "--workers", "0"], "--workers 0: expected 1 or more"),
        (["check", "{screen}", "--workers", "-1"], "--workers -1: expected 1 or more"),
        (["statistics", "{screen}", "--workers", "0"], "--workers 0: expected 1 or more"),
        (["check", "{screen}", "--target", "moa"], "--target moa: the screen has no such column"),
        (["check", "{screen}", "--sample", "-3"], "--sample -3: expected 0 or more"),
        (["statistics", "{screen}", "--sample", "-3"], "--sample -3: expected 0 or more"),
        (["pack", "{screen}", "--out", "{file}"], "A file stands where a folder is expected; name another folder"),
        (["pack", "{screen}", "--out", "{file}/x"], "A file stands where a folder is expected; name another folder"),
        (
            ["folds", "{screen}", "--group", "well", "--force-split", "--out", "{screen}"],
            "A folder stands where a file is expected",
        ),
        (["folds", "{screen}", "--group", "well", "--n", "0", "--out", "{new}"], "0 folds of"),
        (["index", "{lab}", "--out", "{new}", "--plate-rows", "0", "--plate-columns", "3"], "No plate has 0 x 3 wells"),
        (["index", "{lab}", "--out", "{new}", "--plate-rows", "8"], "belong together: give both, or neither"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence_and_leaves_nothing(
    screen: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = screen.parent
    (folder / "file").write_text("x")
    paths = {"screen": screen, "new": folder / "new", "file": folder / "file", "lab": folder / "wells.csv"}
    with pytest.raises(SystemExit) as exit_info:
        main([word.format(**paths) for word in arguments])
    assert exit_info.value.code != 0
    assert message in capsys.readouterr().err
    assert not (folder / "new").exists()
    assert (folder / "file").read_text() == "x"
