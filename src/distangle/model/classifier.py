"""Define the whole network, from images to logits, cosines and embeddings."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from distangle.axes import CellTypes, Cosines, Embeddings, FeatureMaps, Images, Logits, Pooled, References
from distangle.core.shrinkage import Correction
from distangle.errors import ConfigError, ExplanationError, did_you_mean
from distangle.model.backbones import BACKBONES, Backbone
from distangle.model.handcrafted_features import HandcraftedFeatures
from distangle.model.heads import CosineTemplates, LinearTemplates, no_autocast
from distangle.model.initialization import initialize
from distangle.network_settings import BACKBONE, EMBEDDING_SIZE, NORM_MOMENTUM, Dropout, EmbeddingSize, NormMomentum


class ModelConfig(BaseModel):
    """Architecture of a network; stored with its weights.

    Attributes:
        backbone: A name in `BACKBONES`.
        n_channels: Channels of an image.
        n_perturbations: Class weight vectors (templates) of each head.
        n_cell_types: Length of the one-hot cell type; 0 for a network without cell types.
        embedding_size: Dimensions of the embedding.
        final_relu: Whether a ReLU precedes pooling. torchvision's DenseNet has one, the winner of RxRx1 2019 has none;
            a ResNet's maps are never negative.
        norm_momentum: Weight of the newest minibatch in the running statistics of every batch norm, in (0, 1].
        recompute: Whether the backward pass recomputes activations instead of storing them (activation checkpointing).
        measurements: Whether handcrafted features of the image are appended to the pooled features.
        neck_dropout: Dropout probability before the last linear layer of the neck, in [0, 1).
        pooled_dropout: Dropout probability before the first linear layer of the neck, in [0, 1).
        frozen: Whether the backbone keeps its weights and batch-norm statistics during training.
        correction: Batch correction of the features before the neck; needs a frozen backbone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str = BACKBONE
    n_channels: int = Field(ge=1)
    n_perturbations: int = Field(ge=1)
    n_cell_types: int = Field(default=0, ge=0)
    embedding_size: EmbeddingSize = EMBEDDING_SIZE
    final_relu: bool = True
    norm_momentum: NormMomentum = NORM_MOMENTUM
    activation_checkpointing: bool = False
    handcrafted_features: bool = False
    neck_dropout: Dropout = 0.0
    pooled_dropout: Dropout = 0.0
    freeze_backbone: bool = False
    correction: Correction = Correction()

    @field_validator("backbone")
    @classmethod
    def _check_backbone(cls, name: str) -> str:
        if name not in BACKBONES:
            raise ValueError(f"No backbone is called {name!r}. {did_you_mean(name, BACKBONES)}")
        return name

    @model_validator(mode="after")
    def _check_frozen(self) -> "ModelConfig":
        if self.correction.method != "none" and not self.freeze_backbone:
            raise ValueError(
                f"The correction {str(self.correction)!r} subtracts backbone features of other wells, so the "
                "backbone must be frozen. Set network.freeze_backbone=true too, or correction.method=none."
            )
        return self


@dataclass(frozen=True)
class Outputs:
    """Outputs of the network for each site.

    Attributes:
        logits: Of the softmax head, unbounded.
        cosines: Of the arc head, in [-1, 1], float32.
        embedding: Input of both heads.
    """

    logits: Logits
    cosines: Cosines
    embedding: Embeddings


