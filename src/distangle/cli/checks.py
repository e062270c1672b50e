"""Run the verbs that check screens and runs: check, verify and trust."""

import sys
from pathlib import Path
from typing import Literal

from distangle.cli.arguments import Words, check_minimum, parse_key_values
from distangle.cli.console import print_note, print_result, print_table
from distangle.cli.inputs import check_folder, open_screen
from distangle.core.io import in_bytes
from distangle.core.progress import by_percent, progress, show_action
from distangle.errors import ConfigError, did_you_mean

SHOWN = 40  # kinds of findings in the table


def check(
    screen: Path,
    *,
    out: Path | None = None,
    sample: int = 200,
    pixels: bool = True,
    hash_files: bool = True,
    like: Path | None = None,
    fold_file: Path | None = None,
    target: str = "perturbation",
    expect: Words = (),
    fail_on: Literal["error", "warning", "never"] = "error",
    images: Path | None = None,
    workers: int = 2,
) -> None:
    """Check a screen for missing, duplicated, shifted, mislabelled or damaged data.

    The checks cover tables, files, pixels and leakage between folds. The exit status is 1 if a finding is as severe as
    `--fail-on`, or if totals do not reconcile.

    Args:
        screen: Folder from `distangle index`.
        out: Folder for checks.json, findings.csv and planes.parquet; the default is SCREEN/checks.
        sample: Number of sites whose pixels are read, spread over plates and wells; 0 reads all sites.
        pixels: Read pixels.
        hash_files: Compare the SHA-256 of the sampled files with the index.
        like: Reference screen; its labels must have the same coding.
        fold_file: File of folds to check for leakage, from `distangle folds` or from a run.
        target: Column to predict; the check reports how well position, layout and plate predict it.
        expect: Expected totals, such as `wells=62755,plates=204`.
        fail_on: Severity that makes the exit status 1: `error`, `warning` or `never`.
        images: Folder of the images, if they were moved after `distangle index`.
        workers: Number of processes that decode images.
    """
    check_folder(screen)
    from distangle.screen import Folds, allowed_sources, fold_columns, read_screen
    from distangle.screen.checks import CheckReport, check_tables
    from distangle.screen.checks.leaks import find_leaks
    from distangle.screen.problems import SEVERITIES
    from distangle.screen.screen import CHECKS

    n_workers, n_sampled = check_minimum(workers, 1, flag="--workers"), check_minimum(sample, 0, flag="--sample")
    read = open_screen(screen, images) if pixels else allowed_sources(read_screen(screen))
    other = None if like is None else allowed_sources(read_screen(like))
    show_action("comparing the tables")
    checked = check_tables(read, like=other, expected=_totals(expect))
    divided = None if fold_file is None else Folds.read(fold_file)
    if target not in fold_columns(read):
        raise ConfigError(
            f"--target {target}: the screen has no such column. {did_you_mean(target, fold_columns(read))}"
        )
    show_action("looking for leaks")
    leaks = find_leaks(read, divided, label=target)
    checked = checked.joined(CheckReport(findings=tuple(leaks), laws=()))
    folder = out or screen / CHECKS
    if pixels and not read.card.tables_only:
        from distangle.images import sample_sites
        from distangle.images.quality.run import check_pixels

        rows = sample_sites(read, n_sampled)
        show_action("reading planes")
        with progress("check", 100, unit="%") as advance:
            more, surveyed = check_pixels(
                read, rows, hash_files=hash_files, folds=divided, workers=n_workers, progress=by_percent(advance)
            )
        checked = checked.joined(more)
        surveyed.write(folder / "planes.parquet")
    else:
        (folder / "planes.parquet").unlink(missing_ok=True)  # of an earlier check, not of this one
    checked.write(folder)
    for law in checked.laws:
        (print_result if law.holds else print_note)(
            f"{law.stage}: {law.words}{'' if law.holds else '  (does not come out)'}"
        )
    groups = checked.grouped()
    if groups:
        rows_shown = [(one["severity"], one["kind"], f"{one['findings']:,}", one["first"]) for one in groups[:SHOWN]]
        print_table(("", "found", "times", "first"), rows_shown)
        for one in groups[:SHOWN]:
            if one["severity"] != "note":
                print_note(f"{one['kind']}: {one['first']}: {one['what'].removesuffix('.')}. {one['fix']}")
    numbers = {name: checked.count(name) for name in SEVERITIES}
    counts = [f"{n:,} {name}{'s' * (n != 1)}" for name, n in numbers.items()]
    print_result(f"{', '.join(counts)}, each in {folder / 'findings.csv'}")
    if checked.fails(fail_on):
        sys.exit(1)


def _totals(expect: Words) -> dict[str, int]:
    found = {}
    for name, value in parse_key_values(expect, flag="--expect").items():
        plain = str(value).replace("_", "")
        if not plain.isdecimal():
            raise ConfigError(f"--expect {name}={value}: {value!r} is no whole number. Expected such as wells=62755.")
        found[name] = int(plain)
    return found


def trust(folder: Path) -> None:
    """Allow a screen to read images elsewhere, or a run to report to a service.

    This is only needed for a screen or a run that another machine made. A screen whose images lie next to it needs no
    permission.

    Args:
        folder: Folder of a screen or a run whose source you know.
    """
    from distangle.results import RunFolder
    from distangle.screen import allow_source, read_screen

    if (folder / "run.json").exists():
        from distangle.training import read_config
        from distangle.training.loggers import allow_services

        run = RunFolder.open(folder)
        named = ", ".join(read_config(run.config).loggers) or "no service"
        allow_services(run)
        print_result(f"{folder}: it may report to {named}")
        return
    read = read_screen(folder)
    allow_source(read)
    print_result(f"{folder}: its images are read from {read.source}")


MAX_MISMATCHES = 200  # rows of the table; the rest is counted


def verify(folder: Path, *, images: Path | None = None) -> None:
    """Verify the files of a run or the images of a screen by their SHA-256.

    The fold runs of a cross-validation are verified with their run. The exit status is 1 if a file is missing, changed
    or extra.

    Args:
        folder: Folder of a run or a screen.
        images: Folder of the images of a screen, if they were moved after `distangle index`.
    """
    from distangle.results import RunFolder, verify_run, verify_screen

    if (folder / "run.json").exists() or (folder / "manifest.json").exists():
        show_action("reading every file of the run")
        found = verify_run(RunFolder(folder))
    elif (folder / "screen.json").exists():
        with progress("verify", 100, unit="%") as advance:
            found = verify_screen(open_screen(folder, images), progress=by_percent(advance))
    else:
        raise ConfigError(f"{folder} is neither a run (no run.json) nor a screen (no screen.json). Name one of them.")
    if found.differences:
        rows = [(one.kind, one.name, one.words) for one in found.differences[:MAX_MISMATCHES]]
        print_table(("", "file", "found"), rows)
        if len(found.differences) > MAX_MISMATCHES:
            print_note(f"... {len(found.differences) - MAX_MISMATCHES} more")
    for note in found.notes:
        print_note(note)
    wrong = len(found.differences)
    print_result(
        f"{found.n_files} files ({in_bytes(found.n_bytes)}) checked: {f'{wrong} differ' if wrong else 'all as written'}"
    )
    if wrong:
        sys.exit(1)
