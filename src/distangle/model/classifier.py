"""The whole network: backbone, pooling, cell type, neck, and class vectors.

Layers by name: what an explanation may look at.
"""

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
from distangle.model.handcrafted import HandcraftedFeatures
from distangle.model.heads import CosineTemplates, LinearTemplates, no_autocast
from distangle.model.initialization import initialize
from distangle.network_settings import BACKBONE, EMBEDDING_SIZE, NORM_MOMENTUM, Dropout, EmbeddingSize, NormMomentum


class ModelConfig(BaseModel):
    """What network to build; written beside its weights.

    Attributes:
        backbone: A name of `BACKBONES`.
        n_channels: Channels of an image.
        n_perturbations: Templates of each head.
        n_cell_types: Length of the cell type's one-hot vector; 0 leaves the cell type out.
        embedding_size: Numbers in an embedding.
        final_relu: Whether negative feature maps are cut before pooling. torchvision's DenseNet does, the winner of
            RxRx1 2019 does not; a ResNet's maps have no negatives.
        norm_momentum: Share of the newest minibatch in the running statistics of every norm, in (0, 1].
        activation_checkpointing: Compute inner activations again in the backward pass instead of keeping them.
        handcrafted_features: Whether classical measurements of the image join the pooled features.
        neck_dropout: Share of numbers dropped before the last linear map of the neck, in [0, 1).
        pooled_dropout: Share of numbers dropped before the first one, in [0, 1).
        freeze_backbone: Whether the backbone keeps the weights it was given, its norms their statistics.
        correction: What is done to the numbers of a group before the neck; needs a frozen backbone.
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
    def _is_known(cls, name: str) -> str:
        if name not in BACKBONES:
            raise ValueError(f"No backbone is called {name!r}. {did_you_mean(name, BACKBONES)}")
        return name

    @model_validator(mode="after")
    def _stands_still(self) -> "ModelConfig":
        if self.correction.method != "none" and not self.freeze_backbone:
            raise ValueError(
                f"The correction {str(self.correction)!r} subtracts what the backbone says of other wells, so the "
                "backbone must be frozen. Set network.freeze_backbone=true too, or correction.method=none."
            )
        return self


@dataclass(frozen=True)
class Outputs:
    """What the network says about each site.

    Attributes:
        logits: Of the softmax head, unbounded.
        cosines: Of the arc head, in [-1, 1], float32.
        embedding: What both heads saw.
    """

    logits: Logits
    cosines: Cosines
    embedding: Embeddings


def _neck(n_inputs: int, embedding_size: int, *, pooled_dropout: float, dropout: float) -> nn.Sequential:
    steps: OrderedDict[str, nn.Module] = OrderedDict()
    steps["norm0"] = nn.BatchNorm1d(n_inputs)
    if pooled_dropout > 0:
        steps["dropout0"] = nn.Dropout(pooled_dropout)
    steps["linear1"] = nn.Linear(n_inputs, embedding_size, bias=False)
    steps["relu1"] = nn.ReLU()
    steps["norm1"] = nn.BatchNorm1d(embedding_size)
    if dropout > 0:
        steps["dropout"] = nn.Dropout(dropout)
    steps["linear2"] = nn.Linear(embedding_size, embedding_size, bias=False)
    steps["norm2"] = nn.BatchNorm1d(embedding_size)
    return nn.Sequential(steps)


class PerturbationClassifier(nn.Module):
    """From images to logits, cosines and embeddings.

    The one-hot cell type joins the pooled features; norm, linear map, ReLU, norm, linear map and norm give the
    embedding; two sets of templates, one per loss, are compared with it.

    Source: Sec. 4.2

    Attributes:
        config: What was built.
        backbone: Has `features` (torchvision's names) and `n_features`.
        neck: From numbers and cell type to the embedding.
        n_numbers: What an image amounts to before the neck: pooled features and measurements.
        prior: Of a network with a correction, how much the training groups differ: `GroupPrior.as_rows`.
        n_references: Numbers that a network with a correction is given beside each site; else 0.
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
        n_measured = 0 if self.measurements is None else self.measurements.n_features
        self.n_numbers = self.backbone.n_features + n_measured
        self.neck = _neck(
            self.n_numbers + config.n_cell_types,
            config.embedding_size,
            pooled_dropout=config.pooled_dropout,
            dropout=config.neck_dropout,
        )
        self.linear_templates = LinearTemplates(config.n_perturbations, config.embedding_size)
        self.cosine_templates = CosineTemplates(config.n_perturbations, config.embedding_size)
        for part in self.modules():
            if isinstance(part, _BatchNorm):
                part.momentum = config.norm_momentum
        method = config.correction.method
        self.n_references = {"none": 0, "center": 1, "standardize": 2}[method] * self.n_numbers
        self.prior: Tensor | None
        self.register_buffer("prior", None if method == "none" else torch.zeros(5, self.n_numbers))
        self.backbone.requires_grad_(not config.freeze_backbone)

    def train(self, mode: bool = True) -> "PerturbationClassifier":  # noqa: FBT001, FBT002 - as torch has it
        """Choose training or evaluation mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.config.freeze_backbone:
            self.backbone.eval()
        return self

    def check_channels(self, images: Images) -> None:
        """Refuse images of another number of channels.

        Raises:
            ConfigError: Names both numbers.
        """
        if images.shape[1] != self.config.n_channels:
            raise ConfigError(
                f"Images with {images.shape[1]} channels were given to a model of {self.config.n_channels}. "
                "Give it the channels that it was trained on, in that order."
            )

    # Anonymous axes: `height` and `width` of the maps are not those of the images.
    def feature_maps(self, images: Images) -> Float[Tensor, "site feature _ _"]:
        """Return the maps that are pooled.

        The backbone's, without negatives when `config.final_relu`; behind them those of the measurements, if any.

        Raises:
            ConfigError: When the images have another number of channels.
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

    def numbers(self, pooled: Pooled) -> Pooled:
        """Return the input of the neck: pooled features, and measurements of the image.

        Args:
            pooled: From `pool`.
        """
        if self.measurements is None:
            return pooled
        with no_autocast(pooled):
            seen, measured = pooled.tensor_split([self.backbone.n_features], 1)
            return torch.cat([seen, self.measurements.numbers(measured)], 1)

    def classify(self, pooled: Pooled, cell_types: CellTypes | None, references: References | None = None) -> Outputs:
        """Return logits, cosines and embeddings of pooled features.

        Args:
            pooled: From `pool`.
            cell_types: One-hot, or a mixture under CutMix; None for a model without cell types.
            references: From `references_of`; None for a model without a correction.

        Raises:
            ConfigError: When cell types or references are missing, unasked for, or of another number.
        """
        with no_autocast(pooled):
            return self.classify_numbers(self.numbers(pooled), cell_types, references)

    def classify_numbers(
        self, numbers: Pooled, cell_types: CellTypes | None, references: References | None = None
    ) -> Outputs:
        """Return logits, cosines and embeddings of what `numbers` gave."""
        given = 0 if cell_types is None else cell_types.shape[1]
        if given != self.config.n_cell_types:
            raise ConfigError(
                f"{given} cell types were given to a model of {self.config.n_cell_types}. "
                "Give the one-hot vectors that it was trained with, or None for 0."
            )
        if (0 if references is None else references.shape[1]) != self.n_references:
            words = "no references" if references is None else f"{references.shape[1]} references a site"
            raise ConfigError(
                f"A model with the correction {str(self.config.correction)!r} was given {words} instead of "
                f"{self.n_references or 'none'}. Give what `references_of` returns for this model."
            )
        # All in float32: it is under 0.1 % of the work, and bfloat16 logits would tie.
        with no_autocast(numbers):
            if references is not None:
                offset, *log_scale = torch.split(references.to(numbers.dtype), self.n_numbers, 1)
                numbers = numbers - offset
                numbers = numbers * log_scale[0].neg().exp() if log_scale else numbers
            joined = numbers if cell_types is None else torch.cat([numbers, cell_types.to(numbers.dtype)], 1)
            embedding = self.neck(joined)
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
            images: Standardised intensities.
            cell_types: One-hot, or a mixture under CutMix; None for a model without cell types.
            references: As `classify` takes them.

        Raises:
            ConfigError: When channels, cell types or references are not those of the model.
        """
        return self.classify(self.pool(self.feature_maps(images)), cell_types, references)


def build_classifier(config: ModelConfig, *, seed: int) -> PerturbationClassifier:
    """Build a network in training mode, a pure function of config and seed.

    Args:
        config: What to build.
        seed: Of the first values; the global generator is neither read nor moved.
    """
    with torch.device("meta"):
        model = PerturbationClassifier(config)
    model.to_empty(device="cpu")
    initialize(model, seed=seed)
    if model.prior is not None:
        model.prior.zero_()
    return model


def layer_names(model: PerturbationClassifier) -> list[str]:
    """Name all layers with feature maps, from input to output.

    A name is such as `features.denseblock4`.
    """
    return [name for name, _ in model.backbone.named_modules() if name.split(".")[0] == "features"]


def _around(wanted: str, names: list[str]) -> list[str]:
    """Return the layers directly inside the deepest part of the name that exists."""
    inside = wanted
    while inside not in names:
        inside = inside.rpartition(".")[0] or "features"
    return [name for name in names if name.rpartition(".")[0] == inside] or [inside]


def find_layer(model: PerturbationClassifier, name: str) -> nn.Module:
    """Return a layer by its name in `layer_names`; `backbone.` may stand before it.

    Args:
        model: Where to look.
        name: Such as `features.denseblock4.denselayer24`.

    Raises:
        ExplanationError: When there is no such layer; says which names are near.
    """
    names = layer_names(model)
    wanted = name.removeprefix("backbone.")
    if wanted not in names:
        raise ExplanationError(
            f"{model.config.backbone} has no layer {name!r}. {did_you_mean(wanted, _around(wanted, names))}"
        )
    return model.backbone.get_submodule(wanted)