class PerturbationClassifier(nn.Module):
    """The network from images to logits, cosines and embeddings.

    The one-hot cell type is appended to the pooled features. Batch norm, linear layer, ReLU, batch norm, linear layer
    and batch norm give the embedding. Two sets of templates, one per loss, are compared with it.

    Source: Sec. 4.2

    Attributes:
        config: The architecture.
        backbone: Has `features` (torchvision's names) and `n_features`.
        neck: From features and cell type to the embedding.
        n_features: Features of an image before the neck: pooled and handcrafted.
        prior: Of a network with a correction, how much the training groups differ: `GroupPrior.as_rows`.
        n_references: Reference features per site of a network with a correction; else 0.
        linear_templates: Of the softmax head.
        cosine_templates: Of the arc head.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: Backbone = BACKBONES[config.backbone](
            n_channels=config.n_channels, recompute=config.activation_checkpointing
        )
        self.measurements = HandcraftedFeatures(config.n_channels) if config.handcrafted_features else None
        n_handcrafted = 0 if self.measurements is None else self.measurements.n_features
        self.n_features = self.backbone.n_features + n_handcrafted
        self.neck = _neck(
            self.n_features + config.n_cell_types,
            config.embedding_size,
            pooled_dropout=config.pooled_dropout,
            dropout=config.neck_dropout,
        )
        self.linear_templates = LinearTemplates(config.n_perturbations, config.embedding_size)
        self.cosine_templates = CosineTemplates(config.n_perturbations, config.embedding_size)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = config.norm_momentum
        method = config.correction.method
        self.n_references = {"none": 0, "center": 1, "standardize": 2}[method] * self.n_features
        self.prior: Tensor | None
        self.register_buffer("prior", None if method == "none" else torch.zeros(5, self.n_features))
        self.backbone.requires_grad_(not config.freeze_backbone)

    def train(self, mode: bool = True) -> "PerturbationClassifier":  # noqa: FBT001, FBT002 - as torch has it
        """Set training or evaluation mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.config.freeze_backbone:
            self.backbone.eval()
        return self

    def check_channels(self, images: Images) -> None:
        """Check that images have the channels of the network.

        Raises:
            ConfigError: The number of channels differs; names both.
        """
        if images.shape[1] != self.config.n_channels:
            raise ConfigError(
                f"The images have {images.shape[1]} channels, expected {self.config.n_channels}. "
                "Pass the channels that the model was trained on, in that order."
            )

    # Anonymous axes: `height` and `width` of the maps are not those of the images.
    def feature_maps(self, images: Images) -> Float[Tensor, "site feature _ _"]:
        """Return the feature maps that are pooled.

        These are the maps of the backbone, after a ReLU if `config.final_relu`, then those of the handcrafted
        features, if any.

        Raises:
            ConfigError: The images have another number of channels.
        """
        self.check_channels(images)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not (self.config.freeze_backbone and self.training)):
            maps: Tensor = self.backbone(images)
        # Not in place: a hook may hold the maps before the ReLU.
        maps = functional.relu(maps) if self.config.final_relu else maps
        if self.measurements is None:
            return maps
        size = (maps.shape[2], maps.shape[3])
        return torch.cat([maps, self.measurements.maps(images, size=size).to(maps.dtype)], 1)

    def pool(self, maps: FeatureMaps) -> Pooled:
        """Return the mean of each map, in float32 also under autocast."""
        # Not AdaptiveAvgPool2d: it has no deterministic backward pass on CUDA.
        return maps.mean((2, 3), dtype=torch.promote_types(maps.dtype, torch.float32))

    def image_features(self, pooled: Pooled) -> Pooled:
        """Return pooled features, and handcrafted features of the image, if any.

        Args:
            pooled: From `pool`.
        """
        if self.measurements is None:
            return pooled
        with no_autocast(pooled):
            learned, handcrafted = pooled.tensor_split([self.backbone.n_features], 1)
            return torch.cat([learned, self.measurements.features(handcrafted)], 1)

    def classify(self, pooled: Pooled, cell_types: CellTypes | None, references: References | None = None) -> Outputs:
        """Return logits, cosines and embeddings of pooled features.

        Args:
            pooled: From `pool`.
            cell_types: One-hot, or a mixture under CutMix; None for a model without cell types.
            references: From `control_features`; None for a model without a correction.

        Raises:
            ConfigError: Cell types or references are missing, not expected, or of another number.
        """
        with no_autocast(pooled):
            return self.classify_features(self.image_features(pooled), cell_types, references)

    def classify_features(
        self, features: Pooled, cell_types: CellTypes | None, references: References | None = None
    ) -> Outputs:
        """Return logits, cosines and embeddings of the output of `image_features`."""
        n_cell_types = 0 if cell_types is None else cell_types.shape[1]
        if n_cell_types != self.config.n_cell_types:
            raise ConfigError(
                f"The one-hot cell types have {n_cell_types} columns, expected {self.config.n_cell_types}. "
                "Pass the cell types that the model was trained with, or None for 0."
            )
        if (0 if references is None else references.shape[1]) != self.n_references:
            received = "no references" if references is None else f"{references.shape[1]} references per site"
            raise ConfigError(
                f"A model with the correction {str(self.config.correction)!r} received {received}, expected "
                f"{self.n_references or 'none'}. Pass what `control_features` returns for this model."
            )
        # All in float32: this is under 0.1 % of the work, and bfloat16 logits would tie.
        with no_autocast(features):
            if references is not None:
                offset, *log_scale = torch.split(references.to(features.dtype), self.n_features, 1)
                features = features - offset
                features = features * log_scale[0].neg().exp() if log_scale else features
            neck_inputs = features if cell_types is None else torch.cat([features, cell_types.to(features.dtype)], 1)
            embedding = self.neck(neck_inputs)
            return Outputs(
                logits=self.linear_templates(embedding),
                cosines=self.cosine_templates(embedding),
                embedding=embedding,
            )

    def forward(
        self, images: Images, cell_types: CellTypes | None = None, references: References | None = None
    ) -> Outputs:
        """Return logits, cosines and embeddings of images.

        Args:
            images: Standardized intensities.
            cell_types: One-hot, or a mixture under CutMix; None for a model without cell types.
            references: From `control_features`; None for a model without a correction.

        Raises:
            ConfigError: Channels, cell types or references are not those of the model.
        """
        return self.classify(self.pool(self.feature_maps(images)), cell_types, references)


