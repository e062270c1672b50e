"""The network, its templates, and the one format of its checkpoints; knows no loss and no optimiser."""

from distangle.model.backbones import BACKBONES
from distangle.model.checkpoint import load_model, save_model
from distangle.model.classifier import ModelConfig, Outputs, PerturbationClassifier, build_classifier
from distangle.model.layers import find_layer, layer_names
from distangle.model.published import published_weights
from distangle.model.templates import CosineTemplates, LinearTemplates
from distangle.model.weights import WeightsReport, load_published_weights

__all__ = [
    "BACKBONES",
    "CosineTemplates",
    "LinearTemplates",
    "ModelConfig",
    "Outputs",
    "PerturbationClassifier",
    "WeightsReport",
    "build_classifier",
    "find_layer",
    "layer_names",
    "load_model",
    "load_published_weights",
    "published_weights",
    "save_model",
]
