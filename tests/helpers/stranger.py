"""A finished run, its screen and an outside folder, and the attacks of a stranger on them."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from distangle.cli import main
from distangle.results import RunFolder
from tiny_run import finish_run, tiny_screen, tiny_start

# Phrases of libraries that advise users to switch off a protection.
ADVICE = ("allow_pickle", "weights_only", "trust the file", "unsafe", "--force", "verify=False", "safe_globals")

QUICK_PROFILE = ("--draws", "99", "--map", "pca")


def finished_lab(root: Path) -> Path:
    """Write plates/, screen/ and runs/a, which was trained, predicted, explained and profiled."""
    screen = tiny_screen(root, n_wells=6, hash_files=True)
    run = tiny_start(screen, root / "runs" / "a", epochs=1)
    finish_run(run)
    main(["predict", str(run.root)])
    main(["explain", str(run.root), "--n-sites", "2"])
    main(["profile", str(run.root), *QUICK_PROFILE])
    return root


@dataclass(frozen=True)
class Lab:
    """A copy of a finished lab, and a folder outside it that must not change."""

    root: Path
    victim: Path

    @property
    def run(self) -> Path:
        return self.root / "runs" / "a"

    @property
    def screen(self) -> Path:
        return self.root / "screen"

    def victim_hash(self) -> str:
        """Return a hash of every name, byte, mode and date of the folder outside."""
        lines = [
            f"{path.relative_to(self.victim)} {path.lstat().st_mode} {path.lstat().st_mtime_ns} "
            + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
            for path in sorted(self.victim.rglob("*"))
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def copy_of(finished: Path, folder: Path) -> Lab:
    """Copy a lab, and put beside the copy a victim folder with everything that a link could lead to."""
    lab = Lab(folder / "lab", folder / "victim")
    shutil.copytree(finished, lab.root)
    shutil.copytree(lab.run, lab.victim / "run")
    shutil.copytree(lab.screen, lab.victim / "screen")
    shutil.copytree(lab.root / "plates", lab.victim / "plates")
    (lab.victim / "holiday.png").write_bytes((lab.root / "plates" / "images" / "E1_0_0.png").read_bytes())
    (lab.victim / "plot.svg").write_text("precious")
    return lab


def cut_in_half(path: Path, lab: Lab) -> None:
    """Lose the second half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path, lab: Lab) -> None:
    path.write_bytes(b"")


def braces(path: Path, lab: Lab) -> None:
    path.write_text("{}")


def brackets(path: Path, lab: Lab) -> None:
    path.write_text("[]")


def deep_brackets(path: Path, lab: Lab) -> None:
    path.write_text("[" * 100_000)


def stray(path: Path, lab: Lab) -> None:
    """Put bytes that are no text into a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 4] = b"\xff\x00\xfe\x1b"
    path.write_bytes(bytes(content))


def absent(path: Path, lab: Lab) -> None:
    path.unlink()


def link_to(path: Path, lab: Lab) -> None:
    """Replace a file by a link to an outside file with the same content, which passes any check of content."""
    inner_path = path.relative_to(lab.root)
    other = lab.victim / "run" / path.relative_to(lab.run) if lab.run in path.parents else lab.victim / inner_path
    path.unlink()
    path.symlink_to(other)


def replace_by_folder(path: Path, lab: Lab) -> None:
    """Put a folder in place of a file."""
    path.unlink()
    path.mkdir()


ATTACKS: Mapping[str, Callable[[Path, Lab], None]] = {
    attack.__name__: attack
    for attack in (cut_in_half, empty, braces, brackets, deep_brackets, stray, absent, link_to, replace_by_folder)
}


def rewrite_manifest(lab: Lab) -> None:
    """List the altered files of a run in its manifest, so that all hashes match."""
    run = RunFolder(lab.run)
    files = {}
    for path in sorted(lab.run.rglob("*")):
        if path.is_file() and not path.is_symlink() and path != run.manifest:
            content = path.read_bytes()
            files[path.relative_to(lab.run).as_posix()] = {
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
            }
    if run.manifest.is_file():
        run.manifest.write_text(json.dumps({"written": "", "files": files}))


def verbs_of_a_run(lab: Lab) -> Mapping[str, list[str]]:
    """Return every verb that reads a run, in its shortest form."""
    run = str(lab.run)
    return {
        "resume": ["train", "--resume", run],
        "from": ["train", "--from", run, "--out", str(lab.root / "runs" / "new"), "--dry-run", "2"],
        "predict": ["predict", run],
        "explain": ["explain", run, "--n-sites", "1", "--parts", "none"],
        "profile": ["profile", run, *QUICK_PROFILE],
        "export": ["export", run, "--format", "pycytominer", "--out", str(lab.root / "exported")],
        "figures": ["figures", run, "--only", "12"],
        "report": ["report", run],
        "verify": ["verify", run],
    }


def verbs_of_a_screen(lab: Lab) -> Mapping[str, list[str]]:
    """Return every verb that reads a screen, in its shortest form."""
    screen, new = str(lab.screen), str(lab.root / "new")
    return {
        "check": ["check", screen, "--workers", "1", "--sample", "2"],
        "folds": ["folds", screen, "--out", f"{new}.parquet", "--hold-out", "experiment=E3"],
        "statistics": ["statistics", screen, "--out", new, "--sample", "2", "--workers", "1"],
        "pack": ["pack", screen, "--out", new, "--format", "records", "--workers", "1"],
        "train": ["train", screen, "--preset", "scratch", "--hold-out", "experiment=E3", "--dry-run", "2"],
        "ablate": ["ablate", screen, "--out", new, "--preset", "nosuch"],
        "verify": ["verify", screen],
        "predict": ["predict", str(lab.run)],
        "explain": ["explain", str(lab.run), "--n-sites", "1", "--parts", "none"],
        "figures": ["figures", str(lab.run), "--only", "12"],
        "report": ["report", str(lab.run)],
        "resume": ["train", "--resume", str(lab.run)],
    }


def unfinished_files(folder: Path) -> list[str]:
    """Return the temporary files and locks that a verb must not leave behind."""
    names = []
    for path in folder.rglob("*"):
        if ".tmp-" in path.name or path.name in (".lock", ".begun"):
            names.append(path.name)
    return names


def status_of(arguments: list[str]) -> int:
    """Run one command in this process and return its exit status; other exceptions pass through."""
    try:
        main(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def file_names(folder: Path) -> list[str]:
    return sorted(os.fspath(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
