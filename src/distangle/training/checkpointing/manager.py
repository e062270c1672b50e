"""Save, stop and resume one training, and record how long its epochs take."""

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
from distangle.results.run import START_MARK
from distangle.training.checkpointing.checkpoints import (
    N_EPOCHS_KEPT,
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
    """Writes `timing.csv`: a row for each part of an epoch by one process.

    The times are no metrics: a clock is not a function of the seed.

    Args:
        path: Path of the file; the rows of earlier processes are kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[list[str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = list(csv.reader(file))[1:]
        self.start(0)

    def start(self, step: int) -> None:
        """Start the clock at a step of an epoch."""
        self._from_step, self._start = step, time.monotonic()

    def record(self, *, epoch: int, to_step: int) -> None:
        """Write the seconds since the start, and restart the clock at the first step."""
        seconds = time.monotonic() - self._start
        self._rows.append([str(epoch), str(self._from_step), str(to_step), f"{seconds:.3f}"])
        write_text(self._path, "".join(",".join(row) + "\n" for row in (HEADINGS, *self._rows)))
        self.start(0)


POLL_S = 0.5  # between two checks


def folder_exists(path: Path) -> bool:
    """Return whether a path exists.

    A stale handle of a file server counts as a missing disk.
    """
    try:
        return path.exists()
    except OSError:
        return False


def wait_for_folder(path: Path, *, wait_s: float, is_cancelled: Callable[[], bool]) -> float | None:
    """Wait until a missing path is back, as after a disk has dropped out.

    Args:
        path: The path.
        wait_s: Seconds to wait at most.
        is_cancelled: Returns whether to give up early.

    Returns:
        Seconds until the path was back; None when it did not come back.
    """
    start = time.monotonic()
    while time.monotonic() - start < wait_s and not is_cancelled():
        time.sleep(min(POLL_S, wait_s))
        if folder_exists(path):
            return time.monotonic() - start
    return None


LESS_MEMORY = (
    "End other programs or request more memory; or train again with smaller batches, `distangle train --from RUN --out "
    "runs/NEW --batch-size 8`."
)


class CheckpointManager:
    """Saves and resumes the training of one run.

    Args:
        run: Folder of the run; locked.
        saving: When to save within an epoch.
        fingerprint: Hash of configuration, folds and classes.
        stop: Request to end the training early.
    """

    def __init__(self, run: RunFolder, saving: CheckpointConfig, *, fingerprint: str, stop: StopRequest) -> None:
        self._run, self._saving, self._fingerprint, self._stop = run, saving, fingerprint, stop
        self._timing = Timing(run.timing)
        self._saved, self._saved_at = "", time.monotonic()
        self._say: Callable[[str], None] = no_progress

    def restore(self, state: TrainingState, *, say: Callable[[str], None]) -> None:
        """Clean up after a killed process, and load the last checkpoint if there is one.

        Args:
            state: New state; filled when the run has a checkpoint.
            say: Called with the position of the checkpoint and with changes of the environment.

        Raises:
            RunError: The checkpoints belong to another configuration or network, or none is whole.
        """
        run, self._say = self._run, say
        if is_first():
            remove_stale_temporaries(run.root)
            (run.root / START_MARK).unlink(missing_ok=True)
            sweep_checkpoints(run.checkpoints)
        wait_for_all("the cleanup")
        if has_checkpoint(run.checkpoints):
            report = load_state(state, run.checkpoints, fingerprint=self._fingerprint)
            for message in report.skipped:
                say(message)
            say(f"resumed after {state.position}")
            self._saved = state.position
            wait_for_all("the checkpoint")
            if is_first():
                rename_newer(state, run.checkpoints)
                self._record_changes(state, report.environment_changes, say=say)
        if is_first():
            files = (run.config, run.screen, run.folds, run.run, run.metrics, run.timing)
            # A process may have been killed between writing a file and recording it.
            run.record(*(path for path in (*files, *sorted(run.checkpoints.glob("epoch-*"))) if path.exists()))
        self._timing.start(state.steps_done)
        self._saved_at = time.monotonic()

    def check_disk_space(self, state: TrainingState, *, ema: bool) -> None:
        """Check that the disk has space for the checkpoints and the final weights.

        Args:
            state: State before the first step.
            ema: Whether the training keeps a moving average of the weights.

        Raises:
            StorageError: The disk has too little space.
        """
        if not is_first():
            return
        model = _size(state.model.state_dict().values())
        checkpoint = model * (2 if ema else 1) + 2 * _size(state.model.parameters())
        written = sum(path.stat().st_size for path in self._run.checkpoints.glob("epoch-*"))
        # The kept epochs, one checkpoint within an epoch and one being written; then the final weights.
        needed = (N_EPOCHS_KEPT + 2) * checkpoint + model + (1 << 20)
        check_free_space(
            self._run.root, needed=max(checkpoint, needed - written), content="the checkpoints of this training"
        )

    def check_folder(self) -> None:
        """Check that the run folder still exists, because a write would create it again.

        A disk may drop out and come back, so the training waits with its state in memory before it gives up. With
        several ranks it does not wait, because the other ranks would not wait for this one.

        Raises:
            StorageError: The folder is gone and does not come back, or a stop is requested meanwhile.
        """
        if folder_exists(self._run.run):
            return
        problem = f"{self._run.root} is gone: it was moved or removed, or its disk was disconnected."
        minutes = self._saving.wait_minutes if n_ranks() == 1 else 0
        if minutes:
            self._say(f"{problem} Waiting up to {minutes:g} min for it; the state is kept in memory.")
        waited_s = wait_for_folder(self._run.run, wait_s=60 * minutes, is_cancelled=lambda: bool(self._stop.by))
        if waited_s is None:
            raise StorageError(f"{problem} Nothing more is written there.")
        self._say(f"{self._run.root} is back after {waited_s:.0f} s.")

    def save(self, state: TrainingState, *others: Path) -> None:
        """Write a checkpoint, and record it and other files in the manifest.

        Raises:
            RunError: A tensor is not finite.
            StorageError: The checkpoint cannot be written; the message names the last good one.
        """
        if is_first():
            self.check_folder()
            files = save_state(state, self._run.checkpoints, fingerprint=self._fingerprint)
            self._run.record(*files, *others)
        wait_for_all(f"the save after {state.position}")
        self._saved, self._saved_at = state.position, time.monotonic()

    def after_step(self, state: TrainingState) -> None:
        """Save a checkpoint when one is due.

        Raises:
            StoppedError: A stop was requested.
        """
        every = self._saving.every_steps
        is_late = time.monotonic() - self._saved_at > 60 * self._saving.every_minutes
        is_late, must_stop = any_rank(is_late, bool(self._stop.by), where=f"{state.position}, whether to save")
        if is_late or must_stop or (every and state.steps_done % every == 0):
            self.save(state)
        if must_stop:
            self._stop.stop_now()

    def after_epoch(self, state: TrainingState, *others: Path) -> None:
        """Save the end of an epoch."""
        if is_first():
            self._timing.record(epoch=state.epochs_done, to_step=0)
        self.save(state, self._run.timing, *others)

    def stop_between_epochs(self, state: TrainingState) -> None:
        """Stop between two epochs if a stop was requested.

        Raises:
            StoppedError: A stop was requested, on this rank or on another.
        """
        (must_stop,) = any_rank(bool(self._stop.by), where=f"{state.position}, whether to stop")
        if must_stop:
            self._stop.stop_now()

    def stop_between_batches(self) -> None:
        """Stop between two batches of an evaluation if a stop was requested.

        Several ranks continue, because they evaluate different numbers of batches.

        Raises:
            StoppedError: A stop was requested.
        """
        if n_ranks() == 1:
            self._stop.check()

    def save_stopped(self, state: TrainingState, reason: StoppedError) -> StoppedError:
        """Save the state of a stopped training; return the error that says how to resume."""
        has_steps = state.epochs_done or state.steps_done
        if has_steps and self._saved != state.position:
            self.save(state)
        if state.steps_done and is_first():
            self._timing.record(epoch=state.epochs_done + 1, to_step=state.steps_done)
            self._run.record(self._run.timing)
        where = f"Saved after {state.position}" if has_steps else "No step had been done"
        return StoppedError(f"{reason} {where}; go on with `distangle train --resume {self._run.root}`.")

    def storage_error(self, error: StorageError) -> StorageError:
        """Return a storage error whose message names the last good state."""
        return StorageError(f"{error} {self._resume_hint()}")

    def memory_error(self, error: Exception) -> OutOfMemoryError:
        """Return an out-of-memory error whose message names the last good state."""
        message = str(error)
        if not isinstance(error, OutOfMemoryError):
            detail = message.strip().splitlines()[0] if message.strip() else "no details"
            message = f"Memory ran out ({detail}). {LESS_MEMORY}"
        return OutOfMemoryError(f"{message} {self._resume_hint()}")

    def _resume_hint(self) -> str:
        saved = f"The last good state is after {self._saved}" if self._saved else "No state was saved yet"
        return f"{saved}; go on with `distangle train --resume {self._run.root}`."

    def _record_changes(self, state: TrainingState, changes: list[str], *, say: Callable[[str], None]) -> None:
        if not changes:
            return
        message = f"not bit-exact from {state.position} on: {'; '.join(changes)}"
        say(f"{message}. The result is as good as that of an uninterrupted run, but not equal to the last bit.")
        description = self._run.describe()
        write_json(self._run.run, {**description, "not_bit_exact": [*description.get("not_bit_exact", []), message]})


def ran_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that the memory of the CPU or GPU ran out."""
    allocators = ("DefaultCPUAllocator", "Cannot allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        allocator in str(error) for allocator in allocators
    )


@contextlib.contextmanager
def single_writer(run: RunFolder, *, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a run; with several ranks the first one holds it for all.

    Args:
        run: The run to train.
        say: Called with a message when the lock of a dead process is cleared.

    Raises:
        RunError: Another process trains the run.
        StorageError: The folder of the run cannot be written to.
    """
    with run_lock(run.root, say=say) if is_first() else contextlib.nullcontext():
        yield


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
