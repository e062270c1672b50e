"""The main job through the command line on a tiny synthetic screen: every verb, every file, bad arguments."""

import dataclasses
import html
import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import load_file

from distangle.cli import main
from distangle.core.io import sha256_of
from distangle.errors import RunError
from distangle.results import Explanation, Predictions, RunFolder, Scores
from distangle.screen import read_screen, write_screen
from distangle.training import TrainingConfig, load_previous_folds, read_config, resolve_config, settings, values_of

SETTINGS = (
    "image_size=64",
    "magnification=0.6",
    "n_treatments=4",
    "n_positive_controls=2",
    "n_negative_controls=2",
    "plate_groups=false",
    "sites_per_well=1",
)
TRAINING = ("--preset", "scratch", "--epochs", "3", "--set", "batch_size=8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plates/, screen/ and runs/a: simulated, indexed, trained, predicted, explained and reported by the verbs."""
    root = tmp_path_factory.mktemp("main job")
    main(["simulate", str(root / "plates"), *(word for pair in SETTINGS for word in ("--set", pair)), "--workers", "1"])
    main(["index", str(root / "plates"), "--out", str(root / "screen")])
    held_out = "experiment=HUVEC-02,RPE-02"
    main(["train", str(root / "screen"), "--out", str(root / "runs/a"), *TRAINING, "--hold-out", held_out])
    main(["predict", str(root / "runs/a")])
    main(["explain", str(root / "runs/a"), "--n-sites", "6"])
    main(["report", str(root / "runs/a")])
    return root


def test_nothing_is_lost_between_the_images_and_the_index(folder: Path) -> None:
    screen = read_screen(folder / "screen")
    assert screen.metadata.found == screen.metadata.indexed + screen.metadata.refused
    assert len(list((folder / "plates").rglob("*.png"))) == screen.metadata.indexed * 6
    assert set(screen.sites["cell_type"]) == {"HUVEC", "RPE"}


def test_every_site_and_well_has_a_prediction_and_probabilities_sum_to_one(folder: Path) -> None:
    sites = Predictions.read(folder / "runs/a/predictions", level="site")
    wells = Predictions.read(folder / "runs/a/predictions", level="well", views=8)
    screen = read_screen(folder / "screen")
    assert len(sites.table) == len(screen.sites)
    assert len(wells.table) == len(screen.sites.groupby(["experiment", "plate", "well"]))
    np.testing.assert_allclose(sites.probabilities.sum(1), 1, rtol=1e-5)
    held_out = sites.table["Metadata_Fold"] == "held_out"
    assert set(sites.table.loc[held_out, "Metadata_Experiment"]) == {"HUVEC-02", "RPE-02"}
    best = np.asarray(sites.perturbations)[sites.logits.argmax(1)]
    assert (best == sites.table["predicted"]).all()


def test_the_scores_are_those_of_the_predictions(folder: Path) -> None:
    scores = Scores.read(folder / "runs/a/predictions/scores.json")
    table = Predictions.read(folder / "runs/a/predictions", level="site").table
    held_out = table[table["Metadata_Fold"] == "held_out"]
    row = next(
        row
        for row in scores.rows
        if (row.level, row.views, row.wells, row.subset, row.metric) == ("site", 1, "with controls", "all", "accuracy")
    )
    assert row.value == pytest.approx((held_out["perturbation"] == held_out["predicted"]).mean())
    assert row.n == len(held_out)
    assert (row.interval, row.n_groups) == (None, 2)  # a bootstrap over two experiments would be their range
    assert min(row.by_group.values()) <= row.value <= max(row.by_group.values())
    assert row.transductive  # the preset standardises by experiment, and the table says so
    assert any("transductive" in note for note in scores.notes)


def test_the_explanation_has_a_map_a_stain_and_a_truth_beside_it(folder: Path) -> None:
    explanation = Explanation.read(folder / "runs/a/explanations")
    assert len(explanation.table) == len(explanation.maps) == 6
    assert explanation.maps.min() >= 0
    assert explanation.maps.max() <= 1
    assert {f"shapley_{k}" for k in range(1, 7)} <= set(explanation.table.columns)
    assert explanation.planted is not None
    assert (explanation.table["Metadata_Fold"] == "held_out").all()


def test_the_report_is_there_and_the_manifest_knows_every_file(folder: Path) -> None:
    run = RunFolder.open(folder / "runs/a")
    assert (run.report / "index.html").stat().st_size > 5_000
    assert (run.report / "examples.html").stat().st_size > 10_000
    names_in_manifest = set(json.loads(run.manifest.read_text())["files"])
    file_names = {path.relative_to(run.root).as_posix() for path in run.root.rglob("*") if path.is_file()}
    assert file_names - names_in_manifest <= {"manifest.json"} | {
        name for name in file_names if name.startswith("tensorboard/")
    }


def test_a_stopped_training_goes_on_bit_for_bit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import distangle.training.checkpointing.manager as training

    finished_run = RunFolder.open(folder / "runs/a")
    held_out = ["--hold-out", "experiment=HUVEC-02,RPE-02"]
    save, calls = training.save_state, []

    def save_and_stop(*args: object, **options: object) -> object:
        paths = save(*args, **options)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return paths

    monkeypatch.setattr(training, "save_state", save_and_stop)
    with pytest.raises(SystemExit) as exit_info:
        main(["train", str(folder / "screen"), "--out", str(folder / "runs/b"), *TRAINING, *held_out])
    assert exit_info.value.code == 130
    monkeypatch.undo()
    main(["train", "--resume", str(folder / "runs/b")])
    first, second = (load_file(folder / f"runs/{name}/checkpoints/model.safetensors") for name in "ab")
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    columns = ["epoch", "train_loss", "train_accuracy", "held_out_loss", "held_out_accuracy"]
    metrics = [pd.read_csv(folder / f"runs/{name}/metrics.csv")[columns] for name in "ab"]
    pd.testing.assert_frame_equal(*metrics)
    assert finished_run.describe()["finished"]


def test_a_run_is_repeated_from_its_folder_alone_to_the_last_byte(folder: Path) -> None:
    runs = folder / "runs"
    main(["train", "--from", str(runs / "a"), "--out", str(runs / "again")])
    first, second = (RunFolder.open(runs / name) for name in ("a", "again"))
    weights = [sha256_of(run.checkpoints / "model.safetensors") for run in (first, second)]
    assert weights[0] == weights[1]
    assert sha256_of(first.config) == sha256_of(second.config)
    main(["train", "--from", str(runs / "a"), "--out", str(runs / "other"), "--seed", "1", "--optim.lr", "1e-3"])
    other = RunFolder.open(runs / "other")
    assert sha256_of(other.checkpoints / "model.safetensors") != weights[0]
    assert other.describe()["folds_sha256"] == first.describe()["folds_sha256"]
    changes = {name for name, value in values_of(read_config(other.config)).items()
               if value != values_of(read_config(first.config))[name]}  # fmt: skip
    assert changes == {"seed", "optim.lr"}


def test_the_typed_commands_are_kept_in_the_run_and_shown_in_the_report(folder: Path) -> None:
    run = RunFolder.open(folder / "runs/a")
    commands = run.describe()["commands"]
    assert [shlex.split(line)[:2] for line in commands] == [
        ["distangle", verb] for verb in ("train", "predict", "explain")
    ]
    assert shlex.split(commands[0])[2:] == [str(folder / "screen"), "--out", str(run.root), *TRAINING,
                                            "--hold-out", "experiment=HUVEC-02,RPE-02"]  # fmt: skip
    assert commands[1] in html.unescape((run.report / "provenance.html").read_text(encoding="utf-8"))
    assert json.loads(run.manifest.read_text())["files"]["run.json"]["sha256"] == sha256_of(run.run)
    run.add_command(commands[-1])
    assert run.describe()["commands"] == commands


def test_a_configuration_file_and_flags_make_the_run_that_they_say(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "preset: scratch\nepochs: 1\nbatch_size: 8\noptim:\n  lr: 1e-4\n  max_grad_norm: 2\n"
    )
    out = tmp_path / "run"
    arguments = [
        "--config",
        str(tmp_path / "mine.yaml"),
        "--optim.max_grad_norm",
        "3",
        "--set",
        "augmentation.gain=0",
        "--batch-size=6",
    ]
    main(["train", str(folder / "screen"), "--out", str(out), *arguments])
    stored_config = yaml.safe_load((out / "config.yaml").read_text())
    assert (
        stored_config["preset"],
        stored_config["epochs"],
        stored_config["batch_size"],
        stored_config["augmentation"]["gain"],
    ) == ("scratch", 1, 6, 0.0)
    assert (stored_config["optim"]["lr"], stored_config["optim"]["max_grad_norm"]) == (1e-4, 3.0)
    assert stored_config["preprocessing"]["binning"] == 1  # resolved


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str], *, status: int = 1) -> str:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == status
    output = capsys.readouterr()
    message = " ".join((output.err + output.out).split())
    assert "Traceback" not in message
    return message


