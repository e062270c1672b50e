"""Labels that differ within a well: how they are indexed, which leaks they show, what cannot be learned."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest

from distangle.cli import main
from distangle.errors import FoldError, ScreenError
from distangle.screen import Screen, class_coverage, folds_from_options, hold_out, index
from distangle.screen.checks.leaks import find_leaks
from distangle.screen.checks.shared_layouts import plate_groups, position_baseline_share, shared_layouts
from distangle.screen.folds.coverage import WellLabels, count_well_labels

CORRECT = "Correct the rows of this well, or map a column that distinguishes experiments."
KINDS = ("interphase", "mitosis", "apoptosis")
SIRNA = {"B02": "si1", "B03": "si2", "B04": "DMSO", "B05": "si1"}
HEADER = ("experiment", "plate", "well", "cell", "phenotype", "siRNA", "gene", "row", "batch", "id_code")


def cells(**columns: str) -> list[dict[str, str]]:
    """Return rows of three experiments: one plate, four wells, three cells of different phenotypes."""
    return [
        {
            "experiment": experiment,
            "plate": "1",
            "well": well,
            "cell": str(k + 1),
            "phenotype": KINDS[k],
            "siRNA": name,
            "gene": name.upper(),
            "row": "B",
            "batch": f"of {experiment}",
            "id_code": f"{experiment}_{well}_{k}",
            "well_id": f"{experiment}_{well}",
            **columns,
        }
        for experiment in ("E1", "E2", "E3")
        for well, name in SIRNA.items()
        for k in range(3)
    ]


def write(folder: Path, rows: Sequence[Mapping[str, str]], *, missing: Sequence[str] = ()) -> Path:
    names = [name for name in rows[0] if name not in missing]
    with (folder / "cells.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return folder / "cells.csv"


def index_cells(table: Path, **mapping: str) -> Screen:
    return index(table, layout="table", tables_only=True, mapping={"site": "cell", **mapping})


def refusal(table: Path, **mapping: str) -> str:
    with pytest.raises(ScreenError, match="36 x well contradicts itself") as error:
        index_cells(table, **mapping)
    message = str(error.value)
    assert message.count(CORRECT) == 1  # though the message covers three rows
    return message[message.index(CORRECT) :]


def test_the_refusal_names_the_treatments_the_label_and_how_to_learn_it(tmp_path: Path) -> None:
    # Not offered: one value per plate (batch), one per well (well_id), a place (row), others within a well (id_code).
    assert refusal(write(tmp_path, cells()), perturbation="phenotype") == (
        f"{CORRECT} If column 'phenotype' labels single sites, such as a cell's phenotype, map the well's "
        "treatment, `--map perturbation=siRNA` (or gene): 'phenotype' then becomes an extra column, and "
        "`distangle train SCREEN --target phenotype` learns it."
    )
    screen = index_cells(tmp_path / "cells.csv", perturbation="siRNA")
    assert screen.metadata.indexed == 36
    assert screen.metadata.perturbations == ("DMSO", "si1", "si2")
    assert screen.sites["phenotype"].tolist() == [*KINDS] * 12
    assert {"gene", "batch", "id_code", "well_id", "table_row"} <= set(screen.metadata.extra_columns)


def test_a_treatment_in_a_column_of_our_name_is_offered_by_the_name_it_has(tmp_path: Path) -> None:
    rows = [{**row, "size": row["siRNA"]} for row in cells()]
    table = write(tmp_path, rows, missing=["siRNA", "gene"])
    assert "`--map perturbation=size`: 'phenotype'" in refusal(table, perturbation="phenotype")
    assert index_cells(table, perturbation="size").metadata.perturbations == ("DMSO", "si1", "si2")


def test_where_a_table_has_no_treatments_there_is_a_way_too(tmp_path: Path) -> None:
    table = write(tmp_path, cells(), missing=["siRNA", "gene"])
    assert (
        "map the well's treatment, `--map perturbation=COLUMN`, or `--map perturbation=` where there is none: "
        "'phenotype' then becomes"
    ) in refusal(table, perturbation="phenotype")
    screen = index_cells(table, perturbation="")
    assert (screen.metadata.indexed, screen.metadata.refused, screen.metadata.perturbations) == (36, 0, ())
    assert set(screen.sites["perturbation"]) == {""}
    assert set(screen.sites["role"]) == {"unknown"}
    assert screen.sites["phenotype"].tolist() == [*KINDS] * 12


def test_a_label_in_a_column_of_our_name_is_learnt_by_the_name_it_gets(tmp_path: Path) -> None:
    rows = [{**row, "perturbation": row["phenotype"]} for row in cells()]
    table = write(tmp_path, rows)
    assert "`distangle train SCREEN --target table_perturbation` learns it" in refusal(table)
    for treatment in ("siRNA", ""):
        assert index_cells(table, perturbation=treatment).sites["table_perturbation"].tolist() == [*KINDS] * 12


def test_wells_of_one_perturbation_in_two_roles_are_no_label_of_sites(tmp_path: Path) -> None:
    rows = [{**row, "role": "negcon" if row["cell"] == "1" else "trt"} for row in cells()]
    assert refusal(write(tmp_path, rows), perturbation="siRNA") == CORRECT


def test_the_command_line_says_the_way_out_once_for_all_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row, "phenotype": "mitosis"} if row["well"] == "B02" else row for row in cells()]
    details = ["index", str(write(tmp_path, rows)), "--tables-only", "--out", str(tmp_path / "screen")]
    main([*details, "--map", "site=cell,perturbation=phenotype"])
    output = capsys.readouterr()
    assert "found 36 = indexed 9 + refused 27" in output.out
    problems_file = tmp_path / "screen" / "problems.csv"
    assert (
        f"refused: well contradicts itself: 27 (27 rows in {problems_file}). {CORRECT} If column 'phenotype'"
        in output.err
    )
    assert output.err.count("--target phenotype") == 1
    main([*details, "--map", "site=cell", "--map", "perturbation="])
    assert "found 36 = indexed 36 + refused 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("labels", "counts"),
    [
        (["a", "a", "b", "b", "a", "a"], WellLabels(n_labeled=3, n_ambiguous=0, n_partial=0)),
        (["a", "b", "b", "b", "", ""], WellLabels(n_labeled=2, n_ambiguous=1, n_partial=0)),
        (["a", "", "b", "a", "", "a"], WellLabels(n_labeled=3, n_ambiguous=1, n_partial=2)),
        (["", "", "", "", "", ""], WellLabels(n_labeled=0, n_ambiguous=0, n_partial=0)),
    ],
)
def test_wells_of_several_labels_are_counted_by_hand(labels: list[str], counts: WellLabels) -> None:
    wells = pd.DataFrame({"plate": ["1", "1", "1", "1", "2", "2"], "well": ["B02", "B02", "B03", "B03", "B02", "B02"]})
    assert count_well_labels(wells, labels) == counts
    assert counts.single == (counts.n_ambiguous == counts.n_partial == 0)


# --- Leaks -------------------------------------------------------------------------------------------------------

WELLS = [f"{row}{column:02d}" for row in "BCDEFG" for column in range(2, 12)]


def planted_screen(folder: Path, *, by_place: bool) -> Screen:
    """Plant three experiments of 60 wells of five cells; position predicts the first cell of each well.

    With `by_place` it predicts two more cells; otherwise the four other cells are the same in every well.
    """
    rows = []
    for experiment in ("E1", "E2", "E3"):
        for place, well in enumerate(WELLS):
            main_label = KINDS[place % 3]
            others = (
                [main_label, main_label, "mitosis", "apoptosis"]
                if by_place
                else ["interphase", "interphase", "mitosis", "mitosis"]
            )
            for k, name in enumerate([main_label, *others]):
                rows.append(dict(zip(HEADER[:5], (experiment, "1", well, str(k), name), strict=True)))
    return index_cells(write(folder, rows), perturbation="")


def test_the_first_cell_of_a_well_is_not_its_label(tmp_path: Path) -> None:
    screen = planted_screen(tmp_path, by_place=False)
    # Most cells of a place: interphase where the first is, mitosis where it is; of two and two the first by name.
    share, hit_share, n = position_baseline_share(screen, label="phenotype")
    assert (share, hit_share, n) == (1.0, pytest.approx(2 / 3), 180)
    assert shared_layouts(screen, label="phenotype") == []
    assert plate_groups(screen, label="phenotype") == []
    kinds = {finding.kind for finding in find_leaks(screen, hold_out(screen, values=["E3"]), label="phenotype")}
    assert "layout twins on both sides of the folds" not in kinds


def test_a_place_that_tells_what_most_cells_of_a_well_hold_is_told_by_wells(tmp_path: Path) -> None:
    screen = planted_screen(tmp_path, by_place=True)
    assert position_baseline_share(screen, label="phenotype") == (1.0, pytest.approx(1 / 3), 180)
    findings = {leak.kind: leak.what for leak in find_leaks(screen, hold_out(screen, values=["E3"]), label="phenotype")}
    assert findings["position predicts the label"] == (
        "the well's name alone gives the label of most sites for 100.0% of 180 wells, guessing 33.3%: the "
        "layout is nearly fixed"
    )
    # By sites: the mode of a place is right at 3 of 5 cells of interphase wells, at 4 of 5 of the two other kinds.
    assert "of 300 held-out sites of treatments position alone 73.3%" in findings["place predicts the label"]


def test_twins_and_groups_of_a_label_of_sites_are_those_of_the_treatments(tmp_path: Path) -> None:
    # The first cell of every well is interphase in E1 and E2, mitosis in E3 and E4; treatments lie elsewhere in each.
    names, rows = list(SIRNA), []
    for k, experiment in enumerate(("E1", "E2", "E3", "E4")):
        for place, well in enumerate(names):
            treatment = SIRNA[names[(place + k) % 4]]
            for cell, kind in enumerate(KINDS[:2] if k < 2 else KINDS[1::-1]):
                place_of = {"experiment": experiment, "plate": "1", "well": well, "cell": str(cell)}
                rows.append({**place_of, "phenotype": kind, "siRNA": treatment})
    screen = index_cells(write(tmp_path, rows), perturbation="siRNA")
    assert shared_layouts(screen, label="phenotype") == shared_layouts(screen) == []
    assert plate_groups(screen, label="phenotype") == plate_groups(screen) == []
    (tmp_path / "alike").mkdir()
    alike = index_cells(write(tmp_path / "alike", cells()), perturbation="siRNA")
    assert [twins.experiments for twins in shared_layouts(alike, label="phenotype")] == [("E1", "E2", "E3")]


# --- What cannot be learnt ---------------------------------------------------------------------------------------


@pytest.fixture
def screen(tmp_path: Path) -> Screen:
    return index_cells(write(tmp_path, cells()), perturbation="siRNA")


def test_a_column_that_is_not_there_is_refused_with_the_nearest(screen: Screen) -> None:
    message = "No column 'Phenotype' to predict. Did you mean 'phenotype'"
    folds = hold_out(screen, values=["E3"])
    for group in (None, "experiment"):
        with pytest.raises(FoldError, match=message):
            folds_from_options(screen, group=group, label="Phenotype")
    for call in (
        lambda: find_leaks(screen, folds, label="Phenotype"),
        lambda: class_coverage(screen, folds, "Phenotype"),
    ):
        with pytest.raises(FoldError, match=message):
            call()
    with pytest.raises(FoldError) as error:
        class_coverage(screen, folds, "nosuch")
    assert "Known: batch, cell_type, gene, id_code, perturbation, phenotype" in str(error.value)


def test_names_of_rows_are_no_labels(screen: Screen) -> None:
    folds = hold_out(screen, values=["E3"])
    with pytest.raises(FoldError) as error:
        class_coverage(screen, folds, "id_code")
    assert str(error.value) == (
        "No label of column 'id_code' is on both sides of experiment=E3: 24 labels are for training and 12 others held "
        "out; each occurs once, like the name of a row. None could be scored. Predict another column (`--target "
        "perturbation`; or phenotype, gene), or hold out groups whose labels are trained on elsewhere."
    )
    with pytest.raises(FoldError) as error:
        class_coverage(screen, folds, "batch")
    assert "2 labels are for training and 1 others held out. None could be scored" in str(error.value)


def test_one_label_on_both_sides_is_enough_and_an_unlabelled_side_is_no_fault(screen: Screen) -> None:
    folds = hold_out(screen, values=["E3"])
    screen.sites.loc[screen.sites.index[-1], "id_code"] = screen.sites["id_code"].iloc[0]
    assert len(class_coverage(screen, folds, "id_code").never_trained) == 11
    screen.sites.loc[screen.sites["experiment"] == "E3", "id_code"] = ""
    assert class_coverage(screen, folds, "id_code").n_unknown_held_out == 12


def test_sites_without_a_label_are_counted_by_side_with_what_to_do(screen: Screen) -> None:
    folds = hold_out(screen, values=["E3"])
    assert list(class_coverage(screen, folds, "phenotype").missing_label_notes()) == []
    screen.sites.loc[[0, 1, 35], "phenotype"] = ""
    assert list(class_coverage(screen, folds, "phenotype").missing_label_notes()) == [
        "2 of 24 training sites and 1 of 12 held-out sites have no label in column 'phenotype': they are neither "
        "trained on nor scored. To use them, fill in the column in the table and index again."
    ]
    screen.sites.loc[[0, 1], "phenotype"] = "mitosis"
    assert [message[:40] for message in class_coverage(screen, folds, "phenotype").missing_label_notes()] == [
        "1 of 12 held-out sites have no label in "
    ]
