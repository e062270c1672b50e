"""The pages of a report in a real browser: links, anchors, no errors, and accessibility."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from axe import axe_violations
from distangle.report import build_report
from distangle.report.pages import SUBJECTS
from distangle.results import RunFolder
from report_run import PlantedRun

pytestmark = pytest.mark.slow
ACCESSIBILITY = Path(__file__).parents[1] / "web" / "accessibility.js"


@pytest.fixture(scope="module")
def folder(run_data: PlantedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("browser") / "run"
    shutil.copytree(run_data.run.root, run)
    return build_report(RunFolder(run), run_data.screen, truth=run_data.truth, one_file=True).parent


def test_clicks_lead_to_every_page_which_loads_nothing_from_elsewhere(browser: Any, folder: Path) -> None:
    context = browser.new_context()
    page, complaints, requests = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((folder / "index.html").as_uri())
    for subject in SUBJECTS:
        page.click(f'nav.pages a[href="{subject.address}"]')
        assert page.inner_text("nav.pages a[aria-current]") == subject.title
        assert page.title().startswith("" if subject.name == "index" else subject.title)
    context.close()
    assert complaints == []
    assert {request.split(":")[0] for request in requests} <= {"file", "data"}


def test_a_link_to_an_example_ends_at_the_example(browser: Any, folder: Path) -> None:
    context = browser.new_context(viewport={"width": 1000, "height": 600})
    page = context.new_page()
    for name, anchor in (("examples.html", "site-04"), ("report.html", "site-04"), ("report.html", "faithfulness")):
        page.goto("about:blank")
        page.goto(f"{(folder / name).as_uri()}#{anchor}")
        page.wait_for_timeout(200)
        assert abs(page.evaluate("document.querySelector(':target').getBoundingClientRect().top")) < 2, (name, anchor)
    context.close()


def test_the_first_key_offers_to_skip_the_navigation(browser: Any, folder: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto((folder / "scores.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('nav')") is None
    context.close()


@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (390, "dark")])
def test_pages_are_accessible_and_fit(browser: Any, folder: Path, width: int, theme: str) -> None:
    """Check names, labels, contrast, width, and the rules of axe-core."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=theme, bypass_csp=True)
    page, faults = context.new_page(), {}
    for subject in SUBJECTS:
        page.goto((folder / subject.address).as_uri())
        faults[subject.name] = [*page.evaluate(ACCESSIBILITY.read_text()), *axe_violations(page)]
        assert page.evaluate("document.documentElement.scrollWidth") <= width, subject.name
    context.close()
    assert {name: fault for name, fault in faults.items() if fault} == {}


def test_every_page_prints(browser: Any, folder: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    for subject in SUBJECTS:
        page.goto((folder / subject.address).as_uri())
        assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
        page.emulate_media(media="print")
        assert page.is_hidden("nav.pages")
        assert page.is_visible("h1")
        page.emulate_media(media="screen")
    context.close()
