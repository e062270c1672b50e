"""The network, its templates, and the one format of its checkpoints; knows no loss and no optimiser."""

from distangle.model.backbones import BACKBONES
from distangle.model.classifier import ModelConfig, Outputs, PerturbationClassifier, build_classifier
from distangle.model.layers import find_layer, layer_names
from distangle.model.templates import CosineTemplates, LinearTemplates

__all__ = [
    "BACKBONES",
    "CosineTemplates",
    "LinearTemplates",
    "ModelConfig",
    "Outputs",
    "PerturbationClassifier",
    "build_classifier",
    "find_layer",
    "layer_names",
]
