"""Cross-validation and refit: out-of-fold predictions, resuming, and scores of new screens."""

import json
from pathlib import Path

import numpy as np
import pytest

from distangle.core.progress import no_progress
from distangle.core.signals import StopRequest
from distangle.errors import FoldError, RunError, StoppedError
from distangle.images import ImageCache, fix_statistics
from distangle.inference import open_model, predict_run
from distangle.results import Predictions, RunFolder, Scores
from distangle.screen import HELD_OUT, TRAIN, Folds, Screen, folds_from_options, hold_out
from distangle.training import read_config, resolve_config, start_cross_validation, start_run, train_cross_validation
from distangle.training.cross_validation import _devices, _fold_run, _train_in_parallel
from tiny_run import finish_run, tiny_screen

TINY = (
    "batch_size=4",
    "network.embedding_size=8",
    "precision=fp32",
    "optim.warmup_epochs=1",
    "correction.method=none",
    "network.handcrafted_features=true",
)


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("screen"), size=32, hash_files=True)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("other"), size=32, seed=9, hash_files=True)


@pytest.fixture(scope="module")
def run(screen: Screen, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = resolve_config("small", TINY, epochs=2)
    untrained = start_cross_validation(screen, config, tmp_path_factory.mktemp("run") / "run")
    trained = train_cross_validation(untrained, screen=screen, advance=no_progress, say=no_progress)
    predict_run(trained, screen)
    return trained


def test_every_experiment_is_held_out_once_and_the_last_network_saw_them_all(run: RunFolder, screen: Screen) -> None:
    plan = run.describe()["cross_validation"]
    assert (plan["n_folds"], plan["expect"], plan["group"]) == (3, "experiments", "experiment")
    n_held = np.zeros(len(screen.sites), dtype=int)
    for k in (1, 2, 3):
        part = RunFolder.open(run.cross_validation / f"fold-{k}")
        n_held += Folds.read(part.folds).of(screen) == HELD_OUT
        assert part.features.resolve() == run.features.resolve()
        assert not (part.root / "features").exists()
    assert (n_held == 1).all()
    assert sum(open_model(run)[1].class_sites) == len(screen.sites)


def test_out_of_fold_logits_are_those_of_the_fold_that_had_not_seen_the_site(run: RunFolder, screen: Screen) -> None:
    sites = Predictions.read(run.predictions, level="site", views=8)
    number = sites.table["Metadata_Cross_Validation"].to_numpy()
    assert (sites.table["Metadata_Fold"] == "held_out").all()
    for k in (1, 2, 3):
        part = RunFolder.open(run.cross_validation / f"fold-{k}")
        _, of_fold = predict_run(part, screen)
        rows = (of_fold.table["Metadata_Fold"] == "held_out").to_numpy()
        assert (number[rows] == k).all()
        np.testing.assert_allclose(sites.logits[rows], of_fold.logits[rows], rtol=1e-5, atol=1e-6)
    scores = Scores.read(run.scores)
    assert scores.held_out == "cross-validation over 3 sets of whole experiments"
    whole = next(row for row in scores.rows if row.level == "site" and row.subset == "all" and row.views == 8)
    treatments = sites.table["Metadata_Role"] == "treatment"
    is_correct = (sites.table["predicted"] == sites.table["perturbation"])[treatments]
    assert whole.value == pytest.approx(is_correct.mean())
    assert set(whole.baselines) >= {"position", "plate"}


def test_a_cross_validation_that_was_stopped_goes_on_to_the_same_weights(
    run: RunFolder, screen: Screen, tmp_path: Path
) -> None:
    second_run = start_cross_validation(screen, resolve_config("small", TINY, epochs=2), tmp_path / "again")
    calls: list[str] = []

    def interrupt(message: str) -> None:
        calls.append(message)
        if len(calls) in (2, 3):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_cross_validation(second_run, screen=screen, advance=interrupt, say=no_progress)
    train_cross_validation(second_run, screen=screen, advance=no_progress, say=no_progress)
    for part in ("checkpoints/model.safetensors", "cross_validation/fold-2/checkpoints/model.safetensors"):
        assert (run.root / part).read_bytes() == (second_run.root / part).read_bytes()


def test_a_signal_while_features_are_measured_keeps_what_is_done(screen: Screen, tmp_path: Path) -> None:
    new_run = start_cross_validation(screen, resolve_config("small", TINY, epochs=2), tmp_path / "run")
    stop = StopRequest()
    stop.by = "SIGTERM"
    with pytest.raises(StoppedError):
        train_cross_validation(new_run, screen=screen, advance=no_progress, say=no_progress, stop=stop)
    later = StopRequest()

    def ask(message: str) -> None:
        later.by = "SIGTERM"

    with pytest.raises(StoppedError, match=f"go on with `distangle train --resume {new_run.root}`"):
        train_cross_validation(new_run, screen=screen, advance=ask, say=no_progress, stop=later)
    train_cross_validation(new_run, screen=screen, advance=no_progress, say=no_progress)
    assert new_run.describe()["finished"]


def test_processes_of_their_own_train_the_same_folds(
    run: RunFolder, screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distangle.training.cross_validation._devices", lambda *_, n_folds: ["", ""])
    new_run = start_cross_validation(screen, resolve_config("small", TINY, epochs=2), tmp_path / "run")
    steps: list[str] = []
    messages: list[str] = []
    train_cross_validation(new_run, screen=screen, advance=steps.append, say=messages.append)
    assert "3 folds are trained in parallel, 2 at a time" in messages
    assert len(steps) == 4 * 2  # epochs of three folds and of the last network
    for part in ("cross_validation/fold-1", "cross_validation/fold-3", "."):
        weights = f"{part}/checkpoints/model.safetensors"
        assert (new_run.root / weights).read_bytes() == (run.root / weights).read_bytes()


def test_processes_that_fail_or_are_stopped_say_how_to_go_on(screen: Screen, tmp_path: Path) -> None:
    new_run = start_cross_validation(screen, resolve_config("small", TINY, epochs=2), tmp_path / "run")
    folds = hold_out(screen, column="experiment", values=["E3"])
    part = start_run(screen, folds, read_config(new_run.config), new_run.cross_validation / "fold-1")
    rest = {"epochs": 2, "whole_run": new_run, "advance": no_progress, "say": no_progress}
    stop = StopRequest()
    stop.by = "SIGTERM"
    with pytest.raises(StoppedError):
        _train_in_parallel([part], [""], stop=stop, **rest)
    part.config.write_text("epochs: many\n")
    with pytest.raises(
        RunError, match=r"fold-1 ended with status 1: .*train --resume .*fold-1` shows the whole message"
    ):
        _train_in_parallel([part], [""], stop=StopRequest(), **rest)


def test_heads_are_trained_side_by_side_where_that_is_worth_a_process(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    long, short = (resolve_config("small", TINY, epochs=epochs) for epochs in (500, 2))
    assert _devices(long, screen, n_folds=5) == ["", "", ""]
    assert _devices(long, screen, n_folds=2) == ["", ""]
    assert _devices(short, screen, n_folds=5) == []
    assert _devices(resolve_config("scratch", (), epochs=500), screen, n_folds=5) == []


def test_a_fold_is_standardised_by_its_own_training_wells(tmp_path: Path) -> None:
    """One experiment has an eighth of the light, so the fold without it has very different statistics."""
    screen = tiny_screen(tmp_path, size=32, dark="E3")
    new_run = start_cross_validation(screen, resolve_config("small", TINY, epochs=2), tmp_path / "run")
    whole_config, plan = read_config(new_run.config), new_run.describe()["cross_validation"]
    is_own = []
    for k in range(3):
        part = _fold_run(new_run, screen, whole_config, plan, number=k)
        rows = np.flatnonzero(Folds.read(part.folds).of(screen) == TRAIN).tolist()
        store = ImageCache(screen, whole_config.preprocessing.model_copy(update={"fixed": None}))
        preprocessing = read_config(part.config).preprocessing
        assert preprocessing == fix_statistics(store, rows)
        assert (part.features.resolve() == new_run.features.resolve()) == (preprocessing == whole_config.preprocessing)
        is_own.append(
            "E3" not in set(screen.sites["experiment"].iloc[rows]) and preprocessing != whole_config.preprocessing
        )
    assert sum(is_own) == 1


@pytest.mark.parametrize(
    ("n_folds", "message"), [(7, "with 7 folds needs at least two experiments and one per fold"), (1, "at least two")]
)
def test_fewer_groups_than_folds_are_refused_with_what_to_do(
    screen: Screen, tmp_path: Path, n_folds: int, message: str
) -> None:
    with pytest.raises(FoldError, match=message) as error:
        start_cross_validation(screen, resolve_config("small", TINY), tmp_path / "run", n_folds=n_folds)
    assert "the screen has 3" in str(error.value)
    assert "--hold-out none" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_new_plates_are_scored_and_compared_with_what_was_expected(
    run: RunFolder, other: Screen, tmp_path: Path
) -> None:
    scores, sites = predict_run(run, other, out=tmp_path / "new")
    assert (sites.table["Metadata_Fold"] == "new").all()
    rows = [row for row in scores.rows if row.subset == "all" and row.views == 8 and row.level == "site"]
    treatments = sites.table["Metadata_Role"] == "treatment"
    is_correct = (sites.table["predicted"] == sites.table["perturbation"])[treatments]
    assert rows[0].value == pytest.approx(is_correct.mean())
    assert rows[0].n == int(treatments.sum())
    assert set(rows[0].baselines) >= {"position", "plate", "intensity"}
    expected = next(r for r in Scores.read(run.scores).rows if r.metric == "balanced accuracy" and r.views == 8)
    balanced_row = next(r for r in rows if r.metric == "balanced accuracy")
    sentence = (
        f"balanced accuracy {balanced_row.value:.2f} over {balanced_row.n} sites of treatments; cross-validation gave "
    )
    assert any(sentence in note and f"{expected.value:.2f}" in note for note in scores.notes)


def test_a_score_outside_the_expected_interval_is_warned_of(run: RunFolder, other: Screen, tmp_path: Path) -> None:
    content = run.scores.read_text()
    score_json = json.loads(content)
    for row in score_json["rows"]:
        row |= {"interval": [0.98, 0.99], "value": 0.985, "n_groups": 9, "by_group": {}}
    run.scores.write_text(json.dumps(score_json))
    try:
        scores, _ = predict_run(run, other, out=tmp_path / "new")
    finally:
        run.scores.write_text(content)
    assert any(note.startswith("WARNING: ") and "lies outside the interval 0.98-0.99" in note for note in scores.notes)


def test_training_images_in_another_screen_are_predicted_and_not_scored(
    run: RunFolder, screen: Screen, other: Screen
) -> None:
    copies = other.sites.assign(sha256=screen.sites["sha256"])
    mixed = Screen(metadata=other.metadata, sites=copies, folder=other.folder, problems=other.problems)
    messages: list[str] = []
    from distangle.inference.new_screen import new_sites

    fold = new_sites(run, mixed, say=messages.append)
    assert set(fold.values()) == {"train"}
    start = (
        f"{len(fold)} of {len(fold)} sites are byte-identical to training images of run: they are predicted and not "
    )
    assert messages == [f"{start}scored."]


def test_classes_that_were_never_trained_are_named_apart(run: RunFolder, other: Screen, tmp_path: Path) -> None:
    sites = other.sites.copy()
    sites.loc[sites["perturbation"] == "taxol", "perturbation"] = "vinblastine"
    other_screen = Screen(metadata=other.metadata, sites=sites, folder=other.folder, problems=other.problems)
    scores, _ = predict_run(run, other_screen, out=tmp_path / "new")
    assert scores.never_trained == ("vinblastine",)
    n = int((sites["perturbation"] == "vinblastine").sum())
    assert f"{n} sites of vinblastine are not scored: no training well has them." in scores.notes


def test_other_channels_are_refused_with_both_named(run: RunFolder, other: Screen, tmp_path: Path) -> None:

    channels = tuple(channel.model_copy(update={"name": f"{channel.name} 2"}) for channel in other.metadata.channels)
    other_screen = Screen(
        metadata=other.metadata.model_copy(update={"channels": channels}),
        sites=other.sites,
        folder=other.folder,
        problems=other.problems,
    )
    with pytest.raises(RunError, match="has the channels DNA 2, actin 2; the network was trained on DNA, actin"):
        predict_run(run, other_screen, out=tmp_path / "new")


def test_nothing_held_out_is_trained_on_and_nothing_is_scored(screen: Screen, other: Screen, tmp_path: Path) -> None:
    folds = folds_from_options(screen, by="none")
    assert folds.description == "nothing"
    run = start_run(screen, folds, resolve_config("small", TINY, epochs=1), tmp_path / "run")
    finish_run(run)
    scores, _ = predict_run(run, screen)
    assert scores.rows == ()
    assert scores.notes[0].startswith("Nothing was held out, so nothing is scored")
    new, _ = predict_run(run, other, out=tmp_path / "new")
    assert any(row.level == "well" for row in new.rows)
    assert any("--cross-validate" in note or "What was to be expected" in note for note in new.notes)
    with pytest.raises(FoldError, match="trains on everything: leave out the number of folds"):
        folds_from_options(screen, by="none", n_folds=3)


def test_a_run_that_held_something_out_says_so_beside_new_plates(screen: Screen, other: Screen, tmp_path: Path) -> None:
    folds = hold_out(screen, column="experiment", values=["E3"])
    run = start_run(screen, folds, resolve_config("small", TINY, epochs=1), tmp_path / "run")
    finish_run(run)
    predict_run(run, screen)
    scores, _ = predict_run(run, other, out=tmp_path / "new")
    assert any("holding out experiment=E3 gave" in note for note in scores.notes)


def test_images_are_standardised_by_their_own_side(screen: Screen) -> None:
    """A group on both sides has one estimate per side: changing one side leaves the other unchanged."""
    from distangle.images import statistics_by_site

    rng = np.random.default_rng(0)
    n = len(screen.sites)
    site_statistics = rng.uniform(1, 2, (n, 2, 2)).astype(np.float32)
    fold = np.where(np.arange(n) % 2 == 0, "train", "held_out")
    for by in ("plate", "experiment", "experiment_controls"):
        before = statistics_by_site(screen, site_statistics, by=by, fold=fold)
        altered_statistics = site_statistics + 5 * (fold == "held_out")[:, None, None].astype(np.float32)
        after = statistics_by_site(screen, altered_statistics, by=by, fold=fold)
        assert np.array_equal(before[fold == "train"], after[fold == "train"])
        assert not np.allclose(before[fold == "held_out"], after[fold == "held_out"])


def test_folds_of_another_length_are_refused(screen: Screen) -> None:
    with pytest.raises(ValueError, match="3 folds were given for 24 sites"):
        ImageCache(screen, fold=np.array(["train"] * 3))
