"""Run the verbs that check screens and runs: check, verify and trust."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from distangle.cli.arguments import RepeatedOption, check_minimum, parse_key_values, parse_ray_workers
from distangle.cli.console import print_note, print_result, print_table
from distangle.cli.inputs import check_folder, open_screen
from distangle.core.io import format_bytes
from distangle.core.progress import Advance, begin_step, by_percent, progress, show_action
from distangle.errors import ConfigError, did_you_mean

MAX_KINDS = 40  # of findings in the table
N_DECODERS = 2  # processes that decode images, unless the user names a number


def check(
    screen: Path,
    *,
    out: Path | None = None,
    sample: int = 200,
    pixels: bool = True,
    hash_files: bool = True,
    compare_with: Path | None = None,
    fold_file: Path | None = None,
    target: str = "perturbation",
    expect: RepeatedOption = (),
    fail_on: Literal["error", "warning", "never"] = "error",
    images: Path | None = None,
    on: Literal["local", "ray"] = "local",
    workers: int | None = None,
) -> None:
    """Check a screen for missing, duplicated, shifted, mislabeled or damaged data.

    The checks cover tables, files, pixels and leakage between folds. The exit status is 1 if a finding is as severe as
    `--fail-on`, or if totals do not reconcile.

    Args:
        screen: Folder from `distangle index`.
        out: Folder or URL for checks.json, findings.csv and planes.parquet; the default is SCREEN/checks.
        sample: Number of sites whose pixels are read, spread over plates and wells; 0 reads all sites.
        pixels: Read pixels.
        hash_files: Compare the SHA-256 of the sampled files with the index.
        compare_with: Reference screen; its labels must have the same coding.
        fold_file: File of folds to check for leakage, from `distangle folds` or from a run.
        target: Column to predict; the check reports how well position, layout and plate predict it.
        expect: Expected totals, such as `wells=62755,plates=204`.
        fail_on: Severity that makes the exit status 1: `error`, `warning` or `never`.
        images: Folder of the images, if they were moved after `distangle index`.
        on: Where images are read: `local` is this machine; `ray` is workers of Ray on this machine, or on the cluster
            of RAY_ADDRESS.
        workers: Number of processes that decode images; the default is 2, and one on each core with `--on ray`.
    """
    if workers is not None:
        check_minimum(workers, 1, flag="--workers")
    ray = parse_ray_workers(on, workers)
    if ray is not None and not pixels:
        raise ConfigError("--on ray reads the pixels of images, and --no-pixels reads none. Remove one of them.")
    check_folder(screen)
    show_action("reading the screen")
    from distangle.screen import Folds, allowed_sources, fold_columns, read_screen
    from distangle.screen.checks import CheckReport, check_tables
    from distangle.screen.checks.leaks import find_leaks
    from distangle.screen.problems import SEVERITIES
    from distangle.screen.screen import CHECKS

    n_sampled = check_minimum(sample, 0, flag="--sample")
    indexed_screen = open_screen(screen, images) if pixels else allowed_sources(read_screen(screen))
    reference = None if compare_with is None else allowed_sources(read_screen(compare_with))
    show_action("comparing the tables")
    report = check_tables(indexed_screen, like=reference, expected=_parse_totals(expect))
    folds = None if fold_file is None else Folds.read(fold_file)
    if target not in fold_columns(indexed_screen):
        raise ConfigError(
            f"--target {target}: the screen has no such column. {did_you_mean(target, fold_columns(indexed_screen))}"
        )
    show_action("looking for leaks")
    leaks = find_leaks(indexed_screen, folds, label=target)
    report = report.merge(CheckReport(findings=tuple(leaks), invariants=()))
    folder = out or screen / CHECKS
    if pixels and not indexed_screen.metadata.tables_only:
        from distangle.images import sample_sites
        from distangle.images.quality.run import check_pixels

        sampled = sample_sites(indexed_screen, n_sampled)
        with progress("check", 100, unit="%", n_steps=2) as advance:
            pixel_report, planes = check_pixels(
                indexed_screen,
                sampled,
                hash_files=hash_files,
                folds=folds,
                workers=ray or workers or N_DECODERS,
                progress=_by_halves(advance, "reading planes", "comparing the files with the index"),
            )
        report = report.merge(pixel_report)
        planes.write(folder / "planes.parquet")
    else:
        (folder / "planes.parquet").unlink(missing_ok=True)  # from an earlier check
    report.write(folder)
    for invariant in report.invariants:
        (print_result if invariant.holds else print_note)(
            f"{invariant.stage}: {invariant.equation}{'' if invariant.holds else '  (does not add up)'}"
        )
    groups = report.grouped()
    if groups:
        rows = [
            (group["severity"], group["kind"], f"{group['findings']:,}", group["first"]) for group in groups[:MAX_KINDS]
        ]
        print_table(("", "finding", "count", "first"), rows)
        for group in groups[:MAX_KINDS]:
            if group["severity"] != "note":
                print_note(f"{group['kind']}: {group['first']}: {group['what'].removesuffix('.')}. {group['fix']}")
    numbers = {name: report.count(name) for name in SEVERITIES}
    counts = [f"{n:,} {name}{'s' * (n != 1)}" for name, n in numbers.items()]
    print_result(f"{', '.join(counts)}; see {folder / 'findings.csv'}")
    if report.fails(fail_on):
        sys.exit(1)


def _by_halves(advance: Advance, *titles: str) -> Callable[[int, int], None]:
    """Return a function of (done, total) that shows both halves as steps.

    A piece of one takes longer than a piece of the other, so each has a time left of its own.
    """
    first, second = by_percent(advance), by_percent(advance)
    begin_step(advance, titles[0], 100, unit="%")
    is_second = False

    def on(done: int, total: int) -> None:
        nonlocal is_second
        if done <= total // 2:
            first(done, total // 2)
            return
        if not is_second:
            is_second = True
            begin_step(advance, titles[1], 100, unit="%")
        second(done - total // 2, total - total // 2)

    return on


def _parse_totals(expect: RepeatedOption) -> dict[str, int]:
    totals = {}
    for name, value in parse_key_values(expect, flag="--expect").items():
        digits = str(value).replace("_", "")
        if not digits.isdecimal():
            raise ConfigError(
                f"--expect {name}={value}: {value!r} is not an integer. Expected a count such as wells=62755."
            )
        totals[name] = int(digits)
    return totals


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
        services = ", ".join(read_config(run.config).loggers) or "no service"
        allow_services(run)
        print_result(f"{folder}: reporting to {services} is allowed")
        return
    screen = read_screen(folder)
    allow_source(screen)
    print_result(f"{folder}: reading images from {screen.source} is allowed")


MAX_MISMATCHES = 200  # rows of the table; the others are counted


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
        report = verify_run(RunFolder(folder))
    elif (folder / "screen.json").exists():
        with progress("verify", 100, unit="%") as advance:
            report = verify_screen(open_screen(folder, images), progress=by_percent(advance))
    else:
        raise ConfigError(f"{folder} is not a run (no run.json) and not a screen (no screen.json). Name one of them.")
    if report.differences:
        rows = [(mismatch.kind, mismatch.name, mismatch.detail) for mismatch in report.differences[:MAX_MISMATCHES]]
        print_table(("", "file", "difference"), rows)
        if len(report.differences) > MAX_MISMATCHES:
            print_note(f"... {len(report.differences) - MAX_MISMATCHES} more")
    for note in report.notes:
        print_note(note)
    n_mismatches = len(report.differences)
    outcome = f"{n_mismatches} differ" if n_mismatches else "all unchanged"
    print_result(f"{report.n_files} files ({format_bytes(report.n_bytes)}) checked: {outcome}")
    if n_mismatches:
        sys.exit(1)
