"""Fingers on the map and on the images: pan and pinch on a small screen."""

from collections.abc import Iterator
from typing import Any

import pytest

from view_page import Visitor


class Fingers:
    """One or two fingers on an element of a page."""

    def __init__(self, page: Any, selector: str) -> None:
        page.locator(selector).first.scroll_into_view_if_needed()
        self.page, self.box = page, page.locator(selector).first.bounding_box()
        self.session = page.context.new_cdp_session(page)

    def _send(self, kind: str, points: list[tuple[float, float]]) -> None:
        box = self.box
        places = [
            {"x": box["x"] + u * box["width"], "y": box["y"] + v * box["height"], "id": k}
            for k, (u, v) in enumerate(points)
        ]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    def move(self, start: list[tuple[float, float]], end: list[tuple[float, float]], *, steps: int = 8) -> None:
        """Move fingers along straight lines between places given as parts of width and height."""
        self._send("touchStart", start)
        for step in range(1, steps + 1):
            part = step / steps
            self._send("touchMove", [(a + (c - a) * part, b + (d - b) * part)
                                     for (a, b), (c, d) in zip(start, end, strict=True)])  # fmt: skip
            self.page.wait_for_timeout(16)
        self._send("touchEnd", [])
        self.page.wait_for_timeout(100)


@pytest.fixture
def phone(browser: Any, page_address: str) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    visitor = Visitor(context.new_page(), page_address)
    yield visitor
    context.close()
    assert visitor.complaints == []


@pytest.mark.slow
def test_fingers_move_and_zoom_the_map(phone: Visitor) -> None:
    page = phone.open("/map?of=wells")
    canvas = page.locator(".stage canvas")
    script = "(canvas) => ({ ...canvas.scatter.view, whole: canvas.scatter.whole })"
    fingers = Fingers(page, ".stage canvas")
    width = fingers.box["width"]
    before = canvas.evaluate(script)
    fingers.move([(0.3, 0.5)], [(0.6, 0.5)])
    after = canvas.evaluate(script)
    assert after["scale"] == before["scale"]
    # The map follows the finger, except for the distance before the browser detects a drag.
    assert (before["x"] - after["x"]) * after["scale"] == pytest.approx(0.3 * width, abs=25)
    fingers.move([(0.45, 0.5), (0.55, 0.5)], [(0.25, 0.5), (0.75, 0.5)])
    zoomed = canvas.evaluate(script)
    assert 2.5 < zoomed["scale"] / after["scale"] < 5.5  # the fingers are five times as far apart
    page.wait_for_timeout(300)
    assert "at=" in page.url
    assert "/map" in page.url  # no tap opened a well
    fingers.move([(0.4, 0.4), (0.6, 0.4)], [(0.4, 0.6), (0.6, 0.6)])
    end = canvas.evaluate(script)
    assert end["scale"] == pytest.approx(zoomed["scale"], rel=0.05)
    assert (end["y"] - zoomed["y"]) * end["scale"] > 30  # two fingers move the map too


@pytest.mark.slow
def test_fingers_move_and_zoom_both_images(phone: Visitor) -> None:
    page = phone.open("/well/3")
    page.locator("figure.image[data-drawn]").first.wait_for()
    script = "(canvas) => { const { zoom, x, y } = canvas.imageView.look; return { zoom, x, y }; }"
    canvas = page.locator("figure.image canvas").first
    fingers = Fingers(page, "figure.image canvas")
    assert canvas.evaluate("(canvas) => getComputedStyle(canvas).touchAction") == "pan-y"  # the page can scroll
    fingers.move([(0.4, 0.4), (0.6, 0.6)], [(0.25, 0.25), (0.75, 0.75)])
    zoomed = canvas.evaluate(script)
    assert 1.7 < zoomed["zoom"] < 2.7
    assert canvas.evaluate("(canvas) => getComputedStyle(canvas).touchAction") == "none"
    fingers.move([(0.5, 0.3)], [(0.5, 0.6)])
    end = canvas.evaluate(script)
    assert end["zoom"] == zoomed["zoom"]
    assert zoomed["y"] - end["y"] == pytest.approx(0.3 / zoomed["zoom"], abs=0.06)
    other = page.locator("figure.image canvas").nth(1)
    assert other.evaluate(script) == end
    assert page.evaluate("visualViewport.scale") == 1  # the page itself was not zoomed
