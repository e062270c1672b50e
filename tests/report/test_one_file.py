"""The report in one file, and its tables as CSV."""

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from distangle.report import build_report
from distangle.report.data import load
from distangle.report.html import Content, Section, Table, check_page, style_sheet, with_style
from distangle.report.inline_svg import interval_bar
from distangle.report.one_file import embed
from distangle.report.pages import SUBJECTS
from distangle.report.tables import csv_text, held_out_wells, tables_of
from distangle.results import RunFolder
from report_run import HOSTILE, Plan, PlantedRun, make_run


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    """A small run."""
    return make_run(tmp_path_factory.mktemp("one"), Plan(plates=1, explained=4, perturbations=5))


@pytest.fixture(scope="module")
def report_run(planted_run: PlantedRun) -> RunFolder:
    """The run with a report in one file."""
    path = build_report(planted_run.run, planted_run.screen, truth=planted_run.truth, one_file=True)
    assert path == planted_run.run.report / "report.html"
    return planted_run.run


def test_the_file_needs_no_other_file(report_run: RunFolder) -> None:
    page = (report_run.report / "report.html").read_text(encoding="utf-8")
    check_page(page, style=style_sheet(), embedded=True)
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert {address.split(";")[0] for address in addresses if not address.startswith("#")} <= {
        "data:image/png", "data:image/svg+xml", "data:text/csv",
    }  # fmt: skip
    assert "default-src 'none'; img-src 'self' data:; style-src 'sha256-" in page
    assert page.count("<style>") == 1
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_its_pictures_and_tables_are_those_of_the_folder(report_run: RunFolder) -> None:
    page = (report_run.report / "report.html").read_text(encoding="utf-8")
    pages = [(report_run.report / f"{subject.name}.html").read_text(encoding="utf-8") for subject in SUBJECTS]
    names = [name for text in pages for name in re.findall(r'src="(figures/[^"]+)"', text)]
    embedded = re.findall(r'src="data:image/[a-z+]+;base64,([^"]*)"', page)
    assert len(embedded) == len(names) > 20
    for name, text in zip(names, embedded, strict=True):
        assert base64.b64decode(text) == (report_run.report / name).read_bytes()
    tables = re.findall(r'href="data:text/csv;base64,([^"]*)" download="([a-z0-9-]+\.csv)"', page)
    assert {name for _, name in tables} >= {"perturbations.csv", "scores.csv", "wells.csv"}
    for text, name in tables:
        assert base64.b64decode(text) == (report_run.report / "tables" / name).read_bytes()


def test_a_second_report_without_it_removes_it(report_run: RunFolder, planted_run: PlantedRun, tmp_path: Path) -> None:
    shutil.copytree(report_run.root, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    (run.report / "tables" / "mine.csv").write_text("x\n")
    assert build_report(run, planted_run.screen) == run.report / "index.html"
    assert not (run.report / "report.html").exists()
    assert (run.report / "tables" / "mine.csv").exists()  # the manifest does not list it
    assert "report/report.html" not in json.loads(run.manifest.read_text(encoding="utf-8"))["files"]


def test_building_twice_gives_the_same_bytes(report_run: RunFolder, planted_run: PlantedRun) -> None:
    before = {path: path.read_bytes() for path in sorted(report_run.report.rglob("*")) if path.is_file()}
    assert {path.suffix for path in before} == {".html", ".css", ".csv", ".png", ".svg"}
    build_report(report_run, planted_run.screen, truth=planted_run.truth, one_file=True)
    assert {path: path.read_bytes() for path in sorted(report_run.report.rglob("*")) if path.is_file()} == before


def test_hostile_names_stay_text_in_one_file(tmp_path: Path) -> None:
    hostile = make_run(tmp_path, Plan(hostile=True, plates=1, explained=3))
    page = build_report(hostile.run, hostile.screen, truth=hostile.truth, one_file=True).read_text(encoding="utf-8")
    assert "<svg onload" not in page
    assert HOSTILE not in page
    check_page(page, style=style_sheet(), embedded=True)


def test_a_large_table_stays_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "wells.csv").write_text("x" * (2**20 + 1))
    page = '<link rel="stylesheet" href="style.css">style-src \'self\'<body><a href="tables/wells.csv" download>All</a>'
    assert embed(page, tmp_path).endswith("<body>All: in the folder of the report, tables/wells.csv")


