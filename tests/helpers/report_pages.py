"""Pages of a report as a browser sees them, and copies of a run to build them from."""

import itertools
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from distangle.report import build_report
from distangle.results import RunFolder
from report_run import PlantedRun

SECTIONS = {
    "index": ["perturbations", "pages", "refused"],
    "channels": ["channels"],
    "examples": ["sites"],
    "plates": ["plates", "controls"],
    "scores": ["scores"],
    "profiles": ["profiles"],
    "checks": ["checks"],
    "method": ["method"],
    "provenance": ["provenance"],
}


MENU = [
    *("Overview", "Channels", "Example cells", "Plates and controls", "Accuracy", "Profiles and batch"),
    *("Trust checks", "Method", "Files and settings"),
]


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [str(attributes[name]) for _, attributes in self.tags if name in attributes]

    @property
    def links(self) -> list[str]:
        """Addresses in the navigation."""
        menu = next(i for i, (tag, attributes) in enumerate(self.tags) if attributes.get("class") == "pages")
        rest = itertools.takewhile(lambda pair: pair[0] == "a", self.tags[menu + 1 :])
        return [str(attributes["href"]) for _, attributes in rest]

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for tag, attributes in self.tags if tag == "section"]


Pages = dict[str, Page]


def pages_of(run: RunFolder) -> Pages:
    """Return the pages of a report by name, as its navigation lists them."""
    names = [str(name) for name in re.findall(r"[a-z]+(?=.html)", " ".join(Page(run.report / "index.html").links))]
    return {name: Page(run.report / f"{name}.html") for name in dict.fromkeys(names)}


def build(run: RunFolder, planted_run: PlantedRun, **settings: Any) -> Pages:
    """Build a report and return its pages by name."""
    assert build_report(run, planted_run.screen, **settings) == run.report / "index.html"
    return pages_of(run)


def copy_of(run_data: PlantedRun, folder: Path, *parts: str) -> RunFolder:
    shutil.copytree(run_data.run.root, folder / "run")
    for name in ("report", *parts):
        target = folder / "run" / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
    return RunFolder(folder / "run")


def check_offline(pages: Pages, folder: Path) -> None:
    for page in pages.values():
        addresses = page.values("src") + page.values("href")
        assert len(addresses) > 5
        for address in addresses:
            name, _, anchor = address.partition("#")
            if name:
                assert re.fullmatch(r"[a-z]+\.(css|html)|figures/[a-z0-9-]+\.(png|svg)|tables/[a-z0-9-]+\.csv", name)
                assert (folder / name).is_file()
            if anchor:
                target = pages[name.removesuffix(".html")] if name else page
                assert anchor in target.values("id")
        assert {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "form", "base", "style"} == set()
        assert [
            name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"
        ] == []
        assert "default-src 'none'; img-src 'self' data:; style-src 'self'" in page.values("content")
        assert "http" not in "".join(page.values("content"))
    assert {path.stem for path in folder.glob("*.html")} == set(pages)
    style = (folder / "style.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style
