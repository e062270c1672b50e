"""Odd screens in a real browser: large plates, many wells, one or sixteen channels, lost images, two viewers."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from distangle.screen import Channel, Screen, well_name, write_screen
from distangle.web.source import ViewSource, open_source
from report_run import Plan, make_screen
from view_page import Visitor, wait_until
from viewing import visit

ONE = Plan(size=32, cell_types=("",), plates=1)


@contextlib.contextmanager
def look(browser: Any, source: ViewSource) -> Iterator[Visitor]:
    with visit(source) as viewer:
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        visitor = Visitor(context.new_page(), f"{viewer.base}/?token={viewer.token}")
        yield visitor
        context.close()
        assert visitor.complaints == []


@pytest.mark.slow
def test_a_plate_of_1536_wells(browser: Any, tmp_path: Path) -> None:
    screen = make_screen(tmp_path, Plan(size=16, cell_types=("",), plates=1, rows=32, columns=48))
    last = screen.sites[screen.sites["experiment"] == "EXP-01"].iloc[-1]
    assert last["well"] == well_name(int(last["row"]), int(last["column"]))
    assert last["well"].startswith("AE")
    with look(browser, open_source(tmp_path / "screen")) as visitor:
        page = visitor.open("/plates?color=perturbation")
        canvas = page.locator(".plate canvas").first
        place = canvas.evaluate("(canvas, [row, column]) => canvas.plateMap.centerOf(row, column)",
                                [int(last["row"]), int(last["column"])])  # fmt: skip
        assert canvas.evaluate("(canvas) => canvas.plateMap.size") >= 6  # pixels of a well: large enough to click
        canvas.click(position=place)
        page.wait_for_url("**/well/*")
        visitor.wait()
        assert page.locator("h1").inner_text().startswith(f"{last['well']} ·")
        wait_until(page, "document.querySelectorAll('figure.image[data-drawn]').length === 2")


@pytest.mark.slow
def test_sixty_thousand_wells(browser: Any, tmp_path: Path) -> None:
    screen = make_screen(tmp_path, ONE)
    wells = [(f"{p:03d}", well_name(r, c), r, c) for p in range(157) for r in range(16) for c in range(24)][:60_000]
    table = pd.DataFrame(wells, columns=["plate", "well", "row", "column"])
    first = screen.sites.iloc[[0] * len(table)].drop(columns=table.columns).reset_index(drop=True)
    sites = pd.concat([first, table], axis=1)[screen.sites.columns]
    sites["experiment"] = [f"E{int(plate) // 4:02d}" for plate in sites["plate"]]
    counts = {"found": 60_000, "indexed": 60_000, "refused": 0, "plate_rows": 16, "plate_columns": 24}
    metadata = screen.metadata.model_copy(update=counts | {"source": str(tmp_path / "lab")})
    write_screen(Screen(metadata=metadata, sites=sites, problems=screen.problems.iloc[:0]), tmp_path / "many")
    with look(browser, open_source(tmp_path / "many")) as visitor:
        page = visitor.open("/plates?experiment=E39")
        assert page.locator("h1").inner_text() == "Plates of E39"
        assert page.locator(".plate canvas").count() == 1  # 157 plates, four to an experiment
        page = visitor.open("/well/59999")
        assert page.locator("h1").inner_text().startswith(str(table["well"].iloc[-1]))
        wait_until(page, "document.querySelectorAll('figure.image[data-drawn]').length > 0")
        page = visitor.open("/perturbation/0")
        assert page.locator("main [role=alert]").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("n_channels", [1, 16])
def test_one_and_sixteen_channels(browser: Any, tmp_path: Path, n_channels: int) -> None:
    channels = tuple(Channel(name=f"stain {k}") for k in range(n_channels))
    make_screen(tmp_path, Plan(channels=channels, size=32, cell_types=("",), plates=1, bits=16))
    with look(browser, open_source(tmp_path / "screen")) as visitor:
        page = visitor.open("/well/0")
        wait_until(page, "document.querySelectorAll('figure.image[data-drawn]').length > 0")
        assert page.locator(".channel").count() == n_channels
        brightest = (
            "Math.max(...document.querySelector('figure canvas').imageView.image.data.filter((_, k) => k % 4 < 3))"
        )
        assert page.evaluate(brightest) > 100
        page.get_by_role("button", name="Show only").last.click()
        wait_until(
            page, "document.querySelector('figure canvas').imageView.look.channels.filter((one) => one.on).length === 1"
        )
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
def test_images_that_moved_leave_the_plates(browser: Any, tmp_path: Path) -> None:
    make_screen(tmp_path, ONE)
    (tmp_path / "lab").rename(tmp_path / "archive")
    with look(browser, open_source(tmp_path / "screen")) as visitor:
        page = visitor.open("/well/0")
        note = page.locator(".image-note").first
        note.wait_for()
        assert note.inner_text().count("--images FOLDER") == 1
        assert str(tmp_path) not in page.locator("body").inner_text()
        page = visitor.open("/plates")
        assert page.locator(".plate canvas").count() > 0
        visitor.complaints[:] = [text for text in visitor.complaints if "410" not in text]
    with look(browser, open_source(tmp_path / "screen", images=tmp_path / "archive")) as visitor:
        page = visitor.open("/well/0")
        wait_until(page, "document.querySelectorAll('figure.image[data-drawn]').length > 0")


@pytest.mark.slow
def test_two_viewers_in_one_browser(browser: Any, tmp_path: Path) -> None:
    """Cookies belong to a host and not to a port: each viewer has its own."""
    make_screen(tmp_path / "one", ONE)
    make_screen(tmp_path / "two", Plan(size=32, cell_types=("U2OS",), plates=1))
    with (
        visit(open_source(tmp_path / "one/screen")) as first,
        visit(open_source(tmp_path / "two/screen")) as second,
    ):
        context = browser.new_context()
        tabs = [Visitor(context.new_page(), f"{one.base}/?token={one.token}") for one in (first, second)]
        for _ in range(2):
            titles = [tab.open("/plates").locator("h1").inner_text() for tab in tabs]
            assert titles == ["Plates of EXP-01", "Plates of U2OS-01"]
        context.close()
        assert [tab.complaints for tab in tabs] == [[], []]
