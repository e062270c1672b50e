"""The page of the viewer in a real browser."""

import csv
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from report_run import HOSTILE, PlantedRun
from view_page import PAGES, Visitor, wait_until
from viewing import Visit

PIXELS = """async (canvas) => {
  await new Promise((done) => setTimeout(done, 60));
  const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return Array.from({ length: 4000 }, (_, k) => all[4 * Math.floor((k * all.length) / 16000) + (k % 3)]);
}"""

# Where the map is empty: distance of the drawn image from grey, and from the mean of the composite.
COLORS = """async (canvas) => {
  await new Promise((done) => setTimeout(done, 250));
  const { imageView: view } = canvas;
  const { width, height } = view.image;
  const map = view.overlay.getContext("2d", { willReadFrequently: true });
  const drawn = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let empty = 0;
  let grey = 0;
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const [u, v] = [(x + 0.5) / width, (y + 0.5) / height];
    const place = [Math.floor(u * view.overlay.width) - 1, Math.floor(v * view.overlay.height) - 1];
    const near = map.getImageData(...place, 3, 3);
    if (near.data.some((value, k) => k % 4 === 3 && value)) continue;
    const at = 4 * (Math.floor(v * canvas.height) * canvas.width + Math.floor(u * canvas.width));
    const [r, g, b] = view.image.data.slice(4 * (y * width + x));
    const mean = Math.round((r + g + b) / 3);
    empty += 1;
    grey = Math.max(grey, ...[0, 1, 2].map((k) => Math.abs(drawn[at + k] - mean)));
  }
  return { empty, grey };
}"""


