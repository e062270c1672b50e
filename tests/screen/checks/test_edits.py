"""Tables edited after indexing: every changed row is named, and no other row."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from check_plates import HEADER, index_plates, plate_rows, write_table
from distangle.screen import Screen, index, read_screen, write_screen
from distangle.screen.checks import check_tables
from distangle.screen.problems import Problem
from rxrx1_lab import RxRx1Lab

ROWS = [row for k in range(2) for row in plate_rows("E1", f"P{k}", seed=k)]
AT = {(row[1], row[2]): k for k, row in enumerate(ROWS)}


def edit_problems(screen: Screen) -> list[Problem]:
    return [
        finding
        for finding in check_tables(screen).findings
        if "since indexing" in finding.kind or "edited" in finding.kind
    ]


def rewritten(folder: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> list[Problem]:
    """Index rows, overwrite them with others, and check."""
    screen = index_plates(folder, ROWS)
    write_table(folder / "wells.csv", rows, header)
    return edit_problems(screen)


def test_changed_added_and_removed_rows_are_named_one_by_one_with_what_they_were(tmp_path: Path) -> None:
    rows = list(ROWS)
    rows[AT["P0", "C05"]] = ("E1", "P0", "C05", "other", "positive_control")
    rows[AT["P1", "D07"]] = ("E1", "P1", "A01", *rows[AT["P1", "D07"]][3:])
    was = ROWS[AT["P1", "D07"]][3]
    table, change, removal, addition = rewritten(tmp_path, rows)
    assert (table.severity, table.kind, table.file) == ("error", "table changed since indexing", "wells.csv")
    label = ROWS[AT["P0", "C05"]][3]
    assert (change.kind, change.severity) == ("row changed since indexing", "error")
    assert (change.plate, change.well, change.file) == ("P0", "C05", f"wells.csv, line {AT['P0', 'C05'] + 2}")
    assert change.what == f"perturbation was {label!r}, is 'other'; role was 'treatment', is 'positive_control'"
    assert change.fix == "If the edit is right, index again; otherwise restore the table."
    assert (removal.kind, removal.plate, removal.well) == ("row taken away since indexing", "P1", "D07")
    assert removal.what == f"was {was!r} (treatment), is no longer in a table"
    assert (addition.kind, addition.plate, addition.well) == ("row added since indexing", "P1", "A01")
    assert addition.what == f"was missing, is {was!r} (treatment)"


def test_rows_in_another_order_with_other_line_ends_are_an_edit_that_changes_nothing(tmp_path: Path) -> None:
    screen = index_plates(tmp_path, ROWS)
    path = write_table(tmp_path / "wells.csv", ROWS[::-1])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (finding,) = edit_problems(screen)
    assert finding.severity == "warning"
    assert finding.what.endswith("its content is the same for every site")


def test_an_extra_column_is_compared_too_and_weighs_less(tmp_path: Path) -> None:
    header = (*HEADER, "dose")
    screen = index_plates(tmp_path, [(*row, "1") for row in ROWS], header)
    write_table(tmp_path / "wells.csv", [(*row, "5" if k == 3 else "1") for k, row in enumerate(ROWS)], header)
    _, finding = edit_problems(screen)
    assert (finding.severity, finding.well, finding.what) == ("warning", ROWS[3][2], "dose was '1', is '5'")


def test_rows_that_came_into_conflict_are_taken_away_and_mended_ones_are_added(tmp_path: Path) -> None:
    bad = [*ROWS[:5], ("E1", "P0", ROWS[5][2], "x", "nonsense"), *ROWS[6:]]
    screen = index_plates(tmp_path, bad)
    assert screen.metadata.refused == 1
    write_table(tmp_path / "wells.csv", [*ROWS, ("E1", "P1", "C05", "twice", "treatment")])
    _, removal, addition = edit_problems(screen)
    assert removal.what.startswith(f"was {ROWS[AT['P1', 'C05']][3]!r} (treatment), is now refused: conflicting rows")
    assert "wells.csv line" in removal.what
    assert removal.fix.endswith("Then index again; or restore the table.")
    assert addition.well == ROWS[5][2]
    assert addition.what == f"was refused when it was indexed (bad role), is {ROWS[5][3]!r} (treatment)"


def test_a_new_row_that_would_be_refused_is_named_too(tmp_path: Path) -> None:
    _, finding = rewritten(tmp_path, [*ROWS, ("E1", "P0", "ZZ99", "t1", "treatment")])
    assert (finding.kind, finding.well) == ("row added since indexing", "ZZ99")
    assert "is now refused: well off the plate" in finding.what


def test_two_hundred_rows_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    rows = [(*row[:3], f"new {row[3]}", row[4]) for row in ROWS[:-10]]
    result = rewritten(tmp_path, rows)
    assert [finding.kind for finding in result[1:201]] == ["row changed since indexing"] * 200
    (rest,) = result[201:]
    assert rest.kind == "further rows edited since indexing"
    n = len(ROWS) - 200
    assert rest.count == n
    assert rest.what == f"{n} more rows than the 200 that are listed: {n - 10} changed, 10 taken"


def test_a_table_that_can_no_longer_be_read_and_a_screen_without_its_options_say_so(tmp_path: Path) -> None:
    _, findings = rewritten(tmp_path, [row[1:] for row in ROWS], HEADER[1:])
    assert (findings.kind, findings.severity) == ("edited rows cannot be listed", "warning")
    assert "the tables can no longer be read with the same options" in findings.what
    assert "'experiment'" in findings.what
    screen = index_plates(tmp_path, ROWS)
    rest_of_provenance = {name: value for name, value in screen.metadata.provenance.items() if name != "options"}
    old = Screen(
        metadata=screen.metadata.model_copy(update={"provenance": rest_of_provenance}),
        sites=screen.sites,
        problems=screen.problems,
    )
    write_table(tmp_path / "wells.csv", ROWS[1:])
    _, findings = edit_problems(old)
    assert "did not store the options of its index" in findings.what
    assert "`distangle check NEW --compare-with OLD`" in findings.fix


@pytest.mark.parametrize("through_a_link", [False, True])
def test_options_of_the_index_are_kept_in_the_written_card(tmp_path: Path, *, through_a_link: bool) -> None:
    lab, lab_path = tmp_path / "lab", tmp_path / "lab"
    (lab / "img").mkdir(parents=True)
    if through_a_link:
        lab_path = tmp_path / "link"
        lab_path.symlink_to(lab)
    for k in range(3):
        (lab / "img" / f"{k}.png").write_text(str(k))
    lines = [f"p1,B0{k + 2},{'mock' if k else 'drug'},{lab_path}/img/{k}.png\n" for k in range(3)]
    (lab / "layout.csv").write_text("Platte,Loch,Stoff,Bild\n" + "".join(lines))
    screen = index(
        lab_path,
        layout="table",
        mapping={"plate": "Platte", "well": "Loch", "perturbation": "Stoff"},
        channels=["DNA=Bild"],
        controls={"negative_control": ["mock"]},
        plate_rows=8,
        plate_columns=12,
    )
    write_screen(screen, tmp_path / "screen")
    stored_screen = read_screen(tmp_path / "screen")
    options = json.loads((tmp_path / "screen" / "screen.json").read_text())["provenance"]["options"]
    assert options["channels"] == ["DNA=Bild"]
    assert options["plate"] == [8, 12]
    (lab / "layout.csv").write_text((lab / "layout.csv").read_text().replace("drug", "mock").replace("2.png", "0.png"))
    _, *removals = edit_problems(stored_screen)
    refusal_text = "is now refused: file of two sites, found img/0.png is also of p1"
    assert [(removal.well, removal.what) for removal in removals] == [
        ("B02", f"was 'drug' (treatment), {refusal_text} B04 site 1 (line 4)"),
        ("B04", f"was 'mock' (negative_control), {refusal_text} B02 site 1 (line 2)"),
    ]
    (lab / "layout.csv").write_text("".join(["Platte,Loch,Stoff,Bild\n", *lines]).replace("drug", "mock"))
    _, finding = edit_problems(stored_screen)
    assert finding.what == "perturbation was 'drug', is 'mock'; role was 'treatment', is 'negative_control'"


def test_both_sites_of_a_well_of_one_row_are_one_finding_and_images_that_are_gone_are_counted(tmp_path: Path) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    rows = [("HUVEC-01", "1", well, f"sirna_{k}") for k, well in enumerate(("B02", "B03", "B04"))]
    lab.table("train.csv", rows)
    for well in ("B02", "B03", "B04"):
        for site in (1, 2):
            lab.site("train/HUVEC-01/Plate1", well, site)
    screen = index(lab.root, layout="rxrx1")
    lab.table("train.csv", [rows[0], (*rows[1][:3], "sirna_9"), rows[2]])
    _, finding = edit_problems(screen)
    assert (finding.well, finding.site, finding.count) == ("B03", "1,2", 2)
    assert finding.what == "perturbation was 'sirna_1', is 'sirna_9'"
    assert finding.file == "train.csv, line 3"
    for path in (lab.root / "train/HUVEC-01/Plate1").glob("B04_*"):
        path.unlink()
    _, change, unseen = edit_problems(screen)  # images that are gone are no rows taken away
    assert change == finding
    assert unseen.what == "2 of 6 sites no longer have source images: their rows were not compared"


def test_another_path_is_a_change_and_a_site_that_its_file_refused_is_no_new_row(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    for k in range(4):
        (tmp_path / "img" / f"{k}.png").write_text("x" * k)  # the first is empty: refused by its file, not by its row
    lines = [f"p1,B0{k + 2},drug {k},img/{k}.png\n" for k in range(3)]
    (tmp_path / "wells.csv").write_text("plate,well,perturbation,DNA\n" + "".join(lines))
    screen = index(tmp_path / "wells.csv", layout="table", channels=["DNA"])
    assert (screen.metadata.indexed, screen.metadata.refused) == (2, 1)
    lines[2] = lines[2].replace("2.png", "3.png")
    (tmp_path / "wells.csv").write_text("plate,well,perturbation,DNA\n" + "".join(lines))
    _, finding = edit_problems(screen)
    assert (finding.severity, finding.well, finding.kind) == ("error", "B04", "row changed since indexing")
    assert finding.what == "file of DNA was 'img/2.png', is 'img/3.png'"
