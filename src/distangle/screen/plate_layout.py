"""Find groups of perturbations that share plates, from the tables alone."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from distangle.core.stats import positions_by_value

MIN_PLATES = 2  # of a group: one plate shows no rule


@dataclass(frozen=True, kw_only=True)
class PlateLayout:
    """A layout in which every plate carries one of several disjoint groups.

    Attributes:
        groups: Names of the perturbations of each group, sorted; groups in the order of their first plates.
        n_plates: Plates that carry each group, [group].
    """

    groups: tuple[tuple[str, ...], ...]
    n_plates: tuple[int, ...]

    def violations(self, plates: Sequence[Hashable], labels: Sequence[str]) -> int:
        """Count wells outside the most frequent group of their plate.

        A second well of a perturbation on a plate counts too.

        Args:
            plates: Experiment and plate of each well.
            labels: Perturbation of each well; names in no group are not counted.
        """
        group_of = {name: number for number, names in enumerate(self.groups) for name in names}
        n = 0
        for rows in positions_by_value(plates).values():
            names = [labels[row] for row in rows if labels[row] in group_of]
            if names:
                sizes = np.bincount([group_of[name] for name in names], minlength=len(self.groups))
                main = int(sizes.argmax())
                n += len(names) - len({name for name in names if group_of[name] == main})
        return n


def find_layout(plates: Sequence[Hashable], labels: Sequence[str]) -> tuple[PlateLayout | None, str]:
    """Find the groups of perturbations that occur on plates together.

    Two perturbations of one plate are in one group. A single misplaced well joins two groups, so groups that are found
    have no exception in these wells.

    Args:
        plates: Experiment and plate of each well, since names of plates repeat between experiments.
        labels: Perturbation of each well; pass training wells of treatments only.

    Returns:
        The layout, and ""; or None and a clause with the reason: a perturbation occurs twice on a plate, plates do not
        fall into at least two groups, or a group has fewer than `MIN_PLATES` plates.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(labels):
        return None, "there is no training well of a treatment"
    plate_index = {plate: k for k, plate in enumerate(dict.fromkeys(plates))}
    name_index = {name: k for k, name in enumerate(dict.fromkeys(labels))}
    rows, columns = [plate_index[plate] for plate in plates], [name_index[name] for name in labels]
    counts = coo_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(len(plate_index), len(name_index)))
    counts.sum_duplicates()
    if counts.data.max() > 1:
        most = int(counts.data.argmax())
        name, plate = list(name_index)[counts.coords[1][most]], list(plate_index)[counts.coords[0][most]]
        shown = " ".join(map(str, plate)) if isinstance(plate, tuple) else plate
        return None, f"{name} occurs {counts.data[most]} times on the training plate {shown}"
    table = counts.tocsr()
    n_groups, number = connected_components(table.T @ table, directed=False)
    if n_groups < 2:
        return None, "the treatments of the training plates are not split into groups, each with its own plates"
    of_plate = np.zeros(len(plate_index), dtype=np.int64)
    of_plate[rows] = number[columns]
    n_plates = np.bincount(of_plate, minlength=n_groups)
    if n_plates.min() < MIN_PLATES:
        return None, f"a group of treatments is on {n_plates.min()} training plate, and {MIN_PLATES} would show a rule"
    names = np.array(list(name_index), dtype=object)
    groups = tuple(tuple(sorted(names[number == group].tolist())) for group in range(n_groups))
    return PlateLayout(groups=groups, n_plates=tuple(n_plates.tolist())), ""