def test_bad_words_are_answered_in_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    screen, run, new = str(folder / "screen"), str(folder / "runs/a"), str(folder / "runs/new")
    assert "holds a run" in refusal(
        ["train", screen, "--out", run, *TRAINING, "--hold-out", "experiment=RPE-02"], capsys
    )
    message = refusal(["train", screen, "--out", new, "--preset", "tiny"], capsys)
    assert "No preset 'tiny'" in message
    message = refusal(["train", screen, "--out", new, *TRAINING, "--hold-out", "experiment=RPE-07"], capsys)
    assert "RPE-07" in message
    assert "RPE-02" in message
    message = refusal(["train", screen, "--out", new, *TRAINING, "--hold-out", "well=B02"], capsys)
    assert "--force-split" in message
    message = refusal(["train", screen, "--out", new, *TRAINING, "--set", "optim.rate=1", "--folds", "2"], capsys)
    assert "No setting 'optim.rate'" in message
    assert "has no run.json" in refusal(["predict", str(folder / "plates")], capsys)
    message = refusal(["explain", run, "--layer", "features.layer9"], capsys)
    assert "features.layer" in message
    assert "softmax" in refusal(["explain", run, "--head", "arcs"], capsys, status=2)  # a word no verb knows
    message = refusal(["index", str(folder / "plates"), "--out", new, "--layout", "rxrx"], capsys)
    assert "'rxrx1'" in message
    message = refusal(["train", screen, "--out", new, "--optim.rate", "1"], capsys)
    assert "No setting 'optim.rate'" in message
    assert "Did you mean 'optim.lr'" in refusal(["train", screen, "--out", new, "--lr", "1"], capsys)
    assert "--optim.lr needs a value" in refusal(["train", screen, "--out", new, "--optim.lr", "--seed", "1"], capsys)
    message = refusal(["train", "--resume", run, "--seed", "1", "--out", new], capsys)
    assert (
        f"Remove --seed, --out: not allowed with --resume {run}. A resumed run keeps its settings and folds" in message
    )
    message = refusal(["train", "--from", run, "--out", new, "--fold", "0"], capsys)
    assert f"Remove --fold: not allowed with --from {run}. The folds of that run are reused." in message
    assert "Name the screen and the new run" in refusal(["train", "--from", run], capsys)
    assert not Path(new).exists()


