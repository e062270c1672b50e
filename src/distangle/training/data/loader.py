"""Standardise and jitter the pixels of a batch, on the host or on the device.

Make the batches of an epoch, one batch ahead of the network.

Views and CutMix work on whole pixels in reused buffers; pixels are standardised last.
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
from distangle.model.features import Features
from distangle.training.config import TrainingConfig
from distangle.training.data.cutmix import Box, kept_area, mix_images, mix_rows, random_box
from distangle.training.data.sampler import pure_batches, whole_batches
from distangle.training.data.sites import LabelSource, TrainingSites, join_sites
from distangle.training.pseudo_labels.rounds import Assignment, shuffle_within_source


@dataclass(frozen=True, kw_only=True)
class Standardizer:
    """Turns whole pixels, already turned, cropped and mixed, into network input.

    Attributes:
        statistics: float32 [site, 2, channel], mean and spread of each image.
        transform: What they were measured after.
        gain: float32 [site, channel], by which standardised pixels are multiplied; None for 1.
        offset: float32 [site, channel], which is added then; None for 0.
        box: Where the pixels of partners lie (CutMix); None nowhere.
        partners: int [site], whose pixels lie there: each pixel is standardised by the image it came from, or the box
            would show its own brightness.
    """

    statistics: np.ndarray
    transform: Transform = "none"
    gain: np.ndarray | None = None
    offset: np.ndarray | None = None
    box: Box | None = None
    partners: np.ndarray | None = None

    def on_host(self, pixels: np.ndarray, *, out: np.ndarray) -> np.ndarray:
        """Write the network input into a float32 buffer.

        The pixels are uint8 or uint16 [site, channel, height, width].
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

        It takes one multiplication and addition a pixel.

        Equal to `on_host` but for rounding: standardising and jitter are one affine map of a channel of an image.
        """
        ready = transform_statistics(pixels, self.transform)
        inside = None
        if self.box is not None and self.partners is not None:
            box = np.s_[:, :, self.box.top : self.box.bottom, self.box.left : self.box.right]
            inside = affine(ready[box], *self._factors(self.statistics[self.partners]))
        ready = affine(ready, *self._factors(self.statistics))
        if inside is not None:
            ready[box] = inside
        return ready

    def _factors(self, statistics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Factor and summand of every channel of every image."""
        factor, summand = scale_and_offset(statistics)
        if self.gain is not None:
            factor, summand = factor * self.gain, summand * self.gain
        return factor, summand if self.offset is None else summand + self.offset


@dataclass(frozen=True)
class TrainingBatch:
    """One batch on its way to the network; valid until the next but one is asked for."""

    pixels: Tensor | None  # [site, channel, height, width]: whole numbers with a last step, ready float32, or none
    cell_types: CellTypes | None
    labels: SoftLabels
    sites: tuple[str, ...]
    kinds: np.ndarray  # int8 [site], of `Kind`
    references: References | None = None  # for a network with a correction
    numbers: Pooled | None = None  # what a frozen backbone said of the images, instead of pixels
    experiments: Float[Tensor, "site experiment"] | None = None  # one-hot, or a mixture under CutMix
    last_step: Standardizer | None = None

    def images(self, device: torch.device) -> Images:
        """Return what the network sees, on its device.

        Raises:
            ValueError: The batch has numbers instead of pixels.
        """
        if self.pixels is None:
            raise ValueError("The batch holds numbers of a frozen backbone, and no pixels.")
        pixels = self.pixels.to(device, non_blocking=True)
        return pixels if self.last_step is None else self.last_step.on_device(pixels)


