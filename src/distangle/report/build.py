"""One folder to mail to a colleague: a page, its pictures, its style, and nothing from elsewhere."""

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distangle.commit import commit_text, sweep
from distangle.progress import Advance, no_progress
from distangle.report import believed, corrected, explained, illustrated, made, marked, score_table, scored, stains
from distangle.report.material import gather
from distangle.report.page import Markup, document, section
from distangle.report.sites import Painter
from distangle.results import RunFolder
from distangle.screen import Screen
from distangle.synthetic.truth import truth_of


def build_report(
    run: RunFolder,
    screen: Screen,
    *,
    truth: Mapping[str, Any] | None = None,
    progress: Advance | None = None,
    say: Advance = no_progress,
) -> Path:
    """Write the report of a run: `report/index.html`, `report/figures/` and `report/style.css`.

    No number is computed here: the report draws what `predict` and `explain` wrote, and says which command makes
    what is not there yet.

    Args:
        run: The folder of the run.
        screen: The screen that was predicted; its images are read for the pictures.
        truth: What was planted into a synthetic screen; None looks for the `truth.json` that one brings along.
        progress: Called with a few words after every finished part.
        say: Told of a `truth.json` that is not of this screen.

    Returns:
        The path of `index.html`.

    Raises:
        RunError: A file of the run is there and cannot be read.
    """
    advance = progress or no_progress
    run.check_links()
    material = gather(run, screen, truth=truth if truth is not None else _planted_beside(screen, say=say))
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
    _remove_others(run, keep=written)
    run.record(*written)
    return index


def _planted_beside(screen: Screen, *, say: Advance) -> Mapping[str, Any] | None:
    truth = truth_of(screen, say=say)
    return None if truth is None else truth.model_dump(mode="json")


def _remove_others(run: RunFolder, *, keep: list[Path]) -> None:
    """Remove pictures of an earlier report, which the page no longer shows; those that the run itself has listed."""
    for name in run.listed():
        path = run.root / name
        if path.parent == run.report / "figures" and path.suffix in (".png", ".svg") and path not in keep:
            path.unlink(missing_ok=True)
