import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.core.io import sha256_of, write_json
from distangle.errors import RunError
from distangle.results import Explanation, Predictions, RunFolder, Scores
from distangle.results.run import relative_path


def some_predictions(n: int = 3) -> Predictions:
    table = pd.DataFrame({"Metadata_Plate": ["1"] * n, "predicted": ["a"] * n, "reason": [""] * n})
    logits = np.arange(n * 2, dtype=np.float32).reshape(n, 2)
    return Predictions(
        level="site", table=table, logits=logits, embedding=logits[:, :1], perturbations=("a", "b, c"), views=8
    )


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    paths = some_predictions().write(tmp_path)
    assert [path.name for path in paths] == ["sites_views8.parquet", "sites_views8.safetensors"]
    back = Predictions.read(tmp_path, level="site", views=8)
    assert back.perturbations == ("a", "b, c")
    np.testing.assert_array_equal(back.logits, some_predictions().logits)
    pd.testing.assert_frame_equal(back.table, some_predictions().table)


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    paths_of_copies = [some_predictions().write(tmp_path / str(k)) for k in range(6)]
    assert len({sha256_of(arrays) for _, arrays in paths_of_copies}) == 1
    assert len({sha256_of(table) for table, _ in paths_of_copies}) == 1


def test_rows_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match="their sizes must match"):
        Predictions(
            level="site",
            table=pd.DataFrame({"x": [1]}),
            logits=np.zeros((2, 1)),
            embedding=np.zeros((2, 1)),
            perturbations=("a",),
            views=1,
        )


def test_what_is_not_there_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="distangle predict"):
        Predictions.read(tmp_path, level="well")
    with pytest.raises(RunError, match="distangle explain"):
        Explanation.read(tmp_path)
    with pytest.raises(RunError, match=r"is not a run: it has no run\.json"):
        RunFolder.open(tmp_path / "nowhere")


def test_a_folder_in_use_is_not_taken(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "new")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(RunError, match="is not empty and is not a run"):
        RunFolder.create(tmp_path / "used")
    (tmp_path / "used" / "run.json").touch()
    with pytest.raises(RunError, match="holds a run.*--resume"):
        RunFolder.create(tmp_path / "used")


def test_a_start_that_was_killed_may_be_made_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (".begun", "config.yaml", "folds.parquet", ".screen.json.tmp-4711"):
        (tmp_path / "run" / name).touch()
    with RunFolder.begin(tmp_path / "run") as run:
        assert {path.name for path in run.root.iterdir()} == {".begun", ".lock"}
    assert list(run.root.iterdir()) == []


@pytest.mark.parametrize("name", ["config.yaml", "screen.json", "folds.parquet", "notes.txt", ".tmpabcdef", ".hidden"])
@pytest.mark.parametrize("has_marker", [False, True])
def test_a_file_that_a_user_put_into_the_folder_is_never_removed(
    tmp_path: Path, name: str, *, has_marker: bool
) -> None:
    own_file = tmp_path / "cfg" / name
    own_file.parent.mkdir()
    own_file.write_text("precious")
    if has_marker:  # only a killed start leaves files with this name
        (own_file.parent / ".begun").touch()
        if name in ("config.yaml", "screen.json", "folds.parquet"):
            return
    with pytest.raises(RunError, match=f"is not empty and is not a run: it holds {name}.*Name another folder"):
        with RunFolder.begin(own_file.parent):
            pass
    assert own_file.read_text() == "precious"
    assert {path.name for path in own_file.parent.iterdir()} == {name, *([".begun"] if has_marker else [])}


def test_a_folder_of_the_name_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cfg" / "config.yaml").mkdir(parents=True)
    (tmp_path / "cfg" / ".begun").touch()
    with pytest.raises(RunError, match=r"it holds config\.yaml"), RunFolder.begin(tmp_path / "cfg"):
        pass


def test_one_of_several_starts_at_once_gets_the_folder(tmp_path: Path) -> None:
    """For threads and processes: the others are refused, and none removes files of the first."""
    barrier = threading.Barrier(4)

    def start(number: int) -> str:
        barrier.wait()
        try:
            with RunFolder.begin(tmp_path / "run") as run:
                write_json(run.config, {"of": number})
                time.sleep(0.05)
                write_json(run.run, {"of": number})
        except RunError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        message = list(pool.map(start, range(4)))
    assert message.count("") == 1
    assert all("in use" in one or "holds a run" in one for one in message if one)
    run = RunFolder(tmp_path / "run")
    assert json.loads(run.config.read_text()) == json.loads(run.run.read_text()) == {"of": message.index("")}


