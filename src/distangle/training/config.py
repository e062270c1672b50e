"""Define the settings of a training and its presets; import no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from distangle.core.shrinkage import Correction
from distangle.images import Preprocessing
from distangle.network_settings import BACKBONE, EMBEDDING_SIZE, NORM_MOMENTUM, Dropout, EmbeddingSize, NormMomentum
from distangle.screen.plate_groups import StatisticsSource

Expect = Literal["auto", "plates", "experiments"]  # what new data will be: plates of known experiments, or others


class ConfigSection(BaseModel):
    """A section of the configuration: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Network(ConfigSection):
    """Settings of the network; the screen decides channels, classes and cell types."""

    backbone: str = BACKBONE
    embedding_size: EmbeddingSize = EMBEDDING_SIZE
    final_relu: bool = True
    norm_momentum: NormMomentum = NORM_MOMENTUM
    neck_dropout: Dropout = 0.0
    pooled_dropout: Dropout = 0.0
    freeze_backbone: bool = False  # the backbone keeps the weights it starts from
    n_fixed_views: int = Field(default=8, ge=8)  # fixed views in which a frozen backbone sees each site, once
    handcrafted_features: bool = False  # intensity, granularity and colocalisation join the pooled features
    activation_checkpointing: bool = False
    extra_outputs: int = Field(default=0, ge=0)  # unused classes on purpose: outputs that no site is ever labelled with
    cell_type: bool = True  # joins after pooling when the screen names cell types (Sec. 4.2)
    weights: Literal["imagenet"] | Path | None = None  # of the backbone: the published file, or a local one
    first_convolution: Literal["inflate", "new"] = "inflate"


class AugmentationConfig(ConfigSection):
    """Random augmentation of a training image.

    Geometric augmentation works on integer pixels, intensity augmentation on standardized ones.
    """

    dihedral: bool = True
    any_angle: bool = False  # by any angle, not only by quarters
    min_crop: float = Field(default=1.0, gt=0, le=1)  # share of the shorter side, resized to the nearest pixel
    gain: float = Field(default=0.0, ge=0)  # standard deviation of a factor around 1, per image and channel
    offset: float = Field(default=0.0, ge=0)  # standard deviation, in standardised units


class CutMix(ConfigSection):
    """CutMix augmentation, Eqs. (8) and (9)."""

    probability: float = Field(default=1.0, ge=0, le=1)
    alpha: float = Field(default=1.0, gt=0)


class Loss(ConfigSection):
    """The composite loss, Eq. (12)."""

    margin_share: float = Field(default=0.2, ge=0, le=1)  # c
    scale: float = Field(default=30.0, gt=0)  # s
    margin: float = Field(default=0.5, ge=0)  # m, radians
    arc_scale: float = Field(default=1.0, gt=0)  # 0.5 in the ancestor's code
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class SecondStage(ConfigSection):
    """A second half cosine of the learning rate, for the epochs of pseudo labels.

    The code that the paper grew from has it.
    """

    from_epoch: float = Field(default=0.0, ge=0)  # where the first cosine has come to zero; 0: there is no second
    lr: float = Field(default=6e-5, gt=0)
    until_epoch: float = Field(default=150.0, gt=0)  # where the second would come to zero: may lie past the last epoch

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> "SecondStage":
        if self.until_epoch <= self.from_epoch:
            raise ValueError(f"until_epoch ({self.until_epoch:g}) must lie after from_epoch ({self.from_epoch:g})")
        return self


