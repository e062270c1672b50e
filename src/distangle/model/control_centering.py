"""Estimate the correction of each site from other wells of its group and fold."""

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
from distangle.model.features import Features
from distangle.model.modes import eval_mode
from distangle.screen import Screen
from distangle.screen.plate_groups import group_codes

AT_ONCE = 32
NumbersOf = Callable[[Sequence[int]], tuple[list[int], np.ndarray]]
"""From rows of the screen to those that can be read, and their numbers, float32 [row, number]."""


@dataclass(frozen=True)
class ReferenceWells:
    """The wells that corrections rest on, and which of them each site may use.

    Attributes:
        prior: From the training wells.
        spreads: Whether spreads are corrected too.
        values: float32 [well, number], the mean of each well's sites.
        group: int [well], group and fold of each well.
        site_group: int [site of the screen], the same of every site.
        site_well: int [site of the screen], the position of a site's own well in `values`; -1 where it is not there.
    """

    prior: GroupPrior
    spreads: bool
    values: np.ndarray
    group: np.ndarray
    site_group: np.ndarray
    site_well: np.ndarray

    def of(self, rows: np.ndarray, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the references of sites, float32 [row, number].

        They are twice as long with spreads.

        Args:
            rows: Sites of the screen.
            rng: Draws for each site a random half of the wells it may use; None takes all of them.
        """
        rows = np.asarray(rows, dtype=int)
        offsets = np.empty((len(rows), self.values.shape[1]), dtype=np.float32)
        scales = np.zeros_like(offsets)
        for group in np.unique(self.site_group[rows]):
            here = np.flatnonzero(self.site_group[rows] == group)
            wells = np.flatnonzero(self.group == group)
            use = wells[None, :] != self.site_well[rows[here]][:, None]
            if rng is not None:
                use &= rng.random(use.shape) < 0.5
            if rng is None:
                # Alike for all sites of a well, and most sites have no well of their own among them.
                _, first, which = np.unique(self.site_well[rows[here]], return_index=True, return_inverse=True)
                use = use[first]
            weights, values = use.astype(np.float32), self.values[wells]
            squares = weights @ np.square(values) if self.spreads else None
            offset, scale = estimate_group(self.prior, use.sum(1), weights @ values, squares)
            if rng is None:
                offset, scale = offset[which], scale[which]
            offsets[here], scales[here] = offset, scale
        return np.concatenate([offsets, scales], axis=1) if self.spreads else offsets

    def describe(self, screen: Screen, columns: Sequence[str]) -> list[dict[str, str | int | float]]:
        """Describe every group: its columns, its wells, and the mean share corrected."""
        _, first = np.unique(self.site_group, return_index=True)
        shares_of = self.share_of_groups()
        return [
            {
                **{name: str(screen.sites[name].iloc[row]) for name in columns},
                "wells": shares_of[int(self.site_group[row])][0],
                "share": shares_of[int(self.site_group[row])][1],
            }
            for row in first
        ]

    def share_of_groups(self) -> dict[int, tuple[int, float]]:
        """Return by group its wells and the mean share corrected, in [0, 1]."""
        counted = {int(group): int((self.group == group).sum()) for group in np.unique(self.site_group)}
        return {group: (n, float(shrinkage_factors(self.prior, np.array([n])).mean())) for group, n in counted.items()}


def reference_wells(
    screen: Screen,
    rows: Sequence[int] | np.ndarray,
    correction: Correction,
    numbers_of: NumbersOf,
    *,
    fold: np.ndarray | None,
    prior: GroupPrior | None = None,
    training_rows: np.ndarray | None = None,
) -> ReferenceWells:
    """Gather the wells that the corrections of some sites rest on.

    Of a group whose wells lie in several folds, each fold has an estimate of its own: an error that training and
    held-out sites shared would name the group, and with it the perturbations that only this group has.

    Args:
        screen: The screen.
        rows: Sites to be corrected.
        correction: What is corrected.
        numbers_of: Measures sites.
        fold: Of each site of the screen; None: the screen is one fold.
        prior: From an earlier training; None estimates it from `training_rows`.
        training_rows: Readable sites of the training fold.
    """
    site_group = group_codes(screen.sites, GROUP_COLUMNS[correction.group], fold)
    members = np.flatnonzero(np.isin(site_group, site_group[np.asarray(rows, dtype=int)]))
    if correction.wells == "controls":
        members = control_rows(screen, members)
    readable, numbers = numbers_of(members.tolist())
    kept = np.asarray(readable, dtype=int)
    well_codes = group_codes(screen.sites, ["experiment", "plate", "well"], fold)
    names, first, member = np.unique(well_codes[kept], return_index=True, return_inverse=True)
    sums = np.zeros((len(names), numbers.shape[1]))
    np.add.at(sums, member, numbers)
    values = (sums / np.maximum(np.bincount(member, minlength=len(names)), 1)[:, None]).astype(np.float32)
    place = np.searchsorted(names, well_codes)
    found = (place < len(names)) & (names[np.minimum(place, max(len(names) - 1, 0))] == well_codes) if len(names) else 0
    group = site_group[kept[first]]
    if prior is None:
        trained = np.isin(group, site_group[np.asarray(training_rows, dtype=int)])
        prior = _prior(values[trained], group[trained], numbers.shape[1])
    return ReferenceWells(
        prior=prior,
        spreads=correction.method == "standardize",
        values=values,
        group=group,
        site_group=site_group,
        site_well=np.where(found, place, -1),
    )


def set_prior(model: PerturbationClassifier, wells: ReferenceWells) -> None:
    """Keep in a network how much groups of the training fold differ."""
    if model.prior is not None:
        model.prior.copy_(torch.from_numpy(wells.prior.as_rows()))


def control_features(
    model: PerturbationClassifier, store: ImageCache, rows: Sequence[int], *, features: Features | None = None
) -> np.ndarray | None:
    """Return what the network takes beside every site: the correction of its group.

    It rests on other wells of the group, in the fold of the store that the site is in: transductive, but without
    labels beyond which wells are controls.

    Departs: the paper corrects nothing; it leaves the batch to CutMix and to the norms.

    Args:
        model: Trained; left in the mode it was in.
        store: The images of a screen.
        rows: Sites whose references are needed.
        features: What the frozen backbone says of every site: then no image is read.

    Returns:
        float32 [site of the screen, reference], NaN for other sites; None for a network without a correction.
    """
    if model.prior is None:
        return None

    def numbers_of(chosen: Sequence[int]) -> tuple[list[int], np.ndarray]:
        return measure_features_of_controls(model, store, chosen) if features is None else features.numbers_of(chosen)

    prior = GroupPrior.from_rows(model.prior.detach().cpu().numpy())
    wells = reference_wells(store.screen, rows, model.config.correction, numbers_of, fold=store.fold, prior=prior)
    chosen = np.asarray(list(rows), dtype=int)
    found = np.full((len(store.screen.sites), model.n_references), np.nan, dtype=np.float32)
    found[chosen] = wells.of(chosen)
    return found


def reference_rows(references: np.ndarray | None, rows: Sequence[int]) -> torch.Tensor | None:
    """Return the references of sites as the network takes them.

    Args:
        references: From `references_of`.
        rows: Sites of the screen.
    """
    return None if references is None else torch.from_numpy(references[list(rows)])


def measure_features_of_controls(
    model: PerturbationClassifier, store: ImageCache, rows: Sequence[int]
) -> tuple[list[int], np.ndarray]:
    """Measure the features of the whole images of rows, float32 [row, number].

    Rows that cannot be read are left out.
    """
    readable, statistics = fit_normalization(store, list(rows))
    device = next(model.parameters()).device
    pieces = [np.zeros((0, model.n_numbers), dtype=np.float32)]
    with eval_mode(model), torch.no_grad():
        for chosen, images in batches_to_device(device, store, readable, statistics, batch_size=AT_ONCE):
            pooled = model.pool(model.feature_maps(images))
            pieces.append(model.numbers(pooled)[: len(chosen)].float().cpu().numpy())
    return readable, np.concatenate(pieces)


def _prior(values: np.ndarray, groups: np.ndarray, n_numbers: int) -> GroupPrior:
    if not len(values):
        zeros = np.zeros(n_numbers)
        return GroupPrior(zeros, zeros + 1.0, zeros, zeros, zeros)
    return estimate_prior(values, groups)
