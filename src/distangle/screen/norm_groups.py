"""Which plates share the statistics of the norms of a network, and the sites that these rest on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from distangle.screen.perturbation import NEGATIVE
from distangle.screen.table import Screen

AtTest = Literal["running", "plate", "experiment", "controls"]
Plate = tuple[str, str]


@dataclass(frozen=True)
class NormGroup:
    """Plates that share statistics.

    Attributes:
        words: Whose statistics, such as `plate HUVEC-01 2`.
        plates: Experiment and plate of each.
        rows: Sites that the statistics are computed from; none for the running statistics of the training.
    """

    words: str
    plates: tuple[Plate, ...]
    rows: tuple[int, ...]


def norm_groups(
    screen: Screen, rows: Sequence[int], *, by: AtTest, fewest: int, of: Sequence[int]
) -> tuple[list[NormGroup], list[str]]:
    """Return which plates share statistics and from which sites, and a sentence on each plate with too few.

    Args:
        screen: The screen.
        rows: Sites whose plates need statistics.
        by: `plate`, `experiment`, or `controls` of the plate; a plate with too few sites takes those of its
            experiment, an experiment with too few the running statistics of the training.
        fewest: Sites that a group needs.
        of: Sites that statistics may rest on.
    """
    if by == "controls":
        known = set(control_rows(screen))
        of = [row for row in of if row in known]
    members: dict[Plate, list[int]] = {}
    for row, plate in zip(of, plates_of(screen, of), strict=True):
        members.setdefault(plate, []).append(row)
    # In the order of the wells, whatever the order of the table: sums are rounded alike.
    wells = screen.sites[["well", "site"]].apply(tuple, axis=1)
    members = {plate: sorted(found, key=lambda row: wells.iloc[row]) for plate, found in sorted(members.items())}
    groups: dict[str, NormGroup] = {}
    remarks = []
    for plate in sorted(set(plates_of(screen, rows))):
        experiment = tuple(row for other, found in members.items() if other[0] == plate[0] for row in found)
        own, whose = tuple(members.get(plate, ())), "controls of " if by == "controls" else ""
        choices = [(f"{whose}plate {' '.join(plate)}", own), (f"{whose}experiment {plate[0]}", experiment)]
        if by == "experiment":
            choices = choices[1:]
        fine = [(words, found) for words, found in choices if len(found) >= fewest]
        words, found = fine[0] if fine else ("the running statistics of the training", ())
        if (words, found) != choices[0]:
            n_found = f" ({len(found)} sites)" if found else ""
            remarks.append(
                f"Norms of plate {' '.join(plate)}: {len(choices[0][1])} readable site(s) of {choices[0][0]}, fewer "
                f"than norms.fewest={fewest}; used instead: {words}{n_found}."
            )
        before = groups[words].plates if words in groups else ()
        groups[words] = NormGroup(words=words, plates=(*before, plate), rows=found)
    return list(groups.values()), remarks


def control_rows(screen: Screen) -> list[int]:
    """Return the rows of negative controls."""
    control = screen.sites["role"].isin(NEGATIVE)
    return [row for row, is_control in enumerate(control) if is_control]


def plates_of(screen: Screen, rows: Sequence[int]) -> list[Plate]:
    """Return experiment and plate of each row."""
    chosen = screen.sites.iloc[list(rows)]
    return [(str(e), str(p)) for e, p in zip(chosen["experiment"], chosen["plate"], strict=True)]
