"""The folds of a cross-validation in parts on disk: the files of one pass, resumed, and predicted by shares."""

from pathlib import Path

import numpy as np
import pytest
from test_stored_parts import assert_same_files

from distangle.core.progress import no_progress
from distangle.errors import RunError
from distangle.inference import out_of_fold as out_of_fold_module
from distangle.inference import parts as parts_module
from distangle.inference import predict_run
from distangle.inference.predict import predict_by_views
from distangle.inference.run import open_model, predict_share, site_folds
from distangle.inference.stored_parts import Share
from distangle.results import Predictions, RunFolder, prediction_parts
from distangle.screen import read_screen
from distangle.training import resolve_config, start_cross_validation, train_cross_validation
from tiny_run import TRAINING, tiny_screen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/, run (cross-validated over three experiments), and whole/ (predicted without a stop)."""
    root = tmp_path_factory.mktemp("folds")
    screen = tiny_screen(root)
    run = start_cross_validation(screen, resolve_config("scratch", list(TRAINING), epochs=1), root / "run")
    train_cross_validation(run, screen=screen, advance=no_progress, say=no_progress)
    predict_run(run, screen, out=root / "whole")
    return root


def test_the_logits_of_a_site_are_those_of_the_network_that_had_not_seen_it(folder: Path) -> None:
    """Each fold is predicted here at once, as one array."""
    run, screen = RunFolder.open(folder / "run"), read_screen(folder / "screen")
    for views in (1, 8):
        site_predictions = Predictions.read(folder / "whole", level="site", views=views)
        number = site_predictions.table["Metadata_Cross_Validation"].to_numpy()
        assert sorted(set(number)) == [1, 2, 3]
        for held_out in out_of_fold_module.open_folds(
            run, screen, folder / "none", open_model=open_model, site_folds=site_folds
        ):
            model, card = open_model(held_out.run)
            one_pass = predict_by_views(
                model, card, held_out.predictor.store, out_of_fold_module.PredictionOptions(views=(views,))
            )[0]
            rows = np.flatnonzero(number == held_out.number)
            np.testing.assert_array_equal(rows, held_out.rows)
            np.testing.assert_allclose(site_predictions.logits[rows], one_pass.logits[rows], rtol=1e-5, atol=1e-6)
    assert not (folder / "none").exists()


def test_a_stop_in_the_second_fold_goes_on_from_there_with_large_arrays_on_disk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, screen, out = RunFolder.open(folder / "run"), read_screen(folder / "screen"), tmp_path / "out"
    monkeypatch.setattr(prediction_parts, "MAX_MEMORY", 0)
    predict, calls, messages = parts_module.PartPredictor.predict, [], []

    def count_rows(self: object, rows: np.ndarray, **options: object) -> object:
        calls.append(rows.tolist())
        if stop_at == len(calls):
            raise KeyboardInterrupt
        return predict(self, rows, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(parts_module.PartPredictor, "predict", count_rows)
    stop_at = 3  # the whole screen, the first fold, the second
    with pytest.raises(KeyboardInterrupt):
        predict_run(run, screen, out=out, say=messages.append)
    assert messages == [
        f"stopped: 0 of 1 parts of the prediction are in {out / 'parts/fold-2'}. The same command goes on from there."
    ]
    part = out / "parts/fold-1/part-00001-of-00001.safetensors"
    modified, stop_at = part.stat().st_mtime_ns, 0
    calls.clear()
    predict_share(run, screen, Share(number=1, total=1), out=out, say=messages.append)
    assert part.stat().st_mtime_ns == modified
    assert len(calls) == 3, "the whole screen and two folds"
    calls.clear()
    predict_run(run, screen, out=out)
    assert calls == [], "the join predicts nothing"
    assert_same_files(out, folder / "whole")


def test_a_fold_that_was_predicted_with_other_weights_is_named(folder: Path, tmp_path: Path) -> None:
    run, screen, out = RunFolder.open(folder / "run"), read_screen(folder / "screen"), tmp_path / "out"
    predict_share(run, screen, Share(number=1, total=1), out=out)
    path = out / "parts/fold-2/part-00001-of-00001.safetensors"
    origin = (out / "parts/fold-1/part-00001-of-00001.safetensors").read_bytes()
    path.write_bytes(origin)
    with pytest.raises(RunError, match=r"fold-2.part-00001-of-00001.safetensors was predicted with another network"):
        predict_run(run, screen, out=out)
