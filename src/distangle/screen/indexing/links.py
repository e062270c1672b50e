"""Images that are links out of their source: taken, and said once."""

from collections.abc import Iterable
from pathlib import Path

from distangle.core.remote import AnyPath
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.origin import links_leading_out
from distangle.screen.problems import Problem


def links_out_of_source(source: AnyPath, entries: Iterable[SiteRecord]) -> list[str]:
    """Return files of entries that a link leads to outside the source.

    There are none behind a URL.

    Args:
        source: The folder that the paths start from.
        entries: Those that are indexed.
    """
    if not isinstance(source, Path):
        return []
    return links_leading_out(source, (path for entry in entries for path in entry.paths))


def links_problem(names: list[str]) -> list[Problem]:
    """Return the one remark on such files, or none.

    Args:
        names: From `linked_out`.
    """
    if not names:
        return []
    return [
        Problem(
            severity="warning",
            kind="links out of the source",
            file=names[0],
            found=f"{len(names):,} image file(s) are reached over a link that leads out of the source",
            expected="files in the source itself",
            fix="They were read where the links lead. Look where that is, if the folder came from somebody else.",
        )
    ]
