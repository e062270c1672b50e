"""Find files that changed after indexing, and planes with the same pixels."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from distangle.core.remote import RemotePath
from distangle.images.quality.checks import plane_problem
from distangle.screen import HELD_OUT, TRAIN, Screen, sha256_of_site
from distangle.screen.indexing.hashing import size_and_mtime
from distangle.screen.problems import Problem, Severity

_FIX = "If the change was intended, index again: `distangle index`. If not, copy it again from its source."


def check_changed(
    screen: Screen, rows: Sequence[int], *, hash_files: bool = True, progress: Callable[[], None] | None = None
) -> Iterator[Problem]:
    """Find sites whose files changed after indexing, by size, time and hash.

    Missing files are not reported here, but when images are read.

    Args:
        screen: A screen with images.
        rows: Positions of sites.
        hash_files: Read every byte; otherwise compare sizes and times only.
        progress: Called after every site.
    """
    digests: dict[Path, str] = {}
    for row in rows:
        site, paths = screen.sites.iloc[row], screen.image_paths(row)
        change, is_certain = _describe_change(screen, row, paths, digests, hash_files=hash_files)
        if change:
            file_names = list(dict.fromkeys(site[f"path_{k}"] for k in range(1, len(screen.metadata.channels) + 1)))
            yield Problem(
                severity="error" if is_certain else "warning",
                kind="file changed since indexing",
                what=change,
                experiment=str(site["experiment"]),
                plate=str(site["plate"]),
                well=str(site["well"]),
                site=str(site["site"]),
                file=", ".join(file_names),
                fix=_FIX,
            )
        if progress is not None:
            progress()


def _describe_change(
    screen: Screen, row: int, paths: Sequence[Path], digests: dict[Path, str], *, hash_files: bool
) -> tuple[str, bool]:
    """Return the change, "" for none, and whether it is certain."""
    site = screen.sites.iloc[row]
    if not all(path.exists() for path in paths):
        return "", False
    sizes, times = zip(*(size_and_mtime(path) for path in dict.fromkeys(paths)), strict=True)
    if sum(sizes) != site["size"]:
        return f"{sum(sizes)} bytes now, {site['size']} when it was indexed", True
    if hash_files and site["sha256"]:
        is_same = sha256_of_site(paths, screen.pages(row), digests=digests) == site["sha256"]
        n = len(set(paths))
        return (
            "" if is_same else f"the SHA-256 of its {n} files differs from the index: at least one bit changed",
            True,
        )
    # A copied folder has new times and the same bytes; a download has the time of the download.
    delay = 0.0 if isinstance(screen.source, RemotePath) else max(times) - float(site["mtime"])
    return f"modified {delay:.0f} s after it was indexed, with the same size" if delay > 1e-3 else "", False


def check_same_pixels(planes: pd.DataFrame, *, fold: np.ndarray | None = None) -> Iterator[Problem]:
    """Find planes with the same pixels at two sites, except constant planes.

    Args:
        planes: Readable planes from `measure_planes`.
        fold: Fold of every site of the screen; None to ignore folds.
    """
    varied = planes[planes["std"] > 0]
    repeated = varied[varied.duplicated("digest", keep=False)]
    for _, group in repeated.groupby("digest", sort=False):
        rows = group.to_dict("records")
        places = [
            f"{r['experiment']} plate {r['plate']} well {r['well']} site {r['site']} {r['channel']}" for r in rows
        ]
        suffix = f" and {len(places) - 4} more" if len(places) > 4 else ""
        is_one_site = group["position"].nunique() == 1
        splits = sorted(set(group["split"]))
        description = f"{' = '.join(places[:4])}{suffix}"
        crosses_folds = fold is not None and {TRAIN, HELD_OUT} <= set(fold[group["position"].to_numpy()].tolist())
        if is_one_site:
            kind, fix = (
                "two channels with the same pixels",
                "One was exported under the name of the other: export it again.",
            )
        elif crosses_folds:
            kind, fix = "same pixels on both sides of the folds", "Index without the copy, or hold out both."
        elif len(splits) > 1:
            kind, fix = "same pixels on both sides of the split", "Find out which is the copy, and index without it."
            description += f", in the splits {' and '.join(map(repr, splits))}"
        else:
            kind, fix = "same pixels at two places", "Find out which is the copy, and index without it."
        severity: Severity = "error" if is_one_site or crosses_folds or len(splits) > 1 else "warning"
        yield plane_problem(rows[0], severity, kind, description, fix, count=len(group))
