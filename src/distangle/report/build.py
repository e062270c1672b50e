"""Build the report of a run: a folder with pages by subject, pictures and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from distangle.core.io import remove_stale_temporaries, write_bytes, write_text
from distangle.core.progress import Advance, no_progress
from distangle.report import score_table, tables
from distangle.report.charts import SvgChart
from distangle.report.data import ReportData, load
from distangle.report.html import Content, Section, group, render_page, write_style
from distangle.report.one_file import FILE, embed
from distangle.report.pages import INDEX, render_pages
from distangle.report.sections import (
    calibration,
    channels,
    correction,
    faithfulness,
    mean_maps,
    profiles,
    provenance,
    scores,
)
from distangle.report.sections.perturbations import perturbation_table, perturbations
from distangle.report.sections.sites import example_sites, picture_anchors
from distangle.report.site_renderer import SiteRenderer
from distangle.results import RunFolder
from distangle.screen import Screen
from distangle.synthetic.truth import truth_of

_EXPLANATION = ("explanations/explanation.json", "explanations/sites.parquet")
_SOURCES = {
    "perturbations": ("profiles/hits.parquet", "predictions/wells.parquet", "explanations/explanation.json"),
    "channels": _EXPLANATION,
    "sites": (*_EXPLANATION, "explanations/maps.npz"),
    "plates": ("predictions/wells.parquet", "predictions/scores.json"),
    "score-table": ("predictions/scores.json",),
    "confusion": ("predictions/scores.json",),
    "profiles": ("profiles/profile.json",),  # its figures and tables name theirs
    "controls": ("predictions/scores.json",),
    "faithfulness": ("explanations/faithfulness.json",),
    "mean-maps": ("explanations/maps.npz", "explanations/sites.parquet"),
    "planted": ("explanations/explanation.json", "explanations/benchmark.json", "predictions/scores.json"),
    "curves": ("metrics.csv", "timing.csv"),
    "correction": ("correction.json", "cross_validation/fold-*/correction.json"),
    "other-methods": ("explanations/explanation.json",),
    "templates": ("explanations/templates.json", "explanations/templates.parquet"),
    "filters": ("explanations/filters.json",),
    "figures": ("explanations/figures/figures.json",),
    "refused": ("screen.json",),
    "provenance": ("run.json", "config.yaml", "manifest.json"),
}


def build_report(
    run: RunFolder,
    screen: Screen,
    *,
    truth: Mapping[str, Any] | None = None,
    one_file: bool = False,
    progress: Advance | None = None,
    say: Advance = no_progress,
) -> Path:
    """Write the pages, the figures and the tables of a run into its report folder.

    The report shows the results of `predict`, `explain` and `profile`. For each missing part it names the command that
    makes it.

    Args:
        run: Folder of the run.
        screen: Predicted screen; its images are read for the pictures.
        truth: Planted effects of a synthetic screen; None reads the `truth.json` of the screen.
        one_file: Whether to write `report.html` as well, all pages in one file.
        progress: Called with the title of every finished section and the name of every drawn site.
        say: Receives a message if `truth.json` belongs to another screen.

    Returns:
        Path of `report.html` if `one_file`, else of `index.html`.

    Raises:
        RunError: A file of the run cannot be read.
    """
    advance = progress or no_progress
    run.check_links()
    data = load(run, screen, truth=truth if truth is not None else _read_truth(screen, say=say))
    folder = run.report
    for subfolder in (folder, folder / "figures", folder / tables.FOLDER):
        remove_stale_temporaries(subfolder)
    builder = _Builder(data, folder, advance)
    table = perturbation_table(data)
    sections = builder.sections(table)
    header = scores.headline(data, table, explanation=channels.explanation_sentence(data))
    paths = [*builder.paths, *tables.write_tables(data, table, sections, folder), write_style(folder)]
    pages = render_pages(data.name, stamp=data.stamp, header=header, sections=sections)
    if one_file:
        page = render_page(f"{data.name} · distangle report", stamp=data.stamp, header=header, sections=sections)
        pages[FILE] = embed(page, folder)
    for name, page in pages.items():
        paths.append(folder / name)
        write_text(paths[-1], page)
    _remove_old_files(run, keep=paths)
    run.record(*paths)
    return folder / (FILE if one_file else INDEX)


class _Builder:
    """Computes the sections of a report and remembers the pictures that they wrote."""

    def __init__(self, data: ReportData, folder: Path, advance: Advance) -> None:
        self._data, self._folder, self._advance = data, folder, advance
        self._charts: list[Path] = []
        self._renderer = SiteRenderer(data.screen, folder)

    @property
    def paths(self) -> list[Path]:
        """The pictures of the sections."""
        pictures = [
            path
            for pattern in (f"{faithfulness.STRIPS}-*.png", "figure-*.png")
            for path in sorted((self._folder / "figures").glob(pattern))
        ]
        return [*self._charts, *self._renderer.written, *pictures]

    def sections(self, table: pd.DataFrame) -> list[Section]:
        """Compute the sections in the order in which a biologist asks.

        Args:
            table: Table of `perturbation_table`.
        """
        data, write = self._data, self._write
        command = f"distangle profile {data.command_path}"
        accuracy = [
            self._part("score-table", "Scores", score_table.score_table(data, calibration.calibration(data, write))),
            self._part("confusion", "Confusions", scores.confusion(data, write)),
        ]
        checks = [
            self._part(
                "faithfulness", "Do the maps show what the network used?",
                faithfulness.faithfulness(data, data.faithfulness, write, self._folder),
            ),
            self._part(
                "mean-maps", "Do the maps favor a place in the field?", mean_maps.mean_maps(data, self._renderer.write)
            ),
            self._part("planted", "Planted effects", channels.planted(data)),
        ]  # fmt: skip
        method = [
            self._part("curves", "Training curves", scores.curves(data, write)),
            self._part("correction", "Batch correction", correction.batch_correction(data)),
            self._part(
                "other-methods", "Equation 15 and other ways to score channels", channels.other_methods(data, write)
            ),
            self._part("templates", "Class weight vectors (templates)", faithfulness.templates(data.templates)),
            self._part("filters", "Filters", faithfulness.filters(data.filters)),
            self._part("figures", "Figures of the paper", provenance.figures(data, self._folder)),
        ]
        shown = perturbations(data, table, pictures=picture_anchors(data))
        similarity = profiles.profiles(data.profiles, command=command, file="profiles/hits.csv", with_hits=False)
        candidates = [
            self._part("perturbations", "Perturbations", shown),
            self._part("channels", "Channels", channels.attribution(data, write)),
            self._part("sites", "Example cells", example_sites(data, self._renderer, advance=self._advance)),
            self._part("plates", "Plates", scores.plate_maps(data)),
            self._part("scores", "Accuracy", _group(accuracy)),
            self._part("profiles", "Profiles and batch", similarity),
            self._part("controls", "Controls", scores.control_checks(data)),
            self._part("checks", "Trust checks", _group(checks)),
            self._part("method", "Method", _group([replace(part, is_folded=True) for part in method if part])),
            self._part("refused", "Refused entries", provenance.refused(data)),
            self._part("provenance", "Files and settings", provenance.provenance(data)),
        ]
        return [section for section in candidates if section is not None]

    def _part(self, name: str, title: str, content: Content | None) -> Section | None:
        if content is None:
            return None
        self._advance(title)
        return Section(name=name, title=title, content=content, sources=self._data.present(_SOURCES.get(name, ())))

    def _write(self, name: str, text: str) -> str:
        path = self._folder / "figures" / name
        write_text(path, text)
        self._charts.append(path)
        if isinstance(text, SvgChart):
            self._charts.append(path.with_suffix(".png"))
            write_bytes(self._charts[-1], text.png())
        return f"figures/{name}"


def _group(parts: Sequence[Section | None]) -> Content | None:
    present = [part for part in parts if part is not None]
    return group(present) if present else None


def _read_truth(screen: Screen, *, say: Advance) -> Mapping[str, Any] | None:
    truth = truth_of(screen, say=say)
    return None if truth is None else truth.model_dump(mode="json")


def _remove_old_files(run: RunFolder, *, keep: list[Path]) -> None:
    """Remove files of an earlier report, if the manifest of the run lists them."""
    folders = {run.report / "figures": (".png", ".svg"), run.report / tables.FOLDER: (".csv",), run.report: (".html",)}
    for name in run.manifest_entries():
        path = run.root / name
        if path.suffix in folders.get(path.parent, ()) and path not in keep:
            path.unlink(missing_ok=True)
