"""OME-Zarr plates by hand from the specification: JSON for the groups, zarr for the arrays."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr


def group(folder: Path, attributes: Mapping[str, Any], *, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == "0.4":
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps(attributes))
    else:
        document = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": version, **attributes}}}
        (folder / "zarr.json").write_text(json.dumps(document))


def plate(
    folder: Path,
    wells: Mapping[str, Sequence[np.ndarray]],
    *,
    version: Literal["0.4", "0.5"],
    labels: Sequence[str] = ("DNA", "ER"),
    axes: str = "cyx",
    name: str = "P1",
    **array: Any,
) -> Path:
    """Write a plate: `A/1` to its fields, each an array of the axes; `array` goes to `zarr.create_array`."""
    rows = sorted({path.split("/")[0] for path in wells})
    columns = sorted({path.split("/")[1] for path in wells})
    well_entries = [
        {"path": path, "rowIndex": rows.index(path.split("/")[0]), "columnIndex": columns.index(path.split("/")[1])}
        for path in wells
    ]
    row_and_column_names = {
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
    }
    group(
        folder,
        {"plate": {**row_and_column_names, "name": name, "wells": well_entries, "version": version}},
        version=version,
    )
    for path, fields in wells.items():
        images = [{"path": str(k), "acquisition": 0} for k in range(len(fields))]
        group(folder / path, {"well": {"images": images, "version": version}}, version=version)
        for k, pixels in enumerate(fields):
            field = folder / path / str(k)
            image(field, pixels, version=version, labels=labels, axes=axes, **array)
    return folder


def image(
    field: Path, pixels: np.ndarray, *, version: str, labels: Sequence[str] = (), axes: str = "cyx", **array: Any
) -> None:
    scale = [{"type": "scale", "scale": [1.0] * len(axes)}]
    attributes = {
        "multiscales": [
            {
                "axes": [{"name": axis} for axis in axes],
                "datasets": [{"path": "0", "coordinateTransformations": scale}],
                "version": version,
            }
        ],
        **({"omero": {"channels": [{"label": label, "color": "00FF00"} for label in labels]}} if labels else {}),
    }
    group(field, attributes, version=version)
    stored_array = zarr.create_array(
        str(field / "0"),
        shape=pixels.shape,
        dtype=pixels.dtype,
        zarr_format=2 if version == "0.4" else 3,
        config={"write_empty_chunks": array.pop("write_empty_chunks", True)},
        **{"chunks": (*[1] * (pixels.ndim - 2), *pixels.shape[-2:]), **array},
    )
    stored_array[...] = pixels
