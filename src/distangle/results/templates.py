"""Templates and embeddings: where they lie on maps, and the numbers of the full space beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from distangle.commit import commit_json, committed
from distangle.results.stated import again, read_table, stated

_FILES = ("templates.parquet", "embeddings.parquet", "templates.json")


@dataclass(frozen=True, kw_only=True)
class TemplateMaps:
    """The templates of both heads of one or two runs, and embeddings of a few perturbations.

    Attributes:
        templates: One row per run, head and output: `run`, `head` (`softmax` | `arc`), `output` (from 0),
            `perturbation`, `training_wells`, `junk` (no training well has it), `norm`, `bias` (softmax, else NaN),
            `nearest_angle_deg` and `nearest` (the nearest template of the same run and head), `nearest_alike_angle_deg`
            (of the trained ones for a trained one, of junk for junk; NaN where there is no other), `mean_cosine` (to
            all others), and `NAME_x`, `NAME_y` for every map.
        embeddings: One row per run and held-out site of the chosen perturbations: `run`, `Metadata_*`,
            `perturbation`, `predicted`, `silhouette`, and `NAME_x`, `NAME_y` for every map.
        maps: What was laid out: `of` (`templates` | `embeddings`), `name`, `method`, `seed`, `neighbours`,
            `trustworthiness` over all points, and `trustworthiness_of` each set by `RUN, HEAD` or `RUN`.
        numbers: Of the full space, ready for JSON: `runs`, `templates`, `junk`, `embeddings`, `perturbations`,
            `settings`, `sentences`.
    """

    templates: pd.DataFrame
    embeddings: pd.DataFrame
    maps: Sequence[Mapping[str, Any]]
    numbers: Mapping[str, Any]

    def write(self, folder: Path) -> list[Path]:
        """Write `templates.parquet`, `embeddings.parquet` and `templates.json`; return the paths."""
        templates, embeddings, said = (folder / name for name in _FILES)
        for path, table in ((templates, self.templates), (embeddings, self.embeddings)):
            with committed(path) as temporary:
                table.to_parquet(temporary, index=False)
        commit_json(said, {"numbers": dict(self.numbers), "maps": [dict(one) for one in self.maps]})
        return [templates, embeddings, said]

    @classmethod
    def read(cls, folder: Path) -> "TemplateMaps":
        """Read what `write` wrote.

        Raises:
            RunError: The templates of the run have not been compared yet.
        """
        templates, embeddings, path = (folder / name for name in _FILES)
        said, fix = stated(path, what="templates", kinds={"numbers": dict, "maps": list}), again(folder)
        return cls(templates=read_table(templates, fix=fix), embeddings=read_table(embeddings, fix=fix), **said)
