"""Find plates that are rotated, transposed or shifted against the others."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from distangle.screen.plates import PlateTransform, Position, row_of, well_name
from distangle.screen.problems import Problem, Severity
from distangle.screen.readers.wells.spelling import spelling_of
from distangle.screen.screen import PLATE_COLUMNS, Screen

MIN_MISMATCHES = 4  # mismatched wells of a plate that is reported
MAX_DIFFERENCE = 0.5  # share of differing wells above which a plate is unlike the others
MIN_AGREEMENT = 0.7  # median share of wells in agreement that a consensus layout needs

SMALLER = ((8, 12), (4, 6))  # plates of 96 and 24 wells

_ABSENT, _UNSETTLED, _ANY = 0, -1, -2


@dataclass(frozen=True)
class PlacementCorrection:
    """A correction of a misplaced plate.

    Attributes:
        instruction: The correction of the wells in the table, as an imperative.
        transform: The transform of their positions.
        from_zero: Whether the wells of the plate count from 0.
    """

    instruction: str
    transform: PlateTransform
    from_zero: bool = False


@dataclass(frozen=True)
class _PlateWells:
    """Wells of a plate in the table: positions, contents, and number off the plate."""

    positions: np.ndarray
    contents: np.ndarray
    n_off: int


IDENTITY = PlacementCorrection("leave them", PlateTransform())
CORRECTIONS = (
    IDENTITY,
    # First: a plate that counts from 0 has wells off the plate, which a rotation would also correct.
    PlacementCorrection("count its columns from 0", PlateTransform(columns=1), from_zero=True),
    PlacementCorrection("count its rows and columns from 0", PlateTransform(rows=1, columns=1), from_zero=True),
    PlacementCorrection("swap rows and columns", PlateTransform(transposed=True)),
    PlacementCorrection("rotate the plate by 180 degrees", PlateTransform(rotated=True)),
    # Without an option, a screen of 96 wells counts as one of 384.
    *(
        PlacementCorrection(
            f"rotate the plate of {rows} x {columns} wells by 180 degrees",
            PlateTransform(rotated=True, size=(rows, columns)),
        )
        for rows, columns in SMALLER
    ),
    *(
        PlacementCorrection(
            f"shift {kind} by {by:+d}", PlateTransform(rows=by) if kind == "rows" else PlateTransform(columns=by)
        )
        for by in (-1, 1, -2, 2)
        for kind in ("rows", "columns")
        if (kind, by) != ("columns", 1)
    ),
    *(
        PlacementCorrection(
            f"shift rows by {rows:+d} and columns by {columns:+d}", PlateTransform(rows=rows, columns=columns)
        )
        for rows in (-1, 1, -2, 2)
        for columns in (-1, 1, -2, 2)
        if (rows, columns) != (1, 1)
    ),
)


def check_placement(screen: Screen) -> list[Problem]:
    """Find plates that match the others only when transformed, or not at all.

    The consensus layout is that of the perturbations, the roles or the wells, in this order: the first that most
    plates share. With fewer than three plates there is none, and only wells off the plate are used.
    """
    plate = _common_plate_size(screen)
    keys, written = _written_wells(screen, plate)
    consensus = None
    # If most plates have wells off the plate, the consensus has the same error.
    if 2 * sum(wells.n_off > 0 for wells in written[0]) <= len(keys):
        for wells_of in written:
            consensus = _consensus_layout(wells_of, plate)
            if consensus is not None:
                break
    plates = written[-1] if consensus is None else wells_of
    problems, differing = [], []
    for key, wells in zip(keys, plates, strict=True):
        n_wrong = _mismatches(wells, consensus, IDENTITY.transform, plate)
        if n_wrong < MIN_MISMATCHES:
            continue
        mismatches = [
            (_mismatches(wells, consensus, correction.transform, plate), k) for k, correction in enumerate(CORRECTIONS)
        ]
        n_min, best = min(mismatches)
        if best and n_min * 4 <= n_wrong:
            problems.append(
                _finding(
                    key,
                    wells,
                    CORRECTIONS[best],
                    plate,
                    n_wrong=n_wrong,
                    n_min=n_min,
                    has_consensus=consensus is not None,
                )
            )
        elif consensus is not None and _differing_share(wells, consensus, plate) > MAX_DIFFERENCE:
            differing.append((key, wells))
    is_rare = len(differing) <= len(keys) / 4  # more of them are a separate design
    return problems + [
        _difference_problem(key, wells, severity="warning" if is_rare else "note") for key, wells in differing
    ]


def _finding(
    key: tuple[str, str],
    wells: _PlateWells,
    correction: PlacementCorrection,
    plate: Position,
    *,
    n_wrong: int,
    n_min: int,
    has_consensus: bool,
) -> Problem:
    apply = correction.transform.apply
    is_moved = (apply(wells.positions, plate) != wells.positions).any(axis=1)
    first = wells.positions[is_moved][:1]  # wells on the diagonal do not move when rows and columns are swapped
    before, after = (_format_well(int(row), int(column)) for row, column in (first[0], apply(first, plate)[0]))
    advice = f"{correction.instruction} in its table ({before} becomes {after}) and index again"
    if correction.from_zero:
        advice = f"it counts from 0 ({before} becomes {after}): index again with --well-base 0"
    reference = "as on the other plates" if has_consensus else f"on a plate of {plate[0]} x {plate[1]} wells"
    return Problem(
        severity="error" if has_consensus else "warning",
        kind="plate lies wrong",
        what=f"{n_wrong} wells are not {reference}; {n_min} are not when you {correction.instruction}",
        experiment=key[0],
        plate=key[1],
        fix=f"Check the plate. If this is right, {advice}.",
        count=len(wells.positions),
    )


def _difference_problem(key: tuple[str, str], wells: _PlateWells, *, severity: Severity) -> Problem:
    return Problem(
        severity=severity,
        kind="plate unlike the others",
        what="most of its wells differ from the other plates, and no rotation or shift corrects them",
        experiment=key[0],
        plate=key[1],
        fix="Nothing, if the plate has another layout; otherwise check for a mirrored table or that of another plate.",
        count=len(wells.positions),
    )


def _differing_share(wells: _PlateWells, consensus: np.ndarray, plate: Position) -> float:
    """Return the share of a plate's wells that differ from the consensus."""
    is_on = _is_on_plate(wells.positions, plate)
    expected, content = consensus[tuple(wells.positions[is_on].T)], wells.contents[is_on]
    is_settled = (expected != _UNSETTLED) & (expected != _ABSENT) & (content != _ANY)
    return float((content != expected)[is_settled].mean()) if is_settled.sum() >= MIN_MISMATCHES else 0.0


