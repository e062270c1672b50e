"""Estimate the batch correction of a site from other wells of its group and fold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from distangle.core.shrinkage import (
    GROUP_COLUMNS,
    Correction,
    GroupPrior,
    estimate_group,
    estimate_prior,
    shrinkage_factors,
)
from distangle.images import ImageCache, control_rows, fit_normalization
from distangle.model.classifier import PerturbationClassifier
from distangle.model.device_batches import batches_to_device
from distangle.model.modes import eval_mode
from distangle.results.backbone_features import Features
from distangle.screen import Screen
from distangle.screen.plate_groups import group_codes
from distangle.screen.screen import WELL_COLUMNS

BATCH_SIZE = 32
MeasureFeatures = Callable[[Sequence[int]], tuple[list[int], np.ndarray]]
"""From rows of the screen to the readable ones and their features, float32 [row, feature]."""


@dataclass(frozen=True)
class ReferenceWells:
    """The wells used for corrections, and which of them each site may use.

    Attributes:
        prior: Estimated from the training wells.
        corrects_std: Whether standard deviations are corrected too.
        values: float32 [well, feature], the mean over each well's sites.
        group: int [well], group and fold of each well.
        site_group: int [site of the screen], group and fold of each site.
        site_well: int [site of the screen], position of the site's own well in `values`; -1 if it is not in it.
    """

    prior: GroupPrior
    corrects_std: bool
    values: np.ndarray
    group: np.ndarray
    site_group: np.ndarray
    site_well: np.ndarray

    def of(self, rows: np.ndarray, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the references of sites, float32 [row, reference].

        There is one offset per feature and, if `corrects_std`, one log scale per feature after all offsets.

        Args:
            rows: Sites of the screen.
            rng: Draws for each site a random half of the wells it may use; None uses all of them.
        """
        rows = np.asarray(rows, dtype=int)
        # Equal sites, such as those of one well, share one estimate; a draw is made for each site.
        estimate_of = np.empty(len(rows), dtype=int)
        counts = [np.empty(0, dtype=int)]
        totals, squares = [self.values[:0]], [self.values[:0]]
        for group in np.unique(self.site_group[rows]):
            members = np.flatnonzero(self.site_group[rows] == group)
            wells = np.flatnonzero(self.group == group)
            own_wells, inverse = self.site_well[rows[members]], np.arange(len(members))
            if rng is None:
                own_wells, inverse = np.unique(own_wells, return_inverse=True)
            allowed = wells[None, :] != own_wells[:, None]
            if rng is not None:
                allowed &= rng.random(allowed.shape) < 0.5
            estimate_of[members] = sum(map(len, counts)) + inverse
            weights, values = allowed.astype(np.float32), self.values[wells]
            counts.append(allowed.sum(1))
            totals.append(weights @ values)
            if self.corrects_std:
                squares.append(weights @ np.square(values))
        offsets, scales = estimate_group(
            self.prior,
            np.concatenate(counts),
            np.concatenate(totals),
            np.concatenate(squares) if self.corrects_std else None,
        )
        if not self.corrects_std:
            return offsets.astype(np.float32)[estimate_of]
        return np.concatenate([offsets, scales], axis=1, dtype=np.float32)[estimate_of]

    def describe(self, screen: Screen, columns: Sequence[str]) -> list[dict[str, str | int | float]]:
        """Describe every group: its columns, its wells, and the mean shrinkage factor."""
        _, first = np.unique(self.site_group, return_index=True)
        shares = self.share_of_groups()
        return [
            {
                **{name: str(screen.sites[name].iloc[row]) for name in columns},
                "wells": shares[int(self.site_group[row])][0],
                "share": shares[int(self.site_group[row])][1],
            }
            for row in first
        ]

    def share_of_groups(self) -> dict[int, tuple[int, float]]:
        """Return number of wells and mean shrinkage factor in [0, 1] by group."""
        n_wells = {int(group): int((self.group == group).sum()) for group in np.unique(self.site_group)}
        return {group: (n, float(shrinkage_factors(self.prior, np.array([n])).mean())) for group, n in n_wells.items()}


