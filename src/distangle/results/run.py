"""The folder of one run: the only contract between computing and viewing."""

import contextlib
import datetime
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distangle.commit import TEMPORARY, commit_json, sha256_of
from distangle.errors import RunError, StorageError

BEGUN = ("config.yaml", "screen.json", "folds.parquet")  # what a run is made of before its run.json


@dataclass(frozen=True)
class RunFolder:
    """Names of what lies in `runs/NAME/`; each property is a path, existing or not."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved training configuration, YAML."""
        return self.root / "config.yaml"

    @property
    def screen(self) -> Path:
        """A copy of the screen's `screen.json` as it was at training."""
        return self.root / "screen.json"

    @property
    def folds(self) -> Path:
        """Which site was in which fold, Parquet."""
        return self.root / "folds.parquet"

    @property
    def run(self) -> Path:
        """What ties the folder together: relative path of the screen, label column, hash of the folds."""
        return self.root / "run.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints (safetensors + JSON)."""
        return self.root / "checkpoints"

    @property
    def features(self) -> Path:
        """Folder of what a frozen backbone says of every site; the folds of a cross-validation share it."""
        return self.root / str(self.describe().get("features", "features"))

    @property
    def image_statistics(self) -> Path:
        """Mean and spread of every channel of every image of the screen, NumPy [site, 2, channel]."""
        return self.root / "image_statistics.npy"

    @property
    def correction(self) -> Path:
        """Which batch correction was chosen, and what it was compared with, JSON."""
        return self.root / "correction.json"

    @property
    def cross_validation(self) -> Path:
        """Folder of the runs of a cross-validation, one per fold."""
        return self.root / "cross_validation"

    @property
    def metrics(self) -> Path:
        """One row per epoch, CSV."""
        return self.root / "metrics.csv"

    @property
    def timing(self) -> Path:
        """Seconds of every epoch, CSV; says nothing about the result."""
        return self.root / "timing.csv"

    @property
    def predictions(self) -> Path:
        """Folder of the predictions."""
        return self.root / "predictions"

    @property
    def scores(self) -> Path:
        """The score table, JSON."""
        return self.predictions / "scores.json"

    @property
    def explanations(self) -> Path:
        """Folder of the explanations."""
        return self.root / "explanations"

    @property
    def report(self) -> Path:
        """Folder of the HTML report."""
        return self.root / "report"

    @property
    def manifest(self) -> Path:
        """SHA-256 and size of every file, JSON."""
        return self.root / "manifest.json"

    @classmethod
    def create(cls, root: Path) -> "RunFolder":
        """Make a new, empty run folder.

        Raises:
            RunError: The folder holds a run already, or something else.
            StorageError: It cannot be made.
        """
        left = list(root.iterdir()) if root.is_dir() else []
        if all(path.name in BEGUN or TEMPORARY.fullmatch(path.name) for path in left):
            for path in left:
                path.unlink()  # a start that was killed before it had a run.json
        elif (root / "run.json").exists():
            message = f"{root} holds a run. Name another folder, or go on with it: `distangle train --resume {root}`."
            raise RunError(message)
        else:
            message = f"{root} is not empty, and it is no run. Name another folder."
            raise RunError(message)
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{root} cannot be made: {error.strerror or error}. Name a folder that you may write to."
            raise StorageError(message) from error
        return cls(root)

    @classmethod
    def open(cls, root: Path) -> "RunFolder":
        """Open an existing run folder.

        Raises:
            RunError: There is no run at `root`.
        """
        run = cls(root)
        if not run.run.exists():
            message = f"{root} is not a run: it has no run.json. `distangle train SCREEN` makes one."
            raise RunError(message)
        return run

    def describe(self) -> dict[str, Any]:
        """Read `run.json`.

        Raises:
            RunError: It is damaged.
        """
        try:
            said: dict[str, Any] = dict(json.loads(self.run.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            message = f"{self.run} is damaged ({error}). Restore it from a copy; `distangle verify` names what else is."
            raise RunError(message) from error
        return said

    def add_command(self, command: str) -> None:
        """Keep a command line under `commands` of `run.json`; one typed twice in a row is kept once."""
        said = self.describe()
        commands = [*said.get("commands", []), command]
        commands = commands[:-1] if commands[-2:-1] == [command] else commands
        commit_json(self.run, {**said, "commands": commands})
        self.record(self.run)

    def screen_folder(self, given: Path | None = None) -> Path:
        """Find the screen that the run was trained on, or check the one given.

        Raises:
            RunError: It is not where it was.
        """
        folder = given if given is not None else (self.root / self.describe()["screen"]).resolve()
        if not (folder / "screen.json").exists():
            message = f"No screen.json in {folder}. If the screen was moved, name its folder: `--screen FOLDER`."
            raise RunError(message)
        return folder

    def is_own(self, sites_sha256: str) -> bool:
        """Whether a screen whose sites have this hash is the one that the run was trained on, wherever it lies."""
        return bool(json.loads(self.screen.read_text(encoding="utf-8"))["sites_sha256"] == sites_sha256)

    def record(self, *paths: Path) -> None:
        """Enter files of this folder into the manifest, replacing their older entries; forget those that are gone.

        Who writes into a folder answers for all of it: what has vanished from the folders of these files was let go
        of, and is forgotten. What has vanished elsewhere stays listed, so that `verify` finds it missing.
        """
        with self._alone():
            entries: dict[str, Any] = {}
            if self.manifest.exists():
                entries = json.loads(self.manifest.read_text(encoding="utf-8"))["files"]
            for path in (path for path in paths if path.exists()):
                entries[self._name(path)] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
            folders = {self._name(path.parent) for path in paths}
            gone = {
                name for name in entries if Path(name).parent.as_posix() in folders and not (self.root / name).exists()
            }
            commit_json(
                self.manifest,
                {
                    "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                    "files": {name: entries[name] for name in sorted(entries) if name not in gone},
                },
            )

    def lists(self, path: Path) -> bool:
        """Whether the manifest has an entry for a file of this folder."""
        if not self.manifest.exists():
            return False
        return self._name(path) in json.loads(self.manifest.read_text(encoding="utf-8"))["files"]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process changes the manifest: a report may be made while the run is trained."""
        folder = os.open(self.root, os.O_RDONLY)
        try:
            with contextlib.suppress(ImportError, OSError):  # a system or storage without such locks
                import fcntl

                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def relative_path(target: Path, start: Path) -> str:
    """Return `target` as seen from the folder `start`, with forward slashes: survives moving both."""
    return Path(os.path.relpath(target.resolve(), start.resolve())).as_posix()
