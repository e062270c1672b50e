import dataclasses
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from distangle.core.io import sha256_of
from distangle.report import build_report
from distangle.report.data import load, main_row
from distangle.report.html import percent
from distangle.report.score_table import score_sentence, score_table
from distangle.report.sections.channels import channel_column, channel_names, explanation_sentence, planted_rows
from distangle.report.sections.scores import confused_pairs, warnings_of
from distangle.results import Explanation, Predictions, RunFolder, ScoreRow
from distangle.results.confusion import read_confusion
from distangle.screen import Channel
from report_run import HOSTILE, STAINS, Made, Plan, make_run

SECTIONS = {
    "index": ["perturbations", "pages", "refused"],
    "channels": ["channels"],
    "examples": ["sites"],
    "plates": ["plates", "controls"],
    "scores": ["scores"],
    "profiles": ["profiles"],
    "checks": ["checks"],
    "method": ["method"],
    "provenance": ["provenance"],
}
MENU = [
    *("Overview", "Channels", "Example cells", "Plates and controls", "Accuracy", "Profiles and batch"),
    *("Trust checks", "Method", "Files and settings"),
]


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [str(attributes[name]) for _, attributes in self.tags if name in attributes]

    @property
    def links(self) -> list[str]:
        """Addresses in the navigation."""
        menu = next(i for i, (tag, attributes) in enumerate(self.tags) if attributes.get("class") == "pages")
        rest = itertools.takewhile(lambda pair: pair[0] == "a", self.tags[menu + 1 :])
        return [str(attributes["href"]) for _, attributes in rest]

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for tag, attributes in self.tags if tag == "section"]


Pages = dict[str, Page]


def pages_of(run: RunFolder) -> Pages:
    """Return the pages of a report by name, as its navigation lists them."""
    names = [str(name) for name in re.findall(r"[a-z]+(?=.html)", " ".join(Page(run.report / "index.html").links))]
    return {name: Page(run.report / f"{name}.html") for name in dict.fromkeys(names)}


def build(run: RunFolder, made: Made, **settings: Any) -> Pages:
    """Build a report and return its pages by name."""
    assert build_report(run, made.screen, **settings) == run.report / "index.html"
    return pages_of(run)


@pytest.fixture(scope="module")
def pages(run_data: Made) -> Pages:
    return build(run_data.run, run_data, truth=run_data.truth)


def copy_of(run_data: Made, folder: Path, *without: str) -> RunFolder:
    shutil.copytree(run_data.run.root, folder / "run")
    for name in ("report", *without):
        target = folder / "run" / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
    return RunFolder(folder / "run")


def test_what_rules_without_cells_would_have_scored_stands_in_the_row_that_it_belongs_to(
    run_data: Made, tmp_path: Path
) -> None:
    run = copy_of(run_data, tmp_path)
    scores = json.loads((run.predictions / "scores.json").read_text())
    by_rule = {"position": 0.125, "plate": 0.0625, "intensity": 0.5}
    is_main = {"metric": "balanced accuracy", "subset": "all", "level": "well"}.items()
    reference = next(row for row in scores["rows"] if is_main <= row.items())
    for row in scores["rows"]:
        same = all(row[name] == reference[name] for name in ("level", "views", "wells", "subset"))
        of_metric = by_rule if row["metric"] == "balanced accuracy" else dict.fromkeys(by_rule, 0.9)
        row["baselines"] = of_metric if same else {}
    (run.predictions / "scores.json").write_text(json.dumps(scores))
    page = build(run, run_data, truth=run_data.truth)["index"]
    html = (run.report / "scores.html").read_text(encoding="utf-8")
    table = html.partition("Cell-free baselines")[2].partition("</table>")[0]
    assert re.findall(r'scope="col"[^>]*>([^<]*)<', table) == [
        *("network", "position alone", "plate alone", "intensity alone", "chance")
    ]
    # Balanced accuracy is the harder one to reach by guessing what is frequent: that one is printed, once.
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", table.partition("<tbody>")[2])
    assert cells == ["all", percent(reference["value"]), "12.5\u202f%", "6.2\u202f%", "50.0\u202f%", "10.0\u202f%"]
    # The most important caveat also stands at the top, the strongest rule first.
    top = page.text[: page.text.index("Read this first")]
    assert (
        "Without cells, balanced accuracy is 50.0\u202f% from the brightness of the images, 12.5\u202f% from the "
        f"position of the well, 6.2\u202f% from the plate, each alone; the network reaches "
        f"{percent(reference['value'])}"
    ) in top


