"""Profiles: feature vectors of sites, wells or perturbations, and their files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from distangle.core.io import atomic_write
from distangle.core.untrusted_files import UnexpectedContent, check_type, read_regular_file
from distangle.errors import ProfileError

Level = Literal["site", "well", "perturbation"]
COLUMNS = (
    "Metadata_Experiment",
    "Metadata_Plate",
    "Metadata_Well",
    "Metadata_Site",
    "Metadata_Cell_Type",
    "Metadata_Role",
    "Metadata_Perturbation",
)
"""Standard columns of a table of profiles; a column that is unknown is absent or empty."""
PLATE = ("Metadata_Experiment", "Metadata_Plate")
"""Columns that name a plate: the names of plates repeat between experiments."""
_PROVENANCE = b"distangle"


@dataclass(frozen=True, kw_only=True)
class Profiles:
    """Feature vectors with the table of their rows.

    Attributes:
        level: What a row is: a site, a well or a perturbation.
        table: One row per vector, with a default index. Text columns hold text, "" where a value is unknown:
            `Metadata_Experiment`, `Metadata_Plate`, `Metadata_Well` (such as `B02`), `Metadata_Site` (sites only),
            `Metadata_Role` (a value of `screen.roles.Role`), `Metadata_Perturbation`, and every other column of the
            source with the head `Metadata_`.
        features: float32 [row, feature], finite.
        feature_names: Name of every column of `features`.
        provenance: Where the profiles come from and what was done to them, for JSON.
    """

    level: Level
    table: pd.DataFrame
    features: np.ndarray
    feature_names: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.features.shape != (len(self.table), len(self.feature_names)):
            raise ValueError(
                f"{len(self.table)} rows and {len(self.feature_names)} names, but features {self.features.shape}: "
                "their sizes must match"
            )

    def __len__(self) -> int:
        return len(self.table)

    def select(self, rows: np.ndarray) -> "Profiles":
        """Return some rows.

        Args:
            rows: Boolean mask or integer positions.
        """
        table = self.table[rows] if rows.dtype == bool else self.table.iloc[rows]
        return replace(self, table=table.reset_index(drop=True), features=self.features[rows])

    def reindexed(self, features: np.ndarray) -> "Profiles":
        """Return the table with a default index and other features."""
        return replace(self, table=self.table.reset_index(drop=True), features=features)

    def codes(self, columns: str | Sequence[str]) -> np.ndarray:
        """Number the groups of one or several columns, in the order of their first row.

        Args:
            columns: Names of columns.

        Returns:
            int64 [row], from 0.

        Raises:
            ProfileError: A column is absent.
        """
        names = [columns] if isinstance(columns, str) else list(columns)
        for name in names:
            if name not in self.table:
                raise ProfileError(
                    f"The profiles have no column {name!r}. Expected one of: {', '.join(map(str, self.table.columns))}."
                )
        return self.table.groupby(names, sort=False, dropna=False).ngroup().to_numpy(dtype=np.int64)

    def write(self, path: Path) -> Path:
        """Write one Parquet file: metadata columns first, then one per feature.

        pycytominer orders the columns in the same way.
        """
        arrays = [pa.array(self.table[name].tolist()) for name in self.table]
        arrays += [pa.array(np.ascontiguousarray(column, dtype=np.float32)) for column in self.features.T]
        names = [*map(str, self.table.columns), *self.feature_names]
        content = {"level": self.level, "n_metadata": len(self.table.columns), "provenance": dict(self.provenance)}
        table = pa.Table.from_arrays(arrays, names=names).replace_schema_metadata(
            {_PROVENANCE: json.dumps(content, sort_keys=True).encode()}
        )
        with atomic_write(path) as temporary:
            pq.write_table(table, temporary)
        return path

    @classmethod
    def read(cls, path: Path, *, fix: str) -> "Profiles":
        """Read what `write` wrote.

        Args:
            path: The file.
            fix: A sentence with the next step, for error messages.

        Raises:
            RunError: The file is absent or damaged.
        """
        with read_regular_file(path, fix=fix):
            table = pq.read_table(path)
            metadata = table.schema.metadata or {}
            if _PROVENANCE not in metadata:
                raise UnexpectedContent("it was not written by `Profiles.write`")
            content = json.loads(metadata[_PROVENANCE])
            for name, kind in (("n_metadata", int), ("level", str), ("provenance", dict)):
                check_type(content[name], kind, name=name)
            if content["level"] not in get_args(Level):
                raise UnexpectedContent(f"the level is {content['level'][:60]!r}")
            n_metadata = content["n_metadata"]
            if not 0 <= n_metadata <= len(table.column_names):
                raise UnexpectedContent(f"expected {n_metadata} metadata columns, found {len(table.column_names)}")
            names = table.column_names
            rows = table.select(names[:n_metadata]).to_pandas()
            features = [np.asarray(table.column(number), dtype=np.float32) for number in range(n_metadata, len(names))]
            return cls(
                level=content["level"],
                table=rows,
                features=np.stack(features, axis=1) if features else np.empty((len(rows), 0), np.float32),
                feature_names=tuple(names[n_metadata:]),
                provenance=content["provenance"],
            )
