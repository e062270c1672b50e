"""Check that files are still those that were indexed: size, time and hash.

The same pixels under two names, whatever format or compression the files have.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from distangle.core.remote import RemotePath
from distangle.images.quality.checks import finding
from distangle.screen import HELD_OUT, TRAIN, Screen, sha256_of_site
from distangle.screen.indexing.hashing import size_and_mtime
from distangle.screen.problems import Problem, Severity

_FIX = "If it was meant, index again: `distangle index`. If not, copy it again from where it came."


def check_changed(
    screen: Screen, rows: Sequence[int], *, hash_files: bool = True, progress: Callable[[], None] | None = None
) -> Iterator[Problem]:
    """Find sites whose files changed after indexing.

    Reading tells which files are gone.

    Args:
        screen: With images.
        rows: Positions of sites.
        hash_files: Read every byte; else sizes and times tell.
        progress: Called after every site.
    """
    digests: dict[Path, str] = {}
    for row in rows:
        site, paths = screen.sites.iloc[row], screen.image_paths(row)
        words, surely = _compared(screen, row, paths, digests, hash_files=hash_files)
        if words:
            named = list(dict.fromkeys(site[f"path_{k}"] for k in range(1, len(screen.card.channels) + 1)))
            yield Problem(
                severity="error" if surely else "warning",
                kind="file changed since indexing",
                what=words,
                experiment=str(site["experiment"]),
                plate=str(site["plate"]),
                well=str(site["well"]),
                site=str(site["site"]),
                file=", ".join(named),
                fix=_FIX,
            )
        if progress is not None:
            progress()


def _compared(
    screen: Screen, row: int, paths: Sequence[Path], digests: dict[Path, str], *, hash_files: bool
) -> tuple[str, bool]:
    """Return what is changed, "" for nothing, and whether that is certain."""
    site = screen.sites.iloc[row]
    if not all(path.exists() for path in paths):
        return "", False
    sizes, times = zip(*(size_and_mtime(path) for path in dict.fromkeys(paths)), strict=True)
    if sum(sizes) != site["size"]:
        return f"{sum(sizes)} bytes now, {site['size']} when it was indexed", True
    if hash_files and site["sha256"]:
        same = sha256_of_site(paths, screen.pages(row), digests=digests) == site["sha256"]
        n = len(set(paths))
        return (
            "" if same else f"the SHA-256 of its {n} files is not that of the index: a bit was flipped, or more",
            True,
        )
    # A copy of a folder has new times and the same bytes; what was fetched from a URL has those of the fetching.
    later = 0.0 if isinstance(screen.source, RemotePath) else max(times) - float(site["mtime"])
    return f"written to {later:.0f} s after it was indexed, to the same size" if later > 1e-3 else "", False


def check_same_pixels(planes: pd.DataFrame, *, fold: np.ndarray | None = None) -> Iterator[Problem]:
    """Find planes with the same pixels at two sites, other than constant planes.

    Args:
        planes: From `survey`, those that could be read.
        fold: Of every site of the screen; None where no folds are looked at.
    """
    varied = planes[planes["std"] > 0]
    repeated = varied[varied.duplicated("digest", keep=False)]
    for _, group in repeated.groupby("digest", sort=False):
        rows = group.to_dict("records")
        places = [
            f"{r['experiment']} plate {r['plate']} well {r['well']} site {r['site']} {r['channel']}" for r in rows
        ]
        more = f" and {len(places) - 4} more" if len(places) > 4 else ""
        one_site = group["position"].nunique() == 1
        splits = sorted(set(group["split"]))
        what = f"{' = '.join(places[:4])}{more}"
        crossed = fold is not None and {TRAIN, HELD_OUT} <= set(fold[group["position"].to_numpy()].tolist())
        if one_site:
            kind, fix = (
                "two channels with the same pixels",
                "One was exported under the name of the other: export again.",
            )
        elif crossed:
            kind, fix = "same pixels on both sides of the folds", "Index without the copy, or hold out both."
        elif len(splits) > 1:
            kind, fix = "same pixels on both sides of the split", "Find out which is the copy, and index without it."
            what += f", in the splits {' and '.join(map(repr, splits))}"
        else:
            kind, fix = "same pixels at two places", "Find out which is the copy, and index without it."
        severity: Severity = "error" if one_site or crossed or len(splits) > 1 else "warning"
        yield finding(rows[0], severity, kind, what, fix, count=len(group))