def build_classifier(config: ModelConfig, *, seed: int) -> PerturbationClassifier:
    """Build a network in training mode, a pure function of config and seed.

    Args:
        config: The architecture.
        seed: Of the initial values; the global random generator is not used.
    """
    with torch.device("meta"):
        model = PerturbationClassifier(config)
    model.to_empty(device="cpu")
    initialize(model, seed=seed)
    if model.prior is not None:
        model.prior.zero_()
    return model


def layer_names(model: PerturbationClassifier) -> list[str]:
    """Name all layers with feature maps in order, such as `features.denseblock4`."""
    return [name for name, _ in model.backbone.named_modules() if name.split(".")[0] == "features"]


def find_layer(model: PerturbationClassifier, name: str) -> nn.Module:
    """Return a layer by its name in `layer_names`; the prefix `backbone.` is allowed.

    Args:
        model: The network.
        name: Such as `features.denseblock4.denselayer24`.

    Raises:
        ExplanationError: There is no such layer; suggests similar names.
    """
    names = layer_names(model)
    layer = name.removeprefix("backbone.")
    if layer not in names:
        raise ExplanationError(
            f"{model.config.backbone} has no layer {name!r}. {did_you_mean(layer, _sibling_layers(layer, names))}"
        )
    return model.backbone.get_submodule(layer)


def _neck(n_inputs: int, embedding_size: int, *, pooled_dropout: float, dropout: float) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["norm0"] = nn.BatchNorm1d(n_inputs)
    if pooled_dropout > 0:
        layers["dropout0"] = nn.Dropout(pooled_dropout)
    layers["linear1"] = nn.Linear(n_inputs, embedding_size, bias=False)
    layers["relu1"] = nn.ReLU()
    layers["norm1"] = nn.BatchNorm1d(embedding_size)
    if dropout > 0:
        layers["dropout"] = nn.Dropout(dropout)
    layers["linear2"] = nn.Linear(embedding_size, embedding_size, bias=False)
    layers["norm2"] = nn.BatchNorm1d(embedding_size)
    return nn.Sequential(layers)


def _sibling_layers(name: str, names: list[str]) -> list[str]:
    """Return the layers directly inside the deepest existing parent of a name."""
    parent = name
    while parent not in names:
        parent = parent.rpartition(".")[0] or "features"
    return [layer for layer in names if layer.rpartition(".")[0] == parent] or [parent]
