"""Write the tables of a report as CSV files that a spreadsheet opens safely."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from distangle.core.io import write_text
from distangle.report.data import ReportData
from distangle.report.html import Content, Section, Table
from distangle.report.site_renderer import without_folder
from distangle.screen.screen import escape_formula

FOLDER = "tables"
_ASCII = str.maketrans({"\u202f": " ", "\u2212": "-"})


def write_tables(
    data: ReportData, perturbations: pd.DataFrame, sections: Sequence[Section], folder: Path
) -> list[Path]:
    """Write every table of the page with a file name, and the whole tables behind it.

    Args:
        data: Results of the run.
        perturbations: Table of `perturbation_table`.
        sections: Sections of the page.
        folder: Folder of the report.

    Returns:
        Paths of the files: those of the page, `perturbations.csv`, `scores.csv` and `wells.csv`.
    """
    frames = {table.file: _frame(table) for section in sections for table in tables_of(section.content)}
    frames["perturbations"] = perturbations
    if data.scores is not None:
        frames["scores"] = pd.DataFrame([_score_record(row.model_dump()) for row in data.scores.rows])
    if data.wells is not None:
        frames["wells"] = held_out_wells(data)
    paths = []
    for name, frame in frames.items():
        paths.append(folder / FOLDER / f"{name}.csv")
        write_text(paths[-1], csv_text(frame))
    return paths


def held_out_wells(data: ReportData) -> pd.DataFrame:
    """Return the predictions of the held-out wells, without the folder of the images.

    Raises:
        ValueError: The run has no predictions.
    """
    if data.wells is None:
        raise ValueError("The run has no predictions. Run `distangle predict` first.")
    table = data.wells.table
    wells = table[table["Metadata_Fold"] == "held_out"].reset_index(drop=True)
    return wells.assign(reason=[without_folder(str(text), data.screen) for text in wells["reason"]])


def csv_text(frame: pd.DataFrame) -> str:
    """Return a table as CSV text; no cell of it is a formula."""
    escaped = pd.DataFrame({
        escape_formula(str(name)): [_safe(cell) for cell in frame[name]]
        for name in frame.columns
    })  # fmt: skip
    return escaped.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def tables_of(content: object) -> Iterator[Table]:
    """Yield the tables with a file name in a part of a page, in their order."""
    if isinstance(content, Table):
        if content.file:
            yield content
    elif isinstance(content, Content):
        yield from tables_of(content.values)
    elif isinstance(content, Section):
        yield from tables_of(content.content)
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from tables_of(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from tables_of(value)


def _frame(table: Table) -> pd.DataFrame:
    """Return the texts of a table; columns of drawings are left out."""
    columns = {}
    for position, title in enumerate(table.columns):
        cells = [row[position] for row in table.rows]
        if not any(isinstance(cell, Markup) and "<svg" in cell for cell in cells):
            columns[str(title) or "name"] = [_plain(cell) for cell in cells]
    return pd.DataFrame(columns)


def _plain(cell: str) -> str:
    text = str(cell.striptags()) if isinstance(cell, Markup) else str(cell)
    return "" if text == "–" else text.translate(_ASCII)


def _safe(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    try:
        float(cell)
    except ValueError:
        return escape_formula(cell)
    return cell


def _score_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a score as a flat row, with columns for interval and baselines."""
    record = {name: value for name, value in row.items() if name not in ("interval", "baselines", "by_group")}
    low, high = row.get("interval") or (None, None)
    record |= {"interval_low": low, "interval_high": high}
    record |= {f"baseline_{name}": value for name, value in (row.get("baselines") or {}).items()}
    return record | {f"value_{name}": value for name, value in (row.get("by_group") or {}).items()}
