"""The verb that divides a screen, says what leaks, and keeps the division as a file."""

from pathlib import Path
from typing import Literal

from distangle.cli.console import remark, tell
from distangle.progress import doing


def folds(
    screen: Path,
    *,
    out: Path,
    hold_out: str | None = None,
    unlabelled: str | None = None,
    n: int | None = None,
    fold: int | None = None,
    group: Literal["experiment", "plate", "well"] | None = None,
    target: str = "perturbation",
    seed: int = 0,
    force_split: bool = False,
) -> None:
    """Divide a screen for training and testing, say what would leak, and keep the division with its hash.

    Args:
        screen: Folder from `distangle index`.
        out: File of the folds, for `distangle train --fold-file`.
        hold_out: What to hold out by a column: `experiment=HUVEC-02,RPE-01`, `replicate=2`; or `wilds=test`.
        unlabelled: Wells whose labels are hidden: `experiment=HUVEC-03` or `split=test`.
        n: Number of folds of whole groups; five, or as many as there are.
        fold: Which of them is held out, from 0.
        group: What stays whole: experiments, plates or wells, every label spread evenly.
        target: Column that will be predicted.
        seed: Deals the groups out in another way.
        force_split: Allow something on both sides; every score is then marked.
    """
    from distangle.screen import allowed, divide, read_screen
    from distangle.screen.leaks import find_leaks

    doing("dividing the screen, and looking for leaks")
    read = allowed(read_screen(screen))
    made = divide(
        read,
        by=hold_out,
        hidden=unlabelled,
        n_folds=n,
        fold=fold,
        group=group,
        label=target,
        seed=seed,
        force=force_split,
    )
    made.write(out)
    counts = made.table["fold"].value_counts()
    tell(f"{made.description}: " + " + ".join(f"{name} {int(size):,}" for name, size in counts.items())
         + f" = {len(made.table):,} sites")  # fmt: skip
    for finding in find_leaks(read, made, label=target):
        (tell if finding.severity == "note" else remark)(f"{finding.kind}: {finding.what}. {finding.fix}")
    tell(f"{out}, sha256 {made.sha256}")
