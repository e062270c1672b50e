"""The page for people who see badly, use keys, or have a small screen."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from view_page import PAGES, Visitor


@pytest.mark.slow
@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (390, "dark")])
def test_pages_are_accessible(browser: Any, page_address: str, width: int, theme: str) -> None:
    """Names, labels, contrast and width; with axe-core too where DISTANGLE_AXE names its axe.min.js."""
    script = (Path(__file__).parent / "accessibility.js").read_text()
    axe = os.environ.get("DISTANGLE_AXE")
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=theme)
    visitor = Visitor(context.new_page(), page_address)
    faults = {}
    for path in (*PAGES, "/map?f=role~in~treatment&f=confidence~between~0~1", "/hits?f=role~in~treatment"):
        page = visitor.open(path)
        found = page.evaluate(script)
        if axe:
            page.evaluate(Path(axe).read_text())
            found += [fault["id"] for fault in page.evaluate("axe.run()")["violations"]]
        if found:
            faults[path] = found
    context.close()
    assert faults == {}, json.dumps(faults, indent=1)
