from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from distangle.errors import FoldError
from distangle.screen import (
    Folds,
    Screen,
    class_coverage,
    fold_columns,
    folds_by_experiment,
    folds_from_options,
    hide_labels,
    hide_labels_by,
    hold_out,
    index,
    refuse_reported,
    validate_folds,
)
from distangle.screen.checks.leaks import find_leaks
from rxrx1_lab import RxRx1Lab


@pytest.fixture
def screen(tmp_path: Path) -> Screen:
    """Four experiments of two cell types, two plates each, two wells a plate, two sites a well."""
    lab = RxRx1Lab(tmp_path / "lab")
    rows = []
    for experiment in ("HUVEC-01", "HUVEC-02", "RPE-01", "RPE-02"):
        for plate in ("1", "2"):
            for well, sirna in (("B02", "sirna_1"), ("B03", "sirna_2" if experiment != "RPE-02" else "sirna_3")):
                rows.append((experiment, plate, well, sirna))
                for site in (1, 2):
                    lab.site(f"images/{experiment}/Plate{plate}", well, site)
    lab.table("train.csv", rows)
    return index(lab.root, layout="rxrx1")


def held_out(folds: Folds) -> pd.DataFrame:
    return folds.table[folds.table["fold"] == "held_out"]


def test_whole_experiments_are_held_out_in_the_order_of_the_sites(screen: Screen) -> None:
    folds = hold_out(screen, values=["RPE-02", "HUVEC-01"])
    assert folds.description == "experiment=HUVEC-01,RPE-02"
    assert not folds.forced
    assert folds.table.columns.tolist() == ["experiment", "plate", "well", "site", "fold"]
    expected = ["held_out" if name in {"HUVEC-01", "RPE-02"} else "train" for name in screen.sites["experiment"]]
    assert folds.table["fold"].tolist() == expected == folds.of(screen).tolist()


def test_plates_and_cell_types_may_be_held_out(screen: Screen) -> None:
    assert set(held_out(hold_out(screen, column="plate", values=["2"]))["plate"]) == {"2"}
    assert set(held_out(hold_out(screen, column="cell_type", values=["RPE"]))["experiment"]) == {"RPE-01", "RPE-02"}


@pytest.mark.parametrize(
    ("column", "value"), [("site", "1"), ("well", "B02"), ("perturbation", "sirna_1"), ("row", "1")]
)
def test_a_column_that_divides_plates_is_refused_unless_forced(screen: Screen, column: str, value: str) -> None:
    if column == "row":
        screen.sites.loc[screen.sites["well"] == "B03", "row"] = 2
    with pytest.raises(FoldError) as error:
        hold_out(screen, column=column, values=[value])
    message = str(error.value)
    assert f"Refused to hold out {column}={value}: 8 of 8 plates would be on both sides (HUVEC-01 plate 1, " in message
    assert "and 3 more" in message
    assert "Hold out whole experiments instead, or add --force-split" in message
    forced = hold_out(screen, column=column, values=[value], force=True)
    assert forced.forced
    assert "8 of 8 plates would be on both sides" in forced.notes[0]
    assert len(held_out(forced)) == 16


def test_force_on_sound_folds_stamps_nothing(screen: Screen) -> None:
    folds = hold_out(screen, values=["RPE-02"], force=True)
    assert (folds.forced, folds.notes) == (False, ())


def test_the_same_picture_on_both_sides_is_refused_by_pairs(screen: Screen) -> None:
    screen.sites.loc[15, "sha256"] = screen.sites.loc[2, "sha256"]
    screen.sites.loc[14, "sha256"] = screen.sites.loc[13, "sha256"]  # both on one side: no leak
    with pytest.raises(FoldError) as error:
        hold_out(screen, values=["HUVEC-01"])
    assert "1 picture would be on both sides, byte for byte (" in str(error.value)
    assert "HUVEC-02 plate 2 well B03 site 2 = HUVEC-01 plate 1 well B03 site 1" in str(error.value)
    assert "Index without the copies, or hold out both, or add --force-split" in str(error.value)
    assert hold_out(screen, values=["HUVEC-01"], force=True).forced
    with pytest.raises(FoldError, match=r"plates would be .* 2 pictures would be .*Hold out whole experiments instead"):
        hold_out(screen, column="site", values=["2"])


