"""An ablation on a tiny screen: ordinary runs, stopped and resumed, and a table that agrees with their scores."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.ablation import (
    COMPONENTS,
    CONDITIONS,
    chosen_conditions,
    compare,
    continue_ablation,
    plan_ablation,
    run_ablation,
    run_folder,
    write_comparison,
)
from distangle.ablation.components import configure, settings_of
from distangle.ablation.page import caveats, table_lines
from distangle.ablation.plan import AblationPlan
from distangle.ablation.run import count_steps
from distangle.cli import main
from distangle.core.io import sha256_of
from distangle.core.progress import no_progress
from distangle.errors import ConfigError, FoldError, RunError
from distangle.images import N_VIEWS
from distangle.results import RunFolder, Scores
from distangle.screen import Folds, folds_from_options, hold_out, read_screen
from distangle.training import TrainingConfig, read_config, resolve_config, settings, write_config
from tiny_run import TRAINING, fingerprints, tiny_screen

EPOCHS = 2


def recipe(*changes: str) -> TrainingConfig:
    return resolve_config("scratch", [*TRAINING, *changes], epochs=EPOCHS)


def plan_of(
    folder: Path, out: Path, *changes: str, condition_names: str = "baseline,cutmix", seeds: tuple[int, ...] = (0, 1)
) -> AblationPlan:
    screen = read_screen(folder / "screen")
    folds = hold_out(screen, values=["E2", "E3"])
    return plan_ablation(
        screen, folds, recipe(*changes), out, conditions=chosen_conditions(condition_names), seeds=(0, 1)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/ and ablation/, finished: two conditions, two seeds."""
    root = tmp_path_factory.mktemp("ablation")
    tiny_screen(root)
    plan = plan_of(root, root / "ablation")
    calls: list[str] = []
    n = count_steps(plan)
    run_ablation(plan, command="distangle ablate", advance=calls.append, say=no_progress)
    assert len(calls) == n == 4 * (EPOCHS + N_VIEWS)
    write_comparison(plan, compare(plan))
    return root


def test_every_switch_is_a_setting_and_the_baseline_has_none_on() -> None:
    names = {name for name, _ in settings()}
    assert {name for part in COMPONENTS.values() for name in part.settings} <= names
    assert CONDITIONS[0].name == "baseline"
    assert all(set(condition.enabled) <= set(COMPONENTS) for condition in CONDITIONS)
    assert len({condition.enabled for condition in CONDITIONS}) == len(CONDITIONS)
    settings_off = settings_of(CONDITIONS[0], recipe())
    assert settings_off == {
        name: value_off for part in COMPONENTS.values() for name, (value_off, _) in part.settings.items()
    }
    for condition in CONDITIONS:  # valid with any parts switched on
        configure(condition, recipe("pseudo_labels.from_epoch=1", "pseudo_labels.full_epoch=2"), seed=0)


def test_a_part_keeps_its_strength_where_the_recipe_has_it_on() -> None:
    cutmix = chosen_conditions("cutmix")[0]
    assert configure(cutmix, recipe("cutmix.probability=0.25"), seed=3).cutmix.probability == 0.25
    assert configure(cutmix, recipe("cutmix.probability=0"), seed=3).cutmix.probability == 1.0
    assert configure(cutmix, recipe(), seed=3).seed == 3
    assert configure(CONDITIONS[0], recipe(), seed=3).cutmix.probability == 0.0


def test_two_parts_that_share_a_setting_are_told_apart_and_strength_is_kept_only_where_it_is_one() -> None:
    adabn, adabn_with_controls = (
        settings_of(condition, recipe("batch_norm.statistics=experiment"))
        for condition in chosen_conditions("adabn,plate-pure+controls")
    )
    assert (adabn["batch_norm.statistics"], adabn["batch_norm.n_controls"]) == ("plate", 0)
    assert (
        adabn_with_controls["batch_norm.statistics"],
        adabn_with_controls["batch_norm.n_controls"],
        adabn_with_controls["batches.pure"],
    ) == (
        "controls",
        8,
        "plate",
    )
    (reversal,) = chosen_conditions("reversal")
    assert settings_of(reversal, recipe("adversary.weight=0.5"))["adversary.weight"] == 0.5
    assert settings_of(reversal, recipe())["adversary.weight"] == 0.1


def test_a_condition_that_changes_nothing_is_named(folder: Path, tmp_path: Path) -> None:
    for name in ("screen", "ablation"):
        shutil.copytree(folder / name, tmp_path / name)
    assert compare(continue_ablation(tmp_path / "ablation")).unchanged == ()
    for seed in (0, 1):
        shutil.rmtree(tmp_path / f"ablation/runs/cutmix-{seed}")
        shutil.copytree(tmp_path / f"ablation/runs/baseline-{seed}", tmp_path / f"ablation/runs/cutmix-{seed}")
    comparison = compare(continue_ablation(tmp_path / "ablation"))
    assert comparison.unchanged == ("cutmix",)
    assert any(
        caveat.startswith("cutmix: every run predicts, to the last bit, what the baseline")
        for caveat in caveats(comparison)
    )


