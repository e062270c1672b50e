"""Write the page of profiles that were made from a table, without a run."""

from pathlib import Path
from typing import Any

from distangle.core.io import write_text
from distangle.errors import brief
from distangle.report.html import Content, Section, Table, format_value, render_page
from distangle.report.profile_charts import texts
from distangle.report.sections.profiles import profiles
from distangle.results.profile_result import ProfileResult

FILE = "report.html"
MAX_REFUSED = 40
_COUNTS = {"n_found": "rows found", "n_used": "rows used", "n_refused": "rows refused"}


def build_profile_page(folder: Path, result: ProfileResult) -> Path:
    """Write `report.html`, a page in one file, into a folder of profiles.

    Args:
        folder: Folder with the files of `ProfileResult.write`.
        result: The profiles.

    Returns:
        Path of the page.
    """
    source = str(result.settings.get("source") or "") or folder.resolve().name
    content = profiles(result, command="distangle profile", file="hits.csv", linked=True)
    sections = [Section(name="profiles", title="Profiles", content=content)]
    if len(result.refused):
        sections.append(Section(name="refused", title="Refused rows", content=_refused(result)))
    header = Content(
        "card_header.html.j2",
        {"kind": "distangle profiles", "name": brief(Path(source).name or source), "facts": _facts(result, source)},
    )
    page = render_page(f"{source} · distangle profiles", stamp="", header=header, sections=sections, single_file=True)
    path = folder / FILE
    write_text(path, page)
    return path


def _facts(result: ProfileResult, source: str) -> list[tuple[str, str]]:
    settings, table = result.settings, result.wells.table
    pairs: list[tuple[str, Any]] = [("source", source), ("level", settings.get("level") or result.wells.level)]
    pairs += [(title, settings[name]) for name, title in _COUNTS.items() if name in settings]
    experiments, plates = texts(table, "Metadata_Experiment"), texts(table, "Metadata_Plate")
    if any(experiments):
        pairs.append(("experiments", len(set(experiments))))
    pairs += [
        ("plates", len(set(zip(experiments, plates, strict=True)))),
        ("wells", len(result.wells)),
        ("perturbations", len(result.perturbations)),
        ("features", len(result.wells.feature_names)),
    ]
    if left_out := settings.get("left_out"):
        pairs.append(("features left out", len(left_out)))
    return [(title, format_value(value)) for title, value in pairs]


def _refused(result: ProfileResult) -> Content:
    table = result.refused.head(MAX_REFUSED)
    rows = [(brief(row), reason) for row, reason in zip(texts(table, "row"), texts(table, "reason"), strict=True)]
    n = len(result.refused)
    caption = f"The first {MAX_REFUSED} of {n:,} refused rows." if n > MAX_REFUSED else ""
    cells = Table(columns=("row", "reason"), rows=rows, caption=caption)
    return Content("stacked.html.j2", {"figures": [], "tables": [cells], "sentences": []})
