"""A whole report: its pages, files and texts, for usual and for odd runs."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distangle.core.io import sha256_of
from distangle.report import build_report
from distangle.report.data import main_row
from distangle.report.html import percent
from distangle.results import Explanation
from distangle.screen import Channel
from report_pages import MENU, SECTIONS, Pages, build, check_offline, copy_of
from report_run import HOSTILE, STAINS, Plan, PlantedRun, make_run


@pytest.fixture(scope="module")
def pages(run_data: PlantedRun) -> Pages:
    return build(run_data.run, run_data, truth=run_data.truth)


def test_the_pages_load_nothing_from_elsewhere(pages: Pages, run_data: PlantedRun) -> None:
    check_offline(pages, run_data.run.report)


def test_every_subject_has_a_page_in_the_order_a_biologist_asks(pages: Pages, run_data: PlantedRun) -> None:
    assert {name: page.ids for name, page in pages.items()} == SECTIONS
    assert list(pages) == list(SECTIONS)
    for number, name in enumerate(SECTIONS):
        html = (run_data.run.report / f"{name}.html").read_text(encoding="utf-8")
        menu = html.partition("<nav")[2].partition("</nav>")[0]
        assert re.findall(r">([^<]+)</a>", menu) == MENU
        assert re.findall(r'aria-current="page">([^<]+)<', html) == [MENU[number]]
    # The answers come first, then the table of perturbations.
    html = (run_data.run.report / "index.html").read_text(encoding="utf-8")
    assert html.index("Which perturbations act?") < html.index('id="perturbations"') < html.index('id="pages"')


class Origins(HTMLParser):
    """Which tables and figures a page has, and which files it names for them, by section or part."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.shown: dict[str, int] = {}
        self.files: dict[str, list[str]] = {}
        self._places, self._in_origin, self._in_code = ["top"], False, False
        self._levels: list[bool] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        classes = str(attributes.get("class", "")).split()
        if tag in ("section", "div", "details"):
            self._levels.append(tag == "section" or "part" in classes)
            if self._levels[-1]:
                self._places.append(str(attributes["id"]))
        elif tag in ("table", "figure", "dl"):
            self.shown[self._places[-1]] = self.shown.get(self._places[-1], 0) + 1
        self._in_origin = self._in_origin or bool({"source", "origin"} & set(classes))
        self._in_code = tag == "code"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("section", "div", "details") and self._levels.pop():
            self._places.pop()
        self._in_origin = self._in_origin and tag not in ("p", "span")
        self._in_code = False

    def handle_data(self, data: str) -> None:
        if self._in_origin and self._in_code:
            self.files.setdefault(self._places[-1], []).append(data)


def test_every_table_and_figure_stands_with_the_file_of_its_numbers(pages: Pages, run_data: PlantedRun) -> None:
    n_shown = 0
    for name in pages:
        origins = Origins(run_data.run.report / f"{name}.html")
        for place, source in origins.shown.items():
            assert origins.files.get(place), (name, place, source)
            n_shown += source
        for file in {file for files in origins.files.values() for file in files}:
            assert list(run_data.run.root.glob(file)), file
    assert n_shown > 30


def test_every_number_of_the_score_table_is_on_its_page(pages: Pages, run_data: PlantedRun) -> None:
    page = pages["scores"]
    for row in run_data.scores.rows:
        assert percent(row.value) in page.text
        if row.interval is not None:
            assert f"{100 * row.interval[0]:.1f} – {100 * row.interval[1]:.1f}\u202f%" in page.text
    assert f"{run_data.scores.rows[2].n:,}" in page.text


def test_accuracy_and_balanced_accuracy_of_the_same_predictions_share_a_line(
    pages: Pages, run_data: PlantedRun
) -> None:
    plain, balanced = run_data.scores.rows[2], run_data.scores.rows[4]
    lines = (run_data.run.report / "scores.html").read_text(encoding="utf-8").split("<tr")
    main = [line for line in lines if line.startswith(' class="main"')]
    assert len(main) == 1
    assert main[0].index(percent(plain.value)) < main[0].index(percent(balanced.value))
    assert sum('class="tag">transductive' in line for line in lines) == 1


def test_the_headline_is_the_untouched_well_score_with_its_interval_and_chance(
    pages: Pages, run_data: PlantedRun
) -> None:
    row = run_data.scores.rows[2]
    assert main_row(run_data.scores) is row
    assert row.interval is not None
    text = (
        f"On {row.n} held-out wells (treatments) the network predicted the right perturbation with an accuracy of "
        f"{percent(row.value)} (95\u202f% interval {percent(row.interval[0])} to {percent(row.interval[1])}, "
        f"over 6 experiments); chance is 10.0\u202f%. The whole interval lies above chance."
    )
    assert text in pages["index"].text


