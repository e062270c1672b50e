from pathlib import Path

import pandas as pd
import pytest

from check_plates import HEADER, index_plates, plate_rows
from distangle.errors import ScreenError
from distangle.screen import Screen, index, read_screen, write_screen
from distangle.screen.checks import CheckReport, check_tables
from distangle.screen.problems import Problem, findings_table


def clean(folder: Path, n_plates: int = 4) -> Screen:
    return index_plates(folder, [row for k in range(n_plates) for row in plate_rows("E1", str(k), seed=k)])


def kinds(report: CheckReport) -> dict[str, int]:
    return {str(entry["kind"]): int(entry["findings"]) for entry in report.grouped()}


def single_problem(report: CheckReport, kind: str) -> Problem:
    (result,) = [finding for finding in report.findings if finding.kind == kind]
    return result


def test_a_clean_screen_has_no_findings_and_sums_that_come_out(tmp_path: Path) -> None:
    report = check_tables(clean(tmp_path), expected={"wells": 1232, "plates": 4, "classes": 300})
    assert report.findings == ()
    assert [law.equation for law in report.invariants] == [
        "found 1232 = indexed 1232 + refused 0",
        "wells 1232 = negative_control 16 + positive_control 16 + treatment 1200 by role",
    ]
    assert all(law.holds for law in report.invariants)
    assert not report.fails("warning")


def test_wells_missing_in_the_middle_are_listed_and_the_later_ones_keep_their_places(tmp_path: Path) -> None:
    rows = [row for k in range(4) for row in plate_rows("E1", str(k), seed=k)]
    missing_wells = ("C11", "C12", "C13", "C14")
    screen = index_plates(tmp_path, [row for row in rows if not (row[1] == "2" and row[2] in missing_wells)])
    finding = single_problem(check_tables(screen), "missing wells")
    assert (finding.severity, finding.plate, finding.well, finding.count) == ("note", "2", "C11,C12,C13,C14", 4)
    labels = {(row[1], row[2]): row[3] for row in rows}
    for plate, well, label in screen.sites[["plate", "well", "perturbation"]].itertuples(index=False):
        assert labels[plate, well] == label
    assert check_tables(screen).count("error") == 0


def test_a_well_with_one_of_two_sites_is_named_with_the_missing_one(tmp_path: Path) -> None:
    header = (*HEADER, "site")
    rows = [(*row, str(site)) for row in plate_rows("E1", "1") for site in (1, 2)]
    rows.remove(next(row for row in rows if row[2] == "C05" and row[5] == "2"))
    findings = single_problem(check_tables(index_plates(tmp_path, rows, header)), "missing sites")
    assert (findings.well, findings.site, findings.severity) == ("C05", "2", "warning")
    assert "1 of 2 sites: no site 2; 307 of 308 have it" in findings.what


def test_refused_rows_are_errors_with_their_line_and_the_sum_still_comes_out(tmp_path: Path) -> None:
    rows = plate_rows("E1", "1")
    screen = index_plates(tmp_path, [*rows, ("E1", "1", "C05", "other", "treatment")])
    report = check_tables(screen)
    conflicts = [finding for finding in report.findings if finding.kind == "conflicting rows"]
    assert [finding.file for finding in conflicts] == ["wells.csv, line 27", "wells.csv, line 310"]
    assert conflicts[0].severity == "error"
    assert "wells.csv line 310" in conflicts[0].what
    assert report.invariants[0].equation == "found 309 = indexed 307 + refused 2"
    assert report.fails("error")
    assert not report.fails("never")


def test_a_sum_that_does_not_come_out_fails_whatever_was_found(tmp_path: Path) -> None:
    screen = clean(tmp_path, 1)
    metadata = screen.metadata.model_copy(update={"found": 309})
    report = check_tables(Screen(metadata=metadata, sites=screen.sites, problems=screen.problems))
    assert not report.invariants[0].holds
    assert report.findings == ()
    assert report.fails("error")


def test_totals_of_a_paper_that_counts_wells_as_images_do_not_reconcile(tmp_path: Path) -> None:
    report = check_tables(clean(tmp_path), expected={"wells": 1230, "plates": 4})
    assert single_problem(report, "totals do not reconcile").what == "1232 wells counted, 1230 expected: +2"
    with pytest.raises(ScreenError, match="No total of 'images' to expect.*wells"):
        check_tables(clean(tmp_path), expected={"images": 3})


