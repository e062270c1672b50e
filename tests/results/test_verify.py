import json
import random
import shutil
from pathlib import Path

import pytest

from distangle.cli import main
from distangle.core.io import write_json
from distangle.core.lock import run_lock
from distangle.errors import RunError, ScreenError
from distangle.results import RunFolder, verify_run, verify_screen
from distangle.screen import read_screen, write_screen
from tiny_run import tiny_screen


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run of four files, one of them in a folder."""
    folder = RunFolder.create(tmp_path / "run")
    write_json(folder.run, {"finished": True})
    folder.predictions.mkdir()
    paths = [folder.run, folder.config, folder.metrics, folder.scores]
    for path in paths[1:]:
        path.write_text(f"{path.name} {'x' * 50}")
    folder.record(*paths)
    return folder


def differences(run: RunFolder) -> dict[str, str]:
    return {difference.name: difference.kind for difference in verify_run(run).differences}


def test_a_run_as_it_was_written_has_no_difference(run: RunFolder) -> None:
    (run.root / "tensorboard").mkdir()
    (run.root / "tensorboard" / "events.out").touch()
    result = verify_run(run)
    assert (result.differences, result.notes, result.n_files) == ((), (), 4)
    assert result.n_bytes == sum(path.stat().st_size for path in (run.run, run.config, run.metrics, run.scores))


def test_missing_changed_and_extra_files_are_told_apart(run: RunFolder) -> None:
    run.scores.unlink()
    run.metrics.write_text(run.metrics.read_text().replace("x", "y", 1))
    run.config.write_text("short")
    (run.root / "notes.txt").touch()
    (run.root / ".metrics.csv.tmp-99").touch()
    result = verify_run(run).differences
    assert [(difference.kind, difference.name) for difference in result] == [
        ("extra", ".metrics.csv.tmp-99"),
        ("changed", "config.yaml"),
        ("changed", "metrics.csv"),
        ("extra", "notes.txt"),
        ("missing", "predictions/scores.json"),
    ]
    details = {difference.name: difference.detail for difference in result}
    assert details["config.yaml"] == "5 bytes instead of 62"
    assert details["metrics.csv"].startswith("its SHA-256 is not ")
    assert details["predictions/scores.json"] == "62 bytes were written"
    assert details[".metrics.csv.tmp-99"].startswith("left by a process that was killed")


def test_any_single_changed_byte_is_found(run: RunFolder) -> None:
    rng = random.Random(0)
    paths = [run.run, run.config, run.metrics, run.scores]
    for _ in range(300):
        path = rng.choice(paths)
        content = path.read_bytes()
        place = rng.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :])
        assert list(differences(run)) == [path.relative_to(run.root).as_posix()]
        path.write_bytes(content)
    assert differences(run) == {}


def test_what_vanished_from_another_folder_stays_missing_after_more_was_written(run: RunFolder) -> None:
    run.scores.unlink()
    run.record(run.metrics)
    assert differences(run) == {"predictions/scores.json": "missing"}
    other = run.predictions / "sites.parquet"
    other.touch()
    run.record(other)  # the predictions were written anew, without scores
    assert differences(run) == {}


def test_an_unfinished_run_and_one_at_work_are_said_to_be_so(run: RunFolder) -> None:
    write_json(run.run, {"finished": False})
    (note,) = verify_run(run).notes
    assert "The training did not finish. Resume it: `distangle train --resume" in note
    with run_lock(run.root, say=lambda _: None):
        (note,) = verify_run(run).notes
        assert "is being written to by process" in note


def test_a_manifest_that_says_nothing_is_no_proof(run: RunFolder) -> None:
    text = json.loads(run.manifest.read_text())
    for content in ("{", "[]", json.dumps({"files": {"../other": {"bytes": 1, "sha256": ""}}}), '{"files": {"a": {}}}'):
        run.manifest.write_text(content)
        with pytest.raises(RunError, match=r"manifest\.json is damaged"):
            verify_run(run)
    run.manifest.write_text(json.dumps(text))
    assert differences(run) == {}
    run.manifest.unlink()
    with pytest.raises(RunError, match=r"has no manifest\.json"):
        verify_run(run)


@pytest.fixture
def two_network_run(run: RunFolder) -> RunFolder:
    """The run after a cross-validation of two folds, each a run with weights and a manifest of its own."""
    write_json(run.run, {"finished": True, "cross_validation": {"n_folds": 2}})
    run.record(run.run)
    for k in (1, 2):
        fold = RunFolder.create(run.cross_validation / f"fold-{k}")
        write_json(fold.run, {"finished": True})
        weights = fold.checkpoints / "model.safetensors"
        weights.parent.mkdir()
        weights.write_bytes(bytes(range(100)))
        fold.record(fold.run, weights)
    return run


def test_a_flipped_byte_in_the_weights_of_a_fold_is_found_and_named_with_its_folder(two_network_run: RunFolder) -> None:
    result = verify_run(two_network_run)
    assert (result.differences, result.n_files) == ((), 8)
    weights = two_network_run.cross_validation / "fold-2/checkpoints/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[50] ^= 1
    weights.write_bytes(content)
    assert differences(two_network_run) == {"cross_validation/fold-2/checkpoints/model.safetensors": "changed"}
    (two_network_run.cross_validation / "fold-1/extra.txt").touch()
    (two_network_run.cross_validation / "notes.txt").touch()
    assert differences(two_network_run) == {
        "cross_validation/fold-1/extra.txt": "extra",
        "cross_validation/fold-2/checkpoints/model.safetensors": "changed",
        "cross_validation/notes.txt": "extra",
    }


def test_a_fold_that_is_gone_or_lost_its_manifest_is_missing(two_network_run: RunFolder) -> None:
    (two_network_run.cross_validation / "fold-1/manifest.json").unlink()
    shutil.rmtree(two_network_run.cross_validation / "fold-2")
    assert differences(two_network_run) == {
        "cross_validation/fold-1/manifest.json": "missing",
        "cross_validation/fold-2/manifest.json": "missing",
    }
    (two_network_run.cross_validation / "fold-1/manifest.json").write_text("{")
    assert differences(two_network_run)["cross_validation/fold-1/manifest.json"] == "changed"
    # During training, folds that have not started are not missing.
    write_json(two_network_run.run, {"finished": False, "cross_validation": {"n_folds": 2}})
    assert "cross_validation/fold-2/manifest.json" not in differences(two_network_run)


def test_the_verb_prints_a_table_and_ends_with_1(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", str(run.root)])
    assert "4 files (" in (output := capsys.readouterr().out)
    assert "all unchanged" in output
    run.metrics.unlink()
    with pytest.raises(SystemExit) as exit_info:
        main(["verify", str(run.root)])
    assert exit_info.value.code == 1
    output = capsys.readouterr().out
    assert "missing" in output
    assert "metrics.csv" in output
    assert "1 differ" in output
    with pytest.raises(SystemExit) as exit_info:
        main(["verify", str(run.root.parent)])
    assert exit_info.value.code == 1
    assert "is not a run (no run.json) and not a screen" in " ".join(capsys.readouterr().err.split())


def test_an_image_changed_since_the_index_is_named_with_its_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = tiny_screen(tmp_path, n_wells=3, hash_files=True)
    assert verify_screen(screen).differences == ()
    assert verify_screen(screen).n_files == 18
    changed_file, missing_file = screen.image_paths(4)[1], screen.image_paths(7)[0]
    changed_file.write_bytes(changed_file.read_bytes()[:-1] + b"\0")
    missing_file.unlink()
    result = verify_screen(screen).differences
    assert [
        (difference.kind, changed_file.name in difference.name or missing_file.name in difference.name)
        for difference in result
    ] == [
        ("changed", True),
        ("missing", True),
    ]
    assert result[0].detail == "experiment E2 plate 1 well B03 site 1: one of these files"
    with pytest.raises(SystemExit):
        main(["verify", str(tmp_path / "screen")])
    assert "2 differ" in capsys.readouterr().out


def test_a_screen_without_hashes_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(ScreenError, match="was indexed without hashes"):
        verify_screen(tiny_screen(tmp_path, n_wells=3))


def test_a_screen_table_that_was_edited_is_refused_on_reading(tmp_path: Path) -> None:
    screen = tiny_screen(tmp_path, n_wells=3, hash_files=True)
    (tmp_path / "screen" / "sites.parquet").write_bytes(b"other")
    with pytest.raises(ScreenError, match="SHA-256 differs"):
        read_screen(tmp_path / "screen")
    write_screen(screen, tmp_path / "screen")
