"""Record how long epochs take, apart from the metrics.

A clock is not a function of the seed.

Wait for a folder that is gone: a disk that drops out comes back.

Save one training when it is time, stop it on request, and resume it.
"""

import contextlib
import csv
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from distangle.core.distributed import any_rank, is_first, n_ranks, wait_for_all
from distangle.core.io import check_free_space, remove_stale_temporaries, write_json, write_text
from distangle.core.lock import run_lock
from distangle.core.progress import no_progress
from distangle.core.signals import StopRequest
from distangle.errors import OutOfMemoryError, StoppedError, StorageError
from distangle.results import RunFolder
from distangle.results.run import BEGUN
from distangle.training.checkpointing.checkpoints import (
    KEEP,
    has_checkpoint,
    load_state,
    rename_newer,
    save_state,
    sweep_checkpoints,
)
from distangle.training.config import CheckpointConfig
from distangle.training.state import TrainingState

HEADINGS = ("epoch", "from_step", "to_step", "seconds")


class Timing:
    """Writes `timing.csv`: one row for each part of an epoch that a process trained.

    Args:
        path: Of the file; rows of earlier processes stay.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[list[str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as opened:
                self._rows = list(csv.reader(opened))[1:]
        self.start(0)

    def start(self, step: int) -> None:
        """Start the clock at a step of an epoch."""
        self._from_step, self._started = step, time.monotonic()

    def stretch(self, *, epoch: int, to_step: int) -> None:
        """Enter what has been worked since the start, and start anew at the first step."""
        seconds = time.monotonic() - self._started
        self._rows.append([str(epoch), str(self._from_step), str(to_step), f"{seconds:.3f}"])
        write_text(self._path, "".join(",".join(row) + "\n" for row in (HEADINGS, *self._rows)))
        self.start(0)


POLL_S = 0.5  # between two looks


def folder_exists(path: Path) -> bool:
    """Tell whether a path can be seen.

    A stale handle of a file server counts as a disk that is not there.
    """
    try:
        return path.exists()
    except OSError:
        return False


def wait_for_folder(path: Path, *, wait_s: float, given_up: Callable[[], bool]) -> float | None:
    """Wait until a path is there again.

    Args:
        path: What is looked for.
        wait_s: Seconds, at most.
        given_up: Whether somebody wants the end meanwhile.

    Returns:
        Seconds that it took; None when it did not come back.
    """
    began = time.monotonic()
    while time.monotonic() - began < wait_s and not given_up():
        time.sleep(min(POLL_S, wait_s))
        if folder_exists(path):
            return time.monotonic() - began
    return None


MEMORY_ADVICE = (
    "End other programs or ask for more memory; or train again with smaller batches, `distangle train --from RUN --out "
    "runs/NEW --batch-size 8`."
)


class CheckpointManager:
    """Saves and resumes the training of one run.

    Args:
        run: Its folder; locked.
        saving: When to save within an epoch.
        fingerprint: Hash of configuration, folds and classes.
        stop: Whether the training is to end early.
    """

    def __init__(self, run: RunFolder, saving: CheckpointConfig, *, fingerprint: str, stop: StopRequest) -> None:
        self._run, self._saving, self._fingerprint, self._stop = run, saving, fingerprint, stop
        self._timing = Timing(run.timing)
        self._saved, self._saved_at = "", time.monotonic()
        self._say: Callable[[str], None] = no_progress

    def begin(self, state: TrainingState, *, say: Callable[[str], None]) -> None:
        """Clean up after a killed process, and load the last checkpoint if there is one.

        Args:
            state: Freshly built; filled when the run has a checkpoint.
            say: Told where it goes on, and what is no longer as it was.

        Raises:
            RunError: The checkpoints belong to another configuration or network, or none is whole.
        """
        run, self._say = self._run, say
        if is_first():
            remove_stale_temporaries(run.root)
            (run.root / BEGUN).unlink(missing_ok=True)
            sweep_checkpoints(run.checkpoints)
        wait_for_all("the sweep")
        if has_checkpoint(run.checkpoints):
            resumed = load_state(state, run.checkpoints, fingerprint=self._fingerprint)
            for sentence in resumed.passed_over:
                say(sentence)
            say(f"resumed after {state.position}")
            self._saved = state.position
            wait_for_all("the checkpoint")
            if is_first():
                rename_newer(state, run.checkpoints)
                self._keep_changes(state, resumed.changed, say=say)
        if is_first():
            made = (run.config, run.screen, run.folds, run.run, run.metrics, run.timing)
            # The end may have come between a file and its entry.
            run.record(*(path for path in (*made, *sorted(run.checkpoints.glob("epoch-*"))) if path.exists()))
        self._timing.start(state.steps_done)
        self._saved_at = time.monotonic()

    def check_free_space(self, state: TrainingState, *, average: bool) -> None:
        """Check that the disk has room for all that the training will write.

        Args:
            state: Before its first step.
            average: Whether a moving average of the weights is kept.

        Raises:
            StorageError: It has not.
        """
        if not is_first():
            return
        model = _size(state.model.state_dict().values())
        checkpoint = model * (2 if average else 1) + 2 * _size(state.model.parameters())
        there = sum(path.stat().st_size for path in self._run.checkpoints.glob("epoch-*"))
        # Those that are kept, one within an epoch, one being written; then the final weights.
        needed = (KEEP + 2) * checkpoint + model + (1 << 20)
        check_free_space(
            self._run.root, needed=max(checkpoint, needed - there), what="the checkpoints of this training"
        )

    def check_there(self) -> None:
        """Check that the run folder is still there: a write would make it anew.

        A disk that drops out comes back: so the training waits, with its state in memory, before it gives up. One of
        several ranks does not, for the others would not wait for it.

        Raises:
            StorageError: The folder is gone and does not come back, or somebody asks for the end meanwhile.
        """
        if folder_exists(self._run.run):
            return
        gone = f"{self._run.root} is gone: it was moved or removed, or its disk is no longer there."
        minutes = self._saving.wait_minutes if n_ranks() == 1 else 0
        if minutes:
            self._say(f"{gone} Waiting up to {minutes:g} min for it; the state is kept in memory.")
        took = wait_for_folder(self._run.run, wait_s=60 * minutes, given_up=lambda: bool(self._stop.by))
        if took is None:
            raise StorageError(f"{gone} Nothing more is written there.")
        self._say(f"{self._run.root} is back after {took:.0f} s.")

    def save(self, state: TrainingState, *others: Path) -> None:
        """Write a checkpoint, and enter it and other files into the manifest.

        Raises:
            RunError: A tensor is not finite.
            StorageError: It cannot be written; says what there is to go on from.
        """
        if is_first():
            self.check_there()
            written = save_state(state, self._run.checkpoints, fingerprint=self._fingerprint)
            self._run.record(*written, *others)
        wait_for_all(f"the save after {state.position}")
        self._saved, self._saved_at = state.position, time.monotonic()

    def after_step(self, state: TrainingState) -> None:
        """Save when it is time.

        Raises:
            Stopped: Somebody asked for it.
        """
        every = self._saving.every_steps
        late = time.monotonic() - self._saved_at > 60 * self._saving.every_minutes
        late, asked = any_rank(late, bool(self._stop.by), where=f"{state.position}, whether to save")
        if late or asked or (every and state.steps_done % every == 0):
            self.save(state)
        if asked:
            self._stop.stop_now()

    def after_epoch(self, state: TrainingState, *others: Path) -> None:
        """Save the end of an epoch."""
        if is_first():
            self._timing.stretch(epoch=state.epochs_done, to_step=0)
        self.save(state, self._run.timing, *others)

    def between_epochs(self, state: TrainingState) -> None:
        """Stop here if somebody asked for it.

        Raises:
            Stopped: Somebody did, on this rank or on another.
        """
        (asked,) = any_rank(bool(self._stop.by), where=f"{state.position}, whether to stop")
        if asked:
            self._stop.stop_now()

    def between_batches(self) -> None:
        """Stop between two batches of an evaluation.

        Several ranks go on, because they evaluate unequal numbers of batches.

        Raises:
            Stopped: Somebody asked for it.
        """
        if n_ranks() == 1:
            self._stop.check()

    def stopped(self, state: TrainingState, why: StoppedError) -> StoppedError:
        """Save where the training was stopped; return what to say of it."""
        done = state.epochs_done or state.steps_done
        if done and self._saved != state.position:
            self.save(state)
        if state.steps_done and is_first():
            self._timing.stretch(epoch=state.epochs_done + 1, to_step=state.steps_done)
            self._run.record(self._run.timing)
        where = f"Saved after {state.position}" if done else "No step had been done"
        return StoppedError(f"{why} {where}; go on with `distangle train --resume {self._run.root}`.")

    def not_stored(self, error: StorageError) -> StorageError:
        """Return an error of the storage with what there is to go on from."""
        return StorageError(f"{error} {self._left()}")

    def short_of_memory(self, error: Exception) -> OutOfMemoryError:
        """Return an error on memory with what there is to go on from."""
        words = str(error)
        if not isinstance(error, OutOfMemoryError):
            reason = words.strip().splitlines()[0] if words.strip() else "no details"
            words = f"Memory ran out ({reason}). {MEMORY_ADVICE}"
        return OutOfMemoryError(f"{words} {self._left()}")

    def _left(self) -> str:
        kept = f"The last good state is that after {self._saved}" if self._saved else "No state was saved yet"
        return f"{kept}; go on with `distangle train --resume {self._run.root}`."

    def _keep_changes(self, state: TrainingState, changed: list[str], *, say: Callable[[str], None]) -> None:
        if not changed:
            return
        sentence = f"not bit-exact from {state.position} on: {'; '.join(changed)}"
        say(f"{sentence}. The result is as good, but not to the last bit that of an uninterrupted run.")
        told = self._run.describe()
        write_json(self._run.run, {**told, "not_bit_exact": [*told.get("not_bit_exact", []), sentence]})


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, of the processor or of the GPU."""
    allocators = ("DefaultCPUAllocator", "Cannot allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in allocators)


@contextlib.contextmanager
def single_writer(run: RunFolder, *, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a run; of several ranks the first holds it for all.

    Args:
        run: To be trained.
        say: Told when the lock of a dead process is cleared.

    Raises:
        RunError: Another process trains the run.
        StorageError: Its folder cannot be written to.
    """
    with run_lock(run.root, say=say) if is_first() else contextlib.nullcontext():
        yield


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