def test_same_bytes_are_a_warning_and_across_the_split_an_error(tmp_path: Path) -> None:
    screen = clean(tmp_path, 1)
    screen.sites["sha256"] = [f"{k}" for k in range(len(screen.sites))]
    screen.sites.loc[7, "sha256"] = "3"
    first, second = screen.sites.loc[3, "well"], screen.sites.loc[7, "well"]
    findings = single_problem(check_tables(screen), "same bytes at two sites")
    assert (findings.severity, findings.well, findings.count) == ("warning", first, 2)
    assert f"well {first} site 0 = E1 plate 0 well {second} site 0" in findings.what
    screen.sites["split"] = ["train"] * 5 + ["test"] * (len(screen.sites) - 5)
    findings = single_problem(check_tables(screen), "same bytes on both sides of the split")
    assert findings.severity == "error"
    assert "in the splits 'test' and 'train'" in findings.what


def test_a_well_in_two_splits_a_site_twice_and_a_file_of_two_channels_are_errors(tmp_path: Path) -> None:
    screen = clean(tmp_path, 1)
    sites = pd.concat([screen.sites, screen.sites.iloc[[0]]], ignore_index=True)
    sites["split"] = "train"
    sites.loc[len(sites) - 1, "split"] = "test"
    doubled = Screen(metadata=screen.metadata, sites=sites, problems=screen.problems)
    names = kinds(check_tables(doubled))
    assert names["well in two splits"] == names["site in the table twice"] == 1
    assert "totals do not reconcile" not in names


def test_a_perturbation_in_two_roles_names_the_rarer(tmp_path: Path) -> None:
    rows = [row for k in range(3) for row in plate_rows("E1", str(k), seed=k)]
    index_of_well = next(k for k, row in enumerate(rows) if row[2] == "H08")
    rows[index_of_well] = (*rows[index_of_well][:3], "DMSO", "treatment")
    report = check_tables(index_plates(tmp_path, rows))
    finding = single_problem(report, "perturbation in two roles")
    assert (finding.severity, finding.well, finding.plate) == ("error", "H08", "0")
    assert "'DMSO' is 12 x negative_control and 1 x treatment" in finding.what
    assert "--negative-control DMSO" in single_problem(report, "control called a treatment").fix


@pytest.mark.parametrize(
    ("n", "severity", "kind"), [(0, "warning", "no negative control"), (2, "note", "few negative controls")]
)
def test_plates_short_of_negative_controls_are_named(tmp_path: Path, n: int, severity: str, kind: str) -> None:
    rows = [row for k in range(2) for row in plate_rows("E1", str(k), seed=k)]
    control_rows = [k for k, row in enumerate(rows) if row[1] == "1" and row[4] == "negative_control"]
    for k in control_rows[n:]:
        rows[k] = (*rows[k][:3], "t5", "treatment")
    findings = single_problem(check_tables(index_plates(tmp_path, rows)), kind)
    assert (findings.severity, findings.plate) == (severity, "1")
    assert findings.what == f"{n} negative controls on the plate, standardization needs 3"
    assert "experiment_controls" in findings.fix


def test_a_screen_without_any_negative_control_is_told_how_to_name_them(tmp_path: Path) -> None:
    rows = [(*row[:4], "treatment") for row in plate_rows("E1", "1")]
    findings = single_problem(check_tables(index_plates(tmp_path, rows)), "no negative control")
    assert "--negative-control DMSO" in findings.fix
    assert findings.where == "the screen"


@pytest.mark.parametrize(
    ("column", "name", "kind"),
    [
        ("perturbation", "?", "name of a missing value"),
        ("perturbation", "1E05", "name changed by a spreadsheet"),
        ("perturbation", "MARCH1", None),
        ("perturbation", "1-Mar", "name changed by a spreadsheet"),
        ("plate", "1.0E+5", "name changed by a spreadsheet"),
        ("perturbation", "sirna_1", None),
    ],
)
def test_names_that_a_spreadsheet_makes_are_warned_of(tmp_path: Path, column: str, name: str, kind: str | None) -> None:
    rows = [list(row) for row in plate_rows("E1", "1")]
    column_index = HEADER.index(column)
    for row in rows if column == "plate" else rows[:1]:
        row[column_index] = name
    names = kinds(check_tables(index_plates(tmp_path, rows)))
    assert [one for one in names if "name" in one] == ([kind] if kind else [])


