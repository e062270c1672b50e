"""Measure how far a perturbation moves cells from the controls of its plates."""

import numpy as np
from jaxtyping import Bool, Float, Int

from distangle.profiles.relations import energy_distance


class ControlDistances:
    """Negative controls of every plate and their mean distances.

    Args:
        features: Profiles of all wells.
        is_control: Which wells are negative controls.
        plates: Code of the plate of every well, from 0.
    """

    def __init__(
        self,
        features: Float[np.ndarray, "well feature"],
        is_control: Bool[np.ndarray, " well"],
        plates: Int[np.ndarray, " well"],
    ) -> None:
        self._features, self._plates = features, plates
        self._controls = {
            int(plate): features[rows].astype(np.float64)
            for plate in np.unique(plates)
            for rows in [np.flatnonzero(is_control & (plates == plate))]
            if len(rows) >= 2
        }
        self._between: dict[tuple[int, int], float] = {}

    def effect_size(self, rows: Int[np.ndarray, " replicate"]) -> float:
        """Return the energy distance of replicates to the controls of their plates.

        Replicates of one plate are compared with its controls as they are. Replicates of two plates are compared after
        the mean of the controls of each plate is subtracted; the n controls of a plate are then spread by
        sqrt((n + 1) / (n - 1)), because they lie nearer to their own mean than a new well does. The result is the mean
        over both kinds, weighted by the pairs of replicates. It is about 0 without an effect for any number of wells;
        below 0 is noise.

        Args:
            rows: Wells of a perturbation.

        Returns:
            The distance, over replicates on plates with two controls or more; NaN for fewer than two such replicates.
        """
        own = {
            int(plate): self._features[rows[self._plates[rows] == plate]].astype(np.float64)
            for plate in np.unique(self._plates[rows])
            if int(plate) in self._controls
        }
        total, n_pairs = 0.0, 0
        for plate, values in own.items():
            if n := len(values) * (len(values) - 1) // 2:
                total += n * energy_distance(values, self._controls[plate], unbiased=True)
                n_pairs += n
        plates = sorted(own)
        moved = {plate: own[plate] - self._controls[plate].mean(axis=0) for plate in plates}
        for number, first in enumerate(plates):
            for second in plates[number + 1 :]:
                n = len(own[first]) * len(own[second])
                between = _mean_distance(moved[first], self._spread(second)) + _mean_distance(
                    moved[second], self._spread(first)
                )
                within = _mean_distance(moved[first], moved[second]) + self._control_distance(first, second)
                total += n * (between - within)
                n_pairs += n
        return total / n_pairs if n_pairs else float("nan")

    def _spread(self, plate: int) -> Float[np.ndarray, "control feature"]:
        values = self._controls[plate]
        n = len(values)
        return np.asarray((values - values.mean(axis=0)) * np.sqrt((n + 1) / (n - 1)))

    def _control_distance(self, first: int, second: int) -> float:
        key = (first, second)
        if key not in self._between:
            self._between[key] = _mean_distance(self._spread(first), self._spread(second))
        return self._between[key]


def _mean_distance(a: Float[np.ndarray, "first feature"], b: Float[np.ndarray, "second feature"]) -> float:
    from scipy.spatial.distance import cdist

    return float(cdist(a, b).mean())