def test_another_screen_is_no_repeat(folder: Path) -> None:
    earlier = RunFolder.open(folder / "runs/a")
    screen = read_screen(folder / "screen")
    fewer = dataclasses.replace(screen, sites=screen.sites.iloc[1:].reset_index(drop=True))
    with pytest.raises(RunError, match=rf"has {len(fewer.sites)} sites; .* was made with {len(screen.sites)}"):
        load_previous_folds(earlier, fewer)
    metadata = screen.metadata.model_copy(update={"perturbations_sha256": "0"})
    with pytest.raises(RunError, match="has another class list than the screen of"):
        load_previous_folds(earlier, dataclasses.replace(screen, metadata=metadata))


def test_help_lists_every_setting_with_its_value_in_each_preset(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--help"])
    message = capsys.readouterr().out
    line = next(line for line in message.splitlines() if line.strip().startswith("--optim.lr "))
    assert line.strip().endswith("learning rate at its highest [0.00015 in seed, rcic1st; 0.002 in small, scratch]")
    tokens = message.split()
    assert all(f"--{name.replace('_', '-')}" in tokens for name, _ in settings())
    main(["settings", "--preset", "scratch", "--optim.lr", "0.5"])
    values = yaml.safe_load(capsys.readouterr().out)
    assert TrainingConfig.model_validate(values) == resolve_config("scratch", ["optim.lr=0.5"])


def test_an_image_damaged_after_indexing_keeps_its_row_and_says_why(folder: Path, tmp_path: Path) -> None:
    import shutil

    from distangle.inference import predict_run

    for name in ("plates", "screen", "runs"):
        shutil.copytree(folder / name, tmp_path / name)
    screen = read_screen(tmp_path / "screen")
    row = int(np.flatnonzero(screen.sites["experiment"] == "RPE-02")[3])
    path = screen.image_paths(row)[4]
    path.write_bytes(path.read_bytes()[:500])
    _, sites = predict_run(RunFolder.open(tmp_path / "runs/a"), screen)
    assert path.name in sites.table["reason"].iloc[row]
    assert sites.table["predicted"].iloc[row] == ""
    assert np.isnan(sites.logits[row]).all()
    assert (sites.table["reason"] != "").sum() == 1


def test_only_sites_of_the_training_fold_are_trained_on(folder: Path) -> None:
    from distangle.inference import open_model

    out = folder / "runs/three quarters"
    main(["train", str(folder / "screen"), "--out", str(out), *TRAINING, "--hold-out", "experiment=RPE-02"])
    _, card = open_model(RunFolder.open(out))
    sites = read_screen(folder / "screen").sites
    assert sum(card.class_sites) == (sites["experiment"] != "RPE-02").sum()
    assert (sites["experiment"] == "RPE-02").sum() != (sites["experiment"] != "RPE-02").sum()


def test_eight_views_are_the_mean_of_eight_passes(folder: Path) -> None:
    import torch

    from distangle.images import ImageCache, fit_normalization, normalized_batches
    from distangle.inference import cell_type_rows, open_model

    model, card = open_model(RunFolder.open(folder / "runs/a"))
    screen = read_screen(folder / "screen")
    store = ImageCache(screen, card.preprocessing)
    rows, statistics = fit_normalization(store, [0, 1])
    outputs = []
    for view in range(8):
        ((_, normalized),) = normalized_batches(store, rows, statistics, batch_size=2, view=view)
        with torch.no_grad():
            outputs.append(
                model(torch.from_numpy(normalized.copy()), cell_type_rows(screen, rows, card)).logits.numpy()
            )
    store.close()
    predictions = Predictions.read(folder / "runs/a/predictions", level="site", views=8)
    np.testing.assert_allclose(predictions.logits[:2], np.mean(outputs, axis=0), rtol=1e-3, atol=1e-4)


def test_the_untreated_stain_comes_from_the_same_plate_and_places_follow_the_binning(folder: Path) -> None:
    from distangle.explain import matching_controls
    from distangle.explain.context import planted_truth

    screen = read_screen(folder / "screen")
    rows = list(range(0, len(screen.sites), 3))
    matched_controls = matching_controls(screen, rows)
    assert matched_controls is not None
    for row, other in zip(rows, matched_controls, strict=True):
        site, partner = screen.sites.iloc[row], screen.sites.iloc[other]
        assert (site.experiment, site.plate) == (partner.experiment, partner.plate)
        assert partner.role == "negative_control"
        assert site.well != partner.well
    table = Predictions.read(folder / "runs/a/predictions", level="site").table
    full_size, halved = (planted_truth(screen, table, binning=n) for n in (1, 2))
    assert full_size is not None
    assert halved is not None
    assert len(full_size.regions) > 0
    for row, circle in full_size.regions.items():
        assert halved.regions[row] == pytest.approx([value / 2 for value in circle])


def test_without_a_word_on_folds_one_experiment_in_as_many_folds_as_there_are_is_held_out(folder: Path) -> None:
    out = folder / "runs/by itself"
    main(["train", str(folder / "screen"), "--out", str(out), *TRAINING])
    table = pd.read_parquet(RunFolder.open(out).folds)
    assert table.loc[table["fold"] == "held_out", "experiment"].nunique() == 1
    assert table["experiment"].nunique() == 4


def test_the_benchmark_prints_every_method_and_refuses_what_it_would_ignore(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(folder / "runs/a")
    with pytest.raises(SystemExit) as exit_info:
        main(["explain", run, "--benchmark", "--only", "plate=1", "--method", "occlusion", "--parts", "none"])
    assert exit_info.value.code == 1
    message = capsys.readouterr().err.replace("\n", " ")
    assert "Remove --only, --method, --parts: not allowed with --benchmark." in message
    with pytest.raises(SystemExit) as exit_info:
        main(["explain", run, "--perturbation", "sirna_99"])
    assert exit_info.value.code == 1
    assert "The network never saw a perturbation 'sirna_99'" in capsys.readouterr().err.replace("\n", " ")


def test_an_explanation_of_another_screen_names_both_sets_of_channels(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = read_screen(folder / "screen")
    channels = [
        channel.model_copy(update={"name": f"{channel.name} 2"}) if k == 1 else channel
        for k, channel in enumerate(screen.metadata.channels)
    ]
    other = dataclasses.replace(screen, metadata=screen.metadata.model_copy(update={"channels": tuple(channels)}))
    write_screen(other, tmp_path / "screen")
    with pytest.raises(SystemExit) as exit_info:
        main(["explain", str(folder / "runs/a"), "--screen", str(tmp_path / "screen")])
    assert exit_info.value.code == 1
    message = " ".join(capsys.readouterr().err.split())
    assert f"its channels are {channels[0].name}, {channels[1].name}" in message
    assert f"the run's are {screen.metadata.channels[0].name}, {screen.metadata.channels[1].name}" in message