def test_plates_called_0012_and_12_and_labels_in_two_cases_are_kept_apart_aloud(tmp_path: Path) -> None:
    rows = [*plate_rows("E1", "0012"), *plate_rows("E1", "12", seed=1)]
    rows = [(*row[:3], "T7" if row[3] == "t7" and row[1] == "12" else row[3], row[4]) for row in rows]
    message = [
        finding.what for finding in check_tables(index_plates(tmp_path, rows)).findings if "spelling" in finding.kind
    ]
    assert message == [
        "plate: '0012' (308 sites) and '12' (308 sites) kept apart",
        "perturbation: 'T7' (1 sites) and 't7' (1 sites) kept apart",
    ]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [("1-11", "11-1", False), ("1-11", "1_11", True), ("2.0", "20", False), ("a-1", "A1", True)],
)
def test_what_parts_two_numbers_is_no_matter_of_spelling(tmp_path: Path, one: str, other: str, is_same: bool) -> None:
    rows = [*plate_rows("E1", one), *plate_rows("E1", other, seed=1)]
    findings = [message for message in kinds(check_tables(index_plates(tmp_path, rows))) if "spelling" in message]
    assert bool(findings) is is_same


def test_numbers_among_names_are_two_codings(tmp_path: Path) -> None:
    rows = plate_rows("E1", "1")
    mixed = [(*row[:3], str(k), row[4]) if k < 40 and row[4] == "treatment" else row for k, row in enumerate(rows)]
    finding = single_problem(check_tables(index_plates(tmp_path, mixed)), "labels of two codings")
    assert finding.count == sum(row[3].isdecimal() for row in mixed)


def test_another_coding_of_the_same_labels_is_told_from_another_list(tmp_path: Path) -> None:
    screen = clean(tmp_path / "a", 2)
    rows = [row for k in range(2) for row in plate_rows("E1", str(k), seed=k)]
    recoded = index_plates(tmp_path / "b", [(*row[:3], f"sirna_{row[3][::-1]}", row[4]) for row in rows])
    findings = single_problem(check_tables(screen, like=recoded), "another coding of the labels")
    assert findings.severity == "error"
    assert (
        "302 perturbations here, 302 there, 0 names in common; of 616 wells in both 616 have another" in findings.what
    )
    assert "the same 302 perturbations in another coding" in findings.what
    fewer = index_plates(tmp_path / "c", plate_rows("E1", "0")[:200])
    assert single_problem(check_tables(screen, like=fewer), "another list of perturbations").severity == "warning"
    assert "coding" not in str(kinds(check_tables(screen, like=screen)))


def test_findings_are_written_as_a_table_and_as_json(tmp_path: Path) -> None:
    rows = plate_rows("E1", "1")
    screen = index_plates(tmp_path, [*rows, ("E1", "1", "C05", "=cmd()", "treatment")])
    write_screen(screen, tmp_path / "screen")
    report = check_tables(read_screen(tmp_path / "screen"))
    problems_file, table = report.write(tmp_path / "checks")
    problems = pd.read_csv(table, dtype=str, keep_default_na=False)
    assert len(problems) == len(report.findings)
    assert '"conflicting rows"' in problems_file.read_text(encoding="utf-8")
    risky = Problem(severity="note", kind="k", what="=cmd()", plate="@1", well="\x1b[2J")
    row = findings_table([risky]).iloc[0]
    assert (row["what"], row["plate"], row["well"]) == ("'=cmd()", "'@1", "\\x1b[2J")


@pytest.mark.real
@pytest.mark.parametrize(("version", "gaps"), [("v1_original_2019", 77), ("v2_current", 73)])
def test_the_real_tables_have_gaps_and_few_controls_and_nothing_worse(real_data: Path, version: str, gaps: int) -> None:
    screen = index(real_data / "rxrx1_kaggle" / version, layout="rxrx1", tables_only=True)
    report = check_tables(screen, expected={"wells": 204 * 308 - gaps, "plates": 204, "classes": 1108})
    counts = {entry["kind"]: entry["count"] for entry in report.grouped()}
    assert counts == {"missing wells": gaps, "few negative controls": 198}
    assert all(law.holds for law in report.invariants)
    # Sec. 2.3 and Table 1 of the paper count something else.
    report_with_paper_totals = check_tables(screen, expected={"wells": 56416, "classes": 1100})
    assert [finding.kind for finding in report_with_paper_totals.findings if finding.severity == "error"] == [
        "totals do not reconcile"
    ] * 2


def test_a_table_edited_after_indexing_is_named(tmp_path: Path) -> None:
    screen = index_plates(tmp_path, plate_rows("E1", "P1"))
    assert not [one for one in check_tables(screen).findings if "table" in one.kind]
    table = tmp_path / "wells.csv"
    table.write_text(table.read_text().replace("DMSO", "other", 1))
    (finding,) = [one for one in check_tables(screen).findings if "table" in one.kind]
    assert (finding.severity, finding.kind, finding.file) == ("error", "table changed since indexing", "wells.csv")
    assert finding.fix == "If the edit is right, index again; otherwise restore the table."
    table.unlink()
    (problem,) = [one for one in check_tables(screen).findings if "table" in one.kind]
    assert (problem.severity, problem.kind) == ("note", "table not there")