class BatchLoader:
    """Makes the batches of any epoch.

    It keeps two buffers, so a batch outlives the making of the next one.

    Args:
        store: The images.
        sites: The training fold; a site without a label (-1) needs a pseudo label to be in a batch.
        config: How they are viewed and mixed.
        n_perturbations: Length of a label row.
        wells: What the correction of a network rests on, drawn anew for every visit; None without a correction.
        features: Of a frozen backbone: batches then hold its numbers of a random fixed view, and no image is read.
        controls: Negative controls of the training fold, to stand beside the batches of their plate; None for none.
        whole: Leave the last step to the device of the network: a quarter of the bytes go there, and its fast memory
            does the standardising.
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
        whole: bool = False,
    ) -> None:
        self._first_control = len(sites.rows)
        n_labelled = int((sites.labels >= 0).sum())
        if controls is not None:
            sites = join_sites(sites, controls)
        self._store, self._sites, self._config = store, sites, config
        self._wells, self._features = wells, features
        self._one_hot = np.eye(n_perturbations, dtype=np.float32)
        n_cell_types = len(store.screen.card.cell_types)
        self._cell_types = None if sites.cell_types is None else np.eye(n_cell_types, dtype=np.float32)
        self.batch_size = min(config.batch_size, n_labelled)  # a fold smaller than a batch is one batch
        plates = store.screen.sites[["experiment", "plate"]].astype(str)
        places = [plates.groupby("experiment").ngroup(), plates.groupby(["experiment", "plate"]).ngroup()]
        self._places = np.stack(places, axis=1)[sites.rows]
        self._experiments = np.eye(int(places[0].max()) + 1, dtype=np.float32)
        if features is None:
            self._make_buffers(whole=whole)
        self.waited_s = 0.0  # by the network, for batches that were not ready
        self._ahead = ForkSafeThreadPool(1, name="batch")

    def _make_buffers(self, *, whole: bool) -> None:
        first = self._store.image(int(self._sites.rows[0]))
        square = first.shape[1] == first.shape[2]
        side = min(first.shape[1:])
        # A crop or a turn over the diagonal keeps one shape for all only when that shape is square.
        self._shape = first.shape if square else (first.shape[0], side, side)
        size = (self.batch_size + self._config.norms.controls, *self._shape)
        self._raw = [np.empty(size, dtype=first.dtype) for _ in range(2)]
        self._ready = None if whole else [np.empty(size, dtype=np.float32) for _ in range(2)]

    def cut(self, order: np.ndarray, epoch: int) -> list[np.ndarray]:
        """Return the positions in each batch of an epoch.

        Batches are full, or pure as the configuration says.

        Args:
            order: int [position], positions in the training fold, from `epoch_order` or `mixed_order`.
            epoch: Which epoch.
        """
        config = self._config
        if config.batches.pure == "none":
            return whole_batches(order, batch_size=self.batch_size)
        return pure_batches(
            order, self._places, by=config.batches.pure, batch_size=self.batch_size, seed=config.seed, epoch=epoch
        )

    def epoch(
        self,
        order: np.ndarray,
        epoch: int,
        assignment: Assignment | None = None,
        *,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[TrainingBatch]:
        """Give the batches of one epoch, as `cut` divides it.

        Args:
            order: int [position], positions in the training fold, from `epoch_order` or `mixed_order`.
            epoch: Part of the key of every random number.
            assignment: Labels of those sites in the order that have none of their own.
            numbers: Which batches to make, in this order; each is the same whichever others are made.
        """
        cut = self.cut(order, epoch)
        wanted = range(len(cut)) if numbers is None else numbers
        jobs = [(buffer % 2, number, cut[number]) for buffer, number in enumerate(wanted)]
        waiting = self._ahead.submit(self._make, epoch, assignment, *jobs[0]) if jobs else None
        for following in [*jobs[1:], None]:
            began = time.perf_counter()
            batch = waiting.result() if waiting else None
            self.waited_s += time.perf_counter() - began
            if batch is None:
                return
            waiting = self._ahead.submit(self._make, epoch, assignment, *following) if following else None
            yield batch

    def close(self) -> None:
        """Let go of the thread."""
        self._ahead.close()

    def _make(
        self, epoch: int, assignment: Assignment | None, buffer: int, number: int, positions: np.ndarray
    ) -> TrainingBatch:
        positions = np.concatenate([positions, self._controls_beside(positions, epoch, number)])
        batch = self._labelled(positions, assignment, epoch, number)
        if self._features is None:
            return self._with_pixels(batch, epoch, buffer, number, positions)
        rng = rng_for(self._config.seed, epoch, number, "fixed views")
        drawn = rng.integers(self._features.n_views, size=len(positions))
        numbers = self._features.take(self._sites.rows[positions], drawn)
        return dataclasses.replace(batch, numbers=torch.from_numpy(numbers))

    def _with_pixels(
        self, batch: TrainingBatch, epoch: int, buffer: int, number: int, positions: np.ndarray
    ) -> TrainingBatch:
        config, sites = self._config, self._sites
        raw = self._raw[buffer][: len(positions)]
        transform = config.preparation.transform
        images = self._store.images(int(row) for row in sites.rows[positions])
        statistics = np.empty((len(positions), 2, self._shape[0]), dtype=np.float32)
        for slot, (position, image) in enumerate(zip(positions, images, strict=True)):
            # The slot is part of the key: balanced sampling may show one image twice in an epoch.
            rng = rng_for(config.seed, epoch, sites.names[position], f"view {number} {slot}")
            augment(image, self._view(rng, image), out=raw[slot])
            if sites.statistics is None:
                statistics[slot] = channel_statistics(raw[slot], transform=transform)
            else:
                statistics[slot] = sites.statistics[position]
        mixed: dict[str, Any] = {}
        box = partners = None
        rng = rng_for(config.seed, epoch, number, "cutmix")
        if rng.random() < config.cutmix.probability:
            height, width = self._shape[1:]
            box = random_box(rng, height=height, width=width, alpha=config.cutmix.alpha)
            partners, kept = shuffle_within_source(rng, batch.kinds), kept_area(box, height=height, width=width)
            mix_images(raw, partners, box)
            for name in ("labels", "experiments", "cell_types", "references"):
                rows = getattr(batch, name)
                if rows is not None:
                    mixed[name] = torch.from_numpy(mix_rows(rows.numpy(), partners, kept))
        gain, offset = self._jitter(len(positions), rng_for(config.seed, epoch, number, "intensity"))
        last_step = Standardizer(
            statistics=statistics, transform=transform, gain=gain, offset=offset, box=box, partners=partners
        )
        whole = self._ready is None
        pixels = raw if self._ready is None else last_step.on_host(raw, out=self._ready[buffer][: len(positions)])
        ready: dict[str, Any] = {"pixels": torch.from_numpy(pixels), "last_step": last_step if whole else None}
        return dataclasses.replace(batch, **ready, **mixed)

    def _labelled(self, positions: np.ndarray, assignment: Assignment | None, epoch: int, number: int) -> TrainingBatch:
        """Return what is known of a batch before its images are looked at."""
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
            kinds=kinds,
            references=None if references is None else torch.from_numpy(references),
            experiments=torch.from_numpy(self._experiments[self._places[positions, 0]]),
        )

    def _controls_beside(self, positions: np.ndarray, epoch: int, number: int) -> np.ndarray:
        """Draw controls of the plates of a batch; where these have too few, others of the experiment fill up."""
        n = self._config.norms.controls
        controls = np.arange(self._first_control, len(self._sites.rows))
        rng = rng_for(self._config.seed, epoch, number, "controls")
        own = rng.permutation(controls[np.isin(self._places[controls, 1], self._places[positions, 1])])
        near = rng.permutation(controls[np.isin(self._places[controls, 0], self._places[positions, 0])])
        return np.concatenate([own, near[~np.isin(near, own)]])[:n]

    def _labels(self, positions: np.ndarray, assignment: Assignment | None) -> tuple[np.ndarray, np.ndarray]:
        own = self._sites.labels[positions]
        beside = positions >= self._first_control
        guessed = (own < 0) & ~beside
        labels = self._one_hot[own]
        labels[beside] = 0
        if guessed.any():
            if assignment is None:
                raise ValueError(f"{guessed.sum()} sites of the batch have no label and no pseudo label.")
            labels[guessed] = assignment.label_rows(positions[guessed], n_classes=labels.shape[1])
        kinds = np.where(
            guessed, LabelSource.PSEUDO_LABELLED, np.where(beside, LabelSource.NORM_ONLY, LabelSource.LABELLED)
        )
        return labels, kinds.astype(np.int8)

    def _view(self, rng: np.random.Generator, image: np.ndarray) -> Augmentation:
        height, width = image.shape[1:]
        views = self._config.views
        view = random_augmentation(rng, height=height, width=width, min_share=views.smallest_crop, rotate=views.turn)
        return view if views.dihedral else dataclasses.replace(view, number=0)

    def _jitter(self, n_sites: int, rng: np.random.Generator) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Draw gain and offset of every channel of every image; None where the configuration wants none."""
        views, shape = self._config.views, (n_sites, self._shape[0])
        gain = rng.normal(1.0, views.gain, shape).astype(np.float32) if views.gain else None
        offset = rng.normal(0.0, views.offset, shape).astype(np.float32) if views.offset else None
        return gain, offset
