"""A table of files gives back what was appended to it."""

import hashlib

import pytest

from distangle.screen.file_pages import ImageHeader, Stack
from distangle.screen.indexing.file_table import FileInfo, FileTable

PAGES = ImageHeader("uint16", (4, 5), 2, Stack(image_pages=(0, 1)))
GRAY = ImageHeader("uint16", (520, 696), 1)
FILES = {
    "a.tif": FileInfo(size=3, mtime=1.5, header=GRAY, sha256=hashlib.sha256(b"a").hexdigest()),
    "b.tif": FileInfo(error="no such file", is_missing=True),
    "c.tif": FileInfo(size=1 << 40, mtime=2.25, header=ImageHeader("uint8", (4, 5), 1, None, is_inverted=True)),
    "d.tif": FileInfo(size=9, mtime=3.0, header=GRAY, zeroed_rows={0: (400, 520)}),
    "e.tif": FileInfo(size=7, header=PAGES, sha256="00" * 31 + "01"),
    "f.tif": FileInfo(error="cannot be read", fix="Ask the owner.", size=0),
    "g.tif": FileInfo(size=1, mtime=-1.0),
}


def table_of(files: dict[str, FileInfo]) -> FileTable:
    table = FileTable(list(files))
    for file in files.values():
        table.append(file)
    return table


def test_a_file_is_as_it_was_appended() -> None:
    table = table_of(FILES)
    assert len(table) == len(FILES)
    assert {path: table[path] for path in FILES} == FILES
    assert {path: table.sha256(path) for path in FILES} == {path: file.sha256 for path, file in FILES.items()}


def test_an_unknown_path_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        table_of(FILES)["nowhere.tif"]


def test_the_headers_are_those_that_were_read() -> None:
    expected = [(path, file.header) for path, file in FILES.items() if file.header is not None]
    assert list(table_of(FILES).headers()) == expected


def test_equal_headers_are_one_object() -> None:
    table = FileTable(["a", "b"])
    for _ in range(2):
        table.append(FileInfo(size=1, header=ImageHeader("uint8", (2, 2), 1)))
    assert table["a"].header is table["b"].header


def test_only_hashes_of_several_files_are_repeated() -> None:
    alike = "11" * 8  # the first eight bytes of three hashes, two of them equal
    hashes = [
        alike + "22" * 24,
        alike + "33" * 24,
        alike + "22" * 24,
        "44" * 32,
        "",
        "",
        "55" * 32,
        "55" * 32,
        "55" * 32,
    ]
    table = table_of({str(k): FileInfo(size=1, sha256=sha256) for k, sha256 in enumerate(hashes)})
    assert table.repeated_sha256() == {alike + "22" * 24, "55" * 32}


@pytest.mark.parametrize("hashes", [[], ["11" * 32], ["11" * 32, "22" * 32]])
def test_separate_files_have_no_repeated_hash(hashes: list[str]) -> None:
    table = table_of({str(k): FileInfo(size=1, sha256=sha256) for k, sha256 in enumerate(hashes)})
    assert table.repeated_sha256() == set()
