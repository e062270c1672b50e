"""Accessibility of the page: low vision, keyboard, small screens."""

import json
from pathlib import Path
from typing import Any

import pytest

from axe import axe_violations
from distangle.web.source import open_source
from report_run import PlantedRun
from view_page import PAGES, Visitor
from viewing import visit


@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), pytest.param(390, "dark", marks=pytest.mark.slow)])
def test_pages_are_accessible(browser: Any, page_address: str, width: int, theme: str) -> None:
    """Check names, labels, contrast, width, and the rules of axe-core."""
    script = (Path(__file__).parent / "accessibility.js").read_text()
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=theme)
    visitor = Visitor(context.new_page(), page_address)
    faults = {}
    for path in (*PAGES, "/map?f=role~in~treatment&f=confidence~between~0~1", "/hits?f=role~in~treatment"):
        page = visitor.open(path)
        if problems := [*page.evaluate(script), *axe_violations(page)]:
            faults[path] = problems
    context.close()
    assert faults == {}, json.dumps(faults, indent=1)


@pytest.mark.slow
def test_profiles_alone_ask_for_no_picture(browser: Any, viewed_run: PlantedRun) -> None:
    with visit(open_source(viewed_run.run.profiles)) as viewer:
        context = browser.new_context()
        visitor = Visitor(context.new_page(), f"{viewer.base}/?token={viewer.token}")
        for path in ("/plates", "/map", "/well/0", "/perturbation/1", "/hits", "/compare?a=well:0&b=well:3"):
            page = visitor.open(path)
            assert page.locator("main h1").count() == 1, path
            assert page.locator("main [role=alert], main img").count() == 0, path
        context.close()
    assert visitor.complaints == []