def test_every_run_is_an_ordinary_one_that_differs_in_what_is_switched(folder: Path) -> None:
    root = folder / "ablation"
    assert sorted(path.name for path in (root / "runs").iterdir()) == [
        "baseline-0",
        "baseline-1",
        "cutmix-0",
        "cutmix-1",
    ]
    configs = {path.name: read_config(path / "config.yaml") for path in (root / "runs").iterdir()}
    assert {name: (config.cutmix.probability, config.seed) for name, config in configs.items()} == {
        "baseline-0": (0.0, 0), "baseline-1": (0.0, 1), "cutmix-0": (0.5, 0), "cutmix-1": (0.5, 1)
    }  # fmt: skip
    configs_without_seed = {
        config.model_copy(update={"seed": 0, "cutmix": recipe().cutmix}) for config in configs.values()
    }
    assert len(configs_without_seed) == 1
    runs = [RunFolder.open(root / "runs" / name) for name in configs]
    assert {run.describe()["folds_sha256"] for run in runs} == {
        json.loads((root / "ablation.json").read_text())["folds_sha256"]
    }
    assert all(run.describe()["commands"] == ["distangle ablate"] for run in runs)
    assert all(run.describe()["finished"] for run in runs)
    assert read_screen(runs[0].screen_folder()).folder == folder / "screen"


def test_the_table_agrees_with_the_scores_of_the_runs(folder: Path) -> None:
    plan = continue_ablation(folder / "ablation")
    comparison = compare(plan)
    assert (comparison.unit, comparison.groups, comparison.seeds, comparison.wells) == (
        "experiment",
        ("E2", "E3"),
        (0, 1),
        "treatments",
    )
    assert comparison.chance == pytest.approx(1 / 3)
    for row in comparison.rows:
        for seed, value in row.by_seed.items():
            scores = Scores.read(RunFolder(folder / "ablation/runs" / f"{row.condition}-{seed}").scores)
            (of_run,) = [
                one for one in scores.rows
                if (one.level, one.views, one.wells, one.subset, one.metric)
                == (row.level, row.views, "treatments", "all", row.metric)
            ]  # fmt: skip
            assert value == pytest.approx(of_run.value)
            assert row.n == of_run.n
        assert row.value == pytest.approx(np.mean(list(row.by_seed.values())))
    assert len(comparison.rows) == 2 * 2 * 2
    base = {(row.level, row.metric): row for row in comparison.rows if row.condition == "baseline"}
    for row in comparison.rows:
        if row.condition == "cutmix":
            assert row.difference == pytest.approx(row.value - base[row.level, row.metric].value)
    curve = comparison.curves["cutmix"]
    metrics = pd.read_csv(folder / "ablation/runs/cutmix-1/metrics.csv")
    np.testing.assert_allclose(curve[:, 1], metrics["held_out_accuracy"])
    assert curve.shape == (EPOCHS, 2)


