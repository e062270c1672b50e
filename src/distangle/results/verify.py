"""Whether every file of a run, or every image of a screen, is still what it was when it was written."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from distangle.core.io import TEMPORARY, format_bytes, sha256_of
from distangle.core.lock import LOCK_NAME as LOCK
from distangle.core.lock import lock_holder
from distangle.core.untrusted_files import links_out
from distangle.errors import RunError, ScreenError
from distangle.results.run import BEGUN, RunFolder
from distangle.screen import Screen, sha256_of_site
from distangle.screen.indexing.hashing import size_and_mtime

WRITTEN_BY_A_TRAINING = ("run.json", "metrics.csv", "timing.csv", "correction.json")
# What others write while a run goes on: event files, and what services keep of it. Nothing rests on them.
VOLATILE = ("tensorboard/", "wandb/", "mlruns/", "loggers.json")


@dataclass(frozen=True)
class Mismatch:
    """One file that is not as it was."""

    name: str
    kind: Literal["missing", "changed", "extra"]
    words: str


@dataclass(frozen=True)
class VerificationReport:
    """What was found.

    Attributes:
        n_files: Files whose bytes were read.
        n_bytes: Their size in all.
        differences: In the order of their names.
        notes: What is to be known beside them.
    """

    n_files: int
    n_bytes: int
    differences: tuple[Mismatch, ...]
    notes: tuple[str, ...] = ()


def verify_run(run: RunFolder) -> VerificationReport:
    """Compare every file of a run, and of the runs of its cross-validation, with the manifest beside it.

    Args:
        run: Trained or not.

    Returns:
        What differs; files of a fold are named with its folder.

    Raises:
        RunError: It has no manifest that can be read.
    """
    listed = _manifest(run)
    folds = _fold_folders(run)
    parts = [_verify_fold(run, fold) for fold in folds]
    found = [one for part in parts for one in part.differences]
    leaving = [path.relative_to(run.root).as_posix() for path in links_out(run.root)]
    outside = {name for name in listed for link in leaving if f"{name}/".startswith(f"{link}/")}
    found += [Mismatch(name, "changed", "a link that leads out of the run; it was not followed") for name in leaving]
    checked = [name for name in sorted(set(listed) - outside) if (run.root / name).is_file()]
    for name in sorted(set(listed) - set(checked) - outside):
        found.append(Mismatch(name, "missing", f"{format_bytes(listed[name]['bytes'])} were written"))
    if run.run.exists() and run.run.name not in outside:
        try:
            run.describe()
        except RunError as error:
            found.append(Mismatch(run.run.name, "changed", str(error)))
    n_bytes = 0
    for name in checked:
        path, expected = run.root / name, listed[name]
        size = path.stat().st_size
        n_bytes += size
        if any(one.name == name for one in found):
            continue  # run.json, which says nothing that can be read
        if size != expected["bytes"]:
            found.append(Mismatch(name, "changed", f"{size} bytes instead of {expected['bytes']}"))
        elif sha256_of(path) != expected["sha256"]:
            found.append(Mismatch(name, "changed", f"its SHA-256 is not {expected['sha256'][:12]}..."))
    for path in sorted(run.root.rglob("*")):
        if any(fold in path.parents for fold in folds):
            continue  # it has a manifest of its own
        name = path.relative_to(run.root).as_posix()
        if name in leaving:
            continue
        if path.is_file() and name not in listed and name not in (run.manifest.name, LOCK, BEGUN):
            if not name.startswith(VOLATILE):
                found.append(Mismatch(name, "extra", _of_an_extra(path)))
    return VerificationReport(
        n_files=len(checked) + sum(part.n_files for part in parts),
        n_bytes=n_bytes + sum(part.n_bytes for part in parts),
        differences=tuple(sorted(found, key=lambda one: one.name)),
        notes=_notes(run, found),
    )


def refuse_altered(run: RunFolder, *parts: str) -> None:
    """Check that files of a run are still what they were when they were written, before a verb rests on them.

    Of a run that is being trained the files that the training writes are left out.

    Args:
        run: The run.
        parts: Beginnings of names, such as `predictions/sites`.

    Raises:
        RunError: One was changed, or is gone; says how to have it again.
    """
    at_work = lock_holder(run.root) is not None
    for name, entry in run.listed().items():
        if not name.startswith(parts) or (at_work and name in WRITTEN_BY_A_TRAINING):
            continue
        path = run.root / name
        if not path.is_file():
            what = "is gone, and the manifest lists it"
        elif path.stat().st_size != entry["bytes"] or sha256_of(path) != entry["sha256"]:
            what = "is damaged: it was changed since it was written (its SHA-256 is not that of the manifest)"
        else:
            continue
        verb = {"predictions": "predict", "explanations": "explain"}.get(name.partition("/")[0])
        fix = f"Make it again: `distangle {verb} {run.root}`." if verb else "Restore it from a copy."
        raise RunError(f"{path} {what}. {fix} `distangle verify {run.root}` names what else differs.")


def verify_screen(screen: Screen, *, progress: Callable[[int, int], None] | None = None) -> VerificationReport:
    """Compare every image of a screen with what it was when it was indexed; the tables were checked on reading.

    Args:
        screen: From `read_screen`.
        progress: Called with sites done and all sites.

    Raises:
        ScreenError: It was indexed without hashes.
    """
    if screen.card.tables_only or not (screen.sites["sha256"] != "").any():
        raise ScreenError(
            f"{screen.folder} was indexed without hashes of its images. Index it again without --no-hash-files."
        )
    found: list[Mismatch] = []
    digests: dict[Path, str] = {}
    n_bytes = 0
    for row, expected in enumerate(screen.sites["sha256"]):
        paths = screen.image_paths(row)
        missing = [path for path in paths if not path.exists()]
        found += [Mismatch(_inside(screen, path), "missing", _place(screen, row)) for path in missing]
        if not missing:
            n_bytes += sum(size_and_mtime(path)[0] for path in set(paths) - digests.keys())
            if sha256_of_site(paths, screen.pages(row), digests=digests) != expected:
                names = ", ".join(_inside(screen, path) for path in dict.fromkeys(paths))
                found.append(Mismatch(names, "changed", f"{_place(screen, row)}: one of these files"))
        if progress is not None:
            progress(row + 1, len(screen.sites))
    return VerificationReport(n_files=len(digests), n_bytes=n_bytes, differences=tuple(dict.fromkeys(found)))


def _fold_folders(run: RunFolder) -> list[Path]:
    """Return the folders of the runs of a cross-validation: those that are there and, once it ended, those planned."""
    there = {path for path in run.cross_validation.glob("fold-*") if path.is_dir()}
    try:
        told = run.describe() if run.run.exists() else {}
    except RunError:
        told = {}  # it is named as changed
    if told.get("finished"):
        n_folds = int(told.get("cross_validation", {}).get("n_folds", 0))
        there |= {run.cross_validation / f"fold-{k + 1}" for k in range(n_folds)}
    return sorted(there)


def _verify_fold(run: RunFolder, fold: Path) -> VerificationReport:
    """Verify the run of a fold, its files named as seen from the run; without a manifest, that is the difference."""
    inside = fold.relative_to(run.root).as_posix()
    try:
        found = verify_run(RunFolder(fold))
    except RunError as error:
        kind: Literal["missing", "changed"] = "changed" if (fold / "manifest.json").exists() else "missing"
        return VerificationReport(
            n_files=0, n_bytes=0, differences=(Mismatch(f"{inside}/manifest.json", kind, str(error)),)
        )
    named = tuple(replace(one, name=f"{inside}/{one.name}") for one in found.differences)
    return replace(found, differences=named)


def _manifest(run: RunFolder) -> dict[str, dict[str, Any]]:
    if not run.manifest.exists():
        raise RunError(f"{run.root} has no manifest.json, so nothing says what its files were. It cannot be verified.")
    return run.listed()


def _of_an_extra(path: Path) -> str:
    if TEMPORARY.fullmatch(path.name):
        return "left by a process that was killed; the next resume sweeps it"
    if path.name.startswith("damaged-"):
        return "a checkpoint that a resume set aside; remove it when you have looked at it"
    return "nobody who writes into a run has listed it"


def _notes(run: RunFolder, found: list[Mismatch]) -> tuple[str, ...]:
    notes = []
    at_work = lock_holder(run.root)
    try:
        finished = run.run.exists() and bool(run.describe().get("finished"))
    except RunError:
        finished = True  # nobody can tell, and it is named as changed
    if at_work is not None:
        notes.append(f"{run.root} is being written to by {at_work}; verify again when it is done.")
    elif found and not finished:
        notes.append(f"The training did not end. `distangle train --resume {run.root}` goes on from what is whole.")
    return tuple(notes)


def _inside(screen: Screen, path: Path) -> str:
    source = screen.source
    return path.relative_to(source).as_posix() if isinstance(source, Path) else path.as_posix()


def _place(screen: Screen, row: int) -> str:
    site = screen.sites.iloc[row]
    return f"experiment {site.experiment} plate {site.plate} well {site.well} site {site.site}"
