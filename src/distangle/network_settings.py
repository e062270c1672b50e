"""Define bounds and defaults shared by a network and its configuration; no torch."""

from typing import Annotated

from pydantic import Field

# With an embedding of size 1 every cosine to a class vector would be 1 or -1.
EmbeddingSize = Annotated[int, Field(ge=2)]
NormMomentum = Annotated[float, Field(gt=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]

BACKBONE = "densenet161"
EMBEDDING_SIZE = 1024
NORM_MOMENTUM = 0.05

# Fields that `ModelConfig` copies from `network` of the configuration.
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