def test_another_process_that_starts_there_is_named(tmp_path: Path) -> None:
    with RunFolder.begin(tmp_path / "run"):
        lines = "from distangle.results import RunFolder; from pathlib import Path; import sys\n"
        lines += "with RunFolder.begin(Path(sys.argv[1])): pass"
        result = subprocess.run(
            [sys.executable, "-c", lines, str(tmp_path / "run")], capture_output=True, text=True, check=False
        )
    assert f"is in use by process {os.getpid()}" in result.stderr


def test_the_manifest_knows_size_and_hash_and_forgets_what_is_gone(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    for name in ("a", "b"):
        (run.root / name).write_text(name)
    run.record(run.root / "a", run.root / "b")
    entries = json.loads(run.manifest.read_text())["files"]
    assert entries["a"] == {"sha256": sha256_of(run.root / "a"), "bytes": 1}
    (run.root / "b").unlink()
    run.record(run.root / "a")
    assert list(json.loads(run.manifest.read_text())["files"]) == ["a"]


def test_run_and_screen_may_move_together_and_a_lost_screen_is_named(tmp_path: Path) -> None:
    (tmp_path / "lab" / "screen").mkdir(parents=True)
    (tmp_path / "lab" / "screen" / "screen.json").write_text("{}")
    run = RunFolder.create(tmp_path / "lab" / "runs" / "a")
    write_json(run.run, {"screen": relative_path(tmp_path / "lab" / "screen", run.root)})
    (tmp_path / "lab").rename(tmp_path / "moved")
    moved_run = RunFolder.open(tmp_path / "moved" / "runs" / "a")
    assert moved_run.screen_folder() == (tmp_path / "moved" / "screen").resolve()
    (tmp_path / "moved" / "screen" / "screen.json").unlink()
    with pytest.raises(RunError, match=r"No screen\.json in .*--screen FOLDER"):
        moved_run.screen_folder()


def test_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    scores = Scores(
        target="perturbation",
        held_out="x",
        forced=False,
        rows=(),
        never_trained=("z",),
        confusion={},
        controls={},
        notes=("n",),
    )
    assert Scores.read(scores.write(tmp_path / "scores.json")) == scores


def test_an_explanation_is_read_as_it_was_written_and_its_maps_need_no_program_of_ours(tmp_path):
    rng = np.random.default_rng(1)
    maps = {name: rng.random((n, 4, 6), dtype=np.float32) for name, n in (("sites", 3), ("wells", 2))}
    explanation = Explanation(
        table=pd.DataFrame({"Metadata_Well": ["B02", "B02", "B03"], "shapley_1": [0.1, 0.2, 0.3]}),
        maps=maps["sites"],
        settings={"channels": ["w1"], "scale": [2.0, 2.0]},
        summary={"sites": 3},
        wells=pd.DataFrame({"Metadata_Well": ["B02", "B03"]}),
        well_maps=maps["wells"],
    )
    paths = explanation.write(tmp_path)
    assert {path.name for path in paths if path.exists()} == {
        "maps.npz", "explanation.json", "sites.parquet", "wells.parquet",
    }  # fmt: skip
    with np.load(tmp_path / "maps.npz") as arrays:
        assert arrays["scale"].tolist() == [2, 2]
        np.testing.assert_array_equal(arrays["wells"], maps["wells"])
    copy = Explanation.read(tmp_path)
    pd.testing.assert_frame_equal(copy.table, explanation.table)
    pd.testing.assert_frame_equal(copy.wells, explanation.wells)
    np.testing.assert_array_equal(copy.maps, explanation.maps)
    assert copy.perturbations is None
    first = (tmp_path / "maps.npz").read_bytes()
    replace(explanation, wells=None, well_maps=None).write(tmp_path)
    assert Explanation.read(tmp_path).wells is None
    explanation.write(tmp_path)
    assert (tmp_path / "maps.npz").read_bytes() == first
    (tmp_path / "maps.npz").unlink()
    with pytest.raises(RunError, match=r"without maps.npz. Make it again: `distangle explain RUN`"):
        Explanation.read(tmp_path)
