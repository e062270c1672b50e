"""The nouns that pass between rooms, and the folder they lie in. No torch."""

from distangle.results.benchmark import Benchmark
from distangle.results.explanation import STANDS_OUT, Explanation
from distangle.results.faithfulness import Faithfulness
from distangle.results.filters import FilterBands
from distangle.results.own_screen import own_screen
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
    "own_screen",
    "refuse_altered",
    "verify_run",
    "verify_screen",
]
