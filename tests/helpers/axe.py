"""Check a page with axe-core, the accessibility rules of Deque."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest


def axe_violations(page: Any) -> list[str]:
    """Return the rules that a page of Playwright breaks, and where; skip the test where axe-core is not installed."""
    package = importlib.util.find_spec("axe_playwright_python")
    if package is None or package.origin is None:
        pytest.skip("needs axe-core: pip install axe-playwright-python")
    page.evaluate((Path(package.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    violations = page.evaluate("axe.run()")["violations"]
    return [f"{rule['id']}: {', '.join(str(node['target']) for node in rule['nodes'][:3])}" for rule in violations]
