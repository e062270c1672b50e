"""A training that was stopped after any step ends, byte for byte, as if it had not been."""

import shutil
from pathlib import Path

import pytest

import distangle.training.checkpointing.manager as training
from distangle.images import ImageCache
from distangle.results import RunFolder
from distangle.training.checkpointing.checkpoints import save_state
from tiny_run import StoppedHere, fingerprints, finish_run, stop_at_save, whole_and_fresh

EPOCHS = 2
STEPS = 16 // (4 * 2)  # of an epoch: sites of the training fold, batch, batches of a step
SAVES = EPOCHS * (STEPS + 1)  # after every step and every epoch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_and_fresh(tmp_path_factory.mktemp("resume"), epochs=EPOCHS)


@pytest.mark.parametrize(
    ("n", "save_first"),
    [*((n, True) for n in range(1, SAVES + 1)), (1, False), (3, False), (SAVES, False)],
)
def test_a_stop_at_any_save_leaves_no_trace_in_the_result(folder: Path, n: int, save_first: bool) -> None:
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / f"runs/{n} {save_first}")))
    stop_at_save(run, n, is_written=save_first)
    messages: list[str] = []
    finish_run(run, say=messages.append)
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")
    epoch, step = divmod(n - (not save_first), STEPS + 1)
    position = f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"
    assert messages == ([f"resumed after {position}"] if epoch or step else [])


def test_how_often_it_is_saved_changes_nothing_in_the_network(folder: Path) -> None:
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / "runs/seldom")))
    run.config.write_text(run.config.read_text().replace("every_steps: 1", "every_steps: 0"))
    finish_run(run)
    result, whole = fingerprints(run.root), fingerprints(folder / "runs/whole")
    same_files = ("checkpoints/model.safetensors", "checkpoints/epoch-0002.safetensors", "metrics.csv")
    assert all(result[name] == whole[name] for name in same_files)


def test_a_run_saves_within_an_epoch_when_the_clock_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / "runs/clock")))
    run.config.write_text(
        run.config.read_text().replace("every_steps: 1", "every_steps: 0").replace("15.0", "0.0000001")
    )
    positions: list[tuple[int, int]] = []

    def count_saves(state: training.TrainingState, *args: object, **options: object) -> list[Path]:
        positions.append((state.epochs_done, state.steps_done))
        return save_state(state, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "save_state", count_saves)
    finish_run(run)
    assert positions == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]


@pytest.mark.parametrize(("workers", "memory"), [(1, 0), (2, 0), (5, 0), (5, 4 << 30)])
def test_threads_that_decode_change_no_byte_neither_of_a_run_nor_of_its_resume(
    folder: Path, workers: int, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / f"runs/{workers} threads {memory}")))
    real, calls, init = save_state, 0, ImageCache.__init__

    def save_and_stop(*args: object, **options: object) -> list[Path]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise StoppedHere
        return real(*args, **options)  # type: ignore[arg-type]

    def store_of(n: int) -> None:
        monkeypatch.setattr(
            ImageCache,
            "__init__",
            lambda self, *args, **keywords: init(self, *args, **keywords, memory=memory, workers=n),
        )

    store_of(workers)
    monkeypatch.setattr(training, "save_state", save_and_stop)
    with pytest.raises(StoppedHere):
        finish_run(run)
    store_of(7 - workers)  # the resume has another number of them
    finish_run(run)
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")