def _common_plate_size(screen: Screen) -> Position:
    """Return the plate size of most plates, unless an option sets it.

    A transposed plate seems to need a larger size.
    """
    size = screen.metadata.plate_rows, screen.metadata.plate_columns
    is_assumed = (screen.problems["kind"] == "larger plate assumed").any()
    if screen.metadata.provenance.get("options", {}).get("plate") or not (is_assumed or size == (16, 24)):
        return size
    last_wells = screen.sites.groupby(list(PLATE_COLUMNS))[["row", "column"]].max().to_numpy()
    share = (last_wells < SMALLER[0]).all(axis=1).mean()
    return SMALLER[0] if 0.5 <= share < 1 else (16, 24)


def _written_wells(screen: Screen, plate: Position) -> tuple[list[tuple[str, str]], list[list[_PlateWells]]]:
    """Return the plates, and their wells by perturbation, by role and by presence."""
    columns = [*PLATE_COLUMNS, "row", "column", "perturbation", "role"]
    wells = screen.sites[columns].drop_duplicates(columns[:4])
    positions = wells[["row", "column"]].to_numpy(dtype=int)
    kinds = [pd.factorize(wells[name].astype(str), sort=True)[0] + 1
            for name in ("perturbation", "role")]  # fmt: skip
    kinds.append(np.ones(len(wells), dtype=int))
    off: dict[tuple[str, str], list[Position]] = defaultdict(list)
    for row in screen.problems[screen.problems["kind"].isin(("well off the plate", "bad well"))].to_dict("records"):
        position = _position(str(row["well"]))
        if position is not None:
            off[str(row["experiment"]), str(row["plate"])].append(position)
    rows_of: dict[tuple[str, str], list[int]] = defaultdict(list)
    for k, plate_key in enumerate(zip(wells["experiment"].astype(str), wells["plate"].astype(str), strict=True)):
        rows_of[plate_key].append(k)
    keys = list(dict.fromkeys([*rows_of, *off]))
    written = []
    for codes in kinds:
        of_plates = []
        for key in keys:
            rows = np.array(rows_of.get(key, []), dtype=int)
            extra_positions = np.array(off.get(key, []), dtype=int).reshape(-1, 2)
            all_positions = np.concatenate([positions[rows], extra_positions])
            of_plates.append(
                _PlateWells(
                    positions=all_positions,
                    contents=np.concatenate([codes[rows], np.full(len(extra_positions), _ANY)]),
                    n_off=int((~_is_on_plate(all_positions, plate)).sum()),
                )
            )
        written.append(of_plates)
    return keys, written


