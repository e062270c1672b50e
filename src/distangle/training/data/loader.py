"""Make the batches of an epoch, one batch ahead of the network.

Augmentation and CutMix work on integer pixels in reused buffers; standardization comes last.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distangle.axes import CellTypes, Images, Pooled, References, SoftLabels
from distangle.core.random import rng_for
from distangle.images import (
    Augmentation,
    ForkSafeThreadPool,
    ImageCache,
    augment,
    channel_statistics,
    random_augmentation,
    standardize,
)
from distangle.images.preprocessing import Transform
from distangle.model import ReferenceWells
from distangle.model.device_batches import affine, scale_and_offset, transform_statistics
from distangle.results.backbone_features import Features
from distangle.training.config import TrainingConfig
from distangle.training.data.cutmix import Box, mix_images, mix_rows, random_box, remaining_area
from distangle.training.data.sampler import pure_batches, whole_batches
from distangle.training.data.sites import LabelSource, TrainingSites, join_sites
from distangle.training.pseudo_labels.rounds import Assignment, shuffle_within_source


@dataclass(frozen=True, kw_only=True)
class Standardizer:
    """Standardizes integer pixels that are already augmented and mixed.

    Attributes:
        statistics: float32 [site, 2, channel], mean and standard deviation of each image.
        transform: Transform of the pixels before the statistics were measured.
        gain: float32 [site, channel], factor of the standardized pixels; None for 1.
        offset: float32 [site, channel], added after the gain; None for 0.
        box: Box with the pixels of the partners (CutMix); None without CutMix.
        partners: int [site], the partner of each image. Each pixel is standardized by the statistics of its own image;
            otherwise the box would show its own brightness.
    """

    statistics: np.ndarray
    transform: Transform = "none"
    gain: np.ndarray | None = None
    offset: np.ndarray | None = None
    box: Box | None = None
    partners: np.ndarray | None = None

    def on_host(self, pixels: np.ndarray, *, out: np.ndarray) -> np.ndarray:
        """Write the network input into a float32 buffer.

        Args:
            pixels: uint8 or uint16 [site, channel, height, width].
            out: float32 buffer of the same shape; returned.
        """
        standardize(pixels, self.statistics, out=out, transform=self.transform)
        if self.box is not None and self.partners is not None:
            edges = (self.box.top, self.box.left, self.box.bottom, self.box.right)
            standardize(pixels, self.statistics[self.partners], out=out, transform=self.transform, region=edges)
        if self.gain is not None:
            out *= self.gain[:, :, None, None]
        if self.offset is not None:
            out += self.offset[:, :, None, None]
        return out

    def on_device(self, pixels: Tensor) -> Images:
        """Compute the network input on the device of the pixels.

        The result equals that of `on_host` but for rounding: standardization and jitter together are one affine map of
        a channel of an image, so each pixel takes one multiplication and one addition.
        """
        inputs = transform_statistics(pixels, self.transform)
        box_inputs = None
        if self.box is not None and self.partners is not None:
            box_slice = np.s_[:, :, self.box.top : self.box.bottom, self.box.left : self.box.right]
            box_inputs = affine(inputs[box_slice], *self._factors(self.statistics[self.partners]))
        inputs = affine(inputs, *self._factors(self.statistics))
        if box_inputs is not None:
            inputs[box_slice] = box_inputs
        return inputs

    def _factors(self, statistics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return factor and summand of every channel of every image."""
        factor, summand = scale_and_offset(statistics)
        if self.gain is not None:
            factor, summand = factor * self.gain, summand * self.gain
        return factor, summand if self.offset is None else summand + self.offset


