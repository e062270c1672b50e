"""The page of the viewer in headless Chromium on a stand-in of RxRx1's size, see `view.py`.

Times are wall times of the whole way: server, transfer and drawing, on whatever else the machine does. Headless
Chromium draws without a graphics card.
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


def open_view(page: Page, address: str, script: str = "") -> Any:
    """Open a view, wait until it is drawn and return the value of a script."""
    page.goto(address)
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    return page.evaluate(script) if script else None


def median_seconds(action: Callable[[], Any]) -> float:
    """Return the median of three runs."""
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def measure_page(page: Page, url: str) -> list[bool]:
    base = url.partition("?")[0].rstrip("/")
    open_view(page, url)
    plates = median_seconds(lambda: open_view(page, f"{base}/plates"))
    points = median_seconds(lambda: open_view(page, f"{base}/map?of=sites", FIRST_DRAW))
    n = page.evaluate(FIRST_DRAW)
    rate = statistics.median(page.evaluate(PAN, FRAMES) for _ in range(3))
    open_view(page, f"{base}/well/5")
    images = page.evaluate(IMAGE, [2 * well for well in WELLS])
    return [
        measure.verdict("seconds to the plate map", plates, at_most=1.0),
        measure.verdict(f"seconds to the map of {n:,} points", points, at_most=1.0),
        measure.verdict("frames per second while panning", rate, at_least=30),
        measure.verdict("milliseconds to the pixels of six channels", statistics.median(images), at_most=400),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder))
        process, url = start(Path(folder) / "run")
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1400, "height": 900})
                verdicts = measure_page(page, url)
                print(f"Chromium {browser.version}, 1400 × 900, {N_WELLS:,} wells, load {os.getloadavg()[0]:.1f}")
                browser.close()
        finally:
            process.terminate()
            process.wait()
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main()
