"""Words of a command line that carry more than one value."""

from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from distangle.errors import ConfigError
from distangle.results import ScoreRow, Scores


def pairs(given: Iterable[str], *, flag: str, parse: bool = False) -> dict[str, Any]:
    """Read `name=value` pairs, several to a word with commas between.

    Args:
        given: The words.
        flag: Named in the error.
        parse: Read values as YAML instead of text, one pair to a word.

    Raises:
        ConfigError: A word without `=`, or a name twice.
    """
    found: dict[str, Any] = {}
    words = [word for word in given] if parse else [part for word in given for part in word.split(",")]
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name.strip():
            message = f"{flag} {word!r}: expected NAME=VALUE."
            raise ConfigError(message)
        if name.strip() in found:
            message = f"{flag} names {name.strip()!r} twice."
            raise ConfigError(message)
        found[name.strip()] = yaml.safe_load(value) if parse else value.strip()
    return found


def score_lines(scores: Scores) -> Iterator[tuple[str, ...]]:
    """Give the lines of the score table for a terminal: accuracy and balanced accuracy side by side.

    Args:
        scores: All rows; those of single cell types stay in scores.json and in the report.
    """
    balanced = {_place(row): row for row in scores.rows if row.metric == "balanced accuracy"}
    for row in scores.rows:
        if row.metric == "accuracy" and not row.subset.startswith("cell type"):
            numbers = (_with_interval(row), _with_interval(balanced[_place(row)]))
            yield row.level, str(row.views), row.wells, row.subset, *numbers, f"{row.chance:.3f}", str(row.n)


def _place(row: ScoreRow) -> tuple[str, int, str, str]:
    return row.level, row.views, row.wells, row.subset


def _with_interval(row: ScoreRow) -> str:
    interval = f" ({row.interval[0]:.3f}-{row.interval[1]:.3f})" if row.interval else ""
    return f"{row.value:.3f}{interval}"
