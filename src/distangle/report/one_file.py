"""Embed style, pictures and tables of a page in one HTML file that can be mailed."""

import base64
import re
from pathlib import Path

from distangle.report.html import check_page, style_sheet, with_style

FILE = "report.html"
MAX_TABLE_BYTES = 2**20  # a larger CSV file stays in the folder of the report
_MEDIA = {".png": "image/png", ".svg": "image/svg+xml"}
_PICTURE = re.compile(r'src="(figures/[a-z0-9-]+\.(?:png|svg))"')
_PICTURE_LINK = re.compile(r'<a href="figures/[a-z0-9-]+\.(?:png|svg)"(?: download)?>(.*?)</a>', re.DOTALL)
_FIGURE_FILES = re.compile(r'<p class="figure-files download">.*?</p>', re.DOTALL)
_TABLE = re.compile(r'<a href="tables/([a-z0-9-]+)\.csv" download>(.*?)</a>', re.DOTALL)


def embed(page: str, folder: Path) -> str:
    """Return a page that needs no other file.

    Pictures become `data:` addresses. Links to pictures go, because browsers open no `data:` address.

    Args:
        page: A page of `render_page` with a style sheet beside it.
        folder: Folder of the page.

    Raises:
        ValueError: The page would load something from elsewhere.
    """
    encoded: dict[str, str] = {}

    def picture(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in encoded:
            encoded[name] = _data_address(folder / name, _MEDIA[Path(name).suffix])
        return f'src="{encoded[name]}"'

    def table(match: re.Match[str]) -> str:
        name, text = match.group(1), match.group(2)
        path = folder / "tables" / f"{name}.csv"
        if path.stat().st_size > MAX_TABLE_BYTES:
            return f"{text}: in the folder of the report, tables/{name}.csv"
        return f'<a href="{_data_address(path, "text/csv")}" download="{name}.csv">{text}</a>'

    page = _FIGURE_FILES.sub("", page)
    page = _TABLE.sub(table, _PICTURE.sub(picture, _PICTURE_LINK.sub(r"\1", page)))
    page = with_style(page)
    check_page(page, style=style_sheet(), embedded=True)
    return page


def _data_address(path: Path, media: str) -> str:
    return f"data:{media};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