@dataclass(frozen=True)
class TrainingBatch:
    """A batch for the network; valid until the next but one is requested."""

    pixels: Tensor | None  # [site, channel, height, width]: integers with a standardizer, else float32; or None
    cell_types: CellTypes | None
    labels: SoftLabels
    sites: tuple[str, ...]
    label_sources: np.ndarray  # int8 [site], of `LabelSource`
    references: References | None = None  # for a network with a correction
    features: Pooled | None = None  # features of a frozen backbone, instead of pixels
    experiments: Float[Tensor, "site experiment"] | None = None  # one-hot, or a mixture under CutMix
    standardizer: Standardizer | None = None

    def images(self, device: torch.device) -> Images:
        """Return the network input on a device.

        Raises:
            ValueError: The batch has features instead of pixels.
        """
        if self.pixels is None:
            raise ValueError("The batch holds features of a frozen backbone and no pixels.")
        pixels = self.pixels.to(device, non_blocking=True)
        return pixels if self.standardizer is None else self.standardizer.on_device(pixels)


class BatchLoader:
    """Makes the batches of any epoch.

    It has two buffers, so a batch stays valid while the next one is made.

    Args:
        store: The images.
        sites: Sites of the training fold; a site without a label (-1) needs a pseudo label to join a batch.
        config: Configuration of augmentation and mixing.
        n_perturbations: Length of a label row.
        wells: Reference wells of the correction, drawn again for every visit; None without a correction.
        features: Features of a frozen backbone. Batches then hold features of a random fixed view, and no image is
            read.
        controls: Negative controls of the training fold that join the batches of their plate; None without controls.
        standardize_on_device: Whether the device of the network standardizes the pixels. This copies a quarter of the
            bytes to the device.
    """

    def __init__(
        self,
        store: ImageCache,
        sites: TrainingSites,
        config: TrainingConfig,
        *,
        n_perturbations: int,
        wells: ReferenceWells | None = None,
        features: Features | None = None,
        controls: TrainingSites | None = None,
        standardize_on_device: bool = False,
    ) -> None:
        self._first_control = len(sites.rows)
        n_labelled = int((sites.labels >= 0).sum())
        if controls is not None:
            sites = join_sites(sites, controls)
        self._store, self._sites, self._config = store, sites, config
        self._wells, self._features = wells, features
        self._one_hot = np.eye(n_perturbations, dtype=np.float32)
        n_cell_types = len(store.screen.metadata.cell_types)
        self._cell_types = None if sites.cell_types is None else np.eye(n_cell_types, dtype=np.float32)
        self.batch_size = min(config.batch_size, n_labelled)  # a fold smaller than a batch is one batch
        plates = store.screen.sites[["experiment", "plate"]].astype(str)
        group_codes = [plates.groupby("experiment").ngroup(), plates.groupby(["experiment", "plate"]).ngroup()]
        self._group_codes = np.stack(group_codes, axis=1)[sites.rows]
        self._experiments = np.eye(int(group_codes[0].max()) + 1, dtype=np.float32)
        if features is None:
            self._make_buffers(standardize_on_device=standardize_on_device)
        self.wait_s = 0.0  # seconds that the network waited for batches
        self._worker = ForkSafeThreadPool(1, name="batch")

    def _make_buffers(self, *, standardize_on_device: bool) -> None:
        image = self._store.image(int(self._sites.rows[0]))
        is_square = image.shape[1] == image.shape[2]
        side = min(image.shape[1:])
        # After a crop or a diagonal flip all images have one shape only if that shape is square.
        self._shape = image.shape if is_square else (image.shape[0], side, side)
        size = (self.batch_size + self._config.batch_norm.n_controls, *self._shape)
        self._pixel_buffers = [np.empty(size, dtype=image.dtype) for _ in range(2)]
        self._input_buffers = None if standardize_on_device else [np.empty(size, dtype=np.float32) for _ in range(2)]

    def split(self, order: np.ndarray, epoch: int) -> list[np.ndarray]:
        """Return the positions in each batch of an epoch.

        Batches are full, or pure as the configuration says.

        Args:
            order: int [position], positions in the training fold, from `epoch_order` or `interleave`.
            epoch: Number of the epoch.
        """
        config = self._config
        if config.batches.pure == "none":
            return whole_batches(order, batch_size=self.batch_size)
        return pure_batches(
            order, self._group_codes, by=config.batches.pure, batch_size=self.batch_size, seed=config.seed, epoch=epoch
        )

    def epoch(
        self,
        order: np.ndarray,
        epoch: int,
        assignment: Assignment | None = None,
        *,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[TrainingBatch]:
        """Yield the batches of one epoch, as `split` divides it.

        Args:
            order: int [position], positions in the training fold, from `epoch_order` or `interleave`.
            epoch: Number of the epoch; part of the key of every random number.
            assignment: Pseudo labels of the sites in the order that have no label.
            numbers: Numbers of the batches to make, in this order. A batch does not depend on which others are made.
        """
        batches = self.split(order, epoch)
        batch_numbers = range(len(batches)) if numbers is None else numbers
        jobs = [(buffer % 2, number, batches[number]) for buffer, number in enumerate(batch_numbers)]
        if self._features is not None:
            # A lookup takes less time than handing it to another thread.
            yield from (self._make(epoch, assignment, *job) for job in jobs)
            return
        future = self._worker.submit(self._make, epoch, assignment, *jobs[0]) if jobs else None
        for next_job in [*jobs[1:], None]:
            start = time.perf_counter()
            batch = future.result() if future else None
            self.wait_s += time.perf_counter() - start
            if batch is None:
                return
            future = self._worker.submit(self._make, epoch, assignment, *next_job) if next_job else None
            yield batch

    def close(self) -> None:
        """End the thread."""
        self._worker.close()

    def _make(
        self, epoch: int, assignment: Assignment | None, buffer: int, number: int, positions: np.ndarray
    ) -> TrainingBatch:
        positions = np.concatenate([positions, self._draw_controls(positions, epoch, number)])
        batch = self._batch_without_images(positions, assignment, epoch, number)
        if self._features is None:
            return self._add_pixels(batch, epoch, buffer, number, positions)
        rng = rng_for(self._config.seed, epoch, number, "fixed views")
        views = rng.integers(self._features.n_views, size=len(positions))
        features = self._features.take(self._sites.rows[positions], views)
        return dataclasses.replace(batch, features=torch.from_numpy(features))

    def _add_pixels(
        self, batch: TrainingBatch, epoch: int, buffer: int, number: int, positions: np.ndarray
    ) -> TrainingBatch:
        config, sites = self._config, self._sites
        pixels = self._pixel_buffers[buffer][: len(positions)]
        transform = config.preprocessing.transform
        images = self._store.images(int(row) for row in sites.rows[positions])
        statistics = np.empty((len(positions), 2, self._shape[0]), dtype=np.float32)
        for slot, (position, image) in enumerate(zip(positions, images, strict=True)):
            # The slot is part of the key: balanced sampling may show one image twice in an epoch.
            rng = rng_for(config.seed, epoch, sites.names[position], f"view {number} {slot}")
            augment(image, self._draw_augmentation(rng, image), out=pixels[slot])
            if sites.statistics is None:
                statistics[slot] = channel_statistics(pixels[slot], transform=transform)
            else:
                statistics[slot] = sites.statistics[position]
        mixed_rows: dict[str, Any] = {}
        box = partners = None
        rng = rng_for(config.seed, epoch, number, "cutmix")
        if rng.random() < config.cutmix.probability:
            height, width = self._shape[1:]
            box = random_box(rng, height=height, width=width, alpha=config.cutmix.alpha)
            partners = shuffle_within_source(rng, batch.label_sources)
            share = remaining_area(box, height=height, width=width)
            mix_images(pixels, partners, box)
            for name in ("labels", "experiments", "cell_types", "references"):
                rows = getattr(batch, name)
                if rows is not None:
                    mixed_rows[name] = torch.from_numpy(mix_rows(rows.numpy(), partners, share))
        gain, offset = self._draw_jitter(len(positions), rng_for(config.seed, epoch, number, "intensity"))
        standardizer = Standardizer(
            statistics=statistics, transform=transform, gain=gain, offset=offset, box=box, partners=partners
        )
        standardize_on_device = self._input_buffers is None
        inputs = (
            pixels
            if self._input_buffers is None
            else standardizer.on_host(pixels, out=self._input_buffers[buffer][: len(positions)])
        )
        fields: dict[str, Any] = {
            "pixels": torch.from_numpy(inputs),
            "standardizer": standardizer if standardize_on_device else None,
        }
        return dataclasses.replace(batch, **fields, **mixed_rows)

    def _batch_without_images(
        self, positions: np.ndarray, assignment: Assignment | None, epoch: int, number: int
    ) -> TrainingBatch:
        """Return a batch with everything but pixels and features."""
        sites = self._sites
        labels, kinds = self._labels(positions, assignment)
        cell_types = None
        if self._cell_types is not None and sites.cell_types is not None:
            cell_types = self._cell_types[sites.cell_types[positions]]
        references = None
        if self._wells is not None:
            rng = rng_for(self._config.seed, epoch, number, "reference wells")
            references = self._wells.of(sites.rows[positions], rng=rng)
        return TrainingBatch(
            pixels=None,
            cell_types=None if cell_types is None else torch.from_numpy(cell_types),
            labels=torch.from_numpy(labels),
            sites=tuple(sites.names[position] for position in positions),
            label_sources=kinds,
            references=None if references is None else torch.from_numpy(references),
            experiments=torch.from_numpy(self._experiments[self._group_codes[positions, 0]]),
        )

    def _draw_controls(self, positions: np.ndarray, epoch: int, number: int) -> np.ndarray:
        """Draw controls of the plates of a batch; fill up with others of the experiment."""
        n = self._config.batch_norm.n_controls
        if n == 0:
            return np.empty(0, dtype=int)
        controls = np.arange(self._first_control, len(self._sites.rows))
        rng = rng_for(self._config.seed, epoch, number, "controls")
        same_plate = rng.permutation(controls[np.isin(self._group_codes[controls, 1], self._group_codes[positions, 1])])
        same_experiment = rng.permutation(
            controls[np.isin(self._group_codes[controls, 0], self._group_codes[positions, 0])]
        )
        return np.concatenate([same_plate, same_experiment[~np.isin(same_experiment, same_plate)]])[:n]

    def _labels(self, positions: np.ndarray, assignment: Assignment | None) -> tuple[np.ndarray, np.ndarray]:
        known_labels = self._sites.labels[positions]
        is_control = positions >= self._first_control
        is_pseudo = (known_labels < 0) & ~is_control
        labels = self._one_hot[known_labels]
        labels[is_control] = 0
        if is_pseudo.any():
            if assignment is None:
                raise ValueError(f"{is_pseudo.sum()} sites of the batch have no label and no pseudo label.")
            labels[is_pseudo] = assignment.label_rows(positions[is_pseudo], n_classes=labels.shape[1])
        label_sources = np.where(
            is_pseudo, LabelSource.PSEUDO_LABELLED, np.where(is_control, LabelSource.NORM_ONLY, LabelSource.LABELLED)
        )
        return labels, label_sources.astype(np.int8)

    def _draw_augmentation(self, rng: np.random.Generator, image: np.ndarray) -> Augmentation:
        height, width = image.shape[1:]
        settings = self._config.augmentation
        augmentation = random_augmentation(
            rng, height=height, width=width, min_share=settings.min_crop, rotate=settings.any_angle
        )
        return augmentation if settings.dihedral else dataclasses.replace(augmentation, number=0)

    def _draw_jitter(self, n_sites: int, rng: np.random.Generator) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Draw gain and offset of every channel of every image; None where they are off."""
        settings, shape = self._config.augmentation, (n_sites, self._shape[0])
        gain = rng.normal(1.0, settings.gain, shape).astype(np.float32) if settings.gain else None
        offset = rng.normal(0.0, settings.offset, shape).astype(np.float32) if settings.offset else None
        return gain, offset
