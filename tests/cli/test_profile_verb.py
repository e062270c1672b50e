"""`distangle profile` on tables with faults: what is printed, what is refused, and what lies in the folder."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.cli import main
from distangle.cli.profiles import print_profiles
from distangle.core.result_files import MissingResultError
from distangle.results import ProfileResult
from distangle.results.profile_result import JSON_FILE

Frame = pd.DataFrame
QUICK = ("--draws", "99", "--map", "pca")


def table(n_plates: int = 2, names: tuple[str, ...] = ("a", "b", "c"), seed: int = 0) -> Frame:
    """Return wells A01 to D04 of every plate, a quarter of them DMSO; the first perturbation moves feature f0."""
    rng = np.random.default_rng(seed)
    names = ("DMSO", *names)
    rows = [
        (f"P{plate + 1}", f"{'ABCD'[number // 4]}{number % 4 + 1:02d}", names[(number + number // 4 + plate) % 4])
        for plate in range(n_plates)
        for number in range(16)
    ]
    frame = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Perturbation"])
    values = rng.normal(size=(len(frame), 4))
    values[:, 0] += 6.0 * (frame["Metadata_Perturbation"] == names[1])
    return frame.assign(**{f"f{k}": values[:, k] for k in range(4)})


class Verb:
    """Run `distangle profile` on a table in a folder, and keep what it said."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys, self.out = folder, capsys, folder / "out"

    def __call__(self, frame: Frame | None, *words: str, source: str = "t.csv", out: str = "out") -> tuple[int, str]:
        """Return the exit status and everything that was printed, in one line."""
        if frame is not None:
            frame.to_csv(self.folder / source, index=False)
        status = 0
        try:
            main(["profile", source, "--out", out, *QUICK, *words])
        except SystemExit as ended:
            status = int(ended.code or 0)
        printed = self.capsys.readouterr()
        text = " ".join((printed.out + printed.err).split())
        if status == 0:
            self.check_sums(text)
        return status, text

    def check_sums(self, text: str) -> None:
        """Check that found = used + refused, in the terminal, in the JSON file and in the tables."""
        counts = re.search(r"(\d+) rows found: (\d+) used, (\d+) refused", text)
        assert counts is not None
        found, used, refused = map(int, counts.groups())
        assert found == used + refused
        settings = json.loads((self.out / JSON_FILE).read_text())["settings"]
        assert (settings["n_found"], settings["n_used"], settings["n_refused"]) == (found, used, refused)
        with (self.out / "refused.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == refused
        assert all(row["row"] and row["reason"] for row in rows)

    def refused(self) -> dict[str, str]:
        return {row: reason for row, reason in pd.read_parquet(self.out / "refused.parquet").to_numpy()}


@pytest.fixture
def verb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verb:
    monkeypatch.chdir(tmp_path)
    return Verb(tmp_path, capsys)


def test_a_good_table_gives_hits_and_a_page(verb: Verb) -> None:
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
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").is_file()


def _one_replicate(frame: Frame) -> Frame:
    frame = frame[:16]
    treated = frame["Metadata_Perturbation"] != "DMSO"
    return pd.concat([frame[~treated], frame[treated].drop_duplicates("Metadata_Perturbation")])


def _no_controls_on_p2(frame: Frame) -> Frame:
    return frame[(frame["Metadata_Plate"] == "P1") | (frame["Metadata_Perturbation"] != "DMSO")]


ODD: dict[str, tuple[Callable[[Frame], Frame], str]] = {
    "one replicate": (_one_replicate, "3 perturbations are not tested: one replicate; at least 2 are needed."),
    "one of one well": (
        lambda frame: frame.replace({"Metadata_Perturbation": {"b": "DMSO"}}).assign(
            Metadata_Perturbation=lambda f: np.where(np.arange(len(f)) == 2, "lonely", f["Metadata_Perturbation"])
        ),
        "1 perturbation is not tested: one replicate",
    ),
    "constant features": (
        lambda frame: frame.assign(f1=2.5, f2=0),
        "2 of 4 features are constant and tell no wells apart: f1, f2.",
    ),
    "a plate without controls": (
        _no_controls_on_p2,
        "1 of 2 plates has no negative control: P2. 12 wells there count as replicates to be found, but search for",
    ),
    "one plate": (lambda frame: frame[:16], "no accuracy of plate: There is one plate."),
    "three wells": (lambda frame: frame.iloc[[0, 1, 2]], "2 perturbations are not tested: one replicate"),
    "a column of text": (
        lambda frame: frame.assign(f9=["1.5"] * 31 + ["oops"]),
        "1 feature left out: f9 (it holds text in 1 rows, such as 'oops' in row 32).",
    ),
    "a column of row numbers": (
        lambda frame: frame.assign(**{"Unnamed: 0": range(32)}),
        "1 feature left out: Unnamed: 0 (it has no name).",
    ),
    "many NaN": (
        lambda frame: frame.assign(f1=frame["f1"].where(np.arange(32) > 3)),
        "1 feature left out: f1 (it is NaN in 4 of 32 rows).",
    ),
    "one feature": (lambda frame: frame.drop(columns=["f1", "f2", "f3"]), "There is one feature, so every cosine is"),
    "numbers and dates": (
        lambda frame: frame.assign(Metadata_Date="2020-01-02", Metadata_Batch=7.0, Metadata_N=range(32)),
        "32 rows found: 32 used, 0 refused.",
    ),
    "no names in some wells": (
        lambda frame: frame.assign(Metadata_Perturbation=[*frame["Metadata_Perturbation"][:-2], "", ""]),
        "2 of 32 wells have no perturbation; they are aligned only.",
    ),
}


SELDOM = ("one feature", "three wells", "numbers and dates", "no names in some wells", "many NaN")


@pytest.mark.parametrize("kind", [pytest.param(one, marks=pytest.mark.slow) if one in SELDOM else one for one in ODD])
def test_an_odd_table_is_used_and_what_is_odd_is_said(verb: Verb, kind: str) -> None:
    change, expected = ODD[kind]
    status, text = verb(change(table()))
    assert status == 0, text
    assert expected in text


def _two_labels(frame: Frame) -> Frame:
    return pd.concat([frame, frame.iloc[[5]].assign(Metadata_Perturbation="zz")])


def _one_well_by_three_names(frame: Frame) -> Frame:
    wells = ("a1", "A1", "A01", "zz9x", "")
    return pd.concat([frame[1:], frame.iloc[[0] * 5].assign(Metadata_Well=wells)])


ROWS: dict[str, tuple[Callable[[Frame], Frame], dict[str, str]]] = {
    "NaN and infinite": (
        lambda frame: frame.assign(
            **{f"f{k}": np.where(frame.index == k + 1, (np.nan, np.inf, -np.inf, 1e300)[k], frame[f"f{k}"])
               for k in range(4)}
        ),
        {f"t.csv row {k + 2}": f"1 of 4 features NaN, infinite or too large: f{k}" for k in range(4)},
    ),
    "two labels": (
        _two_labels,
        {f"t.csv row {n}": "well B02 of plate P1 has the perturbations 'b' and 'zz'" for n in (6, 33)},
    ),
    "a1, A1, A01": (
        _one_well_by_three_names,
        {
            "t.csv row 33": "well A01 of plate P1 has an earlier row",
            "t.csv row 34": "well A01 of plate P1 has an earlier row",
            "t.csv row 35": "'zz9x' is no well name, expected one such as B02",
            "t.csv row 36": "'' is no well name, expected one such as B02",
        },
    ),
    "plates of two experiments without one": (
        lambda frame: pd.concat([frame, frame.iloc[:2]]),
        {f"t.csv row {n}": "name sites in Metadata_Site, experiments in Metadata_Experiment" for n in (33, 34)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
def test_a_bad_row_is_refused_and_the_others_are_used(verb: Verb, kind: str) -> None:
    change, expected = ROWS[kind]
    status, text = verb(change(table()))
    assert status == 0
    refused = verb.refused()
    assert list(refused) == list(expected)
    for row, reason in expected.items():
        assert reason in refused[row]
        assert f"refused: {row}: {refused[row]}" in text


def test_plates_of_two_experiments_and_sites_of_wells_are_kept_apart(verb: Verb) -> None:
    both = pd.concat([table(seed=k).assign(Metadata_Experiment=f"E{k}") for k in range(2)])
    assert verb(both)[0] == 0
    result = ProfileResult.read(verb.out)
    assert len(result.wells) == 64
    assert set(result.hits["n_plates"]) == {4}
    assert set(result.hits["n_experiments"]) == {2}
    sites = pd.concat([table(seed=k).assign(Metadata_Site=k) for k in range(3)])
    assert "96 rows found: 96 used, 0 refused." in verb(sites)[1]
    wells = ProfileResult.read(verb.out).wells
    assert len(wells) == 32
    assert set(wells.table["Metadata_N_Sites"]) == {3}


def _write(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "other.csv").write_text(text) and None


BAD: dict[str, tuple[Callable[[Frame], Frame], tuple[str, ...], Callable[[Path], None], str]] = {
    "constant": (
        lambda frame: frame.assign(f0=1.0, f1=1.0, f2=1.0, f3=1.0), (), _write(""),
        "All 4 features of all 32 wells are constant. Expected profiles that differ.",
    ),
    "all NaN": (
        lambda frame: frame.assign(f0=np.nan, f1=np.nan, f2=np.nan, f3=np.nan), (), _write(""),
        "No row of 32 in t.csv can be used. First: t.csv row 1: 4 of 4 features NaN, infinite or too large: f0, f1, f2",
    ),
    "no controls": (
        lambda frame: frame[frame["Metadata_Perturbation"] != "DMSO"], (), _write(""),
        "None of 24 wells is a negative control; the perturbations are a, b, c. Expected controls on every plate. Name",
    ),
    "only controls": (
        lambda frame: frame.assign(Metadata_Perturbation="DMSO"), (), _write(""),
        "None of 32 wells has a perturbation that is no negative control.",
    ),
    "no perturbation": (
        lambda frame: frame.drop(columns="Metadata_Perturbation"), (), _write(""),
        "None of 32 wells has a perturbation. Expected its name in a column such as Metadata_Perturbation. Name the",
    ),
    "no plate": (
        lambda frame: frame.drop(columns="Metadata_Plate"), (), _write(""),
        "t.csv has no column Metadata_Plate. Its metadata columns: Metadata_Well, Metadata_Perturbation. Rename",
    ),
    "no well": (
        lambda frame: frame.rename(columns={"Metadata_Well": "well"}), (), _write(""),
        "t.csv has no column Metadata_Well.",
    ),
    "a name twice": (
        lambda frame: frame.set_axis([*frame.columns[:-1], "f0"], axis=1), (), _write(""),
        "t.csv has two features of one name: f0. Expected names once. Rename them.",
    ),
    "a plate twice": (
        lambda frame: frame.set_axis([*frame.columns[:-1], "Metadata_Plate"], axis=1), (), _write(""),
        "t.csv has two columns of one name: Metadata_Plate. Expected names once. Rename them.",
    ),
    "no rows": (lambda frame: frame[:0], (), _write(""), "t.csv holds no row. Expected one row per site or well."),
    "unknown names in all relations": (
        lambda frame: frame, ("--relations", "other.csv"), _write("x,y\nq,r\na,s\n"),
        "None of 2 known relations joins two perturbations with profiles; unknown names: q, r, s. The perturbations",
    ),
    "no relations": (
        lambda frame: frame, ("--relations", "other.csv"), _write("x,y\n"),
        "other.csv has 0 rows, and none with two names.",
    ),
    "relations of one column": (
        lambda frame: frame, ("--relations", "other.csv"), _write("x\na\n"),
        "other.csv has 1 column: x. Expected two",
    ),
    "absent relations": (
        lambda frame: frame, ("--relations", "nosuch.csv"), _write(""),
        "nosuch.csv is no file. Expected a table of known relations. Check the path.",
    ),
    "metadata without plate and well": (
        lambda frame: frame, ("--metadata", "other.csv"), _write("gene,moa\nx,y\n"),
        "other.csv has neither a column Plate nor Well: Metadata_gene, Metadata_moa. Expected one of them at least",
    ),
    "metadata of other plates": (
        lambda frame: frame, ("--metadata", "other.csv"), _write("plate,well,moa\nQ1,A01,y\n"),
        "No profile has a row in other.csv: the profiles have P1 A01, the metadata Q1 A01. Expected equal values of",
    ),
    "metadata with two plates": (
        lambda frame: frame, ("--metadata", "other.csv"), _write("plate,Metadata_Plate,moa\nP1,P1,y\n"),
        "other.csv has two columns Metadata_Plate. Expected one. Remove the other.",
    ),
    "metadata that contradict": (
        lambda frame: frame, ("--metadata", "other.csv"), _write("plate,well,moa\nP1,A01,y\nP1,a1,z\n"),
        "other.csv has 2 rows that contradict each other, such as two of plate P1, well A01.",
    ),
    "labels of a part": (
        lambda frame: frame, ("--metadata", "other.csv", "--label", "moa"), _write("plate,well,moa\nP1,A02,y\n"),
        "metadata: 1 of 32 profiles have a row in other.csv; 0 of its 1 rows have no profile.",
    ),
    "no label": (
        lambda frame: frame, ("--label", "moa"), _write(""),
        "The profiles have no column 'Metadata_moa'. Expected one of: Metadata_Experiment, Metadata_Plate,",
    ),
    "a block without labels": (
        lambda frame: frame, ("--not-same", "week"), _write(""),
        "--not-same week needs labels. Name their column with `--label COLUMN`.",
    ),
    "an unknown step": (
        lambda frame: frame, ("--align", "center-plat"), _write(""),
        "There is no step 'center-plat' of alignment. Did you mean 'center-plate'",
    ),
    "an unknown control": (
        lambda frame: frame, ("--negative-control", "dms"), _write(""),
        "t.csv has no perturbation dms. Expected one of: DMSO, a, b, c. Correct the name.",
    ),
    "an unknown column": (
        lambda frame: frame, ("--perturbation", "Foo"), _write(""),
        "t.csv has no column 'Metadata_Foo'. Expected one of: Metadata_Experiment, Metadata_Plate,",
    ),
    "options of a run": (
        lambda frame: frame, ("--features", "backbone"), _write(""),
        "t.csv is no run, but features or wells of a run are asked for. Leave `--features` and `--wells` out",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_table_is_refused_and_nothing_is_written(verb: Verb, kind: str) -> None:
    change, words, prepare, expected = BAD[kind]
    prepare(verb.folder)
    status, text = verb(change(table()), *words)
    assert status == 1
    assert expected in text
    assert "error: " in text
    assert not verb.out.exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "t.csv is empty. Expected a line of column names, then rows."),
        ("Metadata_Plate;Metadata_Well;f\n1;B02;3\n", "t.csv has one column, 'Metadata_Plate;Metadata_Well;f'."),
        ("Metadata_Plate,Metadata_Well,f\n1,B02,3\n1,B03,3,4\n", "Line 3 of t.csv has 4 cells. Expected 3, as in the"),
        ("Metadata_Plate,Metadata_Well,f\n1,B02,3,4\n", "The rows of t.csv have more cells than its line of column"),
        ("Metadata_Plate,Metadata_Well\n1,B02\n", "t.csv has no numeric feature"),
        ("\udcff\udcfe", "t.csv is damaged: byte 0 is not UTF-8 text."),
    ],
)
def test_a_file_that_is_no_table_is_named(verb: Verb, content: str, expected: str) -> None:
    (verb.folder / "t.csv").write_bytes(content.encode("utf-8", "surrogateescape"))
    status, text = verb(None)
    assert status == 1
    assert expected in text
    assert not verb.out.exists()


def test_tables_with_other_features_are_refused(verb: Verb) -> None:
    (verb.folder / "plates").mkdir()
    for name, plate in table().groupby("Metadata_Plate"):
        plate.drop(columns=["f2"] if name == "P2" else []).to_csv(verb.folder / "plates" / f"{name}.csv", index=False)
    status, text = verb(None, source="plates")
    assert status == 1
    assert "P2.csv lacks 1 features of the other tables: f2. Expected the same features on every plate." in text


def test_relations_with_an_unknown_name_are_counted(verb: Verb) -> None:
    (verb.folder / "other.csv").write_text("x,y\na,b\nlost,b\n")
    status, text = verb(table(), "--relations", "other.csv")
    assert status == 0
    assert "1 known relation has a name without a profile, such as lost: left out." in text
    assert " of 1 in the tails 0.05 and 0.95" in text


def test_labels_are_counted(verb: Verb) -> None:
    labels = table()["Metadata_Perturbation"].map({"a": "x", "b": "x", "c": "y"})
    status, text = verb(table().assign(Metadata_moa=labels), "--label", "moa")
    assert status == 0
    assert "consistency: mean mAP of 1 of 2 labels" in text
    assert "1 label has no value: " in text


HOSTILE = ("=cmd()|x", 'a, "b"', "<b>bold</b>")
OTHERS = ("@sum+1\nrow", "µM-\u202ereversed", "x" * 300)


@pytest.mark.parametrize("names", [HOSTILE, OTHERS])
def test_hostile_names_stay_data(verb: Verb, names: tuple[str, ...]) -> None:
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


def test_csv_files_are_readable_and_lack_nothing(verb: Verb) -> None:
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
    verb: Verb, monkeypatch: pytest.MonkeyPatch
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


def test_ctrl_c_leaves_no_profiles(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verb(table())[0] == 0

    def stop(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ProfileResult, "read", ProfileResult.read)
    monkeypatch.setattr("distangle.results.profile_result._plain", stop)
    status, text = verb(None)
    assert status == 130
    assert "stopped." in text
    assert not (verb.out / JSON_FILE).exists()
    assert not (verb.out / "report.html").exists()
    monkeypatch.undo()


def test_a_folder_that_cannot_take_results_is_named_before_the_work(verb: Verb, tmp_path: Path) -> None:
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
def test_a_folder_without_rights_is_named(verb: Verb, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    status, text = verb(table())
    assert status == 1
    assert "out is not writable. Name another folder" in text


def test_a_folder_whose_old_results_cannot_be_removed_is_named(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verb(table())[0] == 0

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if path.name == JSON_FILE:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", unlink)
    status, text = verb(None)
    assert status == 1
    assert "profile.json was not removed: permission denied. Make out writable" in text


def test_the_table_of_hits_fits_a_narrow_terminal(
    verb: Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
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


def test_an_alignment_can_be_fitted_on_named_wells(verb: Verb) -> None:
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
