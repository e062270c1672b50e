"""Predict screens, score predictions, and check controls; import no training."""

from typing import TYPE_CHECKING, Any

from distangle.inference.control_checks import evaluate_controls
from distangle.inference.evaluate import confusion, evaluate, score
from distangle.inference.predict import (
    PredictionOptions,
    average_wells,
    cell_type_rows,
    check_fits,
    predict_by_views,
    predict_sites,
)
from distangle.inference.run import features_of, fold_of_sites, open_model, predict_run, site_folds, store_of
from distangle.inference.statistics import load_statistics, statistics_for

if TYPE_CHECKING:
    from distangle.inference.embedder import Embedder

__all__ = [
    "Embedder",
    "PredictionOptions",
    "average_wells",
    "cell_type_rows",
    "evaluate_controls",
    "check_fits",
    "confusion",
    "evaluate",
    "features_of",
    "fold_of_sites",
    "load_statistics",
    "statistics_for",
    "open_model",
    "predict_run",
    "predict_by_views",
    "predict_sites",
    "score",
    "site_folds",
    "store_of",
]


def __getattr__(name: str) -> Any:
    """Load the estimator on first use: no verb needs scikit-learn to predict."""
    if name != "Embedder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from distangle.inference.embedder import Embedder

    return Embedder