def test_sites_without_a_hash_are_no_pair(screen: Screen) -> None:
    screen.sites["sha256"] = ""
    assert not hold_out(screen, values=["HUVEC-01"]).forced


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("experimnt", ["RPE-01"], "No column 'experimnt' to hold out by. Did you mean 'experiment'?"),
        ("experiment", ["RPE-1"], "No site has experiment='RPE-1'. Did you mean 'RPE-0"),
        ("plate", [], "Nothing to hold out: name values of 'plate': 1, 2."),
        ("cell_type", ["RPE", "HUVEC"], "The training fold of cell_type=HUVEC,RPE is empty: 32 sites are in the other"),
    ],
)
def test_what_cannot_be_held_out_is_said_with_what_can(
    screen: Screen, column: str, values: list[str], message: str
) -> None:
    with pytest.raises(FoldError) as error:
        hold_out(screen, column=column, values=values)
    assert message in str(error.value)


def test_a_missing_value_to_hold_out_by_is_refused_as_missing_and_not_as_leakage(screen: Screen) -> None:
    screen.sites.loc[screen.sites["experiment"] == "RPE-01", "cell_type"] = ""
    with pytest.raises(FoldError) as error:
        hold_out(screen, column="cell_type", values=["HUVEC"])
    message = str(error.value)
    assert "8 of 32 sites have no cell_type, so their fold is unknown. Expected a value for every site." in message
    assert "Fill in the cell_type of these sites and index again, or hold out by a column without missing" in message
    assert "too good" not in message
    assert "whole experiments" not in message


def test_sites_with_a_missing_value_are_trained_on_when_forced_and_noted(screen: Screen) -> None:
    of_no_type = (screen.sites["experiment"] == "RPE-01").to_numpy()
    screen.sites.loc[of_no_type, "cell_type"] = ""
    folds = hold_out(screen, column="cell_type", values=["HUVEC"], force=True)
    assert set(folds.of(screen)[of_no_type]) == {"train"}
    assert folds.forced
    assert folds.notes == ("8 sites have no cell_type: their fold is unknown",)


def test_columns_about_files_are_none_to_divide_by(screen: Screen) -> None:
    columns = fold_columns(screen)
    assert columns[:3] == ["experiment", "plate", "well"]
    assert "id_code" in columns
    assert not {"path_1", "page_6", "size", "mtime", "sha256"} & set(columns)


def test_every_experiment_is_held_out_once_and_cell_types_are_dealt_out(screen: Screen) -> None:
    parts = [set(held_out(folds_by_experiment(screen, n_folds=2, fold=k, seed=3))["experiment"]) for k in range(2)]
    assert parts[0] | parts[1] == {"HUVEC-01", "HUVEC-02", "RPE-01", "RPE-02"}
    assert not parts[0] & parts[1]
    assert all({name.split("-")[0] for name in part} == {"HUVEC", "RPE"} for part in parts)


def test_the_seed_decides_and_decides_alone(screen: Screen) -> None:
    experiments = {
        folds_by_experiment(screen, n_folds=2, fold=0, seed=seed).description.split(" ")[0] for seed in range(12)
    }
    assert len(experiments) == 4  # two cell types, two experiments each
    shuffled = Screen(
        metadata=screen.metadata, sites=screen.sites.sample(frac=1, random_state=0), problems=screen.problems
    )
    folds, second = (folds_by_experiment(one_screen, n_folds=2, fold=1, seed=5) for one_screen in (screen, shuffled))
    assert folds.description == second.description
    assert folds.of(shuffled).tolist() == second.of(shuffled).tolist()


@pytest.mark.parametrize(
    ("n_folds", "fold", "message"),
    [
        (5, 0, "5 folds of 4 experiments (HUVEC-01, "),
        (1, 0, "expected from 2 to as many folds"),
        (2, 2, "No fold 2 of 2: they count from 0 to 1."),
        (2, -1, "No fold -1 of 2"),
    ],
)
def test_folds_that_cannot_be_are_refused(screen: Screen, n_folds: int, fold: int, message: str) -> None:
    with pytest.raises(FoldError) as error:
        folds_by_experiment(screen, n_folds=n_folds, fold=fold, seed=0)
    assert message in str(error.value)


