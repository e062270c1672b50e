"""The nouns that pass between rooms, and the folder they lie in. No torch."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distangle.results.benchmark import Benchmark
    from distangle.results.explanation import STANDS_OUT, Explanation
    from distangle.results.faithfulness import Faithfulness
    from distangle.results.filters import FilterBands
    from distangle.results.predictions import Predictions
    from distangle.results.run import RunFolder
    from distangle.results.scores import ScoreRow, Scores
    from distangle.results.templates import TemplateMaps
    from distangle.results.verify import Difference, Verified, refuse_altered, verify_run, verify_screen

__all__ = [
    "STANDS_OUT",
    "Benchmark",
    "Difference",
    "Explanation",
    "Faithfulness",
    "FilterBands",
    "Predictions",
    "RunFolder",
    "ScoreRow",
    "Scores",
    "TemplateMaps",
    "Verified",
    "refuse_altered",
    "verify_run",
    "verify_screen",
]

# Tables and their statistics take a second to load; whether a folder is a run is known without them.
_MODULES = {
    "Benchmark": "benchmark",
    "Difference": "verify",
    "Explanation": "explanation",
    "Faithfulness": "faithfulness",
    "FilterBands": "filters",
    "Predictions": "predictions",
    "RunFolder": "run",
    "STANDS_OUT": "explanation",
    "ScoreRow": "scores",
    "Scores": "scores",
    "TemplateMaps": "templates",
    "Verified": "verify",
    "refuse_altered": "verify",
    "verify_run": "verify",
    "verify_screen": "verify",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
