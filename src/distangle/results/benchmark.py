"""How often each method of explanation found what had been planted, beside chance and an untrained network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distangle.commit import commit_json
from distangle.results.stated import stated

STATED = "benchmark.json"
_KINDS = {"settings": dict, "aims": list, "rows": list}


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The truth table over methods.

    Attributes:
        rows: One per network, question, method and unit, with `network` (`trained` or `untrained`), `question`
            (`stain` or `place`), `method`, `unit` (`wells` or `sites`), `hits`, `of`, `share` with its 95 %
            interval over wells, `low` to `high`, `chance`, `swapped` (the same method's scores or maps of other sites:
            what its habits alone would hit) and, for places, `layer`, `mass` (mean share of the map inside the place)
            and `area`. An untrained network's counts are means over several, so hits may be a fraction.
        aims: What was to be reached: `aim`, `method`, `value`, `limit`, `met` (None where nothing could be counted).
        settings: What was asked.
    """

    rows: Sequence[Mapping[str, Any]]
    aims: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]

    def write(self, folder: Path) -> list[Path]:
        """Write `benchmark.json`; return its path."""
        path = folder / STATED
        commit_json(
            path,
            {
                "settings": dict(self.settings),
                "aims": [dict(aim) for aim in self.aims],
                "rows": [dict(row) for row in self.rows],
            },
        )
        return [path]

    @classmethod
    def read(cls, folder: Path) -> "Benchmark":
        """Read what `write` wrote.

        Raises:
            RunError: The run's explanations have not been benchmarked.
        """
        return cls(**stated(folder / STATED, what="benchmark", flags=" --benchmark", kinds=_KINDS))