def test_folds_are_read_as_written_and_know_when_they_were_changed(screen: Screen, tmp_path: Path) -> None:
    folds = hold_out(screen, column="site", values=["1"], force=True)
    path = folds.write(tmp_path / "run" / "folds.parquet")
    copy = Folds.read(path)
    pd.testing.assert_frame_equal(copy.table, folds.table)
    assert (copy.description, copy.forced, copy.notes) == (folds.description, True, folds.notes)
    assert copy.sha256 == folds.sha256
    table = pq.read_table(path)
    column = table.column("fold").to_pylist()
    damaged_table = table.set_column(4, "fold", [["train", *column[1:]]])
    assert column[0] == "held_out"
    pq.write_table(damaged_table, path)
    with pytest.raises(FoldError, match="was changed: its rows do not match their hash"):
        Folds.read(path)


def test_what_are_no_folds_is_refused(screen: Screen, tmp_path: Path) -> None:
    with pytest.raises(FoldError, match=r"No folds at .*none.parquet"):
        Folds.read(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("PAR1")
    with pytest.raises(FoldError, match="text.parquet is damaged: .*make new folds"):
        Folds.read(tmp_path / "text.parquet")
    screen.sites.to_parquet(tmp_path / "sites.parquet")
    with pytest.raises(FoldError, match="is not a file of folds: expected the columns experiment, plate"):
        Folds.read(tmp_path / "sites.parquet")


def test_the_hash_sees_the_rows_and_what_is_said_of_them(screen: Screen) -> None:
    folds = hold_out(screen, values=["RPE-02"])
    assert folds.sha256 == hold_out(screen, values=["RPE-02", "RPE-02"]).sha256
    others = [
        Folds(table=folds.table.iloc[::-1], description=folds.description),
        Folds(table=folds.table, description="experiment=RPE-01"),
        Folds(table=folds.table, description=folds.description, forced=True),
        hold_out(screen, values=["RPE-01"]),
    ]
    assert len({folds.sha256, *(other.sha256 for other in others)}) == 5


def test_folds_of_another_screen_are_refused(screen: Screen) -> None:
    part = Screen(metadata=screen.metadata, sites=screen.sites.iloc[4:], problems=screen.problems)
    folds = hold_out(part, values=["RPE-02"])
    with pytest.raises(FoldError, match="4 of 32 sites are in no fold, the first HUVEC-01 plate 1 well B02 site 1"):
        folds.of(screen)


def test_folds_that_somebody_else_made_are_looked_at_before_they_are_used(screen: Screen, tmp_path: Path) -> None:
    folds = hold_out(screen, values=["RPE-02"])
    assert validate_folds(screen, folds) is folds
    assert validate_folds(screen, folds, force=True) is folds
    table = folds.table.assign(fold=["held_out" if k == 0 else "train" for k in range(len(folds.table))])
    leaking = Folds.read(Folds(table=table, description="mine").write(tmp_path / "folds.parquet"))
    message = r"Refused to hold out mine: 1 of 8 plates would be on both sides .*1 wells would be on both sides"
    with pytest.raises(FoldError, match=rf"{message}.*or add --force-split"):
        validate_folds(screen, leaking)
    forced = validate_folds(screen, leaking, force=True)
    assert forced.forced
    assert [note.split(" would")[0] for note in forced.notes] == ["1 of 8 plates", "1 wells"]
    assert validate_folds(screen, forced) is forced  # a forced division stays valid
    before = Folds(table=table, description="mine", forced=True, notes=("something else",))
    assert validate_folds(screen, before).notes == ("something else", *forced.notes)


def test_folds_of_another_screen_that_knows_the_same_wells_are_refused(screen: Screen) -> None:
    for name, other in (("held out", "train"), ("train", "held_out")):
        table = hold_out(screen, values=["RPE-02"]).table.assign(fold=other)
        folds = Folds(table=table, description="theirs")
        with pytest.raises(FoldError, match=f"No site of this screen is {name} by the folds of theirs: they were made"):
            validate_folds(screen, folds, force=True)
        findings = {leak.kind: leak for leak in find_leaks(screen, folds)}
        assert findings["an empty side of the folds"].what == f"no site of this screen is {name} by theirs"
        assert findings["an empty side of the folds"].severity == "error"
    part = Screen(
        metadata=screen.metadata, sites=screen.sites.iloc[2:].reset_index(drop=True), problems=screen.problems
    )
    findings = {leak.kind: leak for leak in find_leaks(part, hold_out(screen, values=["RPE-02"]))}
    assert findings["folds of a larger screen"].what == "2 of 32 sites of the folds are not in this screen"
    assert validate_folds(part, hold_out(screen, values=["RPE-02"])).forced is False


def test_one_file_of_a_site_on_both_sides_is_warned_of(tmp_path: Path) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    lab.table("train.csv", [(f"E-{k}", "1", well, f"a{k}{well}") for k in range(3) for well in ("B02", "B03")])
    for k in range(3):
        for well in ("B02", "B03"):
            lab.site(f"images/E-{k}/Plate1", well, 1)
    copy, original = ("images/E-2/Plate1/B03_s1_w4.png", "images/E-0/Plate1/B02_s1_w4.png")
    (lab.root / copy).write_bytes((lab.root / original).read_bytes())
    screen = index(lab.root, layout="rxrx1")
    (finding,) = [one for one in find_leaks(screen, hold_out(screen, values=["E-2"])) if one.severity == "warning"]
    assert finding.kind == "a file on both sides of the folds"
    assert finding.what == f"{original} = {copy}, byte for byte"
    assert (finding.experiment, finding.well, finding.count) == ("E-0", "B02", 2)
    for one_side in (["E-0", "E-2"], ["E-1"]):
        assert not [one for one in find_leaks(screen, hold_out(screen, values=one_side)) if one.severity == "warning"]
    for channel in range(1, 7):  # the whole site is one error, not a warning for each of its files too
        file = lab.root / f"images/E-0/Plate1/B02_s1_w{channel}.png"
        (lab.root / f"images/E-2/Plate1/B03_s1_w{channel}.png").write_bytes(file.read_bytes())
    copied_site = index(lab.root, layout="rxrx1")
    text = find_leaks(copied_site, hold_out(copied_site, values=["E-2"], force=True))
    assert [one.kind for one in text if one.severity != "note"] == ["on both sides of the folds"]
    unhashed = index(lab.root, layout="rxrx1", hash_files=False)
    (note,) = [one for one in find_leaks(unhashed, hold_out(unhashed, values=["E-2"])) if "bytes" in one.kind]
    assert (note.severity, note.kind) == ("note", "bytes not compared")


# --- Labels ------------------------------------------------------------------------------------------------------


def test_the_label_report_names_what_cannot_be_taught_or_tested(screen: Screen) -> None:
    screen.sites.loc[[0, 31], "perturbation"] = ""
    report = class_coverage(screen, hold_out(screen, values=["RPE-02"]))
    assert report.classes == ("sirna_1", "sirna_2", "sirna_3")
    assert report.n_train == (11, 12, 0)
    assert report.n_held_out == (4, 0, 3)
    assert (report.never_trained, report.never_held_out) == (("sirna_3",), ("sirna_2",))
    assert (report.n_unknown_train, report.n_unknown_held_out) == (1, 1)


def test_one_class_teaches_nothing(screen: Screen) -> None:
    folds = hold_out(screen, column="cell_type", values=["RPE"])
    with pytest.raises(FoldError, match=r"of cell_type=RPE has only 'HUVEC' in column 'cell_type' \(0 sites without"):
        class_coverage(screen, folds, "cell_type")
    screen.sites["perturbation"] = ""
    with pytest.raises(FoldError, match=r"has no known perturbation in column 'perturbation' \(16 sites without"):
        class_coverage(screen, folds)
    with pytest.raises(FoldError, match="No column 'cell' to predict. Did you mean 'cell_type'"):
        class_coverage(screen, folds, "cell")


def test_hidden_labels_are_a_third_fold_that_survives_writing(screen: Screen, tmp_path: Path) -> None:
    two = hold_out(screen, values=["HUVEC-02"])
    folds = hide_labels(screen, two, values=["RPE-01", "RPE-02"])
    expected = {"HUVEC-01": "train", "HUVEC-02": "held_out", "RPE-01": "unlabelled", "RPE-02": "unlabelled"}
    assert folds.table["fold"].tolist() == [expected[name] for name in screen.sites["experiment"]]
    assert (folds.description, folds.unlabelled) == ("experiment=HUVEC-02", "experiment=RPE-01,RPE-02")
    assert folds.sha256 != two.sha256
    copy = Folds.read(folds.write(tmp_path / "folds.parquet"))
    assert copy.unlabelled == folds.unlabelled
    assert copy.sha256 == folds.sha256
    report = class_coverage(screen, folds)
    assert dict(zip(report.classes, report.n_train, strict=True)) == {"sirna_1": 4, "sirna_2": 4}


def test_hiding_twice_adds_up(screen: Screen) -> None:
    folds = hide_labels(screen, hold_out(screen, values=["HUVEC-02"]), values=["RPE-01"])
    second = hide_labels(screen, folds, values=["RPE-02"])
    assert second.unlabelled == "experiment=RPE-01; experiment=RPE-02"
    assert (second.table["fold"] == "unlabelled").sum() == 16


def test_the_reported_fold_is_never_pseudo_labelled(screen: Screen) -> None:
    folds = hold_out(screen, values=["HUVEC-02"])
    with pytest.raises(FoldError) as error:
        hide_labels(screen, folds, values=["HUVEC-02", "RPE-01"])
    assert "8 sites of HUVEC-02 are held out (experiment=HUVEC-02) and would get pseudo labels" in str(error.value)
    assert "Hold out other experiments than those with hidden labels" in str(error.value)
    with pytest.raises(FoldError, match="1 sites of HUVEC-02"):
        refuse_reported(screen, folds, [0, screen.sites.index[screen.sites["experiment"] == "HUVEC-02"][0]])
    refuse_reported(screen, folds, [0])


def test_labels_are_hidden_only_where_something_is_left(screen: Screen) -> None:
    folds = hold_out(screen, values=["HUVEC-02"])
    with pytest.raises(FoldError, match="no training site is left"):
        hide_labels(screen, folds, values=["HUVEC-01", "RPE-01", "RPE-02"])
    with pytest.raises(FoldError, match="No site has experiment='RPE-03'"):
        hide_labels(screen, folds, values=["RPE-03"])
    with pytest.raises(FoldError, match="No column 'experiments' to hide labels by. Did you mean 'experiment'"):
        hide_labels(screen, folds, column="experiments", values=["RPE-01"])


def test_a_command_line_divides_as_the_functions_do(screen: Screen) -> None:
    assert (
        folds_from_options(screen, by="experiment=RPE-02, HUVEC-01").sha256
        == hold_out(screen, values=["RPE-02", "HUVEC-01"]).sha256
    )
    n = screen.sites["experiment"].nunique()
    assert (
        folds_from_options(screen, seed=3).sha256
        == folds_by_experiment(screen, n_folds=min(5, n), fold=0, seed=3).sha256
    )
    assert (
        folds_from_options(screen, n_folds=2, fold=1).sha256
        == folds_by_experiment(screen, n_folds=2, fold=1, seed=0).sha256
    )
    two = hold_out(screen, values=["HUVEC-02"])
    hidden = folds_from_options(screen, by="experiment=HUVEC-02", hidden="experiment=RPE-01")
    assert hidden.sha256 == hide_labels(screen, two, values=["RPE-01"]).sha256
    with pytest.raises(FoldError, match=r"Cannot hold out 'RPE-02'\. Expected COLUMN=VALUE,VALUE"):
        folds_from_options(screen, by="RPE-02")
    with pytest.raises(FoldError, match="experiment=RPE-02 already defines what is held out"):
        folds_from_options(screen, by="experiment=RPE-02", fold=1)


def test_labels_are_hidden_as_a_command_line_asks(screen: Screen) -> None:
    folds = hold_out(screen, values=["HUVEC-02"])
    result = hide_labels_by(screen, folds, "experiment = RPE-01, RPE-02")
    assert result.sha256 == hide_labels(screen, folds, values=["RPE-01", "RPE-02"]).sha256
    with pytest.raises(FoldError, match="Cannot hide the labels of 'RPE-01'. Expected COLUMN=VALUE,VALUE"):
        hide_labels_by(screen, folds, "RPE-01")
    with pytest.raises(FoldError, match="Nothing to hide labels: name values of 'experiment'"):
        hide_labels_by(screen, folds, "experiment=")
