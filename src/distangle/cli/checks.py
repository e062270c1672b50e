"""The verb that says what is odd in a screen before anything is trained on it."""

import sys
from pathlib import Path
from typing import Literal

from distangle.cli.console import remark, tell, tell_table
from distangle.cli.opening import check_folder, open_screen
from distangle.cli.words import Words, at_least, pairs
from distangle.errors import ConfigError, nearest
from distangle.progress import by_percent, doing, progress

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
    """Say what is odd in a screen: lost, doubled, turned or shifted, misnamed, damaged, clipped, empty, blurred.

    Ends with status 1 when something is as bad as `--fail-on`, or a sum does not come out.

    Args:
        screen: Folder from `distangle index`.
        out: Folder for checks.json, findings.csv and planes.parquet; SCREEN/checks when left out.
        sample: Sites whose pixels are read, spread over plates and wells; 0 for all.
        pixels: Read pixels at all.
        hash_files: Compare the SHA-256 of the sampled files with the index.
        like: Another screen whose labels must be of the same coding.
        fold_file: Folds whose sides are looked at for what is on both; a file of `distangle folds`, or of a run.
        target: Column that will be predicted: what place, layout and plate tell of it.
        expect: Totals that somebody states: `wells=62755,plates=204`.
        fail_on: `error`, `warning` or `never`.
        images: Where the images are now, when they were moved after `distangle index`.
        workers: Processes that decode.
    """
    check_folder(screen)
    from distangle.screen import Folds, allowed, fold_columns, read_screen
    from distangle.screen.checks import Checked, check_tables
    from distangle.screen.checks.finding import SEVERITIES
    from distangle.screen.leaks import find_leaks
    from distangle.screen.table import CHECKS

    n_workers, n_sampled = at_least(workers, 1, flag="--workers"), at_least(sample, 0, flag="--sample")
    read = open_screen(screen, images) if pixels else allowed(read_screen(screen))
    other = None if like is None else allowed(read_screen(like))
    doing("comparing the tables")
    checked = check_tables(read, like=other, expected=_totals(expect))
    divided = None if fold_file is None else Folds.read(fold_file)
    if target not in fold_columns(read):
        raise ConfigError(f"--target {target}: the screen has no such column. {nearest(target, fold_columns(read))}")
    doing("looking for leaks")
    leaks = find_leaks(read, divided, label=target)
    checked = checked.joined(Checked(findings=tuple(leaks), laws=()))
    folder = out or screen / CHECKS
    if pixels and not read.card.tables_only:
        from distangle.images import sample_sites
        from distangle.images.checks import check_pixels

        rows = sample_sites(read, n_sampled)
        doing("reading planes")
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
        (tell if law.holds else remark)(f"{law.stage}: {law.words}{'' if law.holds else '  (does not come out)'}")
    groups = checked.grouped()
    if groups:
        rows_shown = [(one["severity"], one["kind"], f"{one['findings']:,}", one["first"]) for one in groups[:SHOWN]]
        tell_table(("", "found", "times", "first"), rows_shown)
        for one in groups[:SHOWN]:
            if one["severity"] != "note":
                remark(f"{one['kind']}: {one['first']}: {one['what'].removesuffix('.')}. {one['fix']}")
    numbers = {name: checked.count(name) for name in SEVERITIES}
    counts = [f"{n:,} {name}{'s' * (n != 1)}" for name, n in numbers.items()]
    tell(f"{', '.join(counts)}, each in {folder / 'findings.csv'}")
    if checked.fails(fail_on):
        sys.exit(1)


def _totals(expect: Words) -> dict[str, int]:
    found = {}
    for name, value in pairs(expect, flag="--expect").items():
        plain = str(value).replace("_", "")
        if not plain.isdecimal():
            raise ConfigError(f"--expect {name}={value}: {value!r} is no whole number. Expected such as wells=62755.")
        found[name] = int(plain)
    return found
