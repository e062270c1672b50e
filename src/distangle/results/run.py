"""The folder of one run: the only contract between computing and viewing."""

import contextlib
import datetime
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from distangle.core.io import TEMPORARY, sha256_of, write_json, write_text
from distangle.core.lock import LOCK_NAME as LOCK
from distangle.core.lock import run_lock
from distangle.core.progress import no_progress
from distangle.core.untrusted_files import UnexpectedContent, check_type, links_out, read_json, read_regular_file
from distangle.errors import RunError, StorageError

FIRST = ("config.yaml", "screen.json", "folds.parquet")  # what a run is made of before its run.json
BEGUN = ".begun"  # lies in a folder as long as a start is at work there, and after one that was killed
MOST_FOLDS = 10_000
# What `run.json` may say, and as what; nothing of it is there for certain.
_KINDS: dict[str, type | tuple[type, ...]] = {
    "distangle": str,
    "screen": str,
    "target": str,
    "classes": list,
    "held_out": str,
    "unlabelled": str,
    "forced": bool,
    "forced_notes": list,
    "folds_sha256": str,
    "finished": bool,
    "features": str,
    "commands": list,
    "cross_validation": dict,
    "pseudo_labels": dict,
}
_starting: set[Path] = set()  # by the threads of this process, whose lock is one
_door = threading.Lock()


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
        named = self.root / str(self.describe().get("features", "features"))
        here, there = Path(os.path.realpath(self.root)), Path(os.path.realpath(named))
        shared = here.parents[1] if here.parent.name == "cross_validation" else here
        if here not in there.parents and shared / "features" != there:
            raise RunError(
                f"{self.run} says that the features lie in {named}, which leaves the run. Restore it from a copy, or "
                f"train again into a new folder: `distangle train --from {self.root} --out runs/NEW`."
            )
        return named

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

        What a start that was killed left there is removed; it is known by its mark. Nothing else ever is.

        Raises:
            RunError: The folder holds a run already, or something else.
            StorageError: It cannot be made.
        """
        ours = _left_by_a_start(root)
        _make(root)
        for path in ours:
            path.unlink()
        return cls(root)

    @classmethod
    @contextlib.contextmanager
    def begin(cls, root: Path, *, say: Callable[[str], None] = no_progress) -> Iterator["RunFolder"]:
        """Make a new run folder that is this process's alone while its first files are written, `run.json` last.

        Args:
            root: A new or empty folder.
            say: Told when the lock of a dead process is cleared.

        Raises:
            RunError: Another process or thread is at work there, or the folder holds a run or something else.
            StorageError: It cannot be made.
        """
        place = root.resolve()
        with _door:
            taken = place in _starting
            _starting.add(place)
        if taken:
            raise RunError(f"{root} is in use: another run is being started there. Name another folder.")
        made = not root.exists()
        try:
            _left_by_a_start(root)  # nothing is written where somebody else's files are
            _make(root)
            with run_lock(root, say=say):
                run = cls.create(root)
                write_text(root / BEGUN, "A run is being started here.\n")
                yield run
                (root / BEGUN).unlink(missing_ok=True)
        finally:
            with _door:
                _starting.discard(place)
            if made:
                with contextlib.suppress(OSError):
                    root.rmdir()  # empty: nothing was begun

    @classmethod
    def open(cls, root: Path) -> "RunFolder":
        """Open an existing run folder.

        Raises:
            RunError: There is no run at `root`, a link in it leads out of it, or its manifest is damaged.
        """
        run = cls(root)
        if not run.run.exists():
            raise RunError(f"{root} is not a run: it has no run.json. `distangle train SCREEN` makes one.")
        run.check_links()
        run.listed()  # before anything is written that could not be entered
        return run

    def check_links(self) -> None:
        """Check that nothing in the folder leads out of it: what is read and written there is the run's own.

        Raises:
            RunError: A link does.
        """
        if out := links_out(self.root):
            raise RunError(
                f"{out[0]} is a link that leads out of the run. Nothing was read or written through it. If it is "
                f"yours, put what it leads to in its place; else remove it (`rm {out[0]}`)."
            )

    def describe(self) -> dict[str, Any]:
        """Read `run.json`.

        Raises:
            RunError: It is damaged.
        """
        fix = "Restore it from a copy; `distangle verify` names what else is."
        said = read_json(self.run, fix=fix)
        with read_regular_file(self.run, fix=fix):
            for name in _KINDS.keys() & said.keys():
                check_type(said[name], _KINDS[name], name=name)
            for name in ("classes", "forced_notes", "commands"):
                for one in said.get(name, ()):
                    check_type(one, str, name=name)
            if plan := said.get("cross_validation"):
                n_folds = check_type(plan["n_folds"], int, name="n_folds")
                if not 2 <= n_folds <= MOST_FOLDS:
                    raise UnexpectedContent(f"expected 2 to {MOST_FOLDS} folds, found {n_folds}")
        return said

    def must(self, *names: str) -> dict[str, Any]:
        """Read `run.json`, and check that it says these things.

        Raises:
            RunError: It is damaged, or does not say one of them.
        """
        said = self.describe()
        with read_regular_file(self.run, fix="Restore it from a copy; `distangle verify` names what else is damaged."):
            for name in names:
                said[name]
        return said

    def add_command(self, command: str) -> None:
        """Keep a command line under `commands` of `run.json`; one typed twice in a row is kept once."""
        said = self.describe()
        commands = [*said.get("commands", []), command]
        commands = commands[:-1] if commands[-2:-1] == [command] else commands
        write_json(self.run, {**said, "commands": commands})
        self.record(self.run)

    def screen_folder(self, given: Path | None = None) -> Path:
        """Find the screen that the run was trained on, or check the one given.

        Raises:
            RunError: It is not where it was.
        """
        folder = given if given is not None else (self.root / self.must("screen")["screen"]).resolve()
        if not (folder / "screen.json").exists():
            raise RunError(f"No screen.json in {folder}. If the screen was moved, name its folder: `--screen FOLDER`.")
        return folder

    def record(self, *paths: Path) -> None:
        """Enter files of this folder into the manifest, replacing their older entries; forget those that are gone.

        Who writes into a folder answers for all of it: what has vanished from the folders of these files was let go
        of, and is forgotten. What has vanished elsewhere stays listed, so that `verify` finds it missing.
        """
        with self._alone():
            entries = self.listed()
            for path in (path for path in paths if path.exists()):
                entries[self._name(path)] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
            folders = {self._name(path.parent) for path in paths}
            gone = {
                name for name in entries if Path(name).parent.as_posix() in folders and not (self.root / name).exists()
            }
            write_json(
                self.manifest,
                {
                    "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                    "files": {name: entries[name] for name in sorted(entries) if name not in gone},
                },
            )

    def lists(self, path: Path) -> bool:
        """Whether the manifest has an entry for a file of this folder."""
        return self._name(path) in self.listed()

    def listed(self) -> dict[str, dict[str, Any]]:
        """Return `sha256` and `bytes` of every file that the manifest has an entry for; none where there is none yet.

        Raises:
            RunError: The manifest is damaged.
        """
        if not self.manifest.exists():
            return {}
        fix = "Restore it from a copy. Without one, remove it: files that are written later are listed in a new one."
        said = read_json(self.manifest, fix=fix)
        with read_regular_file(self.manifest, fix=fix):
            entries: dict[str, dict[str, Any]] = check_type(said["files"], dict, name="files")
            for name, entry in entries.items():
                inside = PurePosixPath(name)
                if inside.is_absolute() or ".." in inside.parts:
                    raise UnexpectedContent(f"it names {name!r}, which leaves the run")
                check_type(check_type(entry, dict, name=name)["bytes"], int, name="bytes")
                check_type(entry["sha256"], str, name="sha256")
        return entries

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


def _make(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{root} cannot be made: {error.strerror or error}. Name a folder that you may write to."
        ) from error


def _left_by_a_start(root: Path) -> list[Path]:
    """Return the files in a folder that a killed start left there, known by its mark.

    Raises:
        RunError: There is a run, or anything else.
    """
    left = sorted(root.iterdir()) if root.is_dir() else []
    names = {path.name for path in left}
    if "run.json" in names:
        raise RunError(f"{root} holds a run. Name another folder, or go on with it: `distangle train --resume {root}`.")
    first = tuple(f".{name}.tmp-" for name in (BEGUN, *FIRST))
    ours = [
        path
        for path in left
        if path.is_file()
        and (
            (BEGUN in names and path.name in FIRST) or (TEMPORARY.fullmatch(path.name) and path.name.startswith(first))
        )
    ]
    at_the_door = (BEGUN, LOCK, *(name for name in names if name.startswith(f"{LOCK}.tmp-")))
    others = [path.name for path in left if path not in ours and path.name not in at_the_door]
    if others:
        named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise RunError(f"{root} is not empty, and it is no run: it holds {named}. Name another folder.")
    return ours


def relative_path(target: Path, start: Path) -> str:
    """Return `target` as seen from the folder `start`, with forward slashes: survives moving both."""
    return Path(os.path.relpath(target.resolve(), start.resolve())).as_posix()
