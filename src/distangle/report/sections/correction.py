"""Compute the section on batch correction."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from distangle.core.shrinkage import Correction
from distangle.report.data import ReportData
from distangle.report.html import Content, Table, count, percent


def batch_correction(data: ReportData) -> Content | None:
    """Report the chosen correction, the reason, and all compared corrections.

    Args:
        data: Results of the run.

    Returns:
        None if nothing was chosen: the settings name the correction, or the backbone is trained.
    """
    correction = data.correction
    if correction is None:
        return None
    name = str(Correction.model_validate(correction["chosen"]))
    values: dict[str, Any] = {"chosen": name, "reason": correction["reason"], "folds": _fold_choices(data)}
    if compared := correction["compared"]:
        n_folds = max(len(entry["by_fold"]) for entry in compared)
        columns = ("correction", "balanced accuracy", "by fold", "share corrected")
        values["compared"] = Table(
            columns=columns,
            rows=[_comparison_row(entry, n_folds=n_folds) for entry in compared],
            numeric=(1, 2, 3),
            caption=f"Corrections compared for new {correction['expect']}; the chosen one in bold",
            bold={(k, c) for k, entry in enumerate(compared) if entry["name"] == name for c in range(len(columns))},
        )
    return Content("sections/correction.html.j2", values)


def _comparison_row(entry: Mapping[str, Any], *, n_folds: int) -> tuple[str, ...]:
    suffix = ", then dropped" if len(entry["by_fold"]) < n_folds else ""
    return (
        str(entry["name"]),
        percent(entry["balanced_accuracy"]),
        " · ".join(f"{100 * value:.1f}" for value in entry["by_fold"]) + f"\u202f%{suffix}",
        percent(entry["share_corrected"], 0),
    )


def _fold_choices(data: ReportData) -> str:
    """Return the corrections chosen by the folds; "" without folds."""
    counts = Counter(str(Correction.model_validate(correction["chosen"])) for correction in data.fold_corrections)
    return ", ".join(f"{name} in {count(n, 'fold')}" for name, n in counts.most_common())
