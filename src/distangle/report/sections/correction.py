"""Compute the section on batch correction."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from distangle.core.shrinkage import Correction
from distangle.report.data import ReportData
from distangle.report.html import Content, Table, count, percent


def batch_correction(material: ReportData) -> Content | None:
    """Report which correction was chosen, why, and all that were compared.

    Args:
        material: The run.

    Returns:
        None where nothing was chosen: the settings name the correction, or the backbone is trained.
    """
    correction = material.correction
    if correction is None:
        return None
    chosen = str(Correction.model_validate(correction["chosen"]))
    values: dict[str, Any] = {"chosen": chosen, "reason": correction["reason"], "folds": _folds(material)}
    if compared := correction["compared"]:
        n_folds = max(len(one["by_fold"]) for one in compared)
        columns = ("correction", "balanced accuracy", "by fold", "share corrected")
        values["compared"] = Table(
            columns=columns,
            rows=[_row(one, n_folds=n_folds) for one in compared],
            numeric=(1, 2, 3),
            caption=f"Corrections compared for new {correction['expect']}; the chosen one in bold",
            bold={(k, c) for k, one in enumerate(compared) if one["name"] == chosen for c in range(len(columns))},
        )
    return Content("sections/correction.html.j2", values)


def _row(one: Mapping[str, Any], *, n_folds: int) -> tuple[str, ...]:
    dropped = ", then dropped" if len(one["by_fold"]) < n_folds else ""
    return (
        str(one["name"]),
        percent(one["balanced_accuracy"]),
        " · ".join(f"{100 * value:.1f}" for value in one["by_fold"]) + f"\u202f%{dropped}",
        percent(one["share_corrected"], 0),
    )


def _folds(material: ReportData) -> str:
    """Return what each fold of a cross-validation chose; "" without folds."""
    counts = Counter(str(Correction.model_validate(one["chosen"])) for one in material.corrections_of_folds)
    return ", ".join(f"{name} in {count(n, 'fold')}" for name, n in counts.most_common())
