"""Without --layout the layout is detected; if that fails, the error says what was looked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distangle.errors import ScreenError
from distangle.images import probe_image
from distangle.screen import IndexOptions, index
from distangle.screen.readers import detect_layout

RXRX1 = "id_code,experiment,plate,well,sirna\nE-1_1_B02,E-1,1,B02,3\n"
OFFICIAL = "site_id,well_id,cell_type,dataset,experiment,plate,well,site,well_type,sirna,sirna_id\n"
WELLS = "plate,well,perturbation,dna\nP1,B02,a,x.png\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_csv", ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_files_of_a_folder_tell_its_layout(tmp_path: Path) -> None:
    tables = {
        ("rxrx1", "train.csv"): write(tmp_path / "a", train_csv=RXRX1),
        ("rxrx1", "metadata.csv"): write(tmp_path / "b", metadata_csv=OFFICIAL),
        ("cellpainting", "load_data.csv"): write(tmp_path / "c", load_data_csv="x\n", other_csv="y\n"),
        ("cellpainting", "workspace/metadata/platemaps"): write(
            tmp_path / "h", workspace__metadata__platemaps__note="x", **{"images__r01c01f01p01-ch1sk1fk1fl1.tiff": "x"}
        ),
        ("ome-zarr", "P1.zarr"): write(tmp_path / "d", **{"P1.zarr__zarr.json": "{}"}),
        ("table", "wells.csv"): write(tmp_path / "e", wells_csv=WELLS),
    }
    for expected, folder in tables.items():
        assert detect_layout(IndexOptions(source=folder)) == expected
    # Tables of another kind under the names of RxRx1's are tables.
    assert detect_layout(IndexOptions(source=write(tmp_path / "f", metadata_csv=WELLS))) == ("table", "metadata.csv")
    assert detect_layout(IndexOptions(source=write(tmp_path / "g", train_csv=WELLS))) == ("table", "train.csv")
    assert detect_layout(IndexOptions(source=tmp_path / "a" / "train.csv"))[0] == "rxrx1"


def test_options_leave_the_layouts_that_know_them(tmp_path: Path) -> None:
    folder = write(tmp_path, train_csv=RXRX1)
    assert detect_layout(IndexOptions(source=folder))[0] == "rxrx1"
    assert detect_layout(IndexOptions(source=folder, pages="File"))[0] == "table"
    assert detect_layout(IndexOptions(source=write(tmp_path / "only"), pattern="{well}.png")) == ("folder", "--pattern")
    other_folder = write(tmp_path / "images", note="no table here")
    assert detect_layout(IndexOptions(source=other_folder, tables=folder)) == ("rxrx1", "train.csv")
    copy_folder = write(tmp_path / "copied", files_csv=WELLS)  # a list of the images next to them does not matter
    assert detect_layout(IndexOptions(source=copy_folder, tables=folder)) == ("rxrx1", "train.csv")


def test_an_index_without_a_layout_is_that_of_the_layout_and_says_what_told_it(tmp_path: Path) -> None:
    write(tmp_path, wells_csv=WELLS)
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(tmp_path / "x.png")
    with_layout = index(tmp_path / "wells.csv", layout="table", channels=["dna"], probe=probe_image)
    detected_screen = index(tmp_path / "wells.csv", channels=["dna"], probe=probe_image)
    assert detected_screen.sites.equals(with_layout.sites)
    assert detected_screen.metadata.layout == "table"
    assert detected_screen.metadata.provenance["recognised_by"] == "wells.csv"
    assert "recognised_by" not in with_layout.metadata.provenance


def test_where_nothing_tells_the_refusal_says_what_was_looked_for(tmp_path: Path) -> None:
    write(tmp_path, a_csv=WELLS, b_csv=WELLS)
    with pytest.raises(ScreenError, match=r"cannot be detected: no table of RxRx1.*no single CSV.*--tables FOLDER"):
        index(tmp_path)
    with pytest.raises(ScreenError, match="--layout cellpainting, ome-zarr, folder, table"):
        index(tmp_path, channels=["dna"])
    with pytest.raises(ScreenError, match=r"gone does not exist\. Expected a folder of images, or a table"):
        index(tmp_path / "gone")
