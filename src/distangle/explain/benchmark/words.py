"""The truth table in words, for a terminal."""

from collections.abc import Mapping
from typing import Any

from distangle.results import Benchmark

BENCHMARK_HEADER = ("network", "question", "method", "hits", "share", "95 %", "chance", "swapped", "mass / area")


def benchmark_lines(benchmark: Benchmark) -> list[tuple[str, ...]]:
    """Return one line per row of the truth table, under `BENCHMARK_HEADER`."""
    return [_line(row) for row in benchmark.rows]


def benchmark_sentences(benchmark: Benchmark) -> list[str]:
    """Return one sentence per aim: reached or missed, by what."""
    said = []
    for aim in benchmark.aims:
        if aim["value"] is None:
            said.append(f"nothing to count: {aim['aim']}.")
            continue
        word, side = ("reached" if aim["met"] else "MISSED"), ("at least" if aim["at_least"] else "at most")
        said.append(f"{word}: {aim['aim']}: {aim['value']:.0%} ({aim['method']}; {side} {aim['limit']:.0%}).")
    return said


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    def per_cent(value: float | None) -> str:
        return "" if value is None else f"{value:.0%}"

    hits = f"{row['hits']:g}" if row["network"] == "trained" else f"{row['hits']:.1f}"
    return (
        str(row["network"]),
        f"{row['question']}, by {row['unit'].removesuffix('s')}",
        str(row["method"]),
        f"{hits} of {row['of']}",
        per_cent(row["share"]),
        "" if row["low"] is None else f"{row['low']:.0%} to {row['high']:.0%}",
        per_cent(row["chance"]),
        per_cent(row["swapped"]),
        f"{row['mass']:.0%} / {row['area']:.0%}" if row["question"] == "place" else "",
    )
