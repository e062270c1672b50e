"""Build the report of a run: a folder with a page, its pictures and its style."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distangle.core.io import remove_stale_temporaries, write_text
from distangle.core.progress import Advance, no_progress
from distangle.report import score_table
from distangle.report.data import load
from distangle.report.html import Content, Section, render_page, write_style
from distangle.report.sections import (
    calibration,
    channels,
    correction,
    faithfulness,
    profiles,
    provenance,
    scores,
    sites,
)
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

    The report shows the results of `predict`, `explain` and `profile`. For each missing part it names the command that
    makes it.

    Args:
        run: Folder of the run.
        screen: Predicted screen; its images are read for the pictures.
        truth: Planted effects of a synthetic screen; None reads the `truth.json` of the screen.
        progress: Called with the title of every finished section and the name of every drawn site.
        say: Receives a message if `truth.json` belongs to another screen.

    Returns:
        Path of `index.html`.

    Raises:
        RunError: A file of the run cannot be read.
    """
    advance = progress or no_progress
    run.check_links()
    data = load(run, screen, truth=truth if truth is not None else _read_truth(screen, say=say))
    folder = run.report
    for subfolder in (folder, folder / "figures"):
        remove_stale_temporaries(subfolder)
    paths: list[Path] = []

    def write(name: str, text: str) -> str:
        path = folder / "figures" / name
        write_text(path, text)
        paths.append(path)
        return f"figures/{name}"

    renderer = SiteRenderer(screen, folder)
    sections: list[Section] = []

    def add(name: str, title: str, content: Content | None) -> None:
        if content is not None:
            sections.append(Section(name=name, title=title, content=content))
            advance(title)

    add("scores", "Scores", score_table.score_table(data, calibration.calibration(data, write)))
    add("curves", "Training curves", scores.curves(data, write))
    add("correction", "Batch correction", correction.batch_correction(data))
    add("confusion", "Confusion", scores.confusion(data, write))
    add("plates", "Plate maps", scores.plate_maps(data))
    add("sites", "Example sites", sites.example_sites(data, renderer, advance=advance))
    add("channels", "Channel attribution", channels.attribution(data, write))
    faithfulness_section = faithfulness.faithfulness(data, data.faithfulness, write, folder)
    add("faithfulness", "Faithfulness of the maps", faithfulness_section)
    paths += sorted((folder / "figures").glob(f"{faithfulness.STRIPS}-*.png"))
    add("templates", "Templates", faithfulness.templates(data.templates))
    add("filters", "Filters", faithfulness.filters(data.filters))
    command = f"distangle profile {data.command_path}"
    add("profiles", "Profiles", profiles.profiles(data.profiles, command=command, file="profiles/hits.csv"))
    add("controls", "Controls", scores.control_checks(data))
    add("planted", "Planted effects", channels.planted(data))
    add("figures", "Figures of the paper", provenance.figures(data, folder))
    paths += sorted((folder / "figures").glob("figure-*.png"))
    add("provenance", "Provenance", provenance.provenance(data))
    add("refused", "Refused entries", provenance.refused(data))

    header = scores.headline(data, explanation=channels.explanation_sentence(data))
    title = f"{data.name} · distangle report"
    page = render_page(title, stamp=data.stamp, header=header, sections=sections)
    index = folder / "index.html"
    write_text(index, page)
    paths += [*renderer.written, write_style(folder), index]
    _remove_old_figures(run, keep=paths)
    run.record(*paths)
    return index


def _read_truth(screen: Screen, *, say: Advance) -> Mapping[str, Any] | None:
    truth = truth_of(screen, say=say)
    return None if truth is None else truth.model_dump(mode="json")


def _remove_old_figures(run: RunFolder, *, keep: list[Path]) -> None:
    """Remove pictures of an earlier report, if the manifest of the run lists them."""
    for name in run.manifest_entries():
        path = run.root / name
        if path.parent == run.report / "figures" and path.suffix in (".png", ".svg") and path not in keep:
            path.unlink(missing_ok=True)
