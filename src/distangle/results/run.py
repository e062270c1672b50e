"""The folder of one run: the only contract between computing and viewing."""

import datetime
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distangle.commit import commit_json, sha256_of
from distangle.errors import RunError


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
            RunError: The folder holds a run already.
        """
        if root.exists() and any(root.iterdir()):
            message = (
                f"{root} is not empty. Name another folder, or go on with this run: `distangle train --resume {root}`."
            )
            raise RunError(message)
        root.mkdir(parents=True, exist_ok=True)
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
        """Read `run.json`."""
        said: dict[str, Any] = json.loads(self.run.read_text(encoding="utf-8"))
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

    def record(self, *paths: Path) -> None:
        """Enter files of this folder into the manifest, replacing their older entries."""
        entries: dict[str, Any] = {}
        if self.manifest.exists():
            entries = json.loads(self.manifest.read_text(encoding="utf-8"))["files"]
        for path in paths:
            name = path.relative_to(self.root).as_posix()
            entries[name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        entries = {name: entries[name] for name in sorted(entries) if (self.root / name).exists()}
        commit_json(
            self.manifest,
            {"written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "files": entries},
        )


def relative_path(target: Path, start: Path) -> str:
    """Return `target` as seen from the folder `start`, with forward slashes: survives moving both."""
    return Path(os.path.relpath(target.resolve(), start.resolve())).as_posix()
