"""A viewer on a small run with hostile names, and a browser that looks at it."""

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report_run import Plan, PlantedRun, make_run

PAGES = ("/plates", "/map", "/well/0", "/perturbation/1", "/hits", "/scores", "/checks", "/compare?a=well:0&b=well:3",
         "/compare?a=perturbation:0&b=perturbation:1", "/training")  # fmt: skip
PATIENCE = 30_000  # in milliseconds, for a busy machine


def find_browser() -> str:
    """Return the path of a Chromium; skip the test where there is none."""
    pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
    pytest.importorskip("uvicorn", reason="the extra `view` is not installed")
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on this machine: `apt-get install chromium`")


def wait_until(page: Any, expression: str) -> None:
    """Wait for an expression; the page's policy forbids `wait_for_function`, which evaluates text."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never true: {expression}"
        page.wait_for_timeout(30)


def make_viewable_run(folder: Path) -> PlantedRun:
    """Make a run of 16-bit images with hostile names, whose map shows every perturbation as a group."""
    planted_run = make_run(folder, Plan(bits=16, plates=1, hostile=True, explained=12))
    rng = np.random.default_rng(11)
    labels = planted_run.wells.table["perturbation"].map(planted_run.screen.metadata.perturbations.index).to_numpy()
    centers = rng.normal(0, 5, (len(planted_run.screen.metadata.perturbations), 4))
    embedding = (centers[labels] + rng.normal(0, 0.4, (len(labels), 4))).astype(np.float32)
    wells = dataclasses.replace(planted_run.wells, embedding=embedding)
    sites = wells.table.assign(Metadata_Site=1)
    parts = [wells, dataclasses.replace(wells, level="site", table=sites)]
    planted_run.run.record(*[path for part in parts for path in part.write(planted_run.run.predictions)])
    planted_run.run.run.write_text(json.dumps({**json.loads(planted_run.run.run.read_text()), "finished": True}))
    return dataclasses.replace(planted_run, wells=wells)


class Visitor:
    """A page of a browser that records errors.

    Attributes:
        page: The page of Playwright.
        complaints: Errors of the page and of its console, and requests to any other place.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.base = page, address.split("/?")[0]
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        page.on("request", self._note_request)
        page.goto(address)

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith((self.base + "/", "data:", "blob:")):
            self.complaints.append(f"outbound: {request.url}")

    def open(self, address: str) -> Any:
        """Open an address of the viewer and wait until it is drawn."""
        self.page.goto(self.base + address)
        return self.wait()

    def wait(self) -> Any:
        """Wait until the view is drawn and quiet."""
        self.page.wait_for_selector("html[data-ready]")
        self.page.wait_for_load_state("networkidle")
        return self.page
