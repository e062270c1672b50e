"""Results of `distangle profile`: hits, neighbors, batch effects, files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distangle.core.io import atomic_write, make_folder, write_json, write_text
from distangle.core.result_files import Kinds, MissingResultError, read_table, rebuild_hint
from distangle.core.untrusted_files import UnexpectedContent, check_type, read_json, read_regular_file
from distangle.errors import StorageError
from distangle.results.profiles import Profiles
from distangle.screen.screen import escape_formula

JSON_FILE = "profile.json"
HIT_COLUMNS = (
    "perturbation",
    "mean_average_precision",
    "expected",
    "p",
    "q",
    "replicate_agreement",
    "effect_size",
    "n_wells",
    "n_plates",
    "n_experiments",
    "channel",
    "nearest",
    "nearest_cosine",
    "opposite",
    "opposite_cosine",
    "cluster",
    "reason",
)
"""Columns of the table of hits; the `Metadata_*` columns of the source follow."""
BATCH_COLUMNS = ("alignment", "name", "of", "value", "chance", "low", "high", "range", "n", "n_skipped", "reason")
_TABLES = {
    "hits": HIT_COLUMNS,
    "neighbors": ("name", "kind", "rank", "other", "cosine"),
    "batch_effects": BATCH_COLUMNS,
    "coordinates": ("x", "y"),
    "consistency": ("label", "mean_average_precision"),
    "relations": ("low", "high", "recall"),
    "similarity": ("perturbation",),
    "refused": ("row", "reason"),
}
_REQUIRED = ("hits", "neighbors", "batch_effects", "refused")
_KINDS: Kinds = {"settings": dict}


@dataclass(frozen=True, kw_only=True)
class ProfileResult:
    """Profiles of a screen and what they say.

    Attributes:
        wells: One aligned profile per well.
        perturbations: One aligned profile per perturbation.
        hits: One row per perturbation that is no negative control, the strongest first; see `HIT_COLUMNS`:
            `mean_average_precision` (activity against controls of the plate), `expected` (by chance), `p`, `q`,
            `replicate_agreement` (mean cosine of pairs of replicates), `effect_size` (mean energy distance to the
            controls of its plates), `channel` (the channel that moved, "" without channel attribution), `nearest` and
            `opposite` (perturbations), `cluster` (from 1), `reason` (why there is no value, else "").
        neighbors: Nearest and most opposite perturbations of every perturbation: `name`, `kind` (`nearest` |
            `opposite`), `rank` (from 1), `other`, `cosine`.
        batch_effects: Rows of `profiles.measure_batch_effects` with the column `alignment`: `none`, then the chain up
            to each step, such as `center-plate + tvn`.
        coordinates: `x` and `y` of every row of `wells` in a 2-D map; None where it was not computed.
        consistency: Mean average precision of every label, such as a mechanism; None without labels.
        relations: Recall of known relations: `low`, `high` (quantiles), `recall`, ...; None without them.
        similarity: Cosine of every pair of perturbations: `perturbation`, then a column for each, both in the order of
            a tree; None for one perturbation, or too many.
        refused: `row` (or file) of the source and the `reason`.
        settings: `source`, `level`, `alignment` (list), `aggregate`, `map` (method of the 2-D map), `q` (level of a
            hit), `notes` (sentences for the reader), counts `n_found`, `n_used`, `n_refused`, and the like.
    """

    wells: Profiles
    perturbations: Profiles
    hits: pd.DataFrame
    neighbors: pd.DataFrame
    batch_effects: pd.DataFrame
    refused: pd.DataFrame
    settings: Mapping[str, Any]
    coordinates: pd.DataFrame | None = None
    consistency: pd.DataFrame | None = None
    relations: pd.DataFrame | None = None
    similarity: pd.DataFrame | None = None

    def write(self, folder: Path) -> list[Path]:
        """Write all files into a folder, the tables as Parquet and as CSV.

        A table that was not computed is removed. The JSON file is removed first and written last: without it there are
        no profiles, so that nobody reads tables of two computations. CSV files have 8 digits, and a quote before a
        text that a spreadsheet would take for a formula; Parquet has all digits and the text as it is.

        Returns:
            The paths of all files, removed ones included.
        """
        self.remove(folder)
        paths = [
            self.wells.write(folder / "wells.parquet"),
            self.perturbations.write(folder / "perturbations.parquet"),
        ]
        for name in _TABLES:
            table: pd.DataFrame | None = getattr(self, name)
            parquet, csv = folder / f"{name}.parquet", folder / f"{name}.csv"
            paths += [parquet, csv]
            if table is None:
                _remove(parquet)
                _remove(csv)
                continue
            with atomic_write(parquet) as temporary:
                table.to_parquet(temporary, index=False)
            write_text(csv, _plain(table).to_csv(index=False, float_format="%.8g", lineterminator="\n"))
        write_json(folder / JSON_FILE, {"settings": dict(self.settings)})
        return [*paths, folder / JSON_FILE]

    @staticmethod
    def remove(folder: Path) -> None:
        """Remove the JSON file, so that the folder holds no profiles any more.

        Raises:
            StorageError: The folder is not writable.
        """
        _remove(folder / JSON_FILE)

    @classmethod
    def read(cls, folder: Path) -> "ProfileResult":
        """Read what `write` wrote.

        Raises:
            MissingResultError: There are no profiles in the folder.
            RunError: A file is absent or damaged.
        """
        path = folder / JSON_FILE
        if not path.exists():
            raise MissingResultError(f"No profiles at {path}. Run `distangle profile` first.")
        fix = _fix(folder)
        content = read_json(path, fix=fix)
        with read_regular_file(path, fix=fix):
            for name, kind in _KINDS.items():
                check_type(content[name], kind, name=name)
        wells, perturbations = (
            Profiles.read(folder / f"{name}.parquet", fix=fix) for name in ("wells", "perturbations")
        )
        tables = {
            name: read_table(folder / f"{name}.parquet", fix=fix, columns=columns)
            for name, columns in _TABLES.items()
            if name in _REQUIRED or (folder / f"{name}.parquet").exists()
        }
        if "coordinates" in tables:
            with read_regular_file(folder / "coordinates.parquet", fix=fix):
                tables["coordinates"][["x", "y"]].to_numpy(dtype=np.float64)
                if len(tables["coordinates"]) != len(wells):
                    raise UnexpectedContent(f"it has {len(tables['coordinates'])} rows, expected {len(wells)}")
        return cls(wells=wells, perturbations=perturbations, settings=content["settings"], **tables)


def _fix(folder: Path) -> str:
    if (folder.parent / "run.json").exists():
        return rebuild_hint(folder, command="profile")
    return f"Make it again: `distangle profile SOURCE --out {folder}`."


def _remove(path: Path) -> None:
    """Remove a file, if it exists.

    Raises:
        StorageError: The folder is not writable.
    """
    make_folder(path.parent)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path} was not removed: {(error.strerror or str(error)).lower()}. Make {path.parent} writable, or name "
            "another folder."
        ) from error


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table for CSV: names and text that are no formula of a spreadsheet."""
    plain = table.copy()
    for name in table:
        if not pd.api.types.is_numeric_dtype(table[name]):
            plain[name] = [escape_formula(value) if isinstance(value, str) else value for value in table[name]]
    return plain.rename(columns=lambda name: escape_formula(str(name)))
