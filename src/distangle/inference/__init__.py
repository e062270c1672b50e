"""Predict screens, score predictions, and check controls; import no training."""

from distangle.inference.controls import check_controls
from distangle.inference.evaluate import confusion, evaluate, score
from distangle.inference.norms import kept_norms, norms_for
from distangle.inference.predict import (
    PredictionOptions,
    average_wells,
    cell_type_rows,
    check_fits,
    predict_by_views,
    predict_sites,
)
from distangle.inference.run import features_of, fold_of_sites, open_model, predict_run, sides_of, store_of

__all__ = [
    "PredictionOptions",
    "average_wells",
    "cell_type_rows",
    "check_controls",
    "check_fits",
    "confusion",
    "evaluate",
    "features_of",
    "fold_of_sites",
    "kept_norms",
    "norms_for",
    "open_model",
    "predict_run",
    "predict_by_views",
    "predict_sites",
    "score",
    "sides_of",
    "store_of",
]
