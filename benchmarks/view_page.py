"""The page of the viewer in headless Chromium on a stand-in of RxRx1's size, see `view.py`.

Limits are for the CPU time of the page's main thread, which no other program changes. Wall times of the whole way, server
and transfer included, are printed beside it. Headless Chromium draws without a graphics card.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

import measure
from view import N_WELLS, start, write_run

FRAMES = 90
WELLS = range(10, 22)
# Time from the opening of the page to the frame after the first that has the points.
FIRST_DRAW = """async () => {
  const canvas = document.querySelector(".stage canvas");
  while (!canvas?.scatter?.frames) await new Promise(requestAnimationFrame);
  return canvas.scatter.n;
}"""
PAN = """async (frames) => {
  const { scatter } = document.querySelector(".stage canvas");
  const start = performance.now();
  for (let k = 0; k < frames; k++) {
    scatter.pan(k % 60 < 30 ? 6 : -6, k % 40 < 20 ? 4 : -4);
    await new Promise(requestAnimationFrame);
  }
  return frames / ((performance.now() - start) / 1000);
}"""
# A site as the page shows it: contrast and planes from the server, mixed by the worker, drawn.
IMAGE = """async (sites) => {
  const view = document.querySelector("figure.image canvas").imageView;
  const times = [];
  for (const site of sites) {
    const start = performance.now();
    await view.open(site, "benchmark");
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - start);
  }
  return times;
}"""


def find_browser() -> str:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return path or sys.exit("No Chromium on this machine: install it, for instance `apt-get install chromium`.")


class Tab:
    """A page of the browser and the CPU clock of its main thread."""

    def __init__(self, page: Page) -> None:
        self.page, self._session = page, page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def cpu(self) -> float:
        """Return seconds of CPU that the tasks of the page took so far."""
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    def run(self, action: Callable[[], Any]) -> tuple[Any, float, float]:
        """Return the value of an action, its seconds of CPU and its seconds."""
        cpu, wall = self.cpu(), time.perf_counter()
        value = action()
        return value, self.cpu() - cpu, time.perf_counter() - wall


def open_view(page: Page, address: str, script: str = "") -> Any:
    """Open a view, wait until it is drawn and return the value of a script."""
    page.goto(address)
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    return page.evaluate(script) if script else None


def median_run(tab: Tab, action: Callable[[], Any], *, times: int = 3) -> tuple[Any, float, float]:
    """Repeat an action; return its last value and the medians of both clocks."""
    runs = [tab.run(action) for _ in range(times)]
    return runs[-1][0], statistics.median(run[1] for run in runs), statistics.median(run[2] for run in runs)


def measure_page(page: Page, url: str) -> list[bool]:
    base = url.partition("?")[0].rstrip("/")
    open_view(page, url)
    tab = Tab(page)
    _, plates_cpu, plates_wall = median_run(tab, lambda: open_view(page, f"{base}/plates"))
    n, map_cpu, map_wall = median_run(tab, lambda: open_view(page, f"{base}/map?of=sites", FIRST_DRAW))
    rate, pan_cpu, _ = median_run(tab, lambda: page.evaluate(PAN, FRAMES))
    open_view(page, f"{base}/well/5")
    times, image_cpu, _ = tab.run(lambda: page.evaluate(IMAGE, [2 * well for well in WELLS]))
    print(f"plate map {plates_wall:.2f} s wall; map of {n:,} points {map_wall:.2f} s wall; {rate:.0f} frames per second")
    print(f"image of six channels {statistics.median(times):.0f} ms wall")
    return [
        measure.verdict("seconds of CPU, plate map", plates_cpu, at_most=1.0),
        measure.verdict(f"seconds of CPU, map of {n:,} points", map_cpu, at_most=1.0),
        measure.verdict("frames per second of CPU while panning", FRAMES / pan_cpu, at_least=30),
        measure.verdict("milliseconds of CPU, image of six channels", image_cpu / len(times) * 1000, at_most=400),
        measure.verdict("milliseconds, image of six channels to pixels", statistics.median(times), at_most=400),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder))
        process, url = start(Path(folder) / "run")
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1400, "height": 900})
                kept = measure_page(page, url)
                print(f"Chromium {browser.version}, 1400 × 900, {N_WELLS:,} wells, load {os.getloadavg()[0]:.1f}")
                browser.close()
        finally:
            process.terminate()
            process.wait()
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
