"""`distangle profile`: its files, its page, its output, and a run that is stopped."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.cli.profiles import print_profiles
from distangle.core.result_files import MissingResultError
from distangle.results import ProfileResult
from distangle.results.profile_result import JSON_FILE
from profile_verb import ProfileVerb, table


@pytest.fixture
def verb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> ProfileVerb:
    monkeypatch.chdir(tmp_path)
    return ProfileVerb(tmp_path, capsys)


def test_a_good_table_gives_hits_and_a_page(verb: ProfileVerb) -> None:
    status, text = verb(table())
    assert status == 0
    assert text.startswith("32 rows found: 32 used, 0 refused. perturbation mAP")
    assert "hits: 1 of 3 perturbations at a false discovery rate of 0.05." in text
    assert "out/report.html out/hits.csv" in text
    assert "no accuracy of experiment: No row has a value of Metadata_Experiment." in text
    page = (verb.out / "report.html").read_text()
    assert "<h1>t.csv</h1>" in page
    assert "plate P1" in page
    assert "· plate" not in page
    result = ProfileResult.read(verb.out)
    assert result.hits["perturbation"].iloc[0] == "a"
    last = result.batch_effects.query("alignment == 'center-plate' and of == 'plate' and name == 'probe accuracy'")
    assert np.isfinite(last["value"].item())


def test_the_page_of_a_table_needs_no_torch(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "t.csv", index=False)
    program = """
import sys
from distangle.cli import main
main(["profile", "t.csv", "--out", "out", "--draws", "99", "--map", "pca"])
assert "torch" not in sys.modules
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "out" / "report.html").is_file()


HOSTILE = ("=cmd()|x", 'a, "b"', "<b>bold</b>")
OTHERS = ("@sum+1\nrow", "µM-\u202ereversed", "x" * 300)


@pytest.mark.parametrize("names", [HOSTILE, OTHERS])
def test_hostile_names_stay_data(verb: ProfileVerb, names: tuple[str, ...]) -> None:
    status, text = verb(table(names=names))
    assert status == 0
    assert "\u202e" not in text
    assert "x" * 50 not in text
    result = ProfileResult.read(verb.out)
    assert set(result.hits["perturbation"]) == set(names)
    with (verb.out / "hits.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    safe = [f"'{name}" if name[0] in "=@" else name for name in result.hits["perturbation"]]
    assert [row["perturbation"] for row in rows] == safe
    for path in verb.out.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell[:1] in ("=", "@")], path.name
    page = (verb.out / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in page


def test_csv_files_are_readable_and_lack_nothing(verb: ProfileVerb) -> None:
    moa = table()["Metadata_Perturbation"].map({"a": "x", "b": "x", "c": "y"})
    assert verb(table().assign(Metadata_moa=moa), "--label", "moa")[0] == 0
    for path in verb.out.glob("*.csv"):
        text, full = (
            pd.read_csv(path, keep_default_na=False, na_values=[""]),
            pd.read_parquet(path.with_suffix(".parquet")),
        )
        assert list(text.columns) == list(full.columns), path.name
        assert len(text) == len(full)
        for name in full:
            if pd.api.types.is_numeric_dtype(full[name]):
                np.testing.assert_allclose(text[name].astype(float), full[name].astype(float), rtol=1e-7)
            else:
                assert text[name].astype(object).fillna("").tolist() == full[name].tolist(), (path.name, name)
    assert not re.search(r"\d\.\d{12,}", (verb.out / "hits.csv").read_text())


def test_the_old_json_is_removed_first_and_the_new_one_written_last(
    verb: ProfileVerb, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verb(table(seed=1))[0] == 0
    result = ProfileResult.read(verb.out)
    real, places = os.replace, []

    def replace(source: str, target: str) -> None:
        places.append(Path(target).name)
        if len(places) == stop:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr("distangle.core.io.os.replace", replace)
    stop = 0
    result.write(verb.out)
    n_files = len(places)
    assert places[-1] == JSON_FILE
    for number in (1, 2, n_files // 2, n_files):
        places, stop = [], number
        with pytest.raises(KeyboardInterrupt):
            result.write(verb.out)
        with pytest.raises(MissingResultError):
            ProfileResult.read(verb.out)
        assert not list(verb.out.glob(".*"))
        places, stop = [], 0
        result.write(verb.out)
        assert len(ProfileResult.read(verb.out).hits) == len(result.hits)


def test_ctrl_c_leaves_no_profiles(verb: ProfileVerb, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verb(table())[0] == 0

    def stop(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ProfileResult, "read", ProfileResult.read)
    monkeypatch.setattr("distangle.results.profile_result._plain", stop)
    status, text = verb(None)
    assert status == 130
    assert "stopped." in text
    assert not (verb.out / JSON_FILE).exists()
    assert not (verb.out / "report.html").exists()
    monkeypatch.undo()


def test_a_folder_that_cannot_take_results_is_named_before_the_work(verb: ProfileVerb, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    status, text = verb(table())
    assert status == 1
    assert "out is a file. Expected a folder for the results." in text
    assert (tmp_path / "out").read_text() == "mine"
    (tmp_path / "out").unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "out is not empty and holds no profiles." in verb(None)[1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    (tmp_path / "run" / "profiles").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    assert f"lies in the run {tmp_path / 'run'}" in verb(None, out="run/profiles")[1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_named(verb: ProfileVerb, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    status, text = verb(table())
    assert status == 1
    assert "out is not writable. Name another folder" in text


def test_a_folder_whose_old_results_cannot_be_removed_is_named(
    verb: ProfileVerb, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verb(table())[0] == 0

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if path.name == JSON_FILE:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", unlink)
    status, text = verb(None)
    assert status == 1
    assert "profile.json was not removed: permission denied. Make out writable" in text


def test_the_table_of_hits_fits_a_narrow_terminal(
    verb: ProfileVerb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    assert verb(table(names=("a", "b", "x" * 17)))[0] == 0
    result = ProfileResult.read(verb.out)
    monkeypatch.setattr("distangle.cli.console._out", Console(force_terminal=True, width=80, highlight=False))
    print_profiles(result)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["perturbation", "mAP", "chance", "p", "q", "agreement", "effect", "wells"]
    assert lines[1].startswith("a   ")
    assert any(line.startswith("This terminal is too narrow for channel, nearest, opposite: see") for line in lines)


def test_an_alignment_can_be_fitted_on_named_wells(verb: ProfileVerb) -> None:
    frame = table(names=("a", "b", "c"))
    status, text = verb(frame, "--align", "center-controls", "--fit-on", "Perturbation=c")
    assert status == 0, text
    assert "4 wells with Metadata_Perturbation=c fit the alignment in place of negative controls, and the other" in text
    status, text = verb(frame, "--align", "center-controls", "--fit-on", "Metadata_Perturbation=d", out="other")
    assert status != 0
    assert "None of 32 wells has Metadata_Perturbation=d. Expected one of the values DMSO, a, b, c." in text
    status, text = verb(frame, "--fit-on", "Perturbation=c", out="other")
    assert status != 0
    assert "No step of the alignment (center-plate) is fitted on the wells with Metadata_Perturbation=c" in text
    status, text = verb(frame, "--align-like", "out", "--fit-on", "Perturbation=c", out="other")
    assert status != 0
    assert "Remove --fit-on: not allowed with --align-like out. The steps and the wells to fit on are those of" in text
