"""Verbs name the next step, and refuse bad requests before they read for hours."""

from pathlib import Path

import pytest

import distangle.screen
from distangle.cli import main
from distangle.errors import ConfigError, did_you_mean
from distangle.training import resolve_config


def test_known_names_are_listed_by_their_numbers() -> None:
    assert did_you_mean("x", map(str, (1, 5, 7, 8, 9, 10, 11, 12))) == "Known: 1, 5, 7, 8, 9, 10, 11, 12."
    assert did_you_mean("zzz", ["well10", "well2", "plate"]) == "Known: plate, well2, well10."


@pytest.mark.parametrize(
    ("setting", "suggestion"), [("optim.learning_rate", "optim.lr"), ("learning_rate", "optim.lr")]
)
def test_a_setting_known_by_its_initials_is_offered(setting: str, suggestion: str) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean '{suggestion}'"):
        resolve_config("small", [f"{setting}=1"])


@pytest.mark.parametrize("out", ["afile/screen", "afile/deeper/screen", "afile"])
def test_index_refuses_a_folder_that_cannot_be_written_before_it_reads(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "afile").write_text("")
    (tmp_path / "plates").mkdir()

    def no_index(*arguments: object, **options: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(distangle.screen, "index", no_index)
    with pytest.raises(SystemExit):
        main(["index", str(tmp_path / "plates"), "--out", str(tmp_path / out)])
    assert "Choose a folder with write permission" in capsys.readouterr().err or out == "afile"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["afile", "plates"]


def test_index_leaves_no_folder_behind_when_the_source_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plates").mkdir()
    with pytest.raises(SystemExit):
        main(["index", str(tmp_path / "plates"), "--out", str(tmp_path / "made/screen")])
    assert not (tmp_path / "made").exists()


def test_simulate_says_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["image_size=32", "n_treatments=1", "experiments_per_cell_type=1", "plates_per_experiment=1"]
    options = ["sites_per_well=1", "cell_types=[RPE]", "n_positive_controls=0", "n_negative_controls=1"]
    arguments = [word for setting in (*small, *options) for word in ("--set", setting)]
    main(["simulate", str(tmp_path / "my plates"), *arguments, "--workers", "1"])
    output = capsys.readouterr()
    assert f"next: `distangle index '{tmp_path / 'my plates'}' --out screen`" in output.err
    assert output.out.strip() == str(tmp_path / "my plates" / "truth.json")
