"""Screenshots of every view, wide and narrow, light and dark, for visual inspection.

They are written to the folder that DISTANGLE_SCREENSHOTS names, else to a temporary one. With the variable set they
belong to the fast tests, so that a build keeps them.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from report_run import PlantedRun
from view_page import Visitor

VIEWS = {
    "plates": "/plates",
    "map": "/map?of=wells",
    "selection": "/map?of=wells&lasso=-99,-99~99,-99~99,99~-99,99",
    "well": "/well/3",
    "explained": "/well/{explained}?overlay=all,0.6",
    "perturbation": "/perturbation/1",
    "hits": "/hits",
    "scores": "/scores",
    "checks": "/checks",
    "two_wells": "/compare?a=well:0&b=well:3",
    "two_perturbations": "/compare?a=perturbation:0&b=perturbation:1",
    "two_runs": "/compare?well={explained}",
    "training": "/training",
}
LOOKS = [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")]
MARKS = () if os.environ.get("DISTANGLE_SCREENSHOTS") else (pytest.mark.slow,)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder_name = os.environ.get("DISTANGLE_SCREENSHOTS")
    path = Path(folder_name) if folder_name else tmp_path / "screenshots"
    path.mkdir(parents=True, exist_ok=True)
    return path


def explained_well(run: PlantedRun) -> int:
    """Return the number of an explained well: its row, because every well has one site."""
    table = run.explanation.table
    row = table[table["Metadata_Cell_Type"] == "HUVEC"].iloc[0]  # the other run has this cell type only
    sites = run.screen.sites
    is_in_well = (sites["experiment"] == row["Metadata_Experiment"]) & (sites["well"] == row["Metadata_Well"])
    return int(np.flatnonzero(is_in_well & (sites["plate"] == row["Metadata_Plate"]))[0])


@pytest.mark.parametrize("look", [pytest.param(look, marks=MARKS) for look in LOOKS], ids=str)
def test_pictures_of_every_view(
    browser: Any, pair_address: str, page_run: PlantedRun, folder: Path, look: tuple[int, str]
) -> None:
    width, theme = look
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    visitor = Visitor(context.new_page(), pair_address)
    well = explained_well(page_run)
    for name, address in VIEWS.items():
        page = visitor.open(address.format(explained=well))
        page.wait_for_timeout(200)
        path = folder / f"{name}_{width}_{theme}.png"
        page.screenshot(path=path, full_page=True)
        assert page.locator("main [role=alert]").all_inner_texts() == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than the window"
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("L"))
        assert pixels.shape[1] == width
        assert (np.median(pixels) > 128) == (theme == "light"), name
        assert pixels.std() > 10, f"{name} is nearly empty"
    context.close()
    assert visitor.complaints == []
