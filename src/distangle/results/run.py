"""Name, open and record the files of a run folder."""

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

FIRST_FILES = ("config.yaml", "screen.json", "folds.parquet")  # written before run.json
START_MARK = ".begun"  # present while a run is being started, and after a start that was killed
MOST_FOLDS = 10_000
# Fields of `run.json` and their types; every field is optional.
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
_starting: set[Path] = set()  # folders that threads of this process are starting: they share one lock
_starting_lock = threading.Lock()


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run folder `runs/NAME/`; the files may not exist yet."""

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
        """Run record, JSON: relative path of the screen, label column, hash of the folds."""
        return self.root / "run.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints (safetensors + JSON)."""
        return self.root / "checkpoints"

    @property
    def features(self) -> Path:
        """Folder of the features of a frozen backbone.

        The folds of a cross-validation share it.
        """
        folder = self.root / str(self.describe().get("features", "features"))
        run_folder, feature_folder = Path(os.path.realpath(self.root)), Path(os.path.realpath(folder))
        owner = run_folder.parents[1] if run_folder.parent.name == "cross_validation" else run_folder
        if run_folder not in feature_folder.parents and owner / "features" != feature_folder:
            raise RunError(
                f"{self.run} says that the features lie in {folder}, which leaves the run. Restore it from a copy, or "
                f"train again into a new folder: `distangle train --from {self.root} --out runs/NEW`."
            )
        return folder

    @property
    def image_statistics(self) -> Path:
        """Mean and standard deviation per image and channel, NumPy [site, 2, channel]."""
        return self.root / "image_statistics.npy"

    @property
    def correction(self) -> Path:
        """The selected batch correction and the alternatives it was compared with, JSON."""
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
        """Seconds of every epoch, CSV; not a result."""
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
    def profiles(self) -> Path:
        """Folder of the profiles: hits, neighbors, batch effects."""
        return self.root / "profiles"

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

        Files of a start that was killed are removed; `START_MARK` identifies them. No other file is removed.

        Raises:
            RunError: The folder already holds a run or other files.
            StorageError: The folder cannot be created.
        """
        leftovers = _leftover_files(root)
        _create_folder(root)
        for path in leftovers:
            path.unlink()
        return cls(root)

    @classmethod
    @contextlib.contextmanager
    def begin(cls, root: Path, *, say: Callable[[str], None] = no_progress) -> Iterator["RunFolder"]:
        """Create a run folder and lock it while its first files are written.

        `run.json` is written last.

        Args:
            root: A new or empty folder.
            say: Called with a message when the lock of a dead process is cleared.

        Raises:
            RunError: Another process or thread is using the folder, or it holds a run or other files.
            StorageError: The folder cannot be created.
        """
        folder = root.resolve()
        with _starting_lock:
            is_in_use = folder in _starting
            _starting.add(folder)
        if is_in_use:
            raise RunError(f"{root} is in use: another run is being started there. Name another folder.")
        is_new = not root.exists()
        try:
            _leftover_files(root)  # write nothing into a folder with other files
            _create_folder(root)
            with run_lock(root, say=say):
                run = cls.create(root)
                write_text(root / START_MARK, "A run is being started here.\n")
                yield run
                (root / START_MARK).unlink(missing_ok=True)
        finally:
            with _starting_lock:
                _starting.discard(folder)
            if is_new:
                with contextlib.suppress(OSError):
                    root.rmdir()  # empty: the start failed

    @classmethod
    def open(cls, root: Path) -> "RunFolder":
        """Open an existing run folder.

        Raises:
            RunError: There is no run at `root`, a link leads out of it, or its manifest is damaged.
        """
        run = cls(root)
        if not run.run.exists():
            raise RunError(f"{root} is not a run: it has no run.json. `distangle train SCREEN` makes one.")
        run.check_links()
        run.manifest_entries()  # fail before writing a file that cannot be recorded
        return run

    def check_links(self) -> None:
        """Check that no link in the folder leads out of it.

        Raises:
            RunError: A link leads out of the folder.
        """
        if links := links_out(self.root):
            raise RunError(
                f"{links[0]} is a link that leads out of the run. Nothing was read or written through it. If it is "
                f"yours, put what it leads to in its place; else remove it (`rm {links[0]}`)."
            )

    def describe(self) -> dict[str, Any]:
        """Read `run.json`.

        Raises:
            RunError: It is damaged.
        """
        fix = "Restore it from a copy; `distangle verify` names what else is."
        record = read_json(self.run, fix=fix)
        with read_regular_file(self.run, fix=fix):
            for name in _KINDS.keys() & record.keys():
                check_type(record[name], _KINDS[name], name=name)
            for name in ("classes", "forced_notes", "commands"):
                for value in record.get(name, ()):
                    check_type(value, str, name=name)
            if plan := record.get("cross_validation"):
                n_folds = check_type(plan["n_folds"], int, name="n_folds")
                if not 2 <= n_folds <= MOST_FOLDS:
                    raise UnexpectedContent(f"expected 2 to {MOST_FOLDS} folds, found {n_folds}")
        return record

    def require(self, *names: str) -> dict[str, Any]:
        """Read `run.json`, and check that it has these fields.

        Raises:
            RunError: It is damaged or lacks a field.
        """
        record = self.describe()
        with read_regular_file(self.run, fix="Restore it from a copy; `distangle verify` names what else is damaged."):
            for name in names:
                record[name]
        return record

    def add_command(self, command: str) -> None:
        """Append a command line to `commands` of `run.json`, without a direct repeat."""
        record = self.describe()
        commands = [*record.get("commands", []), command]
        commands = commands[:-1] if commands[-2:-1] == [command] else commands
        write_json(self.run, {**record, "commands": commands})
        self.record(self.run)

    def screen_folder(self, override: Path | None = None) -> Path:
        """Return the folder of the run's screen, or check the one given.

        Raises:
            RunError: The folder holds no screen.
        """
        folder = override if override is not None else (self.root / self.require("screen")["screen"]).resolve()
        if not (folder / "screen.json").exists():
            raise RunError(f"No screen.json in {folder}. If the screen was moved, name its folder: `--screen FOLDER`.")
        return folder

    def record(self, *paths: Path) -> None:
        """Record files in the manifest, and drop entries of removed files.

        Entries are dropped only in the folders of these files: whoever writes into a folder is responsible for all of
        it. A file that is missing elsewhere stays listed, so that `verify` reports it.
        """
        with self._manifest_lock():
            entries = self.manifest_entries()
            for path in (path for path in paths if path.exists()):
                entries[self._relative_name(path)] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
            folders = {self._relative_name(path.parent) for path in paths}
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
        """Return whether the manifest has an entry for a file."""
        return self._relative_name(path) in self.manifest_entries()

    def manifest_entries(self) -> dict[str, dict[str, Any]]:
        """Return `sha256` and `bytes` of every file in the manifest.

        The result is empty before the first manifest is written.

        Raises:
            RunError: The manifest is damaged.
        """
        if not self.manifest.exists():
            return {}
        fix = "Restore it from a copy. Without one, remove it: files that are written later are listed in a new one."
        manifest = read_json(self.manifest, fix=fix)
        with read_regular_file(self.manifest, fix=fix):
            entries: dict[str, dict[str, Any]] = check_type(manifest["files"], dict, name="files")
            for name, entry in entries.items():
                relative = PurePosixPath(name)
                if relative.is_absolute() or ".." in relative.parts:
                    raise UnexpectedContent(f"it names {name!r}, which leaves the run")
                check_type(check_type(entry, dict, name=name)["bytes"], int, name="bytes")
                check_type(entry["sha256"], str, name="sha256")
        return entries

    @contextlib.contextmanager
    def _manifest_lock(self) -> Iterator[None]:
        """Lock the manifest against other processes.

        A report may be built while the run is training.
        """
        folder = os.open(self.root, os.O_RDONLY)
        try:
            with contextlib.suppress(ImportError, OSError):  # a system or file system without flock
                import fcntl

                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _relative_name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _create_folder(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{root} cannot be created: {error.strerror or error}. Name a folder that you may write to."
        ) from error


def _leftover_files(root: Path) -> list[Path]:
    """Return the files that a killed start left in a folder.

    Raises:
        RunError: The folder holds a run or other files.
    """
    files = sorted(root.iterdir()) if root.is_dir() else []
    names = {path.name for path in files}
    if "run.json" in names:
        raise RunError(f"{root} holds a run. Name another folder, or resume it: `distangle train --resume {root}`.")
    temporary_prefixes = tuple(f".{name}.tmp-" for name in (START_MARK, *FIRST_FILES))
    leftovers = [
        path
        for path in files
        if path.is_file()
        and (
            (START_MARK in names and path.name in FIRST_FILES)
            or (TEMPORARY.fullmatch(path.name) and path.name.startswith(temporary_prefixes))
        )
    ]
    start_files = (START_MARK, LOCK, *(name for name in names if name.startswith(f"{LOCK}.tmp-")))
    others = [path.name for path in files if path not in leftovers and path.name not in start_files]
    if others:
        listed = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise RunError(f"{root} is not empty and is not a run: it holds {listed}. Name another folder.")
    return leftovers


def relative_path(target: Path, start: Path) -> str:
    """Return `target` relative to the folder `start`, with forward slashes.

    The path stays valid when both are moved together.
    """
    return Path(os.path.relpath(target.resolve(), start.resolve())).as_posix()
