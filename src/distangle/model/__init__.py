"""Define networks and the format of their checkpoints; no loss, no optimizer."""

from distangle.model.backbones import BACKBONES
from distangle.model.backbones.efficientnet import PerChannelEfficientNet
from distangle.model.batch_norm import NormStatistics, collect_contrast, collect_statistics, use_statistics
from distangle.model.checkpoint import ModelCard, NormStatisticsChoice, load_model, save_model
from distangle.model.classifier import (
    ModelConfig,
    Outputs,
    PerturbationClassifier,
    build_classifier,
    find_layer,
    layer_names,
)
from distangle.model.control_centering import (
    ReferenceWells,
    control_features,
    measure_features_of_controls,
    reference_rows,
    reference_wells,
    set_prior,
)
from distangle.model.device_batches import batches_to_device
from distangle.model.heads import CosineTemplates, LinearTemplates
from distangle.model.modes import eval_mode
from distangle.model.plate_batch_norm import PlateBatchNorm, collect_plate_statistics, rows_by_statistics
from distangle.model.pretrained import WeightsReport, load_published_weights, published_weights

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
    "PlateBatchNorm",
    "ReferenceWells",
    "PerChannelEfficientNet",
    "WeightsReport",
    "batches_to_device",
    "build_classifier",
    "collect_contrast",
    "collect_plate_statistics",
    "collect_statistics",
    "eval_mode",
    "find_layer",
    "layer_names",
    "use_statistics",
    "load_model",
    "load_published_weights",
    "measure_features_of_controls",
    "rows_by_statistics",
    "published_weights",
    "reference_rows",
    "reference_wells",
    "control_features",
    "save_model",
    "set_prior",
]
