"""Normalize by typical variation: axes and spread of the controls, per batch."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from distangle.errors import ProfileError
from distangle.profiles.sphering import Sphering, fit_sphering, spread_of

_RIDGE = 0.5  # addend of the variances of a batch's controls, in units of the variance of all controls


@dataclass(frozen=True, kw_only=True)
class TypicalVariation:
    """Principal axes of the standardized controls.

    Attributes:
        axes: Axes, means and scales of the controls.
    """

    axes: Sphering

    def apply(
        self,
        values: Float[np.ndarray, "row feature"],
        batches: Int[np.ndarray, " row"],
        controls: Bool[np.ndarray, " row"],
    ) -> Float[np.ndarray, "row axis"]:
        """Return coordinates, standardized and whitened by the controls of each batch.

        Args:
            values: Profiles, [row, feature].
            batches: Number of every row's batch.
            controls: Which rows are negative controls; every batch has at least 2.
        """
        along = self.axes.coordinates(values)[:, : self.axes.rank]
        result = np.empty_like(along)
        for batch in np.unique(batches):
            rows = batches == batch
            reference = along[rows & controls]
            spread = spread_of(reference)
            weight = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
            centre = reference.mean(axis=0)
            standard = (reference - centre) * weight
            moments = standard.T @ standard / (len(standard) - 1) + _RIDGE * np.eye(len(spread))
            variances, vectors = np.linalg.eigh(moments)
            result[rows] = ((along[rows] - centre) * weight) @ (vectors / np.sqrt(variances)) @ vectors.T
        return result


def fit_typical_variation(controls: Float[np.ndarray, "row feature"]) -> TypicalVariation:
    """Fit the principal axes of the standardized controls.

    Args:
        controls: Profiles of all negative controls, [row, feature].

    Raises:
        ProfileError: There are fewer than 3 controls or they are all equal.

    Source:
        Ando, McLean and Berndl 2017, "Improving phenotypic measurements in high-content imaging screens", bioRxiv
        161422; the ridge is that of the benchmark of Celik et al. 2022, bioRxiv 2022.12.09.519400.
    """
    if len(controls) < 3:
        raise ProfileError(f"TVN has {len(controls)} negative controls. Expected at least 3; leave this step out.")
    return TypicalVariation(axes=fit_sphering(controls, "zca-cor", epsilon=0.0))
