import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.commit import commit_json, sha256_of
from distangle.errors import RunError
from distangle.results import Explanation, Predictions, RunFolder, Scores
from distangle.results.run import relative_path


def some(n: int = 3) -> Predictions:
    table = pd.DataFrame({"Metadata_Plate": ["1"] * n, "predicted": ["a"] * n, "reason": [""] * n})
    logits = np.arange(n * 2, dtype=np.float32).reshape(n, 2)
    return Predictions(
        level="site", table=table, logits=logits, embedding=logits[:, :1], perturbations=("a", "b, c"), views=8
    )


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = some().write(tmp_path)
    assert [path.name for path in written] == ["sites_views8.parquet", "sites_views8.safetensors"]
    back = Predictions.read(tmp_path, level="site", views=8)
    assert back.perturbations == ("a", "b, c")
    np.testing.assert_array_equal(back.logits, some().logits)
    pd.testing.assert_frame_equal(back.table, some().table)


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    written = [some().write(tmp_path / str(k)) for k in range(6)]
    assert len({sha256_of(arrays) for _, arrays in written}) == 1
    assert len({sha256_of(table) for table, _ in written}) == 1


def test_rows_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match="they must agree"):
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
    with pytest.raises(RunError, match="is not empty, and it is no run"):
        RunFolder.create(tmp_path / "used")
    (tmp_path / "used" / "run.json").touch()
    with pytest.raises(RunError, match="holds a run.*--resume"):
        RunFolder.create(tmp_path / "used")


def test_a_start_that_was_killed_may_be_made_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("config.yaml", "folds.parquet", ".screen.json.tmp-4711"):
        (tmp_path / "run" / name).touch()
    assert list(RunFolder.create(tmp_path / "run").root.iterdir()) == []


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
    commit_json(run.run, {"screen": relative_path(tmp_path / "lab" / "screen", run.root)})
    (tmp_path / "lab").rename(tmp_path / "moved")
    moved = RunFolder.open(tmp_path / "moved" / "runs" / "a")
    assert moved.screen_folder() == (tmp_path / "moved" / "screen").resolve()
    (tmp_path / "moved" / "screen" / "screen.json").unlink()
    with pytest.raises(RunError, match=r"No screen\.json in .*--screen FOLDER"):
        moved.screen_folder()


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
    written = Explanation(
        table=pd.DataFrame({"Metadata_Well": ["B02", "B02", "B03"], "shapley_1": [0.1, 0.2, 0.3]}),
        maps=maps["sites"],
        settings={"channels": ["w1"], "scale": [2.0, 2.0]},
        summary={"sites": 3},
        wells=pd.DataFrame({"Metadata_Well": ["B02", "B03"]}),
        well_maps=maps["wells"],
    )
    paths = written.write(tmp_path)
    assert {path.name for path in paths if path.exists()} == {
        "maps.npz", "explanation.json", "sites.parquet", "wells.parquet",
    }  # fmt: skip
    with np.load(tmp_path / "maps.npz") as arrays:
        assert arrays["scale"].tolist() == [2, 2]
        np.testing.assert_array_equal(arrays["wells"], maps["wells"])
    again = Explanation.read(tmp_path)
    pd.testing.assert_frame_equal(again.table, written.table)
    pd.testing.assert_frame_equal(again.wells, written.wells)
    np.testing.assert_array_equal(again.maps, written.maps)
    assert again.perturbations is None
    first = (tmp_path / "maps.npz").read_bytes()
    replace(written, wells=None, well_maps=None).write(tmp_path)
    assert Explanation.read(tmp_path).wells is None
    written.write(tmp_path)
    assert (tmp_path / "maps.npz").read_bytes() == first
    (tmp_path / "maps.npz").unlink()
    with pytest.raises(RunError, match=r"without maps.npz. Run `distangle explain RUN` again"):
        Explanation.read(tmp_path)
