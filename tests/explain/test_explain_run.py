"""A run explained together with runs of other seeds and a run trained on shuffled labels."""

from pathlib import Path

import pytest

from distangle.errors import ExplanationError
from distangle.explain import (
    AnalysisOptions,
    ExplainSettings,
    SiteSelection,
    channel_shapley,
    explain_run,
    load_context,
)
from distangle.inference import predict_run
from distangle.results import Faithfulness, RunFolder
from distangle.screen import Screen, hold_out
from distangle.training import resolve_config, start_run
from tiny_run import TRAINING, finish_run, tiny_screen, tiny_start

QUICK = ExplainSettings(n_null_maps=3, n_draws=5)


@pytest.fixture(scope="module")
def folder_and_screen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Screen]:
    folder = tmp_path_factory.mktemp("beside")
    screen = tiny_screen(folder, size=72)
    for name, changes in (("one", ()), ("two", ("seed=1",)), ("null", ("shuffle_labels=true",))):
        run = tiny_start(screen, folder / name, *changes, epochs=1)
        finish_run(run)
        predict_run(run, screen)
    return folder, screen


def test_runs_of_other_seeds_and_of_shuffled_labels_are_asked_about_the_same_sites(folder_and_screen) -> None:
    folder, screen = folder_and_screen
    run, other, blind = (RunFolder.open(folder / name) for name in ("one", "two", "null"))
    wells = ["B04", "B05", "B07", "B08"]  # not the first ones
    result = explain_run(
        run,
        screen,
        selection=SiteSelection(only={"well": wells}),
        settings=QUICK,
        options=AnalysisOptions(parts=("faithfulness",), seeds=[other], shuffled=blind),
    )
    faithfulness = Faithfulness.read(run.explanations)
    for name in ("seeds", "shuffled"):
        assert (faithfulness.summary[name]["networks"], faithfulness.summary[name]["sites"]) == (2, 4)
        assert -1 <= faithfulness.summary[name]["similarity"]["mean"] < 1
    assert {"seeds", "shuffled"} <= set(faithfulness.summary["verdicts"])
    context = load_context(run, screen, selection=SiteSelection(only={"well": wells}))
    assert result.table["Metadata_Well"].tolist() == screen.sites["well"].iloc[list(context.rows)].tolist() == wells
    assert set(screen.sites["experiment"].iloc[list(context.rows)]) == {"E3"}


def test_a_run_that_held_out_other_sites_is_refused(folder_and_screen) -> None:
    folder, screen = folder_and_screen
    folds = hold_out(screen, column="experiment", values=["E2"])
    start_run(screen, folds, resolve_config("scratch", list(TRAINING), epochs=1), folder / "elsewhere")
    run, other = RunFolder.open(folder / "one"), RunFolder.open(folder / "elsewhere")
    with pytest.raises(ExplanationError, match=r"elsewhere holds out other sites \(.*E2.*may have been trained"):
        explain_run(
            run,
            screen,
            selection=SiteSelection(n_sites=4),
            settings=QUICK,
            options=AnalysisOptions(parts=("faithfulness",), seeds=[other]),
        )


@pytest.mark.parametrize(("setting", "expected"), [(None, "control"), ("mean", "mean"), ("other_well", "other_well")])
def test_the_removal_of_the_settings_is_taken_by_the_scores_and_by_their_tests(
    folder_and_screen, monkeypatch, setting, expected
) -> None:
    folder, screen = folder_and_screen
    run = RunFolder.open(folder / "one")
    removals = []

    def shapley(model, sites, settings):
        removals.append(settings.removal)
        return channel_shapley(model, sites, settings)

    monkeypatch.setattr("distangle.explain.faithfulness.map_similarity.channel_shapley", shapley)
    result = explain_run(
        run,
        screen,
        selection=SiteSelection(n_sites=2),
        settings=QUICK.model_copy(update={"removal": setting}),
        options=AnalysisOptions(parts=("faithfulness",)),
    )
    assert result.settings["removal"] == expected
    assert Faithfulness.read(run.explanations).settings["removal"] == expected
    assert set(removals) == {expected}


def test_a_truth_that_is_not_of_this_screen_is_left_aside_with_a_word(folder_and_screen) -> None:
    folder, screen = folder_and_screen
    run = RunFolder.open(folder / "one")
    truth = folder / "plates" / "truth.json"
    truth.write_text('{"labels": "of the laboratory"}', encoding="utf-8")
    output: list[str] = []
    try:
        result = explain_run(
            run,
            screen,
            selection=SiteSelection(n_sites=2),
            settings=QUICK,
            options=AnalysisOptions(parts=()),
            say=output.append,
        )
    finally:
        truth.unlink()
    assert result.planted is None
    assert len(output) == 1
    assert "truth.json was not written by `distangle simulate`" in output[0]
