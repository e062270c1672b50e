"""A prediction in parts: equal to one pass, each image decoded once, resumed, shared, refused after changes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from distangle.cli import main
from distangle.errors import ConfigError, RunError, StorageError
from distangle.images import cache
from distangle.inference import parts as parts_module
from distangle.inference import predict_run
from distangle.inference import run as run_module
from distangle.inference.run import predict_share
from distangle.inference.stored_parts import Share
from distangle.results import Predictions, RunFolder
from distangle.screen import read_screen
from tiny_run import predicted_in_one_pass

FILES = [
    f"{level}{views}.{kind}"
    for level in ("sites", "wells")
    for views in ("", "_views8")
    for kind in ("parquet", "safetensors")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/, runs/a (trained), and whole/ (predicted in one pass)."""
    return predicted_in_one_pass(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part has one plate of the tiny screen, of three."""
    monkeypatch.setattr(parts_module, "PART_SITES", 8)


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    real = cache.read_image
    monkeypatch.setattr(cache, "read_image", lambda paths, pages: names.append(paths[0].name) or real(paths, pages))
    return names


def assert_same_files(folder: Path, expected: Path) -> None:
    for name in FILES:
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    assert not (folder / "parts").exists()


@pytest.mark.usefixtures("small_parts")
def test_parts_give_the_files_of_one_pass_and_every_image_is_decoded_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, screen = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen")
    names, pieces = count_reads(monkeypatch), []
    predict_run(run, screen, out=tmp_path / "out", advance=pieces.append)
    assert sorted(names) == sorted(f"E{e}_{k}_0.png" for e in (1, 2, 3) for k in range(8))
    assert len(pieces) == 100
    assert_same_files(tmp_path / "out", folder / "whole")


@pytest.mark.usefixtures("small_parts")
def test_large_arrays_are_mapped_and_give_the_same_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distangle.results import prediction_parts

    monkeypatch.setattr(prediction_parts, "MAX_MEMORY", 0)
    predict_run(RunFolder.open(folder / "runs/a"), read_screen(folder / "screen"), out=tmp_path / "out")
    assert_same_files(tmp_path / "out", folder / "whole")


@pytest.mark.usefixtures("small_parts")
def test_a_prediction_that_was_stopped_goes_on_from_its_last_part(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, screen = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen")
    write, out, messages = parts_module.PartPredictor.predict, tmp_path / "out", []

    def stop(self: object, rows: np.ndarray, **options: object) -> object:
        if rows[0] == 16:
            raise KeyboardInterrupt
        return write(self, rows, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(parts_module.PartPredictor, "predict", stop)
        with pytest.raises(KeyboardInterrupt):
            predict_run(run, screen, out=out, say=messages.append)
    assert messages == [
        f"stopped: 2 of 3 parts of the prediction are in {out / 'parts'}. The same command goes on from there."
    ]
    names = count_reads(monkeypatch)
    predict_run(run, screen, out=out, say=messages.append)
    assert sorted(names) == sorted(f"E3_{k}_0.png" for k in range(8))
    assert messages[1] == f"2 of 3 parts of the prediction are in {out / 'parts'}."
    assert_same_files(out, folder / "whole")


@pytest.mark.usefixtures("small_parts")
def test_shares_in_any_order_are_joined_to_the_files_of_one_pass(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, screen, out = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen"), tmp_path / "out"
    for number in (2, 1):
        predict_share(run, screen, Share.parse(f"{number}/2"), out=out)
    assert sorted(path.name for path in (out / "parts").iterdir()) == [
        f"part-0000{k}-of-00003.safetensors" for k in (1, 2, 3)
    ]
    names = count_reads(monkeypatch)
    predict_run(run, screen, out=out)
    assert names == []
    assert_same_files(out, folder / "whole")


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_fails_is_named_and_the_others_are_predicted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, screen, out = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen"), tmp_path / "out"
    predict = parts_module.PartPredictor.predict

    def fail(self: object, rows: np.ndarray, **options: object) -> object:
        if rows[0] == 8:
            raise RunError("the worker lost its disk.")
        return predict(self, rows, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(parts_module.PartPredictor, "predict", fail)
    with pytest.raises(RunError, match=r"1 of 3 parts failed: part 2 of 3 \(plates E2 1\): the worker lost its disk"):
        predict_run(run, screen, out=out)
    assert sorted(path.name[:10] for path in (out / "parts").iterdir()) == ["part-00001", "part-00003"]


@pytest.mark.usefixtures("small_parts")
def test_a_screen_or_network_that_changed_between_parts_is_named(folder: Path, tmp_path: Path) -> None:
    run, screen, out = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen"), tmp_path / "out"
    predict_share(run, screen, Share(number=1, total=3), out=out)
    sites = screen.sites.assign(perturbation=screen.sites["perturbation"].iloc[::-1].to_numpy())
    with pytest.raises(RunError, match="was predicted with another screen than now"):
        predict_run(run, dataclasses.replace(screen, sites=sites), out=out)
    with pytest.raises(RunError, match="another set of batch-norm statistics than now"):
        predict_run(run, screen, out=out, statistics_source="plate")
    path = out / "parts/part-00001-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=r"part-00001-of-00003.safetensors.*only this part is predicted again"):
        predict_run(run, screen, out=out)


@pytest.mark.usefixtures("small_parts")
def test_a_disk_that_fills_in_the_middle_is_named_and_earlier_parts_stay(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distangle.results import prediction_parts

    run, screen, out = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen"), tmp_path / "out"
    real, calls = prediction_parts.save_file, []

    def fill(*arguments: object, **options: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(*arguments, **options)  # type: ignore[arg-type]

    messages: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(prediction_parts, "save_file", fill)
        with pytest.raises(StorageError, match=r"part-00002-of-00003\.safetensors"):
            predict_run(run, screen, out=out, say=messages.append)
    assert messages[0].startswith("stopped: 1 of 3 parts")
    monkeypatch.setattr(
        prediction_parts, "check_free_space", lambda *_, needed, content: pytest.fail(f"{needed} {content}")
    )
    with pytest.raises(pytest.fail.Exception, match="the predictions of 16 sites"):
        predict_run(run, screen, out=out)


def test_a_share_is_checked() -> None:
    with pytest.raises(ConfigError, match="Share 4/3: expected I/N with I from 1 to N"):
        Share.parse("4/3")
    for text in ("3", "a/b", "1/", "-1/2"):
        with pytest.raises(ConfigError, match="expected I/N, such as 3/16"):
            Share.parse(text)


@pytest.mark.usefixtures("small_parts")
def test_the_verb_predicts_a_share_and_then_joins_all(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["predict", str(folder / "runs/a"), "--out", str(out)]
    main([*command, "--part", "2/3"])
    assert capsys.readouterr().out.strip() == str(out / "parts")
    assert [path.name[:10] for path in (out / "parts").iterdir()] == ["part-00002"]
    main([*command, "--top", "2", "--half"])
    assert f"1 of 3 parts of the prediction are in {out / 'parts'}." in capsys.readouterr().err
    assert load_file(out / "sites.safetensors")["top_logits"].dtype == np.float16
    assert Predictions.read(out, level="site").n_top == 2
    with pytest.raises(SystemExit):
        main([*command, "--part", "2/3", "--top", "2"])
    assert "--top" in capsys.readouterr().err


@pytest.mark.usefixtures("small_parts")
def test_the_join_reads_the_batch_norm_statistics_of_the_shares_unless_something_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, screen, out = RunFolder.open(folder / "runs/a"), read_screen(folder / "screen"), tmp_path / "out"
    predict_run(run, screen, out=tmp_path / "expected", statistics_source="plate")
    predict_share(run, screen, Share(number=1, total=1), out=out, statistics_source="plate")

    def refuse(*inputs: object, **_options: object) -> None:
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "statistics_for", refuse)
        with pytest.raises(AssertionError, match="computed again"):
            predict_run(run, screen, out=out, statistics_source="experiment")
        sites = screen.sites.assign(perturbation=screen.sites["perturbation"].iloc[::-1].to_numpy())
        with pytest.raises(AssertionError, match="computed again"):
            predict_run(run, dataclasses.replace(screen, sites=sites), out=out, statistics_source="plate")
        predict_run(run, screen, out=out, statistics_source="plate")
    assert_same_files(out, tmp_path / "expected")
