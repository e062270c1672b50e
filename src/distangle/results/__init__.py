"""The nouns that pass between rooms, and the folder they lie in. No torch."""

from distangle.results.explanation import Explanation
from distangle.results.predictions import Predictions
from distangle.results.run import RunFolder
from distangle.results.scores import ScoreRow, Scores

__all__ = ["Explanation", "Predictions", "RunFolder", "ScoreRow", "Scores"]
