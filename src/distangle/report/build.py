"""One folder to mail to a colleague: a page, its pictures, its style, and nothing from elsewhere."""

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distangle.commit import commit_text, sweep
from distangle.errors import ScreenError
from distangle.progress import Advance, no_progress
from distangle.report import believed, corrected, explained, illustrated, made, marked, score_table, scored, stains
from distangle.report.material import gather
from distangle.report.page import Markup, document, section
from distangle.report.sites import Painter
from distangle.results import RunFolder
from distangle.screen import Screen
from distangle.synthetic.truth import read_truth


def build_report(
    run: RunFolder, screen: Screen, *, truth: Mapping[str, Any] | None = None, progress: Advance | None = None
) -> Path:
    """Write the report of a run: `report/index.html`, `report/figures/` and `report/style.css`.

    No number is computed here: the report draws what `predict` and `explain` wrote, and says which command makes
    what is not there yet.

    Args:
        run: The folder of the run.
        screen: The screen that was predicted; its images are read for the pictures.
        truth: What was planted into a synthetic screen; None looks for the `truth.json` that one brings along.
        progress: Called with a few words after every finished part.

    Returns:
        The path of `index.html`.

    Raises:
        RunError: A file of the run is there and cannot be read.
    """
    advance = progress or no_progress
    material = gather(run, screen, truth=truth if truth is not None else _planted_beside(screen))
    folder = run.report
    for swept in (folder, folder / "figures"):
        sweep(swept)
    written: list[Path] = []

    def write(name: str, text: str) -> str:
        path = folder / "figures" / name
        commit_text(path, text)
        written.append(path)
        return f"figures/{name}"

    painter = Painter(screen, folder)
    sections: list[tuple[str, str, Markup]] = []

    def add(name: str, short: str, title: str, *parts: str) -> None:
        sections.append((name, short, section(name, title, *parts)))
        advance(short)

    add("scores", "Scores", "How well it predicts", score_table.score_table(material))
    add("curves", "Training", "How it learnt", scored.curves(material, write))
    chosen = corrected.batch_correction(material)
    if chosen is not None:
        add("correction", "Correction", "Batch correction", chosen)
    add("confusion", "Confusion", "What it mistakes for what", scored.confusion(material, write))
    add("plates", "Plates", "Where on the plates it is right", scored.plate_maps(material))
    add("sites", "Sites", "What it looked at", explained.explained_sites(material, painter, advance=advance))
    add("stains", "Stains", "Which stain gave it away", stains.attribution(material, write))
    tested = believed.maps_believed(material, material.faithfulness, write, folder)
    add("believed", "Belief", "Whether the maps can be believed", tested)
    written += sorted((folder / "figures").glob("believed-*.png"))
    for name, short, title, said in (
        ("templates", "Templates", "How templates and embeddings lie", believed.templates_said(material.templates)),
        ("filters", "Filters", "What the 1 × 1 filters are like", believed.filters_said(material.filters)),
    ):
        if said is not None:
            add(name, short, title, said)
    add("controls", "Controls", "What the controls say", scored.control_checks(material))
    compared = stains.planted(material)
    if compared is not None:
        marks = [] if material.benchmark is None else [marked.truth_table(material.benchmark)]
        add("planted", "Planted", "What was planted and what was found", compared, *marks)
    drawn = illustrated.figures(material, folder)
    if drawn is not None:
        add("figures", "Figures", "The figures of the paper, from this run", drawn)
        written += sorted((folder / "figures").glob("figure-*.png"))
    add("made", "Methods", "How this was made", made.provenance(material))
    add("refused", "Refused", "What was refused", made.refused(material))

    top = scored.headline(material, explanation=stains.explanation_sentence(material))
    page = document(material.name, stamp=material.stamp, header=top, sections=sections)
    style = folder / "style.css"
    commit_text(style, importlib.resources.files("distangle.report").joinpath("assets/style.css").read_text("utf-8"))
    index = folder / "index.html"
    commit_text(index, page)
    written += [*painter.written, style, index]
    _remove_others(folder / "figures", keep=written)
    run.record(*written)
    return index


def _planted_beside(screen: Screen) -> Mapping[str, Any] | None:
    source = screen.source
    if not isinstance(source, Path) or not (source / "truth.json").is_file():
        return None
    try:
        return read_truth(source).model_dump(mode="json")
    except ScreenError:  # a laboratory may name a file of its own so
        return None


def _remove_others(folder: Path, *, keep: list[Path]) -> None:
    """Remove pictures of an earlier report, which the page no longer shows."""
    kept = {path.name for path in keep}
    for path in folder.glob("*") if folder.is_dir() else ():
        if path.suffix in (".png", ".svg") and path.name not in kept:
            path.unlink()