@pytest.mark.parametrize(
    ("missing_parts", "name", "text"),
    [
        (("metrics.csv",), "method", "distangle train"),
        (("predictions",), "index", "distangle predict"),
        (("predictions",), "plates", "distangle predict"),
        (("explanations",), "examples", "distangle explain {run}"),
        (
            ("metrics.csv", "predictions", "explanations", "config.yaml", "manifest.json", "run.json"),
            *("scores", "distangle predict"),
        ),
    ],
)
def test_what_is_missing_is_said_with_the_command_that_makes_it(
    run_data: PlantedRun, tmp_path: Path, missing_parts: tuple[str, ...], name: str, text: str
) -> None:
    run = copy_of(run_data, tmp_path, *missing_parts)
    pages = build(run, run_data)
    assert {name: page.ids for name, page in pages.items()} == SECTIONS
    assert text.format(run=run.root) in pages[name].text
    assert "This part appears after" in pages[name].text
    check_offline(pages, run.report)


def test_the_planted_table_is_as_the_explanation_says(pages: Pages, run_data: PlantedRun) -> None:
    assert run_data.explanation.planted is not None
    result = run_data.explanation.planted["perturbations_found"]
    text = (
        f"names the correct channel for {result['perturbations']} of {result['n_total']} correctly predicted "
        "single-channel"
    )
    assert text in pages["index"].text
    assert percent(run_data.explanation.planted["top_eq15_is_planted"]["share"]) in pages["checks"].text


def test_eq_15_is_said_not_to_be_evidence(pages: Pages) -> None:
    page = pages["method"]
    assert "whatever the network used: compare random maps (grey)" in page.text
    assert "is not evidence of which channel mattered" in page.text


def test_controls_are_labelled_and_come_after_the_treatments(pages: Pages) -> None:
    page = pages["examples"]
    tags = [
        str(attributes["class"]) for _, attributes in page.tags if str(attributes.get("class", "")).startswith("tag ")
    ]
    kinds = [name.removeprefix("tag ") for name in tags if name.split()[-1] in ("correct", "wrong", "control")]
    kinds = kinds[: kinds.index("control") + 1]
    assert kinds[0] == "correct"
    assert "negative control" in page.text
    assert "Sec. 2.2" not in page.text or "control" in kinds


def test_what_was_found_is_indexed_or_refused(pages: Pages, run_data: PlantedRun) -> None:
    page = pages["index"]
    metadata = run_data.screen.metadata
    assert f"{metadata.found:,} found = {metadata.indexed:,} indexed + 3 refused" in page.text
    assert "image missing" in page.text
    assert "Copy the file." in page.text


def test_hostile_names_never_become_markup(tmp_path: Path) -> None:
    run_data = make_run(tmp_path, Plan(hostile=True, forced=True, plates=1))
    pages = build(run_data.run, run_data, truth=run_data.truth)
    check_offline(pages, run_data.run.report)
    for name, page in pages.items():
        assert "<svg onload" not in (run_data.run.report / f"{name}.html").read_text(encoding="utf-8")
        assert all(attributes.get("onload") is None for _, attributes in page.tags)
    counts = {name: page.text.count(HOSTILE) for name, page in pages.items()}
    assert all(counts[name] > 0 for name in ("index", "examples", "plates", "checks")), counts
    assert sum(counts.values()) > 10
    names = [path.name for path in run_data.run.report.rglob("*")]
    assert all(re.fullmatch(r"[a-z0-9.-]+", name) for name in names)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(channels=STAINS[:1], plates=1),
        Plan(channels=STAINS[:3], size=68, bits=16, cell_types=(), plates=1),
        Plan(channels=(Channel(name="a"), Channel(name="b", stain="x"), Channel(name="c", stain="x")), plates=1),
        Plan(rows=16, columns=24, plates=1),
    ],
)
def test_other_screens_have_a_report_too(tmp_path: Path, plan: Plan) -> None:
    run_data = make_run(tmp_path, plan)
    pages = build(run_data.run, run_data)
    assert {name: page.ids for name, page in pages.items()} == SECTIONS
    check_offline(pages, run_data.run.report)
    for page in pages.values():
        assert page.text.count("All channels") == 0 or "problem" not in page.text
        assert not {"nan", "None"} & set(re.findall(r"[A-Za-z]+", page.text))


