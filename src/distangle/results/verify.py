"""Verify the files of a run and the images of a screen by their hashes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from distangle.core.io import TEMPORARY, format_bytes, sha256_of
from distangle.core.lock import LOCK_NAME as LOCK
from distangle.core.lock import lock_holder
from distangle.core.untrusted_files import links_out
from distangle.errors import RunError, ScreenError
from distangle.results.run import START_MARK, RunFolder
from distangle.screen import Screen, sha256_of_site
from distangle.screen.indexing.hashing import size_and_mtime

TRAINING_FILES = ("run.json", "metrics.csv", "timing.csv", "correction.json")
# Files of logging services, written during a run. No result depends on them.
VOLATILE = ("tensorboard/", "wandb/", "mlruns/", "loggers.json")


@dataclass(frozen=True)
class Mismatch:
    """A file that differs from its record."""

    name: str
    kind: Literal["missing", "changed", "extra"]
    detail: str


@dataclass(frozen=True)
class VerificationReport:
    """The result of a verification.

    Attributes:
        n_files: Files whose bytes were read.
        n_bytes: Their size in all.
        differences: In the order of their names.
        notes: Sentences for the reader, such as that the run is being written to.
    """

    n_files: int
    n_bytes: int
    differences: tuple[Mismatch, ...]
    notes: tuple[str, ...] = ()


def verify_run(run: RunFolder) -> VerificationReport:
    """Compare every file of a run with its manifest.

    The runs of a cross-validation are included.

    Args:
        run: Trained or not.

    Returns:
        The differences; the name of a file of a fold includes its folder.

    Raises:
        RunError: The run has no readable manifest.
    """
    entries = _require_manifest(run)
    folds = _fold_folders(run)
    parts = [_verify_fold(run, fold) for fold in folds]
    mismatches = [mismatch for part in parts for mismatch in part.differences]
    outward_links = [path.relative_to(run.root).as_posix() for path in links_out(run.root)]
    outside_names = {name for name in entries for link in outward_links if f"{name}/".startswith(f"{link}/")}
    mismatches += [
        Mismatch(name, "changed", "a link that leads out of the run; it was not followed") for name in outward_links
    ]
    names = [name for name in sorted(set(entries) - outside_names) if (run.root / name).is_file()]
    for name in sorted(set(entries) - set(names) - outside_names):
        mismatches.append(Mismatch(name, "missing", f"{format_bytes(entries[name]['bytes'])} were written"))
    if run.run.exists() and run.run.name not in outside_names:
        try:
            run.describe()
        except RunError as error:
            mismatches.append(Mismatch(run.run.name, "changed", str(error)))
    n_bytes = 0
    for name in names:
        path, expected = run.root / name, entries[name]
        size = path.stat().st_size
        n_bytes += size
        if any(mismatch.name == name for mismatch in mismatches):
            continue  # run.json, which is unreadable
        if size != expected["bytes"]:
            mismatches.append(Mismatch(name, "changed", f"{size} bytes instead of {expected['bytes']}"))
        elif sha256_of(path) != expected["sha256"]:
            mismatches.append(Mismatch(name, "changed", f"its SHA-256 is not {expected['sha256'][:12]}..."))
    for path in sorted(run.root.rglob("*")):
        if any(fold in path.parents for fold in folds):
            continue  # it has a separate manifest
        name = path.relative_to(run.root).as_posix()
        if name in outward_links:
            continue
        if path.is_file() and name not in entries and name not in (run.manifest.name, START_MARK):
            if not name.startswith(VOLATILE) and path.name != LOCK:
                mismatches.append(Mismatch(name, "extra", _describe_extra(path)))
    return VerificationReport(
        n_files=len(names) + sum(part.n_files for part in parts),
        n_bytes=n_bytes + sum(part.n_bytes for part in parts),
        differences=tuple(sorted(mismatches, key=lambda mismatch: mismatch.name)),
        notes=_notes(run, mismatches),
    )


def refuse_altered(run: RunFolder, *parts: str, largest_hash: int | None = None) -> None:
    """Check by hash that files of a run are unchanged since they were written.

    While the run is training, the files that the training writes are skipped.

    Args:
        run: The run.
        parts: Prefixes of file names, such as `predictions/sites`.
        largest_hash: Bytes; of a larger file only the size is compared. None for no limit.

    Raises:
        RunError: A file was changed or is missing; the message names the command that restores it.
    """
    is_training = lock_holder(run.root) is not None
    for name, entry in run.manifest_entries().items():
        if not name.startswith(parts) or (is_training and name in TRAINING_FILES):
            continue
        path = run.root / name
        if not path.is_file():
            problem = "is missing, but the manifest lists it"
        elif path.stat().st_size != entry["bytes"] or (
            (largest_hash is None or entry["bytes"] <= largest_hash) and sha256_of(path) != entry["sha256"]
        ):
            problem = "is damaged: it was changed since it was written (its SHA-256 is not that of the manifest)"
        else:
            continue
        verb = {"predictions": "predict", "explanations": "explain", "profiles": "profile"}.get(name.partition("/")[0])
        fix = f"Make it again: `distangle {verb} {run.root}`." if verb else "Restore it from a copy."
        raise RunError(f"{path} {problem}. {fix} `distangle verify {run.root}` names what else differs.")


def verify_screen(screen: Screen, *, progress: Callable[[int, int], None] | None = None) -> VerificationReport:
    """Compare every image of a screen with its hash at indexing.

    `read_screen` checks the tables.

    Args:
        screen: From `read_screen`.
        progress: Called with sites done and all sites.

    Raises:
        ScreenError: The screen was indexed without hashes.
    """
    if screen.metadata.tables_only or not (screen.sites["sha256"] != "").any():
        raise ScreenError(
            f"{screen.folder} was indexed without hashes of its images. Index it again without --no-hash-files."
        )
    mismatches: list[Mismatch] = []
    digests: dict[Path, str] = {}
    n_bytes = 0
    for row, expected in enumerate(screen.sites["sha256"]):
        paths = screen.image_paths(row)
        missing = [path for path in paths if not path.exists()]
        mismatches += [Mismatch(_relative_name(screen, path), "missing", _site_name(screen, row)) for path in missing]
        if not missing:
            n_bytes += sum(size_and_mtime(path)[0] for path in dict.fromkeys(paths) if path not in digests)
            if sha256_of_site(paths, screen.pages(row), digests=digests) != expected:
                names = ", ".join(_relative_name(screen, path) for path in dict.fromkeys(paths))
                mismatches.append(Mismatch(names, "changed", f"{_site_name(screen, row)}: one of these files"))
        if progress is not None:
            progress(row + 1, len(screen.sites))
    return VerificationReport(n_files=len(digests), n_bytes=n_bytes, differences=tuple(dict.fromkeys(mismatches)))


def _fold_folders(run: RunFolder) -> list[Path]:
    """Return the run folders of a cross-validation.

    After its end, planned folders that are missing are included.
    """
    folders = {path for path in run.cross_validation.glob("fold-*") if path.is_dir()}
    try:
        record = run.describe() if run.run.exists() else {}
    except RunError:
        record = {}  # reported as changed
    if record.get("finished"):
        n_folds = int(record.get("cross_validation", {}).get("n_folds", 0))
        folders |= {run.cross_validation / f"fold-{k + 1}" for k in range(n_folds)}
    return sorted(folders)


def _verify_fold(run: RunFolder, fold: Path) -> VerificationReport:
    """Verify the run of a fold; a missing manifest is a difference.

    File names are relative to the run of the cross-validation.
    """
    fold_name = fold.relative_to(run.root).as_posix()
    try:
        report = verify_run(RunFolder(fold))
    except RunError as error:
        kind: Literal["missing", "changed"] = "changed" if (fold / "manifest.json").exists() else "missing"
        return VerificationReport(
            n_files=0, n_bytes=0, differences=(Mismatch(f"{fold_name}/manifest.json", kind, str(error)),)
        )
    mismatches = tuple(replace(mismatch, name=f"{fold_name}/{mismatch.name}") for mismatch in report.differences)
    return replace(report, differences=mismatches)


def _require_manifest(run: RunFolder) -> dict[str, dict[str, Any]]:
    if not run.manifest.exists():
        raise RunError(f"{run.root} has no manifest.json with the hashes of its files. It cannot be verified.")
    return run.manifest_entries()


def _describe_extra(path: Path) -> str:
    if TEMPORARY.fullmatch(path.name):
        return "left by a process that was killed; the next resume removes it"
    if path.name.startswith("damaged-"):
        return "a checkpoint that a resume set aside; remove it when you have looked at it"
    return "not listed in the manifest"


def _notes(run: RunFolder, mismatches: list[Mismatch]) -> tuple[str, ...]:
    notes = []
    holder = lock_holder(run.root)
    try:
        finished = run.run.exists() and bool(run.describe().get("finished"))
    except RunError:
        finished = True  # unknown; run.json is reported as changed
    if holder is not None:
        notes.append(f"{run.root} is being written to by {holder}; verify again when it is done.")
    elif mismatches and not finished:
        notes.append(f"The training did not finish. Resume it: `distangle train --resume {run.root}`.")
    return tuple(notes)


def _relative_name(screen: Screen, path: Path) -> str:
    source = screen.source
    return path.relative_to(source).as_posix() if isinstance(source, Path) else path.as_posix()


def _site_name(screen: Screen, row: int) -> str:
    site = screen.sites.iloc[row]
    return f"experiment {site.experiment} plate {site.plate} well {site.well} site {site.site}"