def check_offline(pages: Pages, folder: Path) -> None:
    for page in pages.values():
        addresses = page.values("src") + page.values("href")
        assert len(addresses) > 5
        for address in addresses:
            name, _, anchor = address.partition("#")
            if name:
                assert re.fullmatch(r"[a-z]+\.(css|html)|figures/[a-z0-9-]+\.(png|svg)|tables/[a-z0-9-]+\.csv", name)
                assert (folder / name).is_file()
            if anchor:
                target = pages[name.removesuffix(".html")] if name else page
                assert anchor in target.values("id")
        assert {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "form", "base", "style"} == set()
        assert [
            name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"
        ] == []
        assert "default-src 'none'; img-src 'self' data:; style-src 'self'" in page.values("content")
        assert "http" not in "".join(page.values("content"))
    assert {path.stem for path in folder.glob("*.html")} == set(pages)
    style = (folder / "style.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_the_pages_load_nothing_from_elsewhere(pages: Pages, run_data: Made) -> None:
    check_offline(pages, run_data.run.report)


def test_every_subject_has_a_page_in_the_order_a_biologist_asks(pages: Pages, run_data: Made) -> None:
    assert {name: page.ids for name, page in pages.items()} == SECTIONS
    assert list(pages) == list(SECTIONS)
    for number, name in enumerate(SECTIONS):
        html = (run_data.run.report / f"{name}.html").read_text(encoding="utf-8")
        menu = html.partition("<nav")[2].partition("</nav>")[0]
        assert re.findall(r">([^<]+)</a>", menu) == MENU
        assert re.findall(r'aria-current="page">([^<]+)<', html) == [MENU[number]]
    # What a decision needs comes first, the table of perturbations right after it.
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


def test_every_table_and_figure_stands_with_the_file_of_its_numbers(pages: Pages, run_data: Made) -> None:
    n_shown = 0
    for name in pages:
        origins = Origins(run_data.run.report / f"{name}.html")
        for place, shown in origins.shown.items():
            assert origins.files.get(place), (name, place, shown)
            n_shown += shown
        for file in {file for files in origins.files.values() for file in files}:
            assert list(run_data.run.root.glob(file)), file
    assert n_shown > 30


def test_every_number_of_the_score_table_is_on_its_page(pages: Pages, run_data: Made) -> None:
    page = pages["scores"]
    for row in run_data.scores.rows:
        assert percent(row.value) in page.text
        if row.interval is not None:
            assert f"{100 * row.interval[0]:.1f} – {100 * row.interval[1]:.1f}\u202f%" in page.text
    assert f"{run_data.scores.rows[2].n:,}" in page.text


def test_accuracy_and_balanced_accuracy_of_the_same_predictions_share_a_line(pages: Pages, run_data: Made) -> None:
    plain, balanced = run_data.scores.rows[2], run_data.scores.rows[4]
    lines = (run_data.run.report / "scores.html").read_text(encoding="utf-8").split("<tr")
    main = [line for line in lines if line.startswith(' class="main"')]
    assert len(main) == 1
    assert main[0].index(percent(plain.value)) < main[0].index(percent(balanced.value))
    assert sum('class="tag">transductive' in line for line in lines) == 1


def test_the_headline_is_the_untouched_well_score_with_its_interval_and_chance(pages: Pages, run_data: Made) -> None:
    row = run_data.scores.rows[2]
    assert main_row(run_data.scores) is row
    assert row.interval is not None
    text = (
        f"On {row.n} held-out wells (treatments) the network predicted the right perturbation with an accuracy of "
        f"{percent(row.value)} (95\u202f% interval {percent(row.interval[0])} to {percent(row.interval[1])}, "
        f"over 6 experiments); chance is 10.0\u202f%. The whole interval lies above chance."
    )
    assert text in pages["index"].text


def row_with(**changes: Any) -> ScoreRow:
    fields: dict[str, Any] = dict(
        level="well", views=1, wells="treatments", subset="all", metric="accuracy", value=0.2, interval=(0.1, 0.3),
        interval_over="experiment", n=10, n_groups=6, chance=0.15, transductive=False,
    )  # fmt: skip
    return ScoreRow(**(fields | changes))


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (row_with(), "The interval includes chance"),
        (row_with(chance=0.05), "The whole interval lies above chance."),
        (row_with(chance=0.5), "The whole interval lies below chance: look for an error"),
        (row_with(interval=None, n_groups=1), "An interval needs at least 5 experiments"),
        (row_with(interval=None, n_groups=2, by_group={"E1": 0.1, "E2": 0.3}), "(E1 10.0\u202f%, E2 30.0\u202f%)"),
        (row_with(metric="balanced accuracy"), "with a balanced accuracy of 20.0\u202f%"),
        (row_with(level="site"), "On 10 held-out sites"),
    ],
)
def test_the_sentence_says_what_the_interval_says_of_chance(run_data: Made, row: ScoreRow, text: str) -> None:
    assert text in score_sentence(run_data.scores, row)


