"""Scores of the held-out predictions, with chance, baselines and intervals."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from distangle.core.io import write_json
from distangle.core.result_files import rebuild_hint
from distangle.core.stats import MIN_GROUPS
from distangle.core.untrusted_files import read_json, read_regular_file
from distangle.results.confusion import read_confusion


class ScoreRow(BaseModel):
    """A row of the score table.

    `interval` is the 95 % `share_interval` over whole `interval_over` groups (experiments, or plates when there is
    only one experiment); None with too few groups, and then `by_group` has the value of each. `baselines` is the
    same metric over the same rows for cell-free predictors: `position` (row and column of the well), `plate` and
    `intensity` (mean and standard deviation of every channel); empty if they could not be computed. `layout` names what
    the prediction knows of the layout of the plate: "" is the network's prediction of the single row; `plate group`
    allows only the perturbations of the plate's group, `one perturbation per well` moreover each at most once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Literal["site", "well"]
    views: int
    wells: Literal["treatments", "with controls"]
    subset: str  # "all", "cell type HUVEC", "worst experiment HEPG2-08"
    metric: Literal["accuracy", "balanced accuracy", "top-5 accuracy"]
    value: float
    interval: tuple[float, float] | None
    interval_over: str
    n: int
    n_groups: int
    by_group: Mapping[str, float] = {}
    chance: float
    transductive: bool
    baselines: Mapping[str, float] = {}
    layout: Literal["", "plate group", "one perturbation per well"] = ""

    @model_validator(mode="before")
    @classmethod
    def _drop_interval_of_few_groups(cls, values: Any) -> Any:
        """Drop an interval over too few groups.

        Files of earlier versions hold the range of the groups there.
        """
        has_few_groups = isinstance(values, Mapping) and values.get("n_groups", MIN_GROUPS) < MIN_GROUPS
        return {**values, "interval": None} if has_few_groups else values


class ReliabilityBin(BaseModel):
    """Predictions with a confidence above `low`, up to `high`.

    `confidence` and `accuracy` are means over `n` rows; None for an empty bin.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


class Calibration(BaseModel):
    """Confidence against accuracy of held-out treatments, by a temperature.

    The temperature of each group (experiments, or plates of one experiment) was fitted on the other groups.

    Attributes:
        level: `site` or `well`.
        views: Number of averaged views.
        groups_over: Kind of group, `experiment` or `plate`.
        n: Scored rows.
        temperatures: By the group that each is applied to; empty if there are none.
        ece_before: Expected calibration error of the confidences of the network, in [0, 1].
        ece_after: The same after division of the logits by the temperature.
        before: Reliability curve of the network.
        after: Reliability curve after the temperature.
        reason: Why there is no temperature; "" if there is one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Literal["site", "well"]
    views: int
    groups_over: str
    n: int
    temperatures: Mapping[str, float] = {}
    ece_before: float | None = None
    ece_after: float | None = None
    before: tuple[ReliabilityBin, ...] = ()
    after: tuple[ReliabilityBin, ...] = ()
    reason: str = ""


class Scores(BaseModel):
    """The scores of the held-out predictions of a run.

    Attributes:
        target: The predicted column, such as `perturbation`.
        held_out: Description of the held-out fold, such as `replicate=2`.
        forced: Whether the fold splits inside experiments or plates because the user forced it.
        rows: The score table.
        never_trained: Held-out perturbations without a training well; they are not scored.
        confusion: Over held-out sites: `{"perturbations": [...], "counts": [[...]]}`, rows true; of many classes a
            summary (see `distangle.results.confusion`, whose `read_confusion` reads both).
        controls: The checks of Sec. 2.2, one entry per role: numbers and a verdict.
        notes: Sentences that must be shown with the scores.
        calibration: Of sites and wells with each number of views.
        well_columns: Sentences on columns of `wells_views8.parquet` that use other wells: their origin, or why they are
            absent. Keys: `layout` (`predicted_by_group`, `predicted_by_assignment`) and `unlike_training`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str
    held_out: str
    forced: bool
    rows: tuple[ScoreRow, ...]
    never_trained: tuple[str, ...]
    confusion: Mapping[str, object]
    controls: Mapping[str, Mapping[str, object]]
    notes: tuple[str, ...]
    calibration: tuple[Calibration, ...] = ()
    well_columns: Mapping[str, str] = {}

    def write(self, path: Path) -> Path:
        """Write as JSON; return the path."""
        write_json(path, self.model_dump(mode="json"))
        return path

    @classmethod
    def read(cls, path: Path) -> "Scores":
        """Read what `write` wrote.

        Raises:
            RunError: The file is damaged.
        """
        fix = rebuild_hint(path.parent, command="predict")
        values = read_json(path, fix=fix)
        with read_regular_file(path, fix=fix):
            scores = cls.model_validate_json(json.dumps(values))
            read_confusion(scores.confusion)
            return scores