def test_the_files_say_the_same_as_the_comparison(folder: Path) -> None:
    root = folder / "ablation"
    comparison = compare(continue_ablation(root))
    stored_json = json.loads((root / "comparison.json").read_text())
    assert [row["value"] for row in stored_json["rows"]] == [row.value for row in comparison.rows]
    with (root / "comparison.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["value"]) for line in lines] == [row.value for row in comparison.rows]
    assert [line["difference"] for line in lines if line["condition"] == "baseline"] == [""] * 4
    page = (root / "index.html").read_text(encoding="utf-8")
    assert "2 held-out experiments: an interval takes 5 or more" in page
    assert "An interval adds the variance over the held-out experiments" in page
    assert 'src="curves.svg"' in page
    assert "cutmix.probability=0.5" in page
    printed_lines = list(table_lines(comparison))
    assert [line[:3] for line in printed_lines] == [("baseline", "well", "8"), ("cutmix", "well", "8"),
                                            ("baseline", "site", "1"), ("cutmix", "site", "1")]  # fmt: skip
    assert printed_lines[0][4] == ""
    assert printed_lines[1][4].startswith(("+", "-"))


def test_a_stop_anywhere_costs_nothing_but_time(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "screen", tmp_path / "screen")
    shutil.copytree(folder / "plates", tmp_path / "plates")
    messages: list[str] = []

    def stop_after(n: int) -> None:
        plan, calls = plan_of(tmp_path, tmp_path / "ablation"), [0]

        def advance(message: str) -> None:
            calls[0] += 1
            messages.append(message)
            if calls[0] == n:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_ablation(plan, command="distangle ablate", advance=advance, say=no_progress)

    stop_after(1)  # in the first epoch of the first run
    (tmp_path / "ablation/runs/.cutmix-0.begun").mkdir()
    (tmp_path / "ablation/runs/.cutmix-0.begun/config.yaml").write_text("half a")
    stop_after(EPOCHS + N_VIEWS + 1)  # in the second run
    stop_after(EPOCHS + 3)  # in its prediction
    first = tmp_path / "ablation/runs/baseline-0"
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    plan = continue_ablation(tmp_path / "ablation")
    n, calls = count_steps(plan), []
    run_ablation(plan, command="distangle ablate", advance=calls.append, say=no_progress)
    assert len(calls) == n == 3 * (EPOCHS + N_VIEWS)
    assert not any(message.startswith("baseline-0") for message in calls)
    assert before == {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    for name in ("baseline-0", "cutmix-0", "baseline-1", "cutmix-1"):
        whole, second = (fingerprints(root / "ablation/runs" / name) for root in (folder, tmp_path))
        assert whole == second
    assert count_steps(continue_ablation(tmp_path / "ablation")) == 0


def test_conditions_and_seeds_are_added_later_through_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("screen", "plates", "ablation"):
        shutil.copytree(folder / name, tmp_path / name)
    out = tmp_path / "ablation"
    digest = sha256_of(out / "runs/cutmix-0/checkpoints/model.safetensors")
    main(["ablate", "--out", str(out), "--only", "baseline", "--seeds", "2"])
    output = " ".join(capsys.readouterr().out.split())
    assert "condition level views accuracy over baseline" in output
    plan = continue_ablation(out)
    assert plan.seeds == (0, 1, 2)
    assert plan.commands == (f"distangle ablate --out {out} --only baseline --seeds 2",)
    assert sorted(path.name for path in (out / "runs").iterdir()) == [
        "baseline-0", "baseline-1", "baseline-2", "cutmix-0", "cutmix-1", "cutmix-2"
    ]  # fmt: skip
    assert sha256_of(out / "runs/cutmix-0/checkpoints/model.safetensors") == digest


def test_what_is_not_finished_is_left_out_and_said(folder: Path, tmp_path: Path) -> None:
    for name in ("screen", "ablation"):
        shutil.copytree(folder / name, tmp_path / name)
    (tmp_path / "ablation/runs/cutmix-1/predictions/scores.json").unlink()
    comparison = compare(continue_ablation(tmp_path / "ablation"))
    assert comparison.seeds == (0, 1)
    assert {row.condition: tuple(row.by_seed) for row in comparison.rows} == {"baseline": (0, 1), "cutmix": (0,)}
    assert any("Not every seed is finished for cutmix" in sentence for sentence in caveats(comparison))


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 1
    return " ".join(capsys.readouterr().err.split())


def test_what_does_not_belong_to_the_ablation_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder / "ablation"
    with pytest.raises(
        RunError, match=r"was started with another recipe: optim\.lr was 0\.002, is 0\.1\. Use the same"
    ):
        plan_of(folder, root, "optim.lr=0.1")
    screen = read_screen(folder / "screen")
    with pytest.raises(RunError, match="was started with other folds than experiment=E1"):
        plan_ablation(screen, hold_out(screen, values=["E1"]), recipe(), root, conditions=CONDITIONS[:1])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("!")
    with pytest.raises(RunError, match=r"mine is not empty \(thesis\.txt\) and no ablation"):
        plan_of(folder, tmp_path / "mine")
    with pytest.raises(RunError, match=r"none is no ablation: it has no ablation\.json"):
        continue_ablation(tmp_path / "none")
    with pytest.raises(RunError, match="No run of .* is finished"):
        compare(plan_of(folder, tmp_path / "new"))
    with pytest.raises(ConfigError, match="No condition 'cutmx'. Did you mean 'cutmix'"):
        chosen_conditions("baseline,cutmx")
    with pytest.raises(ConfigError, match="--only names no condition"):
        chosen_conditions(",")
    with pytest.raises(ConfigError, match=r"Condition 'pseudo': .*from_epoch=30, but .* 2 epochs.*`--only cutmix`"):
        plan_of(folder, tmp_path / "late", condition_names="pseudo,cutmix")
    early = ("pseudo_labels.from_epoch=1", "pseudo_labels.full_epoch=1")
    with pytest.raises(FoldError, match=r"Condition 'pseudo': .*`--unlabelled experiment=NAME`\.$"):
        plan_of(folder, tmp_path / "nobody", *early, condition_names="pseudo")
    assert not (tmp_path / "nobody").exists()
    message = error_of(["ablate", "--out", str(root), "--epochs", "3"], capsys)
    assert (
        f"Remove --epochs: not allowed with --out {root}. Without a screen, the ablation in that folder continues"
        in message
    )
    assert "--seeds '0,b': 'b' is not an integer. Expected integers such as 0,1,2." in error_of(
        ["ablate", str(folder / "screen"), "--out", str(tmp_path / "x"), "--seeds", "0,b"], capsys
    )
    assert not (tmp_path / "x").exists()


def test_a_run_with_other_settings_in_the_place_of_ours_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("screen", "ablation"):
        shutil.copytree(folder / name, tmp_path / name)
    run = RunFolder.open(run_folder(continue_ablation(tmp_path / "ablation"), CONDITIONS[0], 0))
    run.scores.unlink()
    run.config.write_text(run.config.read_text().replace("batch_size: 4", "batch_size: 5"))
    with pytest.raises(RunError, match=r"baseline-0 was made with other settings: batch_size is 5, not 4\. Move it"):
        run_ablation(continue_ablation(tmp_path / "ablation"), advance=no_progress, say=no_progress)


def test_a_single_held_out_experiment_gives_plates(folder: Path, tmp_path: Path) -> None:
    screen = read_screen(folder / "screen")
    plan = plan_ablation(screen, hold_out(screen, values=["E3"]), recipe(), tmp_path / "one",
                         conditions=CONDITIONS[:1], seeds=(0,))  # fmt: skip
    run_ablation(plan, advance=no_progress, say=no_progress)
    comparison = compare(plan)
    assert (comparison.unit, comparison.groups) == ("plate", ("E3 plate 1",))
    assert all(row.interval is None for row in comparison.rows)
    assert any("A single experiment is held out" in sentence for sentence in caveats(comparison))
    assert "E3 plate 1" in write_comparison(plan, comparison).read_text(encoding="utf-8")


def test_all_four_conditions_of_the_paper_run_where_labels_are_hidden(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    early = ("pseudo_labels.from_epoch=1", "pseudo_labels.full_epoch=1", "pseudo_labels.confidence=0")
    config.write_text(write_config(recipe(*early)))
    out = tmp_path / "ablation"
    arguments = [
        "--config",
        str(config),
        "--seeds",
        "0",
        "--hold-out",
        "experiment=E3",
        "--unlabelled",
        "experiment=E2",
    ]
    main(["ablate", str(folder / "screen"), "--out", str(out), "--only", "baseline,cutmix,pseudo,both", *arguments])
    pseudo = {name: "pseudo_precision" in pd.read_csv(out / f"runs/{name}-0/metrics.csv") for name in
              ("baseline", "cutmix", "pseudo", "both")}  # fmt: skip
    assert pseudo == {"baseline": False, "cutmix": False, "pseudo": True, "both": True}
    assert read_config(out / "runs/both-0/config.yaml").cutmix.probability == 0.5
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "labels hidden" in page
    assert "CutMix, Eqs. (8) and (9) · pseudo labels, Eq. (7)" in page


@pytest.fixture
def planning_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """End `ablate` after it has written its plan."""

    def stop(*_args: object, **_kwargs: object) -> None:
        message = "planned"
        raise RunError(message)

    monkeypatch.setattr("distangle.ablation.run_ablation", stop)


def ablate_words(folder: Path, out: Path, *flags: str) -> list[str]:
    recipe_of_tests = [word for change in TRAINING for word in ("--set", change)]
    arguments = ["ablate", str(folder / "screen"), "--out", str(out), "--only", "baseline", "--preset", "scratch"]
    return [*arguments, *recipe_of_tests, *flags]


@pytest.mark.usefixtures("planning_only")
def test_an_ablation_takes_groups_and_a_file_of_folds_as_a_training_does(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = read_screen(folder / "screen")
    by_well = folds_from_options(screen, group="well", n_folds=3, fold=1, force=True)
    flags = ("--group", "well", "--folds", "3", "--fold", "1", "--force-split")
    error_of(ablate_words(folder, tmp_path / "grouped", *flags), capsys)
    assert Folds.read(tmp_path / "grouped/folds.parquet").sha256 == by_well.sha256
    fold_file = hold_out(screen, values=["E1"]).write(tmp_path / "mine.parquet")
    error_of(ablate_words(folder, tmp_path / "from-file", "--fold-file", str(fold_file)), capsys)
    assert Folds.read(tmp_path / "from-file/folds.parquet").sha256 == Folds.read(fold_file).sha256
    message = error_of(
        ablate_words(folder, tmp_path / "both", "--fold-file", str(fold_file), "--group", "well"), capsys
    )
    assert (
        f"Remove --group: not allowed with --fold-file {fold_file}. The file determines the held-out wells." in message
    )
    assert not (tmp_path / "both").exists()
    message = error_of(["ablate", "--out", str(folder / "ablation"), "--group", "well"], capsys)
    assert "Remove --group: not allowed with --out" in message