def test_no_95_percent_stands_beside_too_few_groups(run_data: Made) -> None:
    # 40 of 40 in two experiments: an earlier version wrote their range, 100 to 100 %.
    row = row_with(value=1.0, interval=(1.0, 1.0), n=40, n_groups=2, by_group={"E1": 1.0, "E2": 1.0})
    assert row.interval is None
    text = score_sentence(run_data.scores, row)
    assert "95" not in text
    assert "above chance" not in text
    few_groups = dataclasses.replace(
        load(run_data.run, run_data.screen), scores=run_data.scores.model_copy(update={"rows": (row,)})
    )
    html = str(score_table(few_groups).__html__())
    assert "95" not in html
    assert "by experiment" in html
    assert "100.0 · 100.0\u202f%" in html
    assert html.count('class="group"') == 1 + 2  # the line of the table, and a ring for each


def test_warnings_name_what_distorts_the_scores_and_nothing_twice(run_data: Made, tmp_path: Path) -> None:
    warnings = " ".join(warnings_of(load(run_data.run, run_data.screen)))
    assert "forced" not in warnings
    assert "In some rows of the score table the method saw the test plates" in warnings
    assert (
        "1 perturbation of the held-out wells had no training well and is left out of the scores: siRNA_3." in warnings
    )
    assert "1 well could not be read during prediction." in warnings
    assert "3 entries of the screen were refused" in warnings
    assert "Cell type joined the features." in warnings
    assert "The check of the positive controls is violated: They should be recognised most surely" in warnings
    assert "negative controls is violated" not in warnings
    run = copy_of(run_data, tmp_path)
    notes = ("The split was forced: x.", "4 held-out sites of siRNA_3 are not scored: no training well has them.")
    run_data.scores.model_copy(update={"forced": True, "notes": notes}).write(run.scores)
    warnings = " ".join(warnings_of(load(run, run_data.screen)))
    assert warnings.count("split was forced") == 1
    assert warnings.count("no training well") == 1


