"""Define networks and the format of their checkpoints; no loss, no optimiser."""

from distangle.model.arriving import batches_on
from distangle.model.backbones import BACKBONES
from distangle.model.checkpoint import ModelCard, NormStatisticsChoice, load_model, save_model
from distangle.model.classifier import ModelConfig, Outputs, PerturbationClassifier, build_classifier
from distangle.model.efficientnet import StainwiseEfficientNet
from distangle.model.evaluating import evaluating
from distangle.model.layers import find_layer, layer_names
from distangle.model.norm_statistics import NormStatistics, collect_contrast, collect_statistics, lent_statistics
from distangle.model.plate_norms import PlateNorms, collect_plate_norms, norm_parts
from distangle.model.published import published_weights
from distangle.model.references import (
    ReferenceWells,
    measure_numbers,
    reference_rows,
    reference_wells,
    references_of,
    set_prior,
)
from distangle.model.templates import CosineTemplates, LinearTemplates
from distangle.model.weights import WeightsReport, load_published_weights

__all__ = [
    "BACKBONES",
    "CosineTemplates",
    "LinearTemplates",
    "ModelCard",
    "ModelConfig",
    "NormStatistics",
    "NormStatisticsChoice",
    "Outputs",
    "PerturbationClassifier",
    "PlateNorms",
    "ReferenceWells",
    "StainwiseEfficientNet",
    "WeightsReport",
    "batches_on",
    "build_classifier",
    "collect_contrast",
    "collect_plate_norms",
    "collect_statistics",
    "evaluating",
    "find_layer",
    "layer_names",
    "lent_statistics",
    "load_model",
    "load_published_weights",
    "measure_numbers",
    "norm_parts",
    "published_weights",
    "reference_rows",
    "reference_wells",
    "references_of",
    "save_model",
    "set_prior",
]