def query(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def shown_image(page: Any, number: int = 0) -> Any:
    return page.locator("figure.image canvas").nth(number)


def wait_for_image(page: Any) -> None:
    wait_until(page, "document.querySelectorAll('figure.image[data-drawn]').length > 0")


@pytest.mark.parametrize("pages", [PAGES[:5], pytest.param(PAGES[5:], marks=pytest.mark.slow)], ids=["first", "others"])
def test_every_page_opens_without_an_error(browser: Any, running_viewer: Visit, pages: tuple[str, ...]) -> None:
    context = browser.new_context()
    visitor = Visitor(context.new_page(), f"{running_viewer.base}/?token={running_viewer.token}")
    for path in pages:
        page = visitor.open(path)
        assert page.locator("main h1").count() == 1, path
        assert page.locator("main [role=alert]").count() == 0, page.locator("main").inner_text()
        assert page.locator("svg[onload]").count() == 0  # a hostile name is text
    page = visitor.open("/hits")
    assert HOSTILE in page.locator("tbody").inner_text()
    context.close()
    assert visitor.complaints == []


def test_clicks_lead_from_plate_to_image_to_reason(visitor: Visitor, page_run: PlantedRun) -> None:
    page = visitor.open("/")
    row = page_run.explanation.table.iloc[2]
    experiment, well = row["Metadata_Experiment"], row["Metadata_Well"]
    page.get_by_label("Experiment").select_option(experiment)
    assert query(page)["experiment"] == [experiment]
    canvas = page.locator(".plate canvas").first
    place = canvas.evaluate("(canvas, [row, column]) => canvas.plateMap.centerOf(row, column)",
                            [ord(well[0]) - 65, int(well[1:]) - 1])  # fmt: skip
    canvas.hover(position=place)
    assert f"{well} · {row['perturbation']}" in page.locator(".plate .hint").first.inner_text()
    canvas.click(position=place)
    page.wait_for_url("**/well/*")
    visitor.wait()
    assert page.locator("h1").inner_text().startswith(f"{well} ·")
    wait_for_image(page)
    captions = page.locator("figcaption").all_inner_texts()
    assert well in captions[0]
    assert captions[1].startswith("Control: ")
    pixels_before = np.array(shown_image(page).evaluate(PIXELS))
    assert pixels_before.max() > 100
    page.get_by_label("Attribution of").select_option("all")
    wait_until(page, "document.querySelector('figure canvas').imageView.overlay !== null")
    assert page.get_by_label("grey under the map").is_checked()
    colors = shown_image(page).evaluate(COLORS)
    assert colors["empty"] > 100  # places where the map is 0: the mean of red, green and blue
    assert colors["grey"] <= 1
    page.get_by_label("grey under the map").uncheck()
    assert shown_image(page).evaluate(COLORS)["grey"] > 20
    strong = np.array(shown_image(page).evaluate(PIXELS))
    page.get_by_label("Opacity of the overlay").fill("0.1")
    weak = np.array(shown_image(page).evaluate(PIXELS))
    page.wait_for_timeout(300)
    assert query(page)["overlay"] == ["all,0.1,color"]
    page.get_by_label("grey under the map").check()
    page.get_by_label("Opacity of the overlay").fill("0")
    pixels_off = np.array(shown_image(page).evaluate(PIXELS))
    change = [np.abs(picture - pixels_before).mean() for picture in (strong, weak, pixels_off)]
    assert change[0] > 3 * change[1] > 0
    assert change[2] == 0


def test_composite_is_that_of_the_server(visitor: Visitor) -> None:
    """Compare the canvas of the page with `composite.png`: channels off, other colors, contrast and gamma."""
    queries = ["", "?c=0,1,ff8000,1000,30000,0.7&c=1,0,00ff00,0,65535,1&c=2,1,0080ff,500,60000,1.9&c=3,0,ffffff,0,1,1"
             "&c=4,0,ffffff,0,1,1&c=5,1,10ff90,0,50000,1"]  # fmt: skip
    for look in queries:
        page = visitor.open(f"/well/3{look}")
        wait_for_image(page)
        worst, size = page.evaluate("""async () => {
          const { dim } = await import("/assets/color.js");
          const view = document.querySelector("figure canvas").imageView;
          const on = view.look.channels.filter((channel) => channel.on);
          const colors = dim(on.map((channel) => channel.rgb));
          const hex = (color) => color.map((part) => part.toString(16).padStart(2, "0")).join("");
          const layers = on.map((one, k) => `c=${one.id},${hex(colors[k])},${one.low},${one.high},${one.gamma}`);
          const answer = await fetch(`/api/sites/${view.site}/composite.png?level=0&${layers.join("&")}`);
          const picture = await createImageBitmap(await answer.blob());
          const canvas = new OffscreenCanvas(picture.width, picture.height);
          const context = canvas.getContext("2d");
          context.drawImage(picture, 0, 0);
          const theirs = context.getImageData(0, 0, picture.width, picture.height).data;
          let worst = 0;
          theirs.forEach((value, k) => { worst = Math.max(worst, Math.abs(value - view.image.data[k])); });
          return [worst, [view.image.width, view.image.height, picture.width, picture.height, view.image.data[3]]];
        }""")
        assert worst <= 1
        assert size == [48, 48, 48, 48, 255]


def draw_lasso(page: Any, corners: list[tuple[float, float]]) -> None:
    page.get_by_role("button", name="Lasso").click()
    box = page.locator(".stage canvas").bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for x, y in points[1:]:
        page.mouse.move(x, y, steps=3)
    page.mouse.up()


@pytest.mark.slow
def test_lasso_gives_a_gallery_and_a_table(visitor: Visitor, page_run: PlantedRun, tmp_path: Path) -> None:
    page = visitor.open("/map?of=wells")
    draw_lasso(page, [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)])
    n = len(page_run.wells.table)
    page.get_by_role("heading", name=f"Selection: {n} wells").wait_for()
    assert page.locator(".gallery .thumb").count() == 60
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "selection.csv")
    with (tmp_path / "selection.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == n
    expected_rows = page_run.wells.table["Metadata_Well"] + page_run.wells.table["perturbation"]
    assert sorted(row["name"] + row["perturbation"] for row in rows) == sorted(expected_rows)
    page.reload()  # the line is part of the address
    visitor.wait()
    page.get_by_role("heading", name=f"Selection: {n} wells").wait_for()
    page.get_by_role("link", name="Show on the plates").click()
    page.get_by_text(f"{n} wells of the selection").wait_for()
    page.go_back()
    visitor.wait()
    page.get_by_role("button", name="Clear").click()
    assert "lasso" not in query(page)
    assert page.locator(".gallery").count() == 0
    draw_lasso(page, [(0.02, 0.03), (0.04, 0.03), (0.04, 0.05), (0.02, 0.05)])
    page.get_by_role("heading", name="Selection: 0 wells").wait_for()


@pytest.mark.slow
def test_filters_of_the_map(visitor: Visitor, page_run: PlantedRun) -> None:
    page = visitor.open("/map?of=wells&color=role")
    table = page_run.wells.table
    n, controls = len(table), int((table["Metadata_Role"] == "negative_control").sum())
    page.get_by_label("Show only").select_option("role")
    page.get_by_label(re.compile("negative control")).check()
    page.get_by_text(f"{controls} of {n} wells").wait_for()
    page.get_by_label("Show only").select_option("confidence")
    page.get_by_label("at least").fill("0.5")
    n_confident = int(((table["Metadata_Role"] == "negative_control") & (table["confidence"] >= 0.5)).sum())
    assert 0 < n_confident < controls
    page.get_by_text(f"{n_confident} of {n} wells").wait_for()
    page.reload()
    visitor.wait()
    page.get_by_text(f"{n_confident} of {n} wells").wait_for()
    page.get_by_role("button", name="Select all shown").click()
    page.get_by_role("heading", name=f"Selection: {n_confident} wells").wait_for()
    page.get_by_label("Ring").fill("EMPTY")
    page.get_by_text(f"{n_confident} found").wait_for()


@pytest.mark.slow
def test_hover_shows_picture_and_metadata(visitor: Visitor) -> None:
    page = visitor.open("/map?of=wells")
    spot = page.locator(".stage canvas").evaluate(
        "(canvas) => canvas.scatter.toPage(canvas.scatter.xy[0], canvas.scatter.xy[1])"
    )
    box = page.locator(".stage canvas").bounding_box()
    page.mouse.move(box["x"] + spot[0], box["y"] + spot[1])
    page.locator(".tip img").wait_for()
    wait_until(page, "document.querySelector('.tip img').naturalWidth > 0")
    assert "perturbation" in page.locator(".tip").inner_text()


@pytest.mark.slow
def test_address_restores_a_well(visitor: Visitor) -> None:
    page = visitor.open("/well/3")
    wait_for_image(page)
    canvas = shown_image(page)
    page.get_by_role("button", name="Show only").first.click()
    page.locator("details summary").first.click()
    page.get_by_label(re.compile("^Gamma of")).first.fill("0.5")
    canvas.focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(400)
    before = query(page)
    assert len(before["c"]) == 6
    assert [one.split(",")[1] for one in before["c"]].count("1") == 1
    assert float(before["z"][0].split(",")[0]) == 1.5
    picture = canvas.evaluate(PIXELS)
    other = shown_image(page, 1).evaluate("(canvas) => canvas.imageView.look.zoom")
    assert other == 1.5  # the control well moves along
    page.reload()
    visitor.wait()
    wait_for_image(page)
    assert query(page) == before
    np.testing.assert_array_equal(shown_image(page).evaluate(PIXELS), picture)


@pytest.mark.slow
def test_keys_lead_through_a_plate(visitor: Visitor) -> None:
    page = visitor.open("/plates")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator(".plate canvas").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    hint = page.locator(".plate .hint").first.inner_text()
    assert hint.startswith("B02 · ")
    wait_until(page, "document.getElementById('announce').textContent.startsWith('B02')")
    page.keyboard.press("Enter")
    page.wait_for_url("**/well/*")
    visitor.wait()
    assert page.locator("h1").inner_text().startswith("B02")


@pytest.mark.slow
def test_absent_wells_are_drawn_as_absent(visitor: Visitor) -> None:
    page = visitor.open("/plates")
    canvas = page.locator(".plate canvas").first
    canvas.hover(position=canvas.evaluate("(canvas) => canvas.plateMap.centerOf(0, 0)"))
    assert page.locator(".plate .hint").first.inner_text() == "A01 · no well in this screen"
    colors = canvas.evaluate("""(canvas) => [[0, 0], [1, 1]].map(([row, column]) => {
      const { x, y } = canvas.plateMap.centerOf(row, column);
      const near = canvas.plateMap.size * 0.38;
      return Array.from(canvas.getContext("2d").getImageData(x + near, y + near, 1, 1).data);
    })""")
    assert colors[0][3] == 0
    assert colors[1][3] == 255


@pytest.mark.slow
def test_table_sorts_filters_and_saves(visitor: Visitor, page_run: PlantedRun, tmp_path: Path) -> None:
    page = visitor.open("/scores")
    page.get_by_role("button", name=re.compile("^value")).click()
    values = [float(text) for text in page.locator("tbody tr td.number:has(a)").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    assert len(values) == len(page_run.scores.rows)
    page.get_by_role("button", name=re.compile("^value")).click()
    assert query(page)["sort"] == ["value~up"]
    page.get_by_label("Search").fill("worst")
    page.get_by_text(f"1 of {len(page_run.scores.rows)} rows").wait_for()
    page.reload()
    visitor.wait()
    page.get_by_text(f"1 of {len(page_run.scores.rows)} rows").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download these rows").click()
    download.value.save_as(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["subset"] for row in rows] == ["worst experiment RPE-02"]


@pytest.mark.slow
def test_curves_refresh(visitor: Visitor) -> None:
    page = visitor.page
    calls = []

    def answer(route: Any) -> None:
        n = 2 + len(calls)
        calls.append(n)
        column = {"kind": "number", "values": list(range(1, n + 1))}
        loss = {"kind": "number", "values": [1 / k for k in range(1, n + 1)]}
        metrics = {"n": n, "columns": {"epoch": column, "train_loss": loss}}
        route.fulfill(json={"finished": n == 4, "metrics": metrics})

    page.clock.install()
    page.route("**/api/training", answer)
    visitor.open("/training")
    page.get_by_text("Still training: epoch 2 has ended").wait_for()
    page.clock.run_for(5100)
    page.get_by_text("Still training: epoch 3 has ended").wait_for()
    page.clock.run_for(5100)
    page.get_by_text("Finished after epoch 4").wait_for()
    page.clock.run_for(20_000)
    assert calls == [2, 3, 4]


@pytest.mark.slow
def test_search_and_theme(visitor: Visitor) -> None:
    page = visitor.open("/plates")
    box = page.get_by_role("combobox", name=re.compile("^Find"))
    box.fill("B02")
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/well/*")
    box.fill("PLK1")
    page.get_by_role("option", name=re.compile("PLK1")).first.click()
    page.wait_for_url("**/perturbation/*")
    visitor.wait()
    assert page.locator("h1").inner_text() == "PLK1"
    before = page.evaluate("getComputedStyle(document.body).color")
    page.get_by_role("button", name="Switch light and dark").click()
    assert page.evaluate("getComputedStyle(document.body).color") != before
    page.reload()
    visitor.wait()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.slow
def test_errors_say_what_to_do(visitor: Visitor) -> None:
    for path in ("/well/99999", "/perturbation/99999"):
        page = visitor.open(path)
        assert page.locator("main [role=alert]").inner_text().strip()
    assert [text for text in visitor.complaints if "404" not in text] == []
    visitor.complaints.clear()


@pytest.mark.slow
def test_an_image_that_cannot_be_read_says_so(visitor: Visitor) -> None:
    page = visitor.page
    answer = {"error": "The image cannot be read.", "next_step": "Start the viewer with --images."}
    page.route("**/api/sites/*/image", lambda route: route.fulfill(status=410, json=answer))
    page.route("**/thumbnail.png", lambda route: route.fulfill(status=410, json=answer))
    visitor.open("/well/3")
    assert page.locator(".image-note").first.inner_text() == " ".join(answer.values())
    page.locator(".thumb .blank").first.wait_for()
    visitor.complaints[:] = [text for text in visitor.complaints if "410" not in text]