def test_a_forced_split_is_stamped_on_the_page_and_its_charts(run_data: Made, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    run_data.scores.model_copy(update={"forced": True}).write(run.scores)
    for name in build(run, run_data):
        assert '<main class="forced">' in (run.report / f"{name}.html").read_text(encoding="utf-8")
    charts = list((run.report / "figures").glob("*.svg"))
    assert len(charts) == 7
    assert all("forced split" in chart.read_text(encoding="utf-8") for chart in charts)


def test_the_row_of_the_confusion_with_most_errors_is_named() -> None:
    counts = np.array([[5, 2, 0], [0, 1, 7], [1, 0, 0]])
    read = read_confusion({"perturbations": ["a", "b", "c"], "counts": counts.tolist()})
    assert confused_pairs(read) == [("b", "c", 7, 8), ("a", "b", 2, 7), ("c", "a", 1, 1)]
    assert counts[0, 0] == 5


def test_many_perturbations_become_a_list_of_confused_pairs(run_data: Made, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    names = [f"gene_{k}" for k in range(60)]
    counts = np.eye(60, dtype=int) * 3
    counts[7, 41] = 9
    confusion = {"perturbations": names, "counts": counts.tolist()}
    run_data.scores.model_copy(update={"confusion": confusion}).write(run.scores)
    page = build(run, run_data)["scores"]
    assert "A matrix of 60 perturbations cannot be read." in page.text
    assert not (run.report / "figures" / "confusion.svg").exists()
    assert (
        "gene_7 gene_41 9 12 75\u202f%" in re.sub(r"\s+", " ", page.text).replace("\xa0", " ") or "gene_41" in page.text
    )


@pytest.mark.parametrize(
    ("without", "name", "text"),
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
    run_data: Made, tmp_path: Path, without: tuple[str, ...], name: str, text: str
) -> None:
    run = copy_of(run_data, tmp_path, *without)
    pages = build(run, run_data)
    assert {name: page.ids for name, page in pages.items()} == SECTIONS
    assert text.format(run=run.root) in pages[name].text
    assert "This part appears after" in pages[name].text
    check_offline(pages, run.report)


def test_a_real_screen_has_no_planted_section(run_data: Made, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    explanation = run_data.explanation
    Explanation(
        table=explanation.table, maps=explanation.maps, settings=explanation.settings, summary=explanation.summary
    ).write(run.explanations)
    pages = build(run, run_data)
    assert {name: page.ids for name, page in pages.items()} == SECTIONS
    assert not any("planted" in page.values("id") for page in pages.values())


def test_what_was_planted_is_set_beside_what_was_found(run_data: Made) -> None:
    data = load(run_data.run, run_data.screen, truth=run_data.truth)
    rows = {row[0]: row for row in planted_rows(data)}
    means = run_data.explanation.summary["perturbations"]
    stains = [channel.label for channel in STAINS]
    assert stains[0] == "nuclei (Hoechst)"
    for name, entry in means.items():
        top = int(np.argmax(entry["shapley"]["mean"]))
        assert rows[name][3] == stains[top]
        planted = run_data.truth["perturbations"].get(name)
        if planted is not None:
            assert rows[name][1] == stains[planted["channels"][0] - 1]
            assert rows[name][4] == ("yes" if planted["channels"] == [top + 1] else "no")
    names = list(run_data.scores.confusion["perturbations"])  # type: ignore[call-overload]
    counts = np.array(run_data.scores.confusion["counts"])
    index = names.index("siRNA_1")
    assert rows["siRNA_1"][5] == f"{counts[index, index]} of {counts[index].sum()}"


def test_the_headline_claims_no_stain_that_its_own_p_denies(run_data: Made) -> None:
    data, summary = load(run_data.run, run_data.screen), run_data.explanation.summary

    def text(p: float) -> str:
        shapley = {**summary["shapley"], "p_family": [p] * 6}
        explanation = dataclasses.replace(run_data.explanation, summary={**summary, "shapley": shapley})
        return explanation_sentence(dataclasses.replace(data, explanation=explanation))

    top = channel_names(data)[int(np.argmax(summary["shapley"]["mean"]))]
    none, one = text(0.77), text(0.01)
    assert none.endswith("No single channel stands out over all perturbations (p = 0.77).")
    assert "contributed most" not in none
    assert f"explained sites, {top} contributed most" in one
    assert one.endswith("contributed most to the predictions (p = 0.01).")
    # What every perturbation says comes first.
    assert none.startswith(
        f"Across {len(summary['perturbations'])} explained perturbations, the channel with the largest Shapley value"
    )


def test_the_planted_table_is_as_the_explanation_says(pages: Pages, run_data: Made) -> None:
    assert run_data.explanation.planted is not None
    result = run_data.explanation.planted["perturbations_found"]
    text = (
        f"names the correct channel for {result['perturbations']} of {result['n_total']} correctly predicted "
        "single-channel"
    )
    assert text in pages["index"].text
    assert percent(run_data.explanation.planted["top_eq15_is_planted"]["share"]) in pages["checks"].text


def test_the_stains_are_those_of_the_summary_with_intervals_and_null(run_data: Made) -> None:
    column = channel_column(run_data.explanation, "shapley", 6)
    assert column is not None
    summary = run_data.explanation.summary["shapley"]
    assert column.mean.tolist() == summary["mean"]
    assert column.interval is None  # of two experiments
    assert {name: values.tolist() for name, values in column.by_group.items()} == summary["by_group"]
    assert len(column.by_group) == run_data.explanation.summary["groups"]
    assert column.null is not None
    assert column.null.tolist() == summary["null"]


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


def test_what_was_found_is_indexed_or_refused(pages: Pages, run_data: Made) -> None:
    page = pages["index"]
    card = run_data.screen.card
    assert f"{card.found:,} found = {card.indexed:,} indexed + 3 refused" in page.text
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


def test_every_file_of_the_report_is_in_the_manifest_with_its_hash(pages: Pages, run_data: Made) -> None:
    files = json.loads(run_data.run.manifest.read_text(encoding="utf-8"))["files"]
    existing = {
        path.relative_to(run_data.run.root).as_posix() for path in run_data.run.report.rglob("*") if path.is_file()
    }
    assert {name for name in files if name.startswith("report/")} == existing
    for name in pages:
        path = run_data.run.report / f"{name}.html"
        assert files[f"report/{name}.html"]["sha256"] == sha256_of(path)
        assert path.stat().st_size < 20_000_000


def test_a_second_report_leaves_no_picture_of_the_first(run_data: Made, tmp_path: Path) -> None:
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
    shown = {address.removeprefix("figures/") for address in addresses if address.startswith("figures/")}
    assert after == shown
    files = json.loads(run.manifest.read_text(encoding="utf-8"))["files"]
    assert {name.removeprefix("report/figures/") for name in files if name.startswith("report/figures/")} == after


def test_building_twice_gives_the_same_pages(run_data: Made, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    names = [run.report / f"{name}.html" for name in build(run, run_data)]
    first = [path.read_bytes() for path in names]
    assert len(set(first)) == len(SECTIONS)
    build(run, run_data)
    assert [path.read_bytes() for path in names] == first


def test_the_page_tells_no_folder_of_this_machine(
    run_data: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(run_data, tmp_path, "metrics.csv", "predictions", "explanations")
    monkeypatch.chdir(tmp_path)
    pages = build(run, run_data)
    text = " ".join(page.text for page in pages.values())
    assert text.count("distangle explain run") == 4
    assert str(tmp_path) not in text
    assert str(run_data.screen.source) not in text


def test_unreadable_images_are_told_on_the_page(run_data: Made, tmp_path: Path) -> None:
    made_again = make_run(tmp_path, Plan(plates=1))
    for path in made_again.screen.source.iterdir():
        path.write_bytes(path.read_bytes()[:60])
    page = build(made_again.run, made_again)["examples"]
    assert "The image could not be read" in page.text
    assert str(made_again.screen.source) not in page.text


def test_progress_is_told_for_every_part(run_data: Made, tmp_path: Path) -> None:
    text: list[str] = []
    build_report(copy_of(run_data, tmp_path), run_data.screen, progress=text.append)
    assert text[:2] == ["Scores", "Confusions"]
    assert {"Refused entries", "Perturbations", "Files and settings"} <= set(text)


def test_predictions_of_a_screen_without_a_held_out_well_are_told(run_data: Made, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    table = run_data.wells.table.assign(Metadata_Fold="train")
    wells = Predictions(
        level="well", table=pd.DataFrame(table), logits=run_data.wells.logits, embedding=run_data.wells.embedding,
        perturbations=run_data.wells.perturbations, views=1,
    )  # fmt: skip
    wells.write(run.predictions)
    run_data.scores.model_copy(update={"rows": ()}).write(run.scores)
    pages = build(run, run_data)
    assert "No well is held out, so there is no plate to show." in pages["plates"].text
    assert "Nothing could be scored: no held-out well has a known and trained perturbation." in pages["scores"].text


def test_the_confusion_is_normalized_by_the_true_perturbation(run_data: Made, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    confusion = {"perturbations": ["a", "b"], "counts": [[3, 1], [0, 10]]}
    run_data.scores.model_copy(update={"confusion": confusion}).write(run.scores)
    build_report(run, run_data.screen)
    html = (run.report / "figures" / "confusion.svg").read_text(encoding="utf-8")
    opacities = [part.split(";")[0].split('"')[0] for part in html.split("fill-opacity: ")[1:]]
    assert opacities[:2] == ["0.75", "0.25"]


def test_every_site_is_shown_with_its_own_map_and_attribution(run_data: Made, tmp_path: Path) -> None:
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
        with Image.open(run.report / name) as opened:
            pixels = np.asarray(opened).astype(int)
        painted = np.argwhere(pixels.max(axis=2) != pixels.min(axis=2))
        assert (
            "Control well: <code>p0_1.png</code>" in article
            or "This well: <code>p0_1.png</code>, <code>p0_2" in article
        )
        if len(painted):
            colored.append(caption in article)
            assert painted.min(axis=0).tolist() == [100, 25]  # five times enlarged
            assert f"{float(entry['shapley_6']):+.2f}".replace("-", "−") in article
    assert colored == [True]


def test_the_headline_prefers_a_row_whose_method_has_not_seen_the_test_plates(run_data: Made) -> None:
    rows = (
        row_with(transductive=True, value=0.9),
        row_with(subset="cell type HUVEC", value=0.8),
        row_with(level="site", value=0.7),
        row_with(wells="with controls", value=0.6),
        row_with(views=8, value=0.5),
        row_with(value=0.4),
    )
    for left_out, value in ((0, 0.4), (1, 0.5), (2, 0.6), (3, 0.7), (4, 0.9), (5, 0.9)):
        result = main_row(run_data.scores.model_copy(update={"rows": rows[: len(rows) - left_out]}))
        assert result is not None
        assert result.value == value
    assert main_row(run_data.scores.model_copy(update={"rows": ()})) is None
