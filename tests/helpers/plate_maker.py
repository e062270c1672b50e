"""OME-Zarr plates by hand from the specification: JSON for the groups, zarr for the arrays."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr


def group(folder: Path, said: Mapping[str, Any], *, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == "0.4":
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps(said))
    else:
        whole = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": version, **said}}}
        (folder / "zarr.json").write_text(json.dumps(whole))


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
    listed = [
        {"path": path, "rowIndex": rows.index(path.split("/")[0]), "columnIndex": columns.index(path.split("/")[1])}
        for path in wells
    ]
    said = {"rows": [{"name": row} for row in rows], "columns": [{"name": column} for column in columns]}
    group(folder, {"plate": {**said, "name": name, "wells": listed, "version": version}}, version=version)
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
    said = {
        "multiscales": [
            {
                "axes": [{"name": axis} for axis in axes],
                "datasets": [{"path": "0", "coordinateTransformations": scale}],
                "version": version,
            }
        ],
        **({"omero": {"channels": [{"label": label, "color": "00FF00"} for label in labels]}} if labels else {}),
    }
    group(field, said, version=version)
    written = zarr.create_array(
        str(field / "0"),
        shape=pixels.shape,
        dtype=pixels.dtype,
        zarr_format=2 if version == "0.4" else 3,
        config={"write_empty_chunks": array.pop("write_empty_chunks", True)},
        **{"chunks": (*[1] * (pixels.ndim - 2), *pixels.shape[-2:]), **array},
    )
    written[...] = pixels