def _consensus_layout(wells_of: Sequence[_PlateWells], plate: Position) -> np.ndarray | None:
    """Return the consensus content of each position; None without agreement."""
    if len(wells_of) < 3:
        return None
    content = np.full((len(wells_of), *plate), _ABSENT)
    for k, wells in enumerate(wells_of):
        is_on = _is_on_plate(wells.positions, plate)
        content[(k, *wells.positions[is_on].T)] = wells.contents[is_on]
    median = np.sort(content, axis=0)[len(content) // 2]  # the content of a majority is the median
    consensus = np.where(2 * (content == median).sum(axis=0) > len(content), median, _UNSETTLED)
    agreement = [
        np.mean(plate_content[plate_content != _ABSENT] == consensus[plate_content != _ABSENT])
        for plate_content in content
        if (plate_content != _ABSENT).any()
    ]
    return consensus if agreement and float(np.median(agreement)) >= MIN_AGREEMENT else None


def _mismatches(wells: _PlateWells, consensus: np.ndarray | None, transform: PlateTransform, plate: Position) -> int:
    moved = transform.apply(wells.positions, plate)
    is_on = _is_on_plate(moved, plate)
    n_off = int((~is_on).sum())
    if consensus is None:
        return n_off
    plate_content = np.full(plate, _ABSENT)
    plate_content[tuple(moved[is_on].T)] = wells.contents[is_on]
    is_wildcard = (plate_content == _ANY) & (consensus != _ABSENT)
    return n_off + int(((plate_content != consensus) & (consensus != _UNSETTLED) & ~is_wildcard).sum())


def _is_on_plate(positions: np.ndarray, plate: Position) -> np.ndarray:
    return np.asarray(((positions >= 0) & (positions < np.array(plate))).all(axis=1))


def _position(name: str) -> Position | None:
    spelling = spelling_of(name)  # also `A00` and `r00c00`, which count from zero
    if spelling is None or spelling.form not in ("letters", "row_column"):
        return None
    return row_of(spelling.letters) if spelling.letters else spelling.row - 1, spelling.column - 1


def _format_well(row: int, column: int) -> str:
    # A row or column before the first has no regular name: `A00` and `r00c01` are the names in the table.
    if row < 0:
        return f"r{row + 1:02d}c{column + 1:02d}"
    return well_name(row, column) if column >= 0 else f"{well_name(row, 0)[:-2]}{column + 1:02d}"