class Optim(ConfigSection):
    """The optimizer and its schedule, per step.

    The rate rises linearly, then falls by half a cosine to zero; a second stage may follow.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(default=1.5e-4, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    warmup_epochs: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=0.0, ge=0)  # largest norm of the gradient; 0 does not clip
    second_stage: SecondStage = SecondStage()


class PseudoLabels(ConfigSection):
    """Pseudo labels that the network gives to unlabelled images, Eq. (7)."""

    strategy: Literal["none", "alpha_ramp", "progressive"] = "none"
    from_epoch: int = Field(default=30, ge=1)  # T1: the first epochs see labels only
    full_epoch: int = Field(default=40, ge=1)  # T2; alpha_ramp only
    weight: float = Field(default=1.0, ge=0)  # alpha_f; alpha_ramp only
    every_epochs: int = Field(default=1, ge=1)  # epochs from one assignment to the next
    soft: bool = False  # probabilities instead of the likeliest class; alpha_ramp only
    confidence: float = Field(default=0.5, ge=0, le=1)  # least probability of an accepted label; alpha_ramp only
    first_share: float = Field(default=0.4, ge=0, le=1)  # of the wells, accepted in a round 0; progressive only
    labelled_share: float = Field(default=0.5, gt=0, le=1)  # least share of labelled images in a batch
    controls: bool = True  # those of hidden plates join with the label that the plan of the plate gives them
    plate_structure: bool = True  # use what training plates say of which treatments share a plate, and how often
    min_entropy: float = Field(default=0.5, ge=0, le=1)  # of the classes, as a share of the labelled wells'
    max_drop: float = Field(default=0.25, gt=0)  # of agreement or accuracy below their best, two rounds running
    max_gap: float = Field(default=0.5, gt=0)  # of the confidence above the precision
    min_precision: float = Field(default=0.6, ge=0, le=1)  # of the accepted labels, where enough of them are known


class CheckpointConfig(ConfigSection):
    """When to write a checkpoint, in addition to the end of every epoch.

    The content of a checkpoint does not depend on these settings.
    """

    every_steps: int = Field(default=0, ge=0)  # 0: no count
    every_minutes: float = Field(default=15.0, gt=0)  # of an epoch that takes longer
    wait_minutes: float = Field(default=3.0, ge=0)  # for a folder that is gone, such as a disk that dropped out


class Batches(ConfigSection):
    """Composition of a batch."""

    pure: Literal["none", "plate", "experiment"] = "none"  # all of one: its noise is the same for the whole batch


class BatchNormConfig(ConfigSection):
    """The statistics that batch norms use after training."""

    statistics: StatisticsSource = (
        "running"  # of the training; or of all sites of the plate or experiment, or of its controls
    )
    min_sites: int = Field(default=8, ge=2)  # sites that the statistics of a plate or experiment need
    n_controls: int = Field(default=0, ge=0)  # negative controls of the plate beside every pure batch, without a loss


class CorrectionConfig(ConfigSection):
    """Correction of batch effects in the features of a group of wells.

    The settings name it, or cross-validation chooses it.
    """

    method: Literal["auto", "none", "center", "standardize"] = "none"  # all but none need a frozen backbone
    group: Literal["experiment", "plate"] = "experiment"  # whose wells are compared; auto compares both
    wells: Literal["controls", "all"] = "controls"  # which of them the estimate rests on; auto compares both
    folds: int = Field(default=5, ge=2)  # of the cross-validation inside the training wells; auto only
    epochs: int = Field(default=10, ge=1)  # of each of its trainings; auto only

    @property
    def fixed(self) -> Correction:
        """The configured correction; none for `auto`."""
        method = "none" if self.method == "auto" else self.method
        return Correction(method=method, group=self.group, wells=self.wells)


class Adversary(ConfigSection):
    """A second network that predicts the experiment from the embedding.

    Its gradient is reversed.
    """

    weight: float = Field(default=0.0, ge=0)  # final lambda; 0: there is no such network
    steepness: float = Field(default=10.0, gt=0)  # of the rise of lambda over the training
    hidden: int = Field(default=64, ge=1)  # width of its hidden layer


class TrainingConfig(ConfigSection):
    """Configuration of the training of one model; stored in its run."""

    preset: str = "seed"
    target: str = "perturbation"  # the column of the screen to learn
    seed: int = 0
    shuffle_labels: bool = False  # a null: the labels of each plate are dealt out anew over its training wells
    epochs: int = Field(default=90, ge=1)
    batch_size: int = Field(default=24, ge=2)
    gradient_accumulation: int = Field(default=2, ge=1)  # batches per step
    class_balance: float = Field(default=0.0, ge=0, le=1)  # visits of a class: 0 by its sites, 1 as many as any other
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 where the processor multiplies in it
    compile: bool = False  # torch.compile: on two CPU cores it takes a minute to earn 10 %, so only when asked
    channels_last: bool = True
    ema_decay: float = Field(default=0.0, ge=0, lt=1)  # decay of the moving average of the weights; 0 keeps none
    loggers: tuple[Literal["mlflow", "wandb"], ...] = ()  # beside the CSV and TensorBoard
    network: Network = Network()
    preprocessing: Preprocessing = Preprocessing()
    augmentation: AugmentationConfig = AugmentationConfig()
    cutmix: CutMix = CutMix()
    loss: Loss = Loss()
    optim: Optim = Optim()
    pseudo_labels: PseudoLabels = PseudoLabels()
    checkpointing: CheckpointConfig = CheckpointConfig()
    batches: Batches = Batches()
    batch_norm: BatchNormConfig = BatchNormConfig()
    adversary: Adversary = Adversary()
    correction: CorrectionConfig = CorrectionConfig()
    expect: Expect = "auto"

    @model_validator(mode="after")
    def _is_possible(self) -> "TrainingConfig":
        method = self.correction.method
        if method != "none" and not self.network.freeze_backbone:
            raise ValueError(
                f"correction.method={method} subtracts features of other wells, so the backbone must be "
                "frozen: set network.freeze_backbone=true too, or correction.method=none"
            )
        if method != "none" and self.batch_norm.statistics != "running":
            raise ValueError(
                f"correction.method={method} already removes the batch effect of a group: use "
                f"batch_norm.statistics=running with it, or correction.method=none with "
                f"batch_norm.statistics={self.batch_norm.statistics}"
            )
        if method == "auto" and not self.uses_features:
            raise ValueError(
                f"correction.method=auto compares corrections on features that are measured once, but "
                f"cutmix.probability={self.cutmix.probability:g} needs images: set it to 0, or name a correction"
            )
        return self

    @property
    def uses_features(self) -> bool:
        """Whether a frozen backbone sees each site once, in fixed views.

        Otherwise the network sees each site in every epoch.
        """
        return self.network.freeze_backbone and self.cutmix.probability == 0 and self.batch_norm.statistics == "running"


_PAPER = {"augmentation": {"min_crop": 0.5, "gain": 0.1, "offset": 0.1}}
_TWO_CORES: Mapping[str, Any] = {
    "epochs": 60,
    "batch_size": 64,
    "gradient_accumulation": 1,
    "class_balance": 0.75,
    "ema_decay": 0.99,
    "preprocessing": {"binning": 0, "transform": "sqrt", "standardize": "experiment_controls"},
    "augmentation": {"min_crop": 0.8, "gain": 0.1, "offset": 0.1},
    "optim": {"name": "adamw", "lr": 2e-3, "weight_decay": 0.05, "warmup_epochs": 6},
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Settings that the paper leaves out (epochs, batch, rate, views) come from earlier code: docs/departures.md.
    "seed": {"preset": "seed", **_PAPER},
    "rcic1st": {"preset": "rcic1st", **_PAPER, "network": {"final_relu": False}, "loss": {"arc_scale": 0.5}},
    # Frozen pretrained filters, channel by channel; only the neck and the templates are trained.
    "small": {
        "preset": "small",
        **_TWO_CORES,
        "network": {
            "backbone": "efficientnet_lite0",
            "weights": "imagenet",
            "freeze_backbone": True,
            "handcrafted_features": True,
            "final_relu": False,  # its maps have either sign
            "embedding_size": 64,
            "norm_momentum": 0.1,
            "pooled_dropout": 0.5,
        },
        "cutmix": {"probability": 0.0},  # a box cut into a picture has edges, and these filters see edges
        "class_balance": 1.0,
        "preprocessing": {"binning": 0, "transform": "sqrt", "standardize": "training"},
        "correction": {"method": "auto"},
    },
    # Filters trained from scratch: for screens with thousands of images, or images unlike photographs.
    "scratch": {
        "preset": "scratch",
        **_TWO_CORES,
        "network": {
            "backbone": "resnet_small",
            "embedding_size": 64,
            "norm_momentum": 0.1,
            "handcrafted_features": True,
        },
        "cutmix": {"probability": 0.5},
    },
}
