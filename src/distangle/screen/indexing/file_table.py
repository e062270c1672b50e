"""Keep what is known of files in columns, not in a million objects."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from distangle.screen.file_pages import ImageHeader

NOT_ZEROED: Mapping[int, tuple[int, int]] = MappingProxyType({})
"""One object for all files without zeroed rows."""

_SHA256_SIZE = 32  # bytes
_NO_SHA256 = bytes(_SHA256_SIZE)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInfo:
    """Size, time, header and hash of a file, or its error.

    Attributes:
        size: Size in bytes.
        mtime: Time of the last change.
        header: The image header; None if it was not read.
        sha256: Hash of its bytes; "" if they were not read.
        error: Why the file cannot be used; "" if it can.
        fix: The next step for the error.
        is_missing: The file does not exist.
        zeroed_rows: Page to its first and last zeroed row, for a raw TIFF that was copied in part.
    """

    size: int = 0
    mtime: float = 0.0
    header: ImageHeader | None = None
    sha256: str = ""
    error: str = ""
    fix: str = "Copy the file again from its origin."
    is_missing: bool = False
    zeroed_rows: Mapping[int, tuple[int, int]] = field(default_factory=lambda: NOT_ZEROED)

    @property
    def kind(self) -> tuple[str, tuple[int, int]] | None:
        """Pixel type and (height, width)."""
        return None if self.header is None else (self.header.dtype, self.header.shape)


class FileTable:
    """Information on files by path, a row of columns for each.

    Only a file that cannot be used as it is has an object of its own.

    Args:
        paths: Every path once, in the order in which `append` gives their files.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._row_of = {path: row for row, path in enumerate(paths)}
        self._size, self._mtime, self._header_number = array("q"), array("d"), array("q")
        self._sha256 = bytearray()
        self._headers: list[ImageHeader | None] = [None]
        self._number_of_header: dict[ImageHeader, int] = {}
        self._whole: dict[int, FileInfo] = {}

    def __len__(self) -> int:
        """Return the number of files that were appended."""
        return len(self._size)

    def __getitem__(self, path: str) -> FileInfo:
        """Return the information on the file of a path.

        Raises:
            KeyError: No such path.
        """
        row = self._row_of[path]
        if row in self._whole:
            return self._whole[row]
        return FileInfo(
            size=self._size[row],
            mtime=self._mtime[row],
            header=self._headers[self._header_number[row]],
            sha256=self._sha256_of(row),
        )

    def sha256(self, path: str) -> str:
        """Return the hash of a file; "" if it was not read.

        Raises:
            KeyError: No such path.
        """
        return self._sha256_of(self._row_of[path])

    def append(self, file: FileInfo) -> None:
        """Add the file of the next path."""
        if file.error or file.is_missing or file.zeroed_rows:
            self._whole[len(self)] = file
        self._header_number.append(self._number_of(file.header))
        self._mtime.append(file.mtime)
        self._sha256 += bytes.fromhex(file.sha256) or _NO_SHA256
        self._size.append(file.size)

    def headers(self) -> Iterator[tuple[str, ImageHeader]]:
        """Yield path and header of every file with one."""
        for path, row in self._row_of.items():
            header = self._headers[self._header_number[row]]
            if header is not None:
                yield path, header

    def repeated_sha256(self) -> set[str]:
        """Return the hashes that several files have."""
        # The first eight bytes of each: so few files are alike in these that all are compared.
        starts = np.frombuffer(self._sha256, dtype=np.uint64)[:: _SHA256_SIZE // 8].copy()
        order = np.argsort(starts, kind="stable")
        is_alike = starts[order[1:]] == starts[order[:-1]]
        rows = np.unique(np.concatenate([order[1:][is_alike], order[:-1][is_alike]]))
        counts: dict[str, int] = {}
        for row in rows.tolist():
            sha256 = self._sha256_of(row)
            counts[sha256] = counts.get(sha256, 0) + 1
        return {sha256 for sha256, count in counts.items() if sha256 and count > 1}

    def _number_of(self, header: ImageHeader | None) -> int:
        """Return where a header is kept; equal headers without a stack are kept once."""
        if header is None:
            return 0
        number = None if header.stack is not None else self._number_of_header.get(header)
        if number is None:
            number = len(self._headers)
            self._headers.append(header)
            if header.stack is None:
                self._number_of_header[header] = number
        return number

    def _sha256_of(self, row: int) -> str:
        digest = self._sha256[row * _SHA256_SIZE : (row + 1) * _SHA256_SIZE]
        return "" if digest == _NO_SHA256 else digest.hex()
