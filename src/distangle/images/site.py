"""One site of a screen: the image that was indexed, or a refusal."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distangle.errors import ImageError
from distangle.images.read import has_checksum, read_image
from distangle.screen import Screen, sha256_of_site
from distangle.screen.stored import size_and_mtime


class SiteReader:
    """Read images of a screen; refuse those whose files changed after indexing.

    Sizes are compared every time. The bytes are compared with the SHA-256 of the index, where the screen was indexed
    with hashes, when they are first read and whenever they were written anew. One file with a checksum of its own (see
    `has_checksum`) that is as large and as old as the index says is believed; of several, two may be exchanged.

    Args:
        screen: With images.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._right_at = np.full(len(screen.sites), np.nan)  # when the newest file of a site was written

    def read(self, row: int) -> np.ndarray:
        """Return the image of a site, uint8 or uint16 [channel, height, width].

        Args:
            row: Position in the screen's sites.

        Raises:
            ImageError: A file is damaged, or another than when it was indexed.
            ScreenError: The screen was indexed without looking for images.
            RemoteError: A file cannot be fetched.
            MemoryError: There is no room for the pixels.
        """
        paths, pages = self._screen.image_paths(row), self._screen.pages(row)
        image = read_image(paths, pages)
        sizes, times = zip(*(size_and_mtime(path) for path in dict.fromkeys(paths)), strict=True)
        self._check_size(row, paths, sum(sizes))
        if self._right_at[row] != max(times):
            self._check_bytes(row, paths, pages, written=max(times))
            self._right_at[row] = max(times)
        return image

    def _check_size(self, row: int, paths: Sequence[Path], found: int) -> None:
        expected = self._indexed("size", row)
        if expected is not None and found != expected:
            raise ImageError(
                f"{_named(paths)}: {found} bytes now, {expected} when it was indexed. Index the screen again; "
                "`distangle check` finds all such files."
            )

    def _check_bytes(self, row: int, paths: Sequence[Path], pages: Sequence[int | None], *, written: float) -> None:
        expected = self._indexed("sha256", row)
        alone = len(set(paths)) == 1 and has_checksum(paths[0])
        if not expected or (alone and written == self._indexed("mtime", row)):
            return
        if sha256_of_site(paths, pages) != expected:
            raise ImageError(
                f"{_named(paths)}: as many bytes as when it was indexed, but not the same ones (SHA-256). Copy it "
                "again from where it came, or, if it was meant, index the screen again; `distangle verify` finds all "
                "such files."
            )

    def _indexed(self, column: str, row: int) -> object:
        """What the index says; None in a table made by hand that does not say."""
        return self._screen.sites[column].iat[row] if column in self._screen.sites else None


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(dict.fromkeys(str(path) for path in paths))
