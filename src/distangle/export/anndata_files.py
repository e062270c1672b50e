"""Write profiles as AnnData files, which scanpy and scverse read."""

import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distangle import __version__
from distangle.core.io import atomic_write
from distangle.errors import ProfileError
from distangle.results.profiles import Profiles

MAP_KEY = "X_map"
"""Name of the 2-D map in `obsm`; scanpy draws it with `basis="map"`."""
_INDEX_COLUMNS = ("Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Site")


def load_anndata() -> Any:
    """Return the package anndata.

    Raises:
        ProfileError: It is not installed.
    """
    try:
        return importlib.import_module("anndata")
    except ImportError as cause:
        raise ProfileError(
            "Files of the type .h5ad need the package anndata, which is not installed. Install it: "
            "`pip install '.[profiles]'`."
        ) from cause


def write_h5ad(profiles: Profiles, path: Path, *, coordinates: pd.DataFrame | None = None) -> Path:
    """Write profiles as one AnnData file.

    `X` holds the features, `obs` the table with a unique text index such as `EXP/PLATE/B02/1`, `var` the names of the
    features, `obsm["X_map"]` the 2-D map, and `uns["distangle"]` the provenance as JSON text.

    Args:
        profiles: The profiles.
        path: The file; a file of that name is replaced.
        coordinates: Columns `x` and `y` of every row in a 2-D map; None without a map.

    Returns:
        `path`.

    Raises:
        ProfileError: anndata is not installed, two features or columns have one name, or the map has other rows.
    """
    anndata = load_anndata()
    if repeated := [name for name, count in Counter(profiles.feature_names).items() if count > 1]:
        raise ProfileError(
            f"The profiles have {len(repeated)} names of features twice, such as {repeated[0]!r}. Expected every name "
            "once. Rename the features."
        )
    data = anndata.AnnData(
        X=np.ascontiguousarray(profiles.features, dtype=np.float32),
        obs=_observations(profiles),
        var=pd.DataFrame(index=pd.Index(list(profiles.feature_names), dtype=object)),
    )
    if coordinates is not None:
        if len(coordinates) != len(profiles) or not {"x", "y"} <= set(coordinates):
            raise ProfileError(
                f"The map has {len(coordinates)} rows and the columns {', '.join(map(str, coordinates))}. Expected "
                f"{len(profiles)} rows, as the profiles have, and the columns x and y. Compute the map again."
            )
        data.obsm[MAP_KEY] = coordinates[["x", "y"]].to_numpy(dtype=np.float32)
    content = {"level": profiles.level, "provenance": dict(profiles.provenance), "distangle": __version__}
    data.uns["distangle"] = json.dumps(content, sort_keys=True, default=str)
    with atomic_write(path) as temporary:
        data.write_h5ad(temporary)
    return path


def row_names(profiles: Profiles) -> list[str]:
    """Return a unique name of every row, such as `EXP/PLATE/B02/1`.

    A perturbation has its own name. A name that occurs again gets a number: `B02-2`.
    """
    if profiles.level == "perturbation" and "Metadata_Perturbation" in profiles.table:
        names = [str(name) for name in profiles.table["Metadata_Perturbation"]]
    else:
        columns = [profiles.table[name] for name in _INDEX_COLUMNS if name in profiles.table]
        names = ["/".join(str(part) for part in parts if str(part)) for parts in zip(*columns, strict=True)]
        names = names or [""] * len(profiles)
    used: set[str] = set()
    next_number: dict[str, int] = {}
    result = []
    for name in (name or "row" for name in names):
        unique, number = name, next_number.get(name, 2)
        while unique in used:
            unique, number = f"{name}-{number}", number + 1
        next_number[name] = number
        used.add(unique)
        result.append(unique)
    return result


def _observations(profiles: Profiles) -> pd.DataFrame:
    """Return the table with a text index, text as categories, and no slash in a name.

    A slash would divide a name into groups of the file.
    """
    names = [str(name).replace("/", "_") for name in profiles.table]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ProfileError(
            f"The profiles have two columns that would be called {repeated[0]!r} in the file. Expected every name "
            "once, also with _ in place of /. Rename one of them."
        )
    columns = {name: _column(profiles.table.iloc[:, number]) for number, name in enumerate(names)}
    index = pd.Index(row_names(profiles), dtype=object)
    return pd.DataFrame({name: pd.Series(values, index=index) for name, values in columns.items()}, index=index)


def _column(values: pd.Series) -> Any:
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        return values.to_numpy()
    texts = ["" if value is None or value is pd.NA or value != value else str(value) for value in values]
    # The file format knows categories of plain text in every version; pandas has several types of text.
    return pd.Categorical(texts, categories=pd.Index(sorted(set(texts)), dtype=object))
