"""Find images that are links out of their source, and report them once."""

from collections.abc import Iterable
from pathlib import Path

from distangle.core.remote import AnyPath
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.origin import links_leading_out
from distangle.screen.problems import Problem


def links_out_of_source(source: AnyPath, entries: Iterable[SiteRecord]) -> list[str]:
    """Return files of entries that lie outside the source, behind a link.

    A remote source has none.

    Args:
        source: Base folder of the paths.
        entries: The indexed entries.
    """
    if not isinstance(source, Path):
        return []
    return links_leading_out(source, (path for entry in entries for path in dict.fromkeys(entry.paths)))


def links_problem(names: list[str]) -> list[Problem]:
    """Return the warning about files behind links, if any.

    Args:
        names: From `links_out_of_source`.
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
            fix="The files behind the links were read. If the folder came from somebody else, check where they lead.",
        )
    ]
