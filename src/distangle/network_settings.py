"""Bounds and defaults of a network, shared by the configuration of a training and the saved model; no torch."""

from typing import Annotated

from pydantic import Field

# The cosine of an embedding of one number to any class vector is 1 or -1.
EmbeddingSize = Annotated[int, Field(ge=2)]
NormMomentum = Annotated[float, Field(gt=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]

BACKBONE = "densenet161"
EMBEDDING_SIZE = 1024
NORM_MOMENTUM = 0.05

# Fields that `ModelConfig` takes over from `network` of the configuration as they are.
NETWORK_FIELDS = (
    "backbone",
    "embedding_size",
    "final_relu",
    "norm_momentum",
    "activation_checkpointing",
    "handcrafted_features",
    "neck_dropout",
    "pooled_dropout",
    "freeze_backbone",
)
