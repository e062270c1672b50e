import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from distangle.core.io import sha256_of
from distangle.errors import ScreenError, StorageError
from distangle.screen import Screen, index, read_screen, write_screen
from rxrx1_lab import RxRx1Lab


@pytest.fixture
def screen(rxrx1: RxRx1Lab) -> Screen:
    rxrx1.site("train/HUVEC-01/Plate1", "B05", 1)  # refused: no table row
    rxrx1.site("train/HUVEC-01/Plate1", "=cmd", 1, (1,))  # a warning, its name is a formula
    return index(rxrx1.root, layout="rxrx1")


@pytest.fixture
def folder(screen: Screen, tmp_path: Path) -> Path:
    write_screen(screen, tmp_path / "out" / "screen")
    return tmp_path / "out" / "screen"


def rewrite_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "screen.json").read_text())
    (folder / "screen.json").write_text(json.dumps({**card, **changes}))


def test_what_is_read_is_what_was_written(screen: Screen, folder: Path) -> None:
    stored_screen = read_screen(folder)
    pd.testing.assert_frame_equal(stored_screen.sites, screen.sites)
    pd.testing.assert_frame_equal(stored_screen.problems, screen.problems)
    assert stored_screen.metadata.perturbations == ("sirna_2", "sirna_10", "UNTREATED")
    assert stored_screen.folder == folder
    assert sorted(item.name for item in folder.iterdir()) == ["problems.csv", "screen.json", "sites.parquet"]


def test_the_same_screen_is_written_in_the_same_bytes(screen: Screen, folder: Path, tmp_path: Path) -> None:
    write_screen(read_screen(folder), tmp_path / "out" / "again")
    for name in ("problems.csv", "screen.json", "sites.parquet"):
        assert sha256_of(folder / name) == sha256_of(tmp_path / "out" / "again" / name)


def test_paths_are_found_before_and_after_writing_and_after_moving_both(
    screen: Screen, folder: Path, rxrx1: RxRx1Lab, tmp_path: Path
) -> None:
    first = "train/HUVEC-01/Plate1/B02_s1_w1.png"
    assert screen.image_paths(0)[0] == rxrx1.root.resolve() / first
    assert screen.image_paths(0) == read_screen(folder).image_paths(0)
    assert len(screen.image_paths(0)) == 6
    assert screen.pages(0) == [None] * 6
    assert json.loads((folder / "screen.json").read_text())["source"] == "../../rxrx1"
    new_folder = tmp_path / "elsewhere"
    new_folder.mkdir()
    shutil.move(rxrx1.root, new_folder / "rxrx1")
    shutil.move(tmp_path / "out", new_folder / "out")
    assert read_screen(new_folder / "out" / "screen").image_paths(0)[0].read_text() == first


def test_no_absolute_path_is_written(folder: Path, tmp_path: Path) -> None:
    for name in ("screen.json", "problems.csv"):
        assert str(tmp_path) not in (folder / name).read_text()
    assert str(tmp_path).encode() not in (folder / "sites.parquet").read_bytes()


def test_a_spreadsheet_runs_no_cell_of_the_problems(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "problems.csv").read_text().splitlines()
    assert any("'=cmd_s1_w1.png" in line for line in lines)
    assert "=cmd_s1_w1.png" in read_screen(folder).problems["found"].tolist()


@pytest.mark.parametrize("name", ["sites.parquet", "screen.json", "problems.csv"])
def test_a_folder_that_lacks_a_file_is_no_screen(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ScreenError, match=f"is not a screen: it lacks {name}. Create one: `distangle index SOURCE`"):
        read_screen(folder)


def test_an_edited_class_list_is_refused(folder: Path) -> None:
    rewrite_card(folder, perturbations=["sirna_10", "sirna_2", "UNTREATED"])
    with pytest.raises(ScreenError, match="class list of 3 perturbations does not match its hash"):
        read_screen(folder)


def test_a_table_of_another_index_is_refused(folder: Path) -> None:
    pd.read_parquet(folder / "sites.parquet").iloc[:3].to_parquet(folder / "sites.parquet", index=False)
    with pytest.raises(ScreenError, match=r"is not the table that screen.json was written with"):
        read_screen(folder)


def test_missing_columns_are_named(folder: Path) -> None:
    table = pd.read_parquet(folder / "sites.parquet").drop(columns=["cell_type", "path_3"])
    table.to_parquet(folder / "sites.parquet", index=False)
    rewrite_card(folder, sites_sha256=sha256_of(folder / "sites.parquet"))
    with pytest.raises(ScreenError, match=r"sites.parquet lacks the columns cell_type, path_3"):
        read_screen(folder)


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", "a/..", "//a", "./../b", "a/b/.."]
)
def test_paths_that_leave_the_source_are_refused(folder: Path, path: str) -> None:
    table = pd.read_parquet(folder / "sites.parquet")
    table.loc[2, "path_4"] = path
    table.to_parquet(folder / "sites.parquet", index=False)
    rewrite_card(folder, sites_sha256=sha256_of(folder / "sites.parquet"))
    with pytest.raises(ScreenError, match=rf"path_4 '{path}' leaves the source folder"):
        read_screen(folder)


def test_dots_inside_a_name_stay_in_the_source(folder: Path) -> None:
    names = ["a..b/c.png", "..a/b.png", "a../b..", "a/...", "", "a.b/c"]
    table = pd.read_parquet(folder / "sites.parquet")
    table["path_4"] = names
    table.to_parquet(folder / "sites.parquet", index=False)
    rewrite_card(folder, sites_sha256=sha256_of(folder / "sites.parquet"))
    assert read_screen(folder).sites["path_4"].tolist() == names


def test_a_site_without_a_path_is_refused(folder: Path) -> None:
    table = pd.read_parquet(folder / "sites.parquet")
    table.loc[2, "path_4"] = None
    table.to_parquet(folder / "sites.parquet", index=False)
    rewrite_card(folder, sites_sha256=sha256_of(folder / "sites.parquet"))
    with pytest.raises(ScreenError, match="row 2 has no path_4: expected a path or an empty text"):
        read_screen(folder)


def test_counts_that_do_not_add_up_are_refused(folder: Path) -> None:
    rewrite_card(folder, refused=0, found=6)
    with pytest.raises(ScreenError, match=r"says found 6 = indexed 6 \+ refused 0, but the tables hold 6 and 1"):
        read_screen(folder)


@pytest.mark.parametrize(("changes", "message"), [({"color": "x"}, "color"), ({"plate_rows": 0}, "plate_rows")])
def test_a_card_with_unknown_or_impossible_fields_is_refused(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    rewrite_card(folder, **changes)
    with pytest.raises(ScreenError, match=r"screen\.json is damaged") as error:
        read_screen(folder)
    assert message in str(error.value)


def test_a_write_that_dies_before_the_card_leaves_a_folder_that_is_refused(
    screen: Screen, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller = Screen(metadata=screen.metadata, sites=screen.sites.iloc[:2], problems=screen.problems)
    replace, calls = os.replace, []

    def fail(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, os.strerror(28))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StorageError, match="problems.csv was not written: no space left on device"):
        write_screen(smaller, folder)
    monkeypatch.undo()
    with pytest.raises(ScreenError, match="an index was interrupted: index the source again"):
        read_screen(folder)


def test_a_screen_of_tables_only_has_no_images_to_give(rxrx1: RxRx1Lab) -> None:
    screen = index(rxrx1.root, layout="rxrx1", tables_only=True)
    with pytest.raises(ScreenError, match="well B02, site 0: the screen was indexed with --tables-only"):
        screen.image_paths(0)
