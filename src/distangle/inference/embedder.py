"""Embed images as an estimator of scikit-learn does, with the network of a run."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from distangle.core.shrinkage import GroupPrior, estimate_group
from distangle.errors import ConfigError, RunError, did_you_mean
from distangle.images import N_VIEWS, Augmentation, augment, bin_pixels, channel_statistics, pooled_statistics
from distangle.images.preprocessing import standardize
from distangle.inference.run import open_model
from distangle.inference.statistics import load_statistics
from distangle.model import ModelCard, NormStatistics, PerturbationClassifier, collect_statistics, use_statistics
from distangle.model.cpu_inference import prepare_bf16
from distangle.model.device import parse_device
from distangle.model.modes import channels_last, eval_mode
from distangle.results.run import RunFolder


class Embedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer of scikit-learn from images to embeddings of a run's network.

    Images are binned, transformed and standardized as in the run. A run may standardize images, normalize or correct
    features by the group of wells (plate or experiment) of an image; the images of `fit` then are that group, or its
    negative controls if the run uses these: fit one estimator per group. Else `fit` learns nothing from images.

    Args:
        run: Folder of a finished run.
        device: Device to compute on: `cpu`, `cuda`, `cuda:1` or `mps`.
        batch_size: Images in a batch; a batch is always full, so that an embedding does not depend on other images.
        views: 8 averages the embeddings of the eight flips and rotations; 1 does not.
        cell_type: Cell type of all images, for a network with cell types; None for one without.
        precision: `bf16` multiplies in bfloat16 on a CPU with that instruction, in a third of the time for
            DenseNet-161; the cosine of an embedding with that of `fp32` is above 0.999. Not for a GPU, nor for a run
            that normalizes by batch-norm statistics of a plate or experiment.

    Attributes:
        model_: The network, float32.
        inference_model_: The network that computes embeddings: `model_`, or a copy of it with norms folded for bf16.
        precision_: `bf16` or `fp32`, in which embeddings are computed: `fp32` where the CPU has no bfloat16, and for
            an EfficientNet.
        card_: Its card: classes, channels, preprocessing.
        statistics_: Mean and standard deviation that standardize every image, float32 [2, channel]; None: its own.
        norms_: Batch-norm statistics of the group; None: the running statistics.
        references_: Batch correction of the group, float32 [reference]; None for a network without a correction.
    """

    def __init__(
        self,
        run: str | Path = "",
        *,
        device: str = "cpu",
        batch_size: int = 32,
        views: int = 1,
        cell_type: str | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        self.run = run
        self.device = device
        self.batch_size = batch_size
        self.views = views
        self.cell_type = cell_type
        self.precision = precision

    def fit(self, X: np.ndarray, y: object = None) -> "Embedder":
        """Load the network, and measure the group of the images if the run uses one.

        Args:
            X: uint8 or uint16 [site, channel, height, width], as read from files.
            y: Not used.

        Raises:
            ConfigError: A parameter or the shape or type of the images is not valid.
            RunError: The training has not finished.
        """
        if self.views not in (1, N_VIEWS) or self.batch_size < 1:
            raise ConfigError(
                f"views is {self.views} and batch_size is {self.batch_size}. Expected 1 or {N_VIEWS} views and a batch "
                "of at least 1. Correct the parameters."
            )
        run = RunFolder.open(Path(self.run))
        model, card = open_model(run)
        self._check_precision(card)
        self._check_cell_type(card)
        self.model_: PerturbationClassifier = model.to(parse_device(self.device))
        self.card_ = card
        images = self._binned(X)
        self.statistics_ = self._group_statistics(images)
        self.norms_: NormStatistics | None = None
        self.references_: np.ndarray | None = None
        self.norms_ = self._group_norms(run, images)
        self.references_ = self._group_references(images)
        self.inference_model_: PerturbationClassifier = self.model_
        if self.precision == "bf16":
            self.inference_model_ = prepare_bf16(self.model_)
        self.precision_ = "fp32" if self.inference_model_ is self.model_ else "bf16"
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the embeddings of images, float32 [site, dimension].

        Args:
            X: uint8 or uint16 [site, channel, height, width], as read from files.

        Raises:
            ConfigError: The shape or type of the images is not valid.
            NotFittedError: `fit` was not called.
        """
        check_is_fitted(self, "model_")
        images = self._binned(X)
        embeddings = np.zeros((len(images), self.model_.config.embedding_size), dtype=np.float32)
        for view in range(self.views):
            rows = self._compute(images, lambda *inputs: self.inference_model_(*inputs).embedding, view=view)
            embeddings += rows / self.views
        return embeddings

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return `embedding_0`, `embedding_1`, ..., as in the profiles of a run.

        Args:
            input_features: Not used.
        """
        check_is_fitted(self, "model_")
        names = [f"embedding_{number}" for number in range(self.model_.config.embedding_size)]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True  # the nearest tag: images have four axes
        return tags

    def _check_precision(self, card: ModelCard) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"precision is {self.precision!r}. Expected fp32 or bf16. Correct the parameter.")
        if self.precision == "bf16" and card.batch_norm.statistics != "running":
            raise ConfigError(
                f"precision is bf16, and the run normalizes by statistics of a group "
                f"(batch_norm.statistics={card.batch_norm.statistics}), which amplify the rounding. Expected a run "
                "with batch_norm.statistics=running. Use precision=fp32."
            )

    def _check_cell_type(self, card: ModelCard) -> None:
        if card.cell_types and self.cell_type not in card.cell_types:
            raise ConfigError(
                f"The network was trained with cell types, and cell_type is {self.cell_type!r}. "
                f"{did_you_mean(str(self.cell_type), card.cell_types)}"
            )
        if not card.cell_types and self.cell_type is not None:
            raise ConfigError(
                f"cell_type is {self.cell_type!r}, and the network takes no cell type. Leave cell_type out."
            )

    def _binned(self, images: Any) -> np.ndarray:
        """Check images and bin them as in the run."""
        pixels = np.asarray(images)
        n_channels = len(self.card_.channels)
        if pixels.ndim != 4 or pixels.shape[1] != n_channels or 0 in pixels.shape:
            raise ConfigError(
                f"The images have the shape {pixels.shape}. Expected [site, channel, height, width] with the "
                f"{n_channels} channels {', '.join(self.card_.channels)}, in that order. Stack the channels of each "
                "site."
            )
        if pixels.dtype not in (np.uint8, np.uint16):
            raise ConfigError(
                f"The pixels are {pixels.dtype}. Expected uint8 or uint16, as read from files: the estimator "
                "standardizes them itself. Pass them unchanged."
            )
        binning = self.card_.preprocessing.binning
        if binning > min(pixels.shape[2:]):
            raise ConfigError(
                f"The images have {pixels.shape[2]} x {pixels.shape[3]} pixels, and the run bins {binning} x {binning} "
                "pixels. Pass images of the size of the run."
            )
        return np.stack([bin_pixels(image, binning) for image in pixels])

    def _measure(self, images: np.ndarray) -> np.ndarray:
        transform = self.card_.preprocessing.transform
        return np.stack([channel_statistics(image, transform=transform) for image in images])

    def _group_statistics(self, images: np.ndarray) -> np.ndarray | None:
        preprocessing = self.card_.preprocessing
        if preprocessing.standardize == "image":
            return None
        if preprocessing.standardize == "training":
            return np.asarray(preprocessing.fixed, dtype=np.float32)
        return pooled_statistics(self._measure(images))

    def _group_norms(self, run: RunFolder, images: np.ndarray) -> NormStatistics | None:
        choice = self.card_.batch_norm
        if choice.statistics == "running" or len(images) < max(2, choice.min_sites):
            return None  # as for a plate with too few sites
        contrast = None
        if choice.statistics == "controls":
            stored = load_statistics(run)
            contrast = None if stored is None else stored.contrast
            if not contrast:
                raise RunError(
                    f"{run.root} normalizes by the controls of a plate, and has no contrast of its training plates "
                    f"yet. Run `distangle predict {run.root}` first."
                )

        def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
            n_batches = -(-len(images) // max(2, self.batch_size))
            for rows in np.array_split(np.arange(len(images)), n_batches):
                yield self._inputs(images[rows], view=0)[:2]

        return collect_statistics(self.model_, batches, contrast=contrast)

    def _group_references(self, images: np.ndarray) -> np.ndarray | None:
        model = self.model_
        if model.prior is None:
            return None
        values = self._compute(images, lambda batch, *_: model.image_features(model.pool(model.feature_maps(batch))))
        values = values.astype(np.float64)
        squares = np.square(values).sum(0, keepdims=True) if model.config.correction.method == "standardize" else None
        prior = GroupPrior.from_rows(model.prior.detach().cpu().numpy())
        offset, scale = estimate_group(prior, np.array([len(values)]), values.sum(0, keepdims=True), squares)
        references = offset if squares is None else np.concatenate([offset, scale], axis=1)
        return np.asarray(references[0], dtype=np.float32)

    def _inputs(
        self, images: np.ndarray, *, view: int
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Return standardized images, one-hot cell types and references on the device."""
        if self.statistics_ is None:
            statistics = self._measure(images)
        else:
            statistics = np.broadcast_to(self.statistics_, (len(images), *self.statistics_.shape))
        height, width = images.shape[2:]
        turned = np.empty((*images.shape[:2], *((width, height) if view & 4 else (height, width))), images.dtype)
        for image, slot in zip(images, turned, strict=True):
            augment(image, Augmentation(view), out=slot)
        out = np.empty(turned.shape, dtype=np.float32)
        standardize(turned, statistics, out=out, transform=self.card_.preprocessing.transform)
        device = next(self.model_.parameters()).device
        cell_types = None
        if self.cell_type is not None:
            cell_types = torch.zeros(len(images), len(self.card_.cell_types), device=device)
            cell_types[:, self.card_.cell_types.index(self.cell_type)] = 1.0
        references = None
        if self.references_ is not None:
            references = torch.from_numpy(self.references_).to(device).expand(len(images), -1)
        return torch.from_numpy(out).to(device), cell_types, references

    def _compute(self, images: np.ndarray, function: Callable[..., torch.Tensor], *, view: int = 0) -> np.ndarray:
        """Return the results of a function of the inputs, [site, ...], batch by batch."""
        parts = []
        with (
            eval_mode(self.model_),
            channels_last(self.model_),
            use_statistics(self.model_, self.norms_),
            torch.no_grad(),
        ):
            for start in range(0, len(images), self.batch_size):
                batch = images[start : start + self.batch_size]
                n_copies = self.batch_size - len(batch)
                padded = np.concatenate([batch, np.repeat(batch[-1:], n_copies, axis=0)])
                pixels, cell_types, references = self._inputs(padded, view=view)
                results = function(pixels.contiguous(memory_format=torch.channels_last), cell_types, references)
                parts.append(results[: len(batch)].float().cpu().numpy())
        return np.concatenate(parts)
