"""The comparison of two runs in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from view_page import Visitor, wait_until


@pytest.fixture
def runs(browser: Any, pair_address: str) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    visitor = Visitor(context.new_page(), pair_address)
    yield visitor
    context.close()
    assert visitor.complaints == []


@pytest.mark.slow
def test_one_well_is_shown_in_both_runs(runs: Visitor) -> None:
    page = runs.open("/compare")
    assert page.locator("main [role=alert]").count() == 0
    assert "only in" in page.locator("table.shared").inner_text()
    # A well that both explain, by the answers of the server.
    well = page.evaluate("""async () => {
      for (let well = 0; well < 400; well++) {
        const one = await (await fetch(`/api/wells/${well}`)).json();
        if (!one.sites?.some((site) => site.explained)) continue;
        const answer = await fetch(`/api/pair/wells/${well}`);
        if (answer.ok && (await answer.json()).explained.length) return well;
      }
      return null;
    }""")
    assert well is not None
    runs.complaints.clear()  # wells that the second run lacks were asked for
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page = runs.open(f"/compare?well={well}")
    wait_until(page, "document.querySelectorAll('.pair-well figure.image[data-drawn]').length === 2")
    wait_until(page, "[...document.querySelectorAll('.pair-well canvas')].every((one) => one.imageView.overlay)")
    assert [
        sum(f"{base}/sites/" in url and "/attribution" in url for url in addresses) for base in ("api", "pair")
    ] == [
        1,
        1,
    ]
    assert page.locator(".pair-well table.bars").count() == 4  # predictions and channels of both
    page.get_by_label("Opacity of the overlay").fill("0.25")
    page.wait_for_timeout(400)
    page.get_by_role("button", name=re.compile("^recall, difference")).click()
    page.get_by_role("searchbox").nth(1).fill("accuracy")
    page.wait_for_timeout(400)
    query = parse_qs(urlsplit(page.url).query)
    assert query["well"] == [str(well)]
    assert query["sort"] == ["recall_difference~down"]
    assert query["sq"] == ["accuracy"]
    assert query["overlay"] == ["all,0.25"]
    page.reload()
    runs.wait()
    wait_until(page, "document.querySelectorAll('.pair-well figure.image[data-drawn]').length === 2")
    assert parse_qs(urlsplit(page.url).query) == query
    assert (
        page.get_by_role("columnheader", name=re.compile("^recall, difference")).get_attribute("aria-sort")
        == "descending"
    )


@pytest.mark.slow
def test_a_well_that_the_other_run_lacks_is_named(runs: Visitor) -> None:
    page = runs.open("/compare")
    boxes = page.locator("main select")
    boxes.nth(0).select_option(label=boxes.nth(0).locator("option").last.inner_text())
    boxes.nth(1).select_option(index=1)
    page.get_by_role("alert").wait_for()
    assert "lacks the well" in page.get_by_role("alert").inner_text()
    runs.complaints[:] = [text for text in runs.complaints if "404" not in text]
    page.get_by_role("link", name="Two wells or perturbations").click()
    runs.wait()
    assert page.get_by_role("link", name="Two wells or perturbations").get_attribute("aria-current") == "true"
    assert page.locator(".pickers").count() == 1


@pytest.mark.slow
@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (390, "dark")])
def test_the_comparison_is_accessible(browser: Any, pair_address: str, width: int, theme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=theme)
    visitor = Visitor(context.new_page(), pair_address)
    script = (Path(__file__).parent / "accessibility.js").read_text()
    for address in ("/compare", "/compare?well=3", "/compare?of=two"):
        assert visitor.open(address).evaluate(script) == [], address
    context.close()
