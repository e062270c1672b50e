"""Define the result types of a run and the folder that stores them; no torch."""

from typing import TYPE_CHECKING

from distangle.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from distangle.results.evidence import Benchmark, Faithfulness, FilterAnalysis, TemplateComparison
    from distangle.results.explanation import STANDS_OUT, Explanation
    from distangle.results.predictions import Predictions
    from distangle.results.profile_result import ProfileResult
    from distangle.results.profiles import Profiles
    from distangle.results.run import RunFolder
    from distangle.results.scores import Calibration, ReliabilityBin, ScoreRow, Scores
    from distangle.results.verify import Mismatch, VerificationReport, refuse_altered, verify_run, verify_screen

__all__ = [
    "STANDS_OUT",
    "Benchmark",
    "Calibration",
    "Mismatch",
    "Explanation",
    "Faithfulness",
    "FilterAnalysis",
    "Predictions",
    "ProfileResult",
    "Profiles",
    "ReliabilityBin",
    "RunFolder",
    "ScoreRow",
    "Scores",
    "TemplateComparison",
    "VerificationReport",
    "refuse_altered",
    "verify_run",
    "verify_screen",
]

# Loaded lazily: pandas takes a second to import, and opening a run folder does not need it.
_MODULES = {
    "Benchmark": "evidence",
    "Calibration": "scores",
    "Mismatch": "verify",
    "Explanation": "explanation",
    "Faithfulness": "evidence",
    "FilterAnalysis": "evidence",
    "Predictions": "predictions",
    "ProfileResult": "profile_result",
    "Profiles": "profiles",
    "ReliabilityBin": "scores",
    "RunFolder": "run",
    "STANDS_OUT": "explanation",
    "ScoreRow": "scores",
    "Scores": "scores",
    "TemplateComparison": "evidence",
    "VerificationReport": "verify",
    "refuse_altered": "verify",
    "verify_run": "verify",
    "verify_screen": "verify",
}

__getattr__ = lazy_names(__name__, _MODULES)
