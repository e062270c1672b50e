"""Loss of power: everything not synced to disk is lost."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_kill import state_after, steps_of

from distangle.training.checkpointing.checkpoints import load_state, save_state

OPERATIONS = ("open", "write", "fsync", "replace", "unlink", "close")


class PowerLoss(BaseException):
    """Raised at the loss of power; afterwards the program cannot change the disk."""


class Disk:
    """The part of a folder that survives a loss of power.

    The bytes of a file are there from its last `fsync` on, and its names from the last `fsync` of the folder on; where
    `names_first`, as many file systems do it, a new name is there at once, and its bytes may not be.
    """

    def __init__(self, folder: Path, *, names_first: bool, is_lying: bool) -> None:
        self.folder, self.names_first, self.is_lying = folder, names_first, is_lying
        self.bytes_of: dict[int, bytes] = {path.stat().st_ino: path.read_bytes() for path in folder.iterdir()}
        self.names = self._current_names()

    def _current_names(self) -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in self.folder.iterdir()}

    def after(self, operation: str, arguments: Any, result: Any) -> None:
        """Record an operation."""
        if operation == "open" and arguments[1] & os.O_TRUNC:
            self.bytes_of.pop(os.fstat(result).st_ino, None)  # inode numbers of deleted files are reused
        if operation == "fsync" and not self.is_lying:
            path = Path(f"/proc/self/fd/{arguments[0]}").resolve()
            if path.is_dir():
                self.names = self._current_names()
            else:
                self.bytes_of[path.stat().st_ino] = path.read_bytes()

    def lose_power(self) -> None:
        """Reduce the folder to what survives."""
        names = self._current_names() if self.names_first else self.names
        for path in self.folder.iterdir():
            path.unlink()
        for name, number in names.items():
            (self.folder / name).write_bytes(self.bytes_of.get(number, b""))


def save_until(n: int, disk: Disk, patch: pytest.MonkeyPatch) -> bool:
    """Save the state after four steps; the power goes at the n-th operation, or after the last one. Whether it was."""
    count = 0

    def wrap(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count >= n:
                raise PowerLoss
            result = real(*args, **options)
            disk.after(name, args, result)
            return result

        return call

    for name in OPERATIONS:
        patch.setattr(os, name, wrap(name))
    try:
        save_state(state_after(4), disk.folder, fingerprint="f")
    except PowerLoss:
        return False
    return True


@pytest.mark.parametrize("names_first", [False, True], ids=["names last", "names first"])
def test_without_power_at_any_operation_of_a_save_the_old_state_or_the_new_is_there(
    tmp_path: Path, *, names_first: bool
) -> None:
    outcomes = []
    for n in range(1, 200):
        folder = tmp_path / str(n)
        for steps in (1, 2, 3):
            save_state(state_after(steps), folder, fingerprint="f")
        disk = Disk(folder, names_first=names_first, is_lying=False)
        with pytest.MonkeyPatch.context() as patch:
            is_saved = save_until(n, disk, patch)
        disk.lose_power()
        outcomes.append(steps_of(folder))
        if is_saved:
            break
    assert set(outcomes) == {3, 4}
    assert outcomes == sorted(outcomes), "once the new state is there, it stays"
    assert outcomes[-1] == 4, "what was saved is there"
    assert len(outcomes) > 20, "open, write, fsync, replace and unlink of three files"


@pytest.mark.parametrize("names_first", [False, True], ids=["names last", "names first"])
def test_of_a_disk_that_only_says_it_wrote_the_checkpoint_before_is_used_aloud(
    tmp_path: Path, *, names_first: bool
) -> None:
    for steps in (1, 2, 3):
        save_state(state_after(steps), tmp_path, fingerprint="f")
    disk = Disk(tmp_path, names_first=names_first, is_lying=True)
    with pytest.MonkeyPatch.context() as patch:
        assert save_until(10_000, disk, patch)
    disk.lose_power()
    state = state_after(0)
    passed_over = load_state(state, tmp_path, fingerprint="f").skipped
    assert state.epochs_done == 3
    if names_first:
        assert len(passed_over) == 1
        assert passed_over[0].startswith("checkpoint epoch-0004 is damaged: ")
        assert passed_over[0].endswith(". Using the one before it.")
    else:
        assert passed_over == [], "the new one never was there"
