import ctypes
import os
import subprocess
import sys

import pytest

from distangle import __main__ as program
from distangle.core import allocator
from distangle.core.allocator import keep_freed_memory, return_freed_memory

UNSET = {
    name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES" and not name.startswith("MALLOC_")
}
# Write and free arrays of 48 MiB, which glibc does not keep by default; print the pages requested from the system.
FREED = """
import resource, sys
from distangle.core.allocator import keep_freed_memory
kept = sys.argv[1] == "keep" and keep_freed_memory()
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
block = bytes(48 << 20)
block = None
before = pages()
for value in range(10):
    block = bytearray(b"x") * (48 << 20)
    block = None
print(kept, pages() - before)
"""


class RecordedLibrary:
    """A C library that accepts single blocks up to a largest one and records its calls."""

    largest = 2**30

    def __init__(self) -> None:
        self.calls_made: list[tuple[int, int]] = []

    @property
    def mallopt(self) -> "RecordedLibrary":
        return self

    def __call__(self, parameter: int, value: int) -> int:
        self.calls_made.append((parameter, value))
        return int(parameter != -3 or value <= self.largest)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> RecordedLibrary:
    library = RecordedLibrary()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36", raising=False)
    return library


def count_pages(argument: str, environment: dict[str, str]) -> tuple[str, int]:
    process = subprocess.run(
        [sys.executable, "-c", FREED, argument], capture_output=True, text=True, check=True, env=environment
    )
    setting, pages = process.stdout.split()
    return setting, int(pages)


@pytest.mark.skipif(not allocator._is_glibc(), reason="the C library is not glibc")
def test_freed_memory_is_not_requested_from_the_system_again() -> None:
    given_back, keep = count_pages("leave", UNSET), count_pages("keep", UNSET)
    assert (given_back[0], keep[0]) == ("False", "True")
    page = os.sysconf("SC_PAGE_SIZE")
    if given_back[1] < 5 * (48 << 20) // page:
        pytest.skip(f"the system gives out memory in larger pieces than pages of {page} bytes")
    assert keep[1] < given_back[1] / 4


def test_both_thresholds_are_set_the_one_of_single_blocks_first(library: RecordedLibrary) -> None:
    assert keep_freed_memory({"PATH": "/bin"})
    assert library.calls_made == [(-3, 2**30), (-1, 2**31 - 1)]


def test_an_older_glibc_gets_the_maximum_that_it_accepts(library: RecordedLibrary) -> None:
    library.largest = 2**25
    assert keep_freed_memory({})
    assert library.calls_made == [(-3, 2**30), (-3, 2**25), (-1, 2**31 - 1)]


def test_where_the_first_threshold_is_refused_the_second_is_not_set(library: RecordedLibrary) -> None:
    library.largest = 0
    assert not keep_freed_memory({})
    assert library.calls_made == [(-3, 2**30), (-3, 2**25)]


def test_a_process_that_waits_has_low_thresholds_and_few_heaps(library: RecordedLibrary) -> None:
    assert return_freed_memory({"PATH": "/bin"})
    assert library.calls_made == [(-3, 2**20), (-1, 2**20), (-8, 2)]
    assert not return_freed_memory({"MALLOC_ARENA_MAX": "1"})


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_the_environment_overrides_the_allocator_setting(library: RecordedLibrary, name: str) -> None:
    assert not keep_freed_memory({name: "1"})
    assert library.calls_made == []


@pytest.mark.parametrize(
    "answer", [None, "", "NPTL 2.36", ValueError("unrecognized configuration name"), OSError(22, "Invalid argument")]
)
def test_another_c_library_is_left_alone(
    library: RecordedLibrary, monkeypatch: pytest.MonkeyPatch, answer: str | Exception | None
) -> None:
    def confstr(name: str) -> str | None:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(os, "confstr", confstr, raising=False)
    assert not keep_freed_memory({})
    monkeypatch.delattr(os, "confstr")  # Windows
    assert not keep_freed_memory({})
    assert library.calls_made == []


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [(["train", "x"], 1), (["predict"], 1), (["explain"], 1), (["demo"], 1), (["ablate"], 1), (["index"], 0), ([], 0)],
)
def test_the_program_sets_it_where_it_starts_and_for_verbs_that_run_a_network(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], calls: int
) -> None:
    calls_seen: list[str] = []
    monkeypatch.setattr(sys, "argv", ["distangle", *arguments])
    monkeypatch.setattr(program, "keep_freed_memory", lambda: calls_seen.append("keep"))
    monkeypatch.setattr("distangle.cli.main", lambda: calls_seen.append("verb"))
    program.main()
    assert calls_seen == ["keep"] * calls + ["verb"]
