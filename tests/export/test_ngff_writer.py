"""OME-Zarr 0.4: zarr reads back what was written, at every level and edge."""

import json
from pathlib import Path

import numpy as np
import pytest

from distangle.export.ngff_writer import DisplayChannel, PixelGrid, levels, write_array, write_image, write_plate

zarr = pytest.importorskip("zarr", reason="needs the extra zarr")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(3, 5), (2, 1024, 1024), (2, 1030, 1100), (1, 1, 2049)])
def test_zarr_reads_the_same_array(dtype: type, shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 255, shape).astype(dtype)
    write_array(tmp_path / "a", array)
    stored_array = zarr.open_array(tmp_path / "a", mode="r", zarr_format=2)
    assert stored_array.dtype == dtype
    np.testing.assert_array_equal(stored_array[:], array)


def test_levels_are_rounded_means_of_squares() -> None:
    image = np.zeros((1, 514, 300), dtype=np.uint8)
    image[0, :4, :4] = [[1, 2, 10, 10], [3, 3, 10, 10], [0, 0, 7, 0], [0, 1, 0, 0]]
    result = levels(image)
    assert [one.shape for one in result] == [(1, 514, 300), (1, 257, 150), (1, 128, 75)]
    assert result[1][0, :2, :2].tolist() == [[2, 10], [0, 2]]  # 2.25, 10, 0.25, 1.75
    assert result[2][0, 0, 0] == 4  # (2 + 10 + 0 + 2) / 4 = 3.5, to the even number
    assert [one.shape for one in levels(np.zeros((6, 256, 256), dtype=np.uint16))] == [(6, 256, 256)]
    floats = levels(np.tile(np.array([[0.0, 1.0]], dtype=np.float32), (2, 200)))
    assert floats[1].dtype == np.float32
    assert np.unique(floats[1]).tolist() == [0.5]


def test_metadata_have_axes_scales_and_channels(tmp_path: Path) -> None:
    channel = DisplayChannel(label="DNA", color="0000FF", low=3.0, high=90.0, largest=255.0)
    image = np.zeros((1, 512, 512), dtype=np.uint8)
    write_image(
        tmp_path / "i", image, name="B02", grid=PixelGrid(size=(0.5, 0.5), in_um=True), channels=[channel],
        about={"distangle": {"run": "first"}},
    )  # fmt: skip
    attributes = json.loads((tmp_path / "i" / ".zattrs").read_text(encoding="utf-8"))
    (multiscale,) = attributes["multiscales"]
    assert multiscale["version"] == "0.4"
    assert multiscale["axes"] == [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    fine, coarse = (dataset["coordinateTransformations"] for dataset in multiscale["datasets"])
    assert fine == [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    # The center of the first pixel of 2 x 2 lies half a pixel further.
    assert coarse == [
        {"type": "scale", "scale": [1.0, 1.0, 1.0]},
        {"type": "translation", "translation": [0.0, 0.25, 0.25]},
    ]
    assert attributes["omero"]["channels"] == [
        {
            "label": "DNA",
            "color": "0000FF",
            "active": True,
            "window": {"start": 3, "end": 90, "min": 0.0, "max": 255},
        }
    ]
    assert attributes["distangle"] == {"run": "first"}


def test_without_a_pixel_size_the_axes_have_no_unit(tmp_path: Path) -> None:
    write_image(tmp_path / "i", np.zeros((4, 4), dtype=np.float32), name="map", grid=PixelGrid())
    attributes = json.loads((tmp_path / "i" / ".zattrs").read_text(encoding="utf-8"))
    assert attributes["multiscales"][0]["axes"] == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    assert "omero" not in attributes


def test_a_plate_lists_only_rows_and_columns_with_a_well_in_the_order_of_the_plate(tmp_path: Path) -> None:
    wells = {("AA", "03"): 1, ("B", "10"): 2, ("B", "03"): 1}
    write_plate(tmp_path / "p.zarr", wells, name="E1 plate 1")
    group = zarr.open_group(tmp_path / "p.zarr", mode="r", zarr_format=2)
    plate = group.attrs["plate"]
    assert [row["name"] for row in plate["rows"]] == ["B", "AA"]
    assert [column["name"] for column in plate["columns"]] == ["03", "10"]
    assert [(well["path"], well["rowIndex"], well["columnIndex"]) for well in plate["wells"]] == [
        ("B/03", 0, 0),
        ("B/10", 0, 1),
        ("AA/03", 1, 0),
    ]
    assert plate["field_count"] == 2
    assert group["B/10"].attrs["well"] == {"version": "0.4", "images": [{"path": "0"}, {"path": "1"}]}
