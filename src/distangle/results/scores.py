"""How good the predictions were: never one number."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from distangle.core.io import rebuild_hint, write_json
from distangle.core.stats import MIN_GROUPS
from distangle.core.untrusted_files import read_json, read_regular_file


class ScoreRow(BaseModel):
    """One line of the score table.

    `interval` is the 95 % `share_interval` over whole `interval_over` groups (experiments, or plates when there is
    only one experiment); None when there are too few, and then `by_group` has the value of each. `baselines` is the
    same metric over the same rows, by rules that see no cell: `position` (row and column of the well), `plate` and
    `intensity` (mean and spread of every channel); empty where they could not be made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Literal["site", "well"]
    views: int
    wells: Literal["treatments", "with controls"]
    subset: str  # "all", "cell type HUVEC", "worst experiment HEPG2-08"
    metric: Literal["accuracy", "balanced accuracy"]
    value: float
    interval: tuple[float, float] | None
    interval_over: str
    n: int
    n_groups: int
    by_group: Mapping[str, float] = {}
    chance: float
    transductive: bool
    baselines: Mapping[str, float] = {}

    @model_validator(mode="before")
    @classmethod
    def _no_interval_of_few(cls, said: Any) -> Any:
        """Leave out the interval over too few groups that a file of an earlier version has: it was their range."""
        few = isinstance(said, Mapping) and said.get("n_groups", MIN_GROUPS) < MIN_GROUPS
        return {**said, "interval": None} if few else said


class Scores(BaseModel):
    """Everything that was counted about the held-out predictions of a run.

    Attributes:
        target: The column that was predicted: `perturbation`, or another named one.
        held_out: How the held-out fold was made, such as `replicate=2`.
        forced: Whether the fold splits inside experiments or plates because the user forced it.
        rows: The score table.
        never_trained: Perturbations of the held-out wells with no training well: left out of the scores.
        confusion: Over held-out sites: `{"perturbations": [...], "counts": [[...]]}`, rows true.
        controls: The checks of Sec. 2.2, one entry per role: numbers and a verdict in words.
        notes: Sentences a reader must see beside the numbers.
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

    def write(self, path: Path) -> Path:
        """Write as JSON; return the path."""
        write_json(path, self.model_dump(mode="json"))
        return path

    @classmethod
    def read(cls, path: Path) -> "Scores":
        """Read what `write` wrote.

        Raises:
            RunError: It is damaged.
        """
        fix = rebuild_hint(path.parent, command="predict")
        said = read_json(path, fix=fix)
        with read_regular_file(path, fix=fix):
            return cls.model_validate_json(json.dumps(said))