@pytest.mark.parametrize(
    "element",
    [
        '<img src="data:text/html;base64,PHNjcmlwdD4=">',
        '<img src="data:image/png,plain">',
        '<a href="data:text/html;base64,PHNjcmlwdD4=">x</a>',
        '<a href="data:image/svg+xml;base64,PHN2Zz4=">x</a>',
        '<a href="javascript:alert(1)">x</a>',
        '<img src="http://example.org/x.png">',
    ],
)
def test_only_pictures_and_tables_may_be_embedded(element: str) -> None:
    with pytest.raises(ValueError, match="is not a file in the folder of the page"):
        check_page(f"<body>{element}", embedded=True)


def test_nothing_is_embedded_in_a_page_with_files_beside_it() -> None:
    with pytest.raises(ValueError, match="is not a file in the folder"):
        check_page('<body><img src="data:image/png;base64,AAAA">')


def test_a_page_without_a_style_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="no link to a style sheet"):
        with_style("<head></head><body></body>")


def test_the_wells_of_the_file_are_the_held_out_ones(report_run: RunFolder, planted_run: PlantedRun) -> None:
    table = pd.read_csv(report_run.report / "tables" / "wells.csv", dtype=str, keep_default_na=False)
    expected = planted_run.wells.table[planted_run.wells.table["Metadata_Fold"] == "held_out"]
    assert table["Metadata_Well"].tolist() == expected["Metadata_Well"].tolist()
    assert table["predicted"].tolist() == expected["predicted"].tolist()
    message = f"{planted_run.screen.source}/p1_1.png is cut short."
    wells = planted_run.wells.table.assign(reason=message)
    data = load(planted_run.run, planted_run.screen)
    assert data.wells is not None
    object.__setattr__(data.wells, "table", wells)
    assert set(held_out_wells(data)["reason"]) == {"p1_1.png is cut short."}


def test_the_scores_of_the_file_are_those_of_the_run(report_run: RunFolder, planted_run: PlantedRun) -> None:
    table = pd.read_csv(report_run.report / "tables" / "scores.csv")
    assert table["value"].tolist() == pytest.approx([row.value for row in planted_run.scores.rows], rel=1e-5)
    intervals = [row.interval or (float("nan"),) * 2 for row in planted_run.scores.rows]
    assert table["interval_low"].tolist() == pytest.approx([low for low, _ in intervals], rel=1e-5, nan_ok=True)


def test_no_cell_of_a_table_is_a_formula() -> None:
    text = csv_text(pd.DataFrame({"name": ["=1+1", "@x", "-5", "-5 x", "plain"], "n": [1.5, 2, -3, 0, 1 / 3]}))
    rows = list(csv.reader(io.StringIO(text)))
    assert rows == [
        ["name", "n"], ["'=1+1", "1.5"], ["'@x", "2"], ["-5", "-3"], ["'-5 x", "0"], ["plain", "0.333333"],
    ]  # fmt: skip


def test_tables_with_a_name_are_found_wherever_they_are() -> None:
    bar = interval_bar(0.5, None, chance=0.1)
    named_table = Table(columns=("a", "bar"), rows=[("1\u202f%", bar)], file="named")
    other = Table(columns=("a",), rows=[("1",)])
    inner = Content(
        "x", {"parts": [Section(name="p", title="P", content=Content("y", {"one": named_table, "two": other}))]}
    )
    assert [table.file for table in tables_of(inner)] == ["named"]
