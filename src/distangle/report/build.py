"""Build the report: one folder with a page, its pictures and its style."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distangle.core.io import remove_stale_temporaries, write_text
from distangle.core.progress import Advance, no_progress
from distangle.report import score_table
from distangle.report.data import load
from distangle.report.html import Content, Section, render_page, write_style
from distangle.report.sections import channels, correction, faithfulness, provenance, scores, sites
from distangle.report.site_renderer import SiteRenderer
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
    """Write `index.html`, `figures/` and `style.css` into the report folder of a run.

    The report draws what `predict` and `explain` wrote, and names the command for each part that does not exist yet.

    Args:
        run: The folder of the run.
        screen: The screen that was predicted; its images are read for the pictures.
        truth: Planted effects of a synthetic screen; None looks for the `truth.json` of the screen.
        progress: Called with the heading of every finished section, and with every drawn site.
        say: Receives a message if `truth.json` belongs to another screen.

    Returns:
        The path of `index.html`.

    Raises:
        RunError: A file of the run is there and cannot be read.
    """
    advance = progress or no_progress
    run.check_links()
    material = load(run, screen, truth=truth if truth is not None else _planted_beside(screen, say=say))
    folder = run.report
    for swept in (folder, folder / "figures"):
        remove_stale_temporaries(swept)
    written: list[Path] = []

    def write(name: str, text: str) -> str:
        path = folder / "figures" / name
        write_text(path, text)
        written.append(path)
        return f"figures/{name}"

    painter = SiteRenderer(screen, folder)
    sections: list[Section] = []

    def add(name: str, title: str, content: Content | None) -> None:
        if content is not None:
            sections.append(Section(name=name, title=title, content=content))
            advance(title)

    add("scores", "Scores", score_table.score_table(material))
    add("curves", "Training curves", scores.curves(material, write))
    add("correction", "Batch correction", correction.batch_correction(material))
    add("confusion", "Confusion", scores.confusion(material, write))
    add("plates", "Plate maps", scores.plate_maps(material))
    add("sites", "Example sites", sites.example_sites(material, painter, advance=advance))
    add("channels", "Channel attribution", channels.attribution(material, write))
    tested = faithfulness.faithfulness(material, material.faithfulness, write, folder)
    add("faithfulness", "Faithfulness of the maps", tested)
    written += sorted((folder / "figures").glob(f"{faithfulness.STRIPS}-*.png"))
    add("templates", "Templates", faithfulness.templates(material.templates))
    add("filters", "Filters", faithfulness.filters(material.filters))
    add("controls", "Controls", scores.control_checks(material))
    add("planted", "Planted effects", channels.planted(material))
    add("figures", "Figures of the paper", provenance.figures(material, folder))
    written += sorted((folder / "figures").glob("figure-*.png"))
    add("provenance", "Provenance", provenance.provenance(material))
    add("refused", "Refused entries", provenance.refused(material))

    top = scores.headline(material, explanation=channels.explanation_sentence(material))
    title = f"{material.name} · distangle report"
    page = render_page(title, stamp=material.stamp, header=top, sections=sections)
    index = folder / "index.html"
    write_text(index, page)
    written += [*painter.written, write_style(folder), index]
    _remove_others(run, keep=written)
    run.record(*written)
    return index


def _planted_beside(screen: Screen, *, say: Advance) -> Mapping[str, Any] | None:
    truth = truth_of(screen, say=say)
    return None if truth is None else truth.model_dump(mode="json")


def _remove_others(run: RunFolder, *, keep: list[Path]) -> None:
    """Remove pictures of an earlier report, if the manifest of the run lists them."""
    for name in run.manifest_entries():
        path = run.root / name
        if path.parent == run.report / "figures" and path.suffix in (".png", ".svg") and path not in keep:
            path.unlink(missing_ok=True)
