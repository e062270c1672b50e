"""A training that was stopped after any step ends, byte for byte, as if it had not been."""

import shutil
from pathlib import Path

import pytest

import distangle.training.checkpointing.manager as training
from distangle.images import ImageCache
from distangle.results import RunFolder
from distangle.training.checkpointing.checkpoints import save_state
from tiny_run import StoppedHere, fingerprints, go_on, stop_at_save, whole_and_fresh

EPOCHS = 2
STEPS = 16 // (4 * 2)  # of an epoch: sites of the training fold, batch, batches of a step
SAVES = EPOCHS * (STEPS + 1)  # after every step and every epoch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_and_fresh(tmp_path_factory.mktemp("resume"), epochs=EPOCHS)


@pytest.mark.parametrize(
    ("n", "written"),
    [*((n, True) for n in range(1, SAVES + 1)), (1, False), (3, False), (SAVES, False)],
)
def test_a_stop_at_any_save_leaves_no_trace_in_the_result(folder: Path, n: int, written: bool) -> None:
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / f"runs/{n} {written}")))
    stop_at_save(run, n, written=written)
    said: list[str] = []
    go_on(run, say=said.append)
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")
    epoch, step = divmod(n - (not written), STEPS + 1)
    where = f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"
    assert said == ([f"resumed after {where}"] if epoch or step else [])


def test_how_often_it_is_saved_changes_nothing_in_the_network(folder: Path) -> None:
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / "runs/seldom")))
    run.config.write_text(run.config.read_text().replace("every_steps: 1", "every_steps: 0"))
    go_on(run)
    found, whole = fingerprints(run.root), fingerprints(folder / "runs/whole")
    same = ("checkpoints/model.safetensors", "checkpoints/epoch-0002.safetensors", "metrics.csv")
    assert all(found[name] == whole[name] for name in same)


def test_a_run_saves_within_an_epoch_when_the_clock_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / "runs/clock")))
    run.config.write_text(
        run.config.read_text().replace("every_steps: 1", "every_steps: 0").replace("15.0", "0.0000001")
    )
    saved: list[tuple[int, int]] = []

    def counting(state: training.TrainingState, *args: object, **words: object) -> list[Path]:
        saved.append((state.epochs_done, state.steps_done))
        return save_state(state, *args, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "save_state", counting)
    go_on(run)
    assert saved == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]


@pytest.mark.parametrize(("workers", "memory"), [(1, 0), (2, 0), (5, 0), (5, 4 << 30)])
def test_threads_that_decode_change_no_byte_neither_of_a_run_nor_of_its_resume(
    folder: Path, workers: int, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / f"runs/{workers} threads {memory}")))
    real, calls, made = save_state, 0, ImageCache.__init__

    def stopping(*args: object, **words: object) -> list[Path]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise StoppedHere
        return real(*args, **words)  # type: ignore[arg-type]

    def store_of(n: int) -> None:
        monkeypatch.setattr(
            ImageCache, "__init__", lambda self, *args, **given: made(self, *args, **given, memory=memory, workers=n)
        )

    store_of(workers)
    monkeypatch.setattr(training, "save_state", stopping)
    with pytest.raises(StoppedHere):
        go_on(run)
    store_of(7 - workers)  # the resume has another number of them
    go_on(run)
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")
