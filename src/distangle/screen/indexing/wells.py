"""Give every well its row and column on the plate."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

from distangle.screen.indexing.records import SiteRecord
from distangle.screen.plates import STANDARD_PLATES, smallest_plate, split_well, well_name
from distangle.screen.problems import Problem

_DEFAULT_PLATE = (16, 24)


def assign_well_positions(
    entries: Sequence[SiteRecord], plate_option: tuple[int, int] | None
) -> tuple[list[SiteRecord], tuple[int, int], list[Problem]]:
    """Normalize well names, and refuse wells that are not on the plate.

    Args:
        entries: Their wells are rewritten as `B03`.
        plate_option: Rows and columns of the plate; None for 16 x 24, or 32 x 48 when a well needs it.

    Returns:
        The entries on the plate, its rows and columns, and refusals and remarks.
    """
    position_of = {entry.well: split_well(entry.well) for entry in entries}
    name_of = {well: well_name(*position) for well, position in position_of.items() if position is not None}
    plate = plate_option or _infer_plate([position for position in position_of.values() if position is not None])
    accepted: list[SiteRecord] = []
    problems: list[Problem] = []
    beyond: list[SiteRecord] = []
    spellings: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        position = position_of[entry.well]
        if position is None or not _is_on(position, plate):
            problems.append(
                entry.problem(
                    "bad well" if position is None else "well off the plate",
                    found=repr(entry.well),
                    expected=f"a well from A01 to {well_name(plate[0] - 1, plate[1] - 1)}",
                    fix="Correct the well, or give the size of the plate: --plate-rows and --plate-columns.",
                )
            )
            continue
        name = name_of[entry.well]
        spellings[name].add(entry.well.strip())
        entry.well = name
        accepted.append(entry)
        if not _is_on(position, _DEFAULT_PLATE):
            beyond.append(entry)
    if beyond and plate_option is None:
        problem = beyond[0].problem(
            "larger plate assumed",
            found=f"{beyond[0].well} and {len(beyond) - 1} more outside "
            f"{_DEFAULT_PLATE[0]} x {_DEFAULT_PLATE[1]} wells",
            expected=f"plates of {plate[0]} x {plate[1]} wells",
            fix="If these wells are typing errors, refuse them: --plate-rows 16 --plate-columns 24.",
        )
        problems.append(dataclasses.replace(problem, severity="warning", count=len(beyond)))
    mixed = {name: spelling for name, spelling in spellings.items() if len(spelling) > 1}
    if mixed:
        name, spelling = next(iter(sorted(mixed.items())))
        problems.append(
            Problem(
                severity="warning",
                kind="wells spelled in several ways",
                well=name,
                found=" and ".join(map(repr, sorted(spelling))),
                expected="one spelling",
                fix="They count as one well; check that this is right.",
                count=len(mixed),
            )
        )
    return accepted, plate, problems


def _infer_plate(positions: Sequence[tuple[int, int]]) -> tuple[int, int]:
    # A well beyond the largest plate is a typing error, and does not determine the plate.
    fits = [position for position in positions if _is_on(position, STANDARD_PLATES[-1])]
    rows = max([_DEFAULT_PLATE[0], *(row + 1 for row, _ in fits)])
    columns = max([_DEFAULT_PLATE[1], *(column + 1 for _, column in fits)])
    return smallest_plate(rows, columns)


def _is_on(position: tuple[int, int], plate: tuple[int, int]) -> bool:
    return position[0] < plate[0] and position[1] < plate[1]
