"""Whether the maps of an explanation are true of the network."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distangle.commit import commit_json
from distangle.errors import RunError
from distangle.reading import expect, whole
from distangle.results.stated import again, read_arrays, stated, write_arrays


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """What came of the tests that a map has to stand.

    Attributes:
        table: One row per examined site: `row` (its position in the explanation) and `deletion_auc`, `insertion_auc`,
            `deletion_p`, `insertion_p`, `stability`, `after_randomisation`, `other_targets`; NaN where a test was not
            made for the site.
        arrays: Curves [site, step] as `curves/REPLACEMENT/deletion`, `.../insertion` and `.../random` (probability),
            and the first sites' maps of the network and of untrained ones, in [0, 1], as `maps/trained`,
            `maps/untrained/STAGE`; the sites of both are the first of the table.
        settings: How it was examined, and on how many sites.
        summary: Numbers and a verdict per test, ready for a page.
        sentences: What they say.
    """

    table: pd.DataFrame
    arrays: Mapping[str, np.ndarray]
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]
    sentences: tuple[str, ...]

    def columns(self, n_rows: int) -> pd.DataFrame:
        """Return the columns of the table for all rows of an explanation, NaN for sites that were not examined.

        Args:
            n_rows: Of the explanation.

        Raises:
            RunError: A site was examined that the explanation does not have.
        """
        beyond = [int(row) for row in self.table["row"] if not 0 <= row < n_rows]
        if beyond:
            raise RunError(
                f"Row {beyond[0]} was examined, but the explanation has {n_rows} rows. Explain the run again."
            )
        return self.table.set_index("row").reindex(range(n_rows)).rename_axis(None)

    def write(self, folder: Path) -> list[Path]:
        """Write `faithfulness.json` and `faithfulness.npz`; return the paths."""
        said, arrays = (folder / name for name in _FILES)
        found = {name: np.asarray(values, dtype=np.float32) for name, values in self.arrays.items()}
        write_arrays(arrays, found)
        sites = self.table.astype(object).where(self.table.notna(), None).to_dict(orient="records")
        commit_json(
            said,
            {
                "settings": dict(self.settings),
                "summary": dict(self.summary),
                "sentences": list(self.sentences),
                "sites": sites,
            },
        )
        return [said, arrays]

    @staticmethod
    def remove(folder: Path) -> list[Path]:
        """Remove what `write` wrote of other maps; return the paths."""
        paths = [folder / name for name in _FILES]
        for path in paths:
            path.unlink(missing_ok=True)
        return paths

    @classmethod
    def read(cls, folder: Path) -> "Faithfulness":
        """Read what `write` wrote.

        Raises:
            RunError: The maps of the run have not been examined yet.
        """
        said, arrays = (folder / name for name in _FILES)
        told, fix = stated(said, what="examined maps", kinds=_KINDS), again(folder)
        with whole(said, fix=fix):
            table = pd.DataFrame(told.pop("sites"))
            numbers = table.columns.drop("row")
            table = table.astype({"row": "int64", **dict.fromkeys(numbers, "float64")})
            sentences = tuple(expect(one, str, name="sentences") for one in told.pop("sentences"))
        return cls(table=table, arrays=read_arrays(arrays, fix=fix), sentences=sentences, **told)


_KINDS = {"settings": dict, "summary": dict, "sentences": list, "sites": list}
_FILES = ("faithfulness.json", "faithfulness.npz")
