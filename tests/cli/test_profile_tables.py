"""`distangle profile` on tables with faults: what is printed, what is refused, and which files are written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.results import ProfileResult
from profile_verb import Frame, ProfileVerb, table


@pytest.fixture
def verb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> ProfileVerb:
    monkeypatch.chdir(tmp_path)
    return ProfileVerb(tmp_path, capsys)


def _one_replicate(frame: Frame) -> Frame:
    frame = frame[:16]
    is_treatment = frame["Metadata_Perturbation"] != "DMSO"
    return pd.concat([frame[~is_treatment], frame[is_treatment].drop_duplicates("Metadata_Perturbation")])


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
def test_an_odd_table_is_used_and_what_is_odd_is_said(verb: ProfileVerb, kind: str) -> None:
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
def test_a_bad_row_is_refused_and_the_others_are_used(verb: ProfileVerb, kind: str) -> None:
    change, expected = ROWS[kind]
    status, text = verb(change(table()))
    assert status == 0
    refusals = verb.refusals()
    assert list(refusals) == list(expected)
    for row, reason in expected.items():
        assert reason in refusals[row]
        assert f"refused: {row}: {refusals[row]}" in text


def test_plates_of_two_experiments_and_sites_of_wells_are_kept_apart(verb: ProfileVerb) -> None:
    two_experiments = pd.concat([table(seed=k).assign(Metadata_Experiment=f"E{k}") for k in range(2)])
    assert verb(two_experiments)[0] == 0
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
def test_a_bad_table_is_refused_and_nothing_is_written(verb: ProfileVerb, kind: str) -> None:
    change, flags, prepare, expected = BAD[kind]
    prepare(verb.folder)
    status, text = verb(change(table()), *flags)
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
def test_a_file_that_is_no_table_is_named(verb: ProfileVerb, content: str, expected: str) -> None:
    (verb.folder / "t.csv").write_bytes(content.encode("utf-8", "surrogateescape"))
    status, text = verb(None)
    assert status == 1
    assert expected in text
    assert not verb.out.exists()


def test_tables_with_other_features_are_refused(verb: ProfileVerb) -> None:
    (verb.folder / "plates").mkdir()
    for name, plate in table().groupby("Metadata_Plate"):
        plate.drop(columns=["f2"] if name == "P2" else []).to_csv(verb.folder / "plates" / f"{name}.csv", index=False)
    status, text = verb(None, source="plates")
    assert status == 1
    assert "P2.csv lacks 1 features of the other tables: f2. Expected the same features on every plate." in text


def test_relations_with_an_unknown_name_are_counted(verb: ProfileVerb) -> None:
    (verb.folder / "other.csv").write_text("x,y\na,b\nlost,b\n")
    status, text = verb(table(), "--relations", "other.csv")
    assert status == 0
    assert "1 known relation has a name without a profile, such as lost: left out." in text
    assert " of 1 in the tails 0.05 and 0.95" in text


def test_labels_are_counted(verb: ProfileVerb) -> None:
    labels = table()["Metadata_Perturbation"].map({"a": "x", "b": "x", "c": "y"})
    status, text = verb(table().assign(Metadata_moa=labels), "--label", "moa")
    assert status == 0
    assert "consistency: mean mAP of 1 of 2 labels" in text
    assert "1 label has no value: " in text