def test_every_file_of_the_report_is_in_the_manifest_with_its_hash(pages: Pages, run_data: PlantedRun) -> None:
    files = json.loads(run_data.run.manifest.read_text(encoding="utf-8"))["files"]
    existing = {
        path.relative_to(run_data.run.root).as_posix() for path in run_data.run.report.rglob("*") if path.is_file()
    }
    assert {name for name in files if name.startswith("report/")} == existing
    for name in pages:
        path = run_data.run.report / f"{name}.html"
        assert files[f"report/{name}.html"]["sha256"] == sha256_of(path)
        assert path.stat().st_size < 20_000_000


def test_a_second_report_leaves_no_picture_of_the_first(run_data: PlantedRun, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    build_report(run, run_data.screen)
    before = {path.name for path in (run.report / "figures").iterdir()}
    explanation = run_data.explanation
    fewer = dataclasses.replace(explanation, table=explanation.table.head(2), maps=explanation.maps[:2], planted=None)
    fewer.write(run.explanations)
    pages = build(run, run_data)
    after = {path.name for path in (run.report / "figures").iterdir()}
    assert after < before
    addresses = [address for page in pages.values() for address in page.values("src") + page.values("href")]
    names = {address.removeprefix("figures/") for address in addresses if address.startswith("figures/")}
    assert after == names
    files = json.loads(run.manifest.read_text(encoding="utf-8"))["files"]
    assert {name.removeprefix("report/figures/") for name in files if name.startswith("report/figures/")} == after


def test_building_twice_gives_the_same_pages(run_data: PlantedRun, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    names = [run.report / f"{name}.html" for name in build(run, run_data)]
    first = [path.read_bytes() for path in names]
    assert len(set(first)) == len(SECTIONS)
    build(run, run_data)
    assert [path.read_bytes() for path in names] == first


def test_the_page_tells_no_folder_of_this_machine(
    run_data: PlantedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(run_data, tmp_path, "metrics.csv", "predictions", "explanations")
    monkeypatch.chdir(tmp_path)
    pages = build(run, run_data)
    text = " ".join(page.text for page in pages.values())
    assert text.count("distangle explain run") == 4
    assert str(tmp_path) not in text
    assert str(run_data.screen.source) not in text


def test_unreadable_images_are_told_on_the_page(run_data: PlantedRun, tmp_path: Path) -> None:
    made_again = make_run(tmp_path, Plan(plates=1))
    for path in made_again.screen.source.iterdir():
        path.write_bytes(path.read_bytes()[:60])
    page = build(made_again.run, made_again)["examples"]
    assert "The image could not be read" in page.text
    assert str(made_again.screen.source) not in page.text


def test_progress_is_told_for_every_part(run_data: PlantedRun, tmp_path: Path) -> None:
    text: list[str] = []
    build_report(copy_of(run_data, tmp_path), run_data.screen, progress=text.append)
    assert text[:2] == ["Scores", "Confusions"]
    assert {"Refused entries", "Perturbations", "Files and settings"} <= set(text)


def test_every_site_is_shown_with_its_own_map_and_attribution(run_data: PlantedRun, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    maps = np.zeros_like(run_data.explanation.maps)
    table = run_data.explanation.table
    control = int(np.flatnonzero(table["Metadata_Role"] == "negative_control")[0])
    maps[control, 20:30, 5:10] = 1
    Explanation(
        table=table, maps=maps, settings=run_data.explanation.settings, summary=run_data.explanation.summary
    ).write(run.explanations)
    build_report(run, run_data.screen)
    page = (run.report / "examples.html").read_text(encoding="utf-8")
    assert f"{len(maps) - 1} maps of the {len(maps)} explained sites are empty: no place supports the answer." in page
    assert page.count("Where the network looked: an empty map</figcaption>") == page.count("<article") - 1
    entry = table.iloc[control]
    caption = f"{entry['Metadata_Experiment']}, plate {entry['Metadata_Plate']}, well {entry['Metadata_Well']}, site 1"
    colored = []
    for article in page.split("<article")[1:]:
        name = re.findall(r"figures/site-\d\d-map.png", article)[0]
        with Image.open(run.report / name) as file:
            pixels = np.asarray(file).astype(int)
        pixels_in_color = np.argwhere(pixels.max(axis=2) != pixels.min(axis=2))
        assert (
            "Control well: <code>p0_1.png</code>" in article
            or "This well: <code>p0_1.png</code>, <code>p0_2" in article
        )
        if len(pixels_in_color):
            colored.append(caption in article)
            assert pixels_in_color.min(axis=0).tolist() == [100, 25]  # five times enlarged
            assert f"{float(entry['shapley_6']):+.2f}".replace("-", "−") in article
    assert colored == [True]
