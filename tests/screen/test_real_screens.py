import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from distangle.images.readers.read import probe_image
from distangle.screen import Screen, conservation_line, hold_out, index, read_screen, statistics, write_screen

pytestmark = pytest.mark.real

V1, V2 = "rxrx1_kaggle/v1_original_2019", "rxrx1_kaggle/v2_current"


def tables(folder: Path) -> Screen:
    return index(folder, layout="rxrx1", tables_only=True)


def test_the_complete_tables_give_the_papers_counts_with_class_sets_that_sum(real_data: Path) -> None:
    screen = tables(real_data / V2)
    assert conservation_line(screen) == "found 62759 = indexed 62759 + refused 0"
    counts = statistics(screen)
    assert (counts.n_treatment_classes, counts.n_train_wells, counts.n_test_wells) == (1108, 36517, 19899)
    assert counts.class_sets == {29: 2, 31: 2, 32: 35, 33: 1069}
    assert (counts.all.experiments, counts.all.plates, counts.n_classes) == (51, 204, 1139)
    assert counts.negative_controls_per_plate == {1: 172, 2: 26, 3: 2, 4: 4}
    assert counts.by_role["positive_control"].wells == 6097


def test_the_original_tables_have_four_wells_less(real_data: Path) -> None:
    screen = tables(real_data / V1)
    counts = statistics(screen)
    assert counts.all.wells == 62755
    assert (counts.n_train_wells, counts.n_test_wells) == (36515, 19897)
    assert counts.class_sets == {29: 2, 31: 2, 32: 37, 33: 1067}
    assert counts.by_role["positive_control"].wells == 6097
    assert screen.metadata.perturbations[:2] == ("0", "1")
    assert screen.metadata.perturbations[-1] == "1138"


@pytest.mark.parametrize(("version", "untreated"), [(V1, "1138"), (V2, "UNTREATED")])
def test_twelve_real_wells_lose_their_second_site_by_name(
    real_data: Path, tmp_path: Path, version: str, untreated: str
) -> None:
    # The tables, cut to the wells that there are images of: otherwise 62,743 wells more are refused.
    complete = pd.read_csv(real_data / version / "train_controls.csv", dtype=str, keep_default_na=False)
    has_images = complete["experiment"].str.endswith("-01") & (complete["well"] == "B02") & (complete["plate"] != "4")
    complete[has_images].to_csv(tmp_path / "train_controls.csv", index=False)
    screen = index(real_data / "rxrx1_images", layout="rxrx1", tables=tmp_path, probe=probe_image)
    assert conservation_line(screen) == "found 24 = indexed 12 + refused 12"
    assert (screen.metadata.dtype, screen.metadata.shape) == ("uint8", (512, 512))
    assert screen.sites["site"].tolist() == [1] * 12
    assert set(screen.sites["role"]) == {"negative_control"}
    assert screen.metadata.perturbations == (untreated,)
    assert screen.metadata.cell_types == ("HEPG2", "HUVEC", "RPE", "U2OS")
    refusals = screen.problems[screen.problems["severity"] == "refused"]
    assert refusals["site"].tolist() == ["2"] * 12
    assert set(refusals["channel"]) == {"5, 6"}
    assert set(refusals["found"]) == {"channels 1, 2, 3, 4"}
    assert screen.sites["sha256"].nunique() == 12


def test_tables_of_more_plates_than_there_are_images_of_leave_a_short_list(real_data: Path) -> None:
    table = real_data / V2 / "train_controls.csv"
    screen = index(real_data / "rxrx1_images", layout="rxrx1", tables=table, hash_files=False)
    assert conservation_line(screen) == "found 4109 = indexed 12 + refused 4097"
    whole_plates = screen.problems["found"].str.startswith("no image of the whole plate")
    assert whole_plates.sum() == 33 * 4 - 12
    assert (screen.problems["kind"] == "missing channel").sum() == 12


def test_bbbc021_is_indexed_as_a_lab_would_have_it(real_data: Path, tmp_path: Path) -> None:
    tool = real_data.parent / "tools" / "bbbc021_screen.py"
    if not tool.is_file():
        pytest.skip(f"the tool that writes the crops as files is not at {tool}")
    source = real_data / "bbbc021_singlecell"
    subprocess.run([sys.executable, str(tool), str(tmp_path / "lab"), str(source)], check=True, capture_output=True)
    screen = index(
        tmp_path / "lab" / "metadata.csv",
        layout="table",
        mapping={"experiment": "batch", "site": "cell"},
        channels=["DAPI", "actin", "tubulin"],
        probe=probe_image,
    )
    assert conservation_line(screen) == "found 1360 = indexed 1360 + refused 0"
    assert len(screen.metadata.perturbations) == 13
    assert (screen.metadata.dtype, screen.metadata.shape) == ("uint16", (68, 68))
    assert len(screen.sites[["experiment", "plate"]].drop_duplicates()) == 37
    assert set(screen.sites.loc[screen.sites["perturbation"] == "DMSO", "role"]) == {"negative_control"}
    assert screen.metadata.extra_columns == ("replicate", "compound", "concentration_uM")
    write_screen(screen, tmp_path / "screen")
    stored_screen = read_screen(tmp_path / "screen")
    assert all(path.is_file() for path in stored_screen.image_paths(700))
    folds = hold_out(stored_screen, column="replicate", values=["2"])
    assert not folds.forced
    assert (folds.table["fold"] == "held_out").sum() == (stored_screen.sites["replicate"] == "2").sum() > 100
