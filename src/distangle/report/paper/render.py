"""Draw the figures of the paper from a run and write them with their captions."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distangle.core.io import remove_stale_temporaries, write_json
from distangle.core.progress import Advance, no_progress
from distangle.core.untrusted_files import UnexpectedContent, check_type, read_json, read_regular_file
from distangle.errors import RunError, did_you_mean
from distangle.report.data import ReportData, load
from distangle.report.paper import figure_1, figure_5, figure_7_8, figure_9, figure_10, figure_11, figure_12
from distangle.report.paper.figure import PaperFigure, UnavailableFigure, save
from distangle.results import RunFolder
from distangle.screen import Screen

# Figures 2 and 3 describe a screen, 4 is a sketch of a dense block, and `distangle ablate` draws 6.
FIGURES: Mapping[int, Callable[[ReportData], PaperFigure | UnavailableFigure]] = {
    1: figure_1.draw,
    5: figure_5.draw,
    7: figure_7_8.draw_arc,
    8: figure_7_8.draw_softmax,
    9: figure_9.draw,
    10: figure_10.draw,
    11: figure_11.draw,
    12: figure_12.draw,
}
INDEX_NAME = "figures.json"


def draw_figures(
    run: RunFolder, screen: Screen, *, only: Sequence[int] = (), advance: Advance = no_progress
) -> dict[str, Any]:
    """Draw figures of the paper into `explanations/figures/`.

    Args:
        run: Folder of a run with the results that the figures need (`predict`, `explain`).
        screen: Screen of the run.
        only: Numbers of the figures; empty for all.
        advance: Called after each figure.

    Returns:
        By number, as text: `title`, `caption`, `numbers` and `files`; or `title`, `missing` and `command` for a figure
        that cannot be drawn. `figures.json` holds the same, and also figures drawn earlier.

    Raises:
        RunError: A number is not that of a figure.
    """
    unknown = [number for number in only if number not in FIGURES]
    if unknown:
        raise RunError(
            f"There is no figure {unknown[0]} to draw from a run. {did_you_mean(str(unknown[0]), map(str, FIGURES))} "
            "Figures 2 and 3 describe a screen (`distangle statistics SCREEN --out CARD`), 4 is a sketch, and 6 is on "
            "the page of `distangle ablate`."
        )
    data = load(run, screen)
    folder = run.explanations / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(folder)
    entries = read_index(folder)
    paths: list[Path] = []
    for number in only or FIGURES:
        figure = _draw_figure(FIGURES[number], data)
        if isinstance(figure, UnavailableFigure):
            entries[str(number)] = {"title": figure.title, "missing": figure.reason, "command": figure.command}
            for outdated in folder.glob(f"figure-{number:02d}.*"):
                outdated.unlink()
        else:
            files = save(figure, folder, f"figure-{number:02d}", stamp=data.stamp)
            paths += files
            entries[str(number)] = {
                "title": figure.title,
                "caption": figure.caption,
                "numbers": dict(figure.numbers),
                "files": [path.name for path in files],
            }
        advance(f"figure {number}")
    entries = {number: entries[number] for number in sorted(entries, key=int)}
    write_json(folder / INDEX_NAME, entries)
    run.record(*paths, folder / INDEX_NAME)
    return entries


def read_index(folder: Path) -> dict[str, Any]:
    """Read `figures.json`; return an empty dict if no figure was drawn.

    Raises:
        RunError: The file is damaged.
    """
    path = folder / INDEX_NAME
    if not path.exists():
        return {}
    fix = f"Remove it and draw the figures again: `distangle figures {folder.parents[1]}`."
    entries = read_json(path, fix=fix)
    with read_regular_file(path, fix=fix):
        for number, entry in entries.items():
            types: dict[str, type] = {"title": str, **({"missing": str, "command": str} if "missing" in entry else {})}
            types |= {} if "missing" in entry else {"caption": str, "files": list}
            for name, type_ in types.items():
                check_type(check_type(entry, dict, name=number)[name], type_, name=name)
            for name in entry.get("files", ()):
                if not re.fullmatch(r"figure-\d\d\.(png|svg)", check_type(name, str, name="files")):
                    raise UnexpectedContent(f"{name[:80]!r} is not the file name of a figure")
            int(number)
    return entries


def _draw_figure(
    draw: Callable[[ReportData], PaperFigure | UnavailableFigure], data: ReportData
) -> PaperFigure | UnavailableFigure:
    try:
        return draw(data)
    except RunError as error:  # an unreadable image makes only its own figure unavailable
        return UnavailableFigure(title="", reason=str(error))
