"""The section on batch correction: what was chosen, for which new data, and what it was compared with."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from distangle.correction import Correction
from distangle.report.material import Material
from distangle.report.page import Markup, count, element, joined, paragraph, percent, table

_RULE = (
    "Each was tried on folds of the training wells, whole plates or experiments held out. A correction is taken only "
    "where its gain over none, fold by fold, is more than chance explains (one-sided t test, 5\u202f% over all that "
    "were compared); of those, the best. One that has gained nothing on its first folds, two or more, is given up."
)
_MEANING = (
    "A correction takes from the features of a well what other wells say of its plate or experiment. An estimate that "
    "rests on few wells, or on groups that differ little, fades to no correction (share corrected: 0\u202f% is none, "
    "100\u202f% the whole difference); each side of a division has an estimate of its own, so that no held-out well is "
    "corrected by a training well."
)


def batch_correction(material: Material) -> Markup | None:
    """Say which correction was chosen, for which new data and why, beside all that were compared.

    Args:
        material: The run.

    Returns:
        None where nothing was chosen: the settings name the correction, or the backbone is trained.
    """
    told = material.correction
    if told is None:
        return None
    chosen = str(Correction.model_validate(told["chosen"]))
    lead = paragraph("Chosen: ", element("strong", chosen), f". {told['reason']}", class_="lead")
    n_folds = max((len(one["by_fold"]) for one in told["compared"]), default=0)
    rows = [_line(one, n_folds=n_folds, is_chosen=one["name"] == chosen) for one in told["compared"]]
    heads = ("correction", "balanced accuracy", "by fold", "share corrected")
    caption = f"What was compared for new {told['expect']}; the chosen one in bold"
    shown = [table(heads, rows, numeric=(1, 2, 3), caption=caption), paragraph(_RULE, class_="small")] if rows else []
    return joined([lead, *shown, *_of_folds(material), paragraph(_MEANING, class_="small")])


def _line(one: Mapping[str, Any], *, n_folds: int, is_chosen: bool) -> list[str]:
    given_up = ", then given up" if len(one["by_fold"]) < n_folds else ""
    cells = [
        str(one["name"]),
        percent(one["balanced_accuracy"]),
        " · ".join(f"{100 * value:.1f}" for value in one["by_fold"]) + f"\u202f%{given_up}",
        percent(one["share_corrected"], 0),
    ]
    return [element("strong", cell) for cell in cells] if is_chosen else cells


def _of_folds(material: Material) -> list[Markup]:
    """Say what the folds of a cross-validation chose, each on its own training wells."""
    counts = Counter(str(Correction.model_validate(told["chosen"])) for told in material.corrections_of_folds)
    if not counts:
        return []
    listed = ", ".join(f"{name} in {count(n, 'fold')}" for name, n in counts.most_common())
    said = f"Each fold of the cross-validation chose on its own training wells: {listed}. Scored are their networks."
    return [paragraph(said)]