def reference_wells(
    screen: Screen,
    rows: Sequence[int] | np.ndarray,
    correction: Correction,
    measure: MeasureFeatures,
    *,
    fold: np.ndarray | None,
    prior: GroupPrior | None = None,
    training_rows: np.ndarray | None = None,
) -> ReferenceWells:
    """Collect the wells that the corrections of some sites use.

    If the wells of a group lie in several folds, each fold has its own estimate. An error shared by training and
    held-out sites would identify the group, and with it the perturbations that occur only in this group.

    Args:
        screen: The screen.
        rows: Sites to be corrected.
        correction: Method, group and wells of the correction.
        measure: Returns the features of sites.
        fold: Fold of each site of the screen; None: the screen is one fold.
        prior: From an earlier training; None estimates it from `training_rows`.
        training_rows: Readable sites of the training fold.
    """
    site_group = group_codes(screen.sites, GROUP_COLUMNS[correction.group], fold)
    members = np.flatnonzero(np.isin(site_group, site_group[np.asarray(rows, dtype=int)]))
    if correction.wells == "controls":
        members = control_rows(screen, members)
    readable, features = measure(members.tolist())
    readable_rows = np.asarray(readable, dtype=int)
    well_codes = group_codes(screen.sites, list(WELL_COLUMNS), fold)
    names, first, member = np.unique(well_codes[readable_rows], return_index=True, return_inverse=True)
    sums = np.zeros((len(names), features.shape[1]))
    np.add.at(sums, member, features)
    values = (sums / np.maximum(np.bincount(member, minlength=len(names)), 1)[:, None]).astype(np.float32)
    position = np.searchsorted(names, well_codes)
    has_own_well = (
        (position < len(names)) & (names[np.minimum(position, max(len(names) - 1, 0))] == well_codes)
        if len(names)
        else 0
    )
    group = site_group[readable_rows[first]]
    if prior is None:
        is_training = np.isin(group, site_group[np.asarray(training_rows, dtype=int)])
        prior = _estimate_prior(values[is_training], group[is_training], features.shape[1])
    return ReferenceWells(
        prior=prior,
        corrects_std=correction.method == "standardize",
        values=values,
        group=group,
        site_group=site_group,
        site_well=np.where(has_own_well, position, -1),
    )


def set_prior(model: PerturbationClassifier, wells: ReferenceWells) -> None:
    """Store in a network how much groups of the training fold differ."""
    if model.prior is not None:
        model.prior.copy_(torch.from_numpy(wells.prior.as_rows()))


def control_features(
    model: PerturbationClassifier, store: ImageCache, rows: Sequence[int], *, features: Features | None = None
) -> np.ndarray | None:
    """Return the references of sites: the estimated correction of their group.

    The estimate uses other wells of the group in the same fold. It is transductive, but uses no label beyond which
    wells are controls.

    Departs: the paper corrects nothing; it leaves the batch to CutMix and to the norms.

    Args:
        model: Trained; its mode is restored.
        store: The images of a screen.
        rows: Sites whose references are needed.
        features: Features of the frozen backbone of every site; with them no image is read.

    Returns:
        float32 [site of the screen, reference], NaN for other sites; None for a network without a correction.
    """
    if model.prior is None:
        return None

    def measure(site_rows: Sequence[int]) -> tuple[list[int], np.ndarray]:
        return (
            measure_features_of_controls(model, store, site_rows)
            if features is None
            else features.of_whole_images(site_rows)
        )

    prior = GroupPrior.from_rows(model.prior.detach().cpu().numpy())
    wells = reference_wells(store.screen, rows, model.config.correction, measure, fold=store.fold, prior=prior)
    site_rows = np.asarray(list(rows), dtype=int)
    references = np.full((len(store.screen.sites), model.n_references), np.nan, dtype=np.float32)
    references[site_rows] = wells.of(site_rows)
    return references


def reference_rows(references: np.ndarray | None, rows: Sequence[int]) -> torch.Tensor | None:
    """Return the references of sites as a tensor for the network.

    Args:
        references: From `control_features`.
        rows: Sites of the screen.
    """
    return None if references is None else torch.from_numpy(references[list(rows)])


def measure_features_of_controls(
    model: PerturbationClassifier, store: ImageCache, rows: Sequence[int]
) -> tuple[list[int], np.ndarray]:
    """Return the readable rows and the features of their whole images.

    The features are float32 [row, feature].
    """
    readable, statistics = fit_normalization(store, list(rows))
    device = next(model.parameters()).device
    features = [np.zeros((0, model.n_features), dtype=np.float32)]
    with eval_mode(model), torch.no_grad():
        for batch, images in batches_to_device(device, store, readable, statistics, batch_size=BATCH_SIZE):
            pooled = model.pool(model.feature_maps(images))
            features.append(model.image_features(pooled)[: len(batch)].float().cpu().numpy())
    return readable, np.concatenate(features)


def _estimate_prior(values: np.ndarray, groups: np.ndarray, n_features: int) -> GroupPrior:
    if not len(values):
        zeros = np.zeros(n_features)
        return GroupPrior(zeros, zeros + 1.0, zeros, zeros, zeros)
    return estimate_prior(values, groups)
