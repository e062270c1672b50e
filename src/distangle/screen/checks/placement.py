"""Find plates that are rotated, transposed or shifted against the others."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distangle.screen.plates import PlateTransform, Position, row_of, well_name
from distangle.screen.problems import Problem, Severity
from distangle.screen.readers.wells.spelling import spelling_of
from distangle.screen.screen import PLATE_COLUMNS, Screen

FEWEST = 4  # wells that do not match before a plate is said to lie wrong
HALF = 0.5  # share of its wells from which a plate is unlike the others
AGREE = 0.7  # share of the wells of most plates that must be as usual before the others are measured by it

SMALLER = ((8, 12), (4, 6))  # plates of 96 and 24 wells

_ABSENT, _UNSETTLED, _ANY = 0, -1, -2


@dataclass(frozen=True)
class PlacementCorrection:
    """What to do about a plate that lies wrong.

    Attributes:
        words: What to do to the wells as they are written.
        transform: What that does to their positions.
        from_zero: Such a plate counts from 0.
    """

    words: str
    transform: PlateTransform
    from_zero: bool = False


@dataclass(frozen=True)
class _Wells:
    """The wells of a plate as written: positions, contents, and wells off the plate."""

    positions: np.ndarray
    held: np.ndarray
    n_off: int


IDENTITY = PlacementCorrection("leave them", PlateTransform())
CORRECTIONS = (
    IDENTITY,
    # Before the others: a plate that counts from 0 has wells off the plate, which turning it would bring back too.
    PlacementCorrection("count its columns from 0", PlateTransform(columns=1), from_zero=True),
    PlacementCorrection("count its rows and columns from 0", PlateTransform(rows=1, columns=1), from_zero=True),
    PlacementCorrection("exchange rows and columns", PlateTransform(transposed=True)),
    PlacementCorrection("turn the plate by 180 degrees", PlateTransform(rotated=True)),
    # A screen of 96 wells is believed to be one of 384 unless somebody says so.
    *(
        PlacementCorrection(
            f"turn the plate of {rows} x {columns} wells by 180 degrees",
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

    The other plates say where which perturbation, role or well is usual, in that order: the first that most plates
    agree on is taken. With fewer than three plates nothing is usual, and only wells off the plate tell.
    """
    plate = _plate_meant(screen)
    keys, written = _written_wells(screen, plate)
    usual = None
    # Where most plates have wells off the plate, what is usual is wrong in the same way.
    if 2 * sum(wells.n_off > 0 for wells in written[0]) <= len(keys):
        for wells_of in written:
            usual = _usual(wells_of, plate)
            if usual is not None:
                break
    chosen = written[-1] if usual is None else wells_of
    found, unlike = [], []
    for key, wells in zip(keys, chosen, strict=True):
        wrong = _mismatches(wells, usual, IDENTITY.transform, plate)
        if wrong < FEWEST:
            continue
        better = [(_mismatches(wells, usual, one.transform, plate), k) for k, one in enumerate(CORRECTIONS)]
        least, best = min(better)
        if best and least * 4 <= wrong:
            found.append(
                _finding(key, wells, CORRECTIONS[best], plate, wrong=wrong, least=least, sure=usual is not None)
            )
        elif usual is not None and _share_unlike(wells, usual, plate) > HALF:
            unlike.append((key, wells))
    rare = len(unlike) <= len(keys) / 4  # more of them are a design of their own
    return found + [_unlike(key, wells, severity="warning" if rare else "note") for key, wells in unlike]


def _finding(
    key: tuple[str, str],
    wells: _Wells,
    correction: PlacementCorrection,
    plate: Position,
    *,
    wrong: int,
    least: int,
    sure: bool,
) -> Problem:
    apply = correction.transform.apply
    moves = (apply(wells.positions, plate) != wells.positions).any(axis=1)
    first = wells.positions[moves][:1]  # a well on the diagonal stays where rows and columns change places
    before, after = (_said(int(row), int(column)) for row, column in (first[0], apply(first, plate)[0]))
    how = f"{correction.words} in its table ({before} becomes {after}) and index again"
    if correction.from_zero:
        how = f"it counts from 0 ({before} becomes {after}): index again with --well-base 0"
    than = "as on the other plates" if sure else f"on a plate of {plate[0]} x {plate[1]} wells"
    return Problem(
        severity="error" if sure else "warning",
        kind="plate lies wrong",
        what=f"{wrong} wells are not {than}; {least} are not when you {correction.words}",
        experiment=key[0],
        plate=key[1],
        fix=f"Look at the plate. If so, {how}.",
        count=len(wells.positions),
    )


def _unlike(key: tuple[str, str], wells: _Wells, *, severity: Severity) -> Problem:
    return Problem(
        severity=severity,
        kind="plate unlike the others",
        what="most of its wells are not as on the other plates, and no turning or shifting makes them so",
        experiment=key[0],
        plate=key[1],
        fix="Nothing if its layout is its own; else look whether its table is another plate's, or mirrored.",
        count=len(wells.positions),
    )


def _share_unlike(wells: _Wells, usual: np.ndarray, plate: Position) -> float:
    """Return the share of a plate's wells that differ from what is usual there."""
    on = _on(wells.positions, plate)
    expected, held = usual[tuple(wells.positions[on].T)], wells.held[on]
    settled = (expected != _UNSETTLED) & (expected != _ABSENT) & (held != _ANY)
    return float((held != expected)[settled].mean()) if settled.sum() >= FEWEST else 0.0


def _plate_meant(screen: Screen) -> Position:
    """Return the size that most plates have, where no option gives it.

    A transposed plate has wells that need a larger one.
    """
    size = screen.card.plate_rows, screen.card.plate_columns
    assumed = (screen.problems["kind"] == "larger plate assumed").any()
    if screen.card.provenance.get("options", {}).get("plate") or not (assumed or size == (16, 24)):
        return size
    ends = screen.sites.groupby(list(PLATE_COLUMNS))[["row", "column"]].max().to_numpy()
    share = (ends < SMALLER[0]).all(axis=1).mean()
    return SMALLER[0] if 0.5 <= share < 1 else (16, 24)


def _written_wells(screen: Screen, plate: Position) -> tuple[list[tuple[str, str]], list[list[_Wells]]]:
    """Return the plates, and their wells by perturbation, by role and by presence."""
    wells = screen.sites.drop_duplicates([*PLATE_COLUMNS, "row", "column"])
    positions = wells[["row", "column"]].to_numpy(dtype=int)
    held = [np.unique(wells[name].astype(str).to_numpy(dtype=object), return_inverse=True)[1] + 1
            for name in ("perturbation", "role")]  # fmt: skip
    held.append(np.ones(len(wells), dtype=int))
    off: dict[tuple[str, str], list[Position]] = defaultdict(list)
    for row in screen.problems[screen.problems["kind"].isin(("well off the plate", "bad well"))].to_dict("records"):
        position = _position(str(row["well"]))
        if position is not None:
            off[str(row["experiment"]), str(row["plate"])].append(position)
    rows_of: dict[tuple[str, str], list[int]] = defaultdict(list)
    for k, place in enumerate(zip(wells["experiment"].astype(str), wells["plate"].astype(str), strict=True)):
        rows_of[place].append(k)
    keys = list(dict.fromkeys([*rows_of, *off]))
    written = []
    for codes in held:
        of_plates = []
        for key in keys:
            rows = np.array(rows_of.get(key, []), dtype=int)
            beyond = np.array(off.get(key, []), dtype=int).reshape(-1, 2)
            everything = np.concatenate([positions[rows], beyond])
            of_plates.append(
                _Wells(
                    positions=everything,
                    held=np.concatenate([codes[rows], np.full(len(beyond), _ANY)]),
                    n_off=int((~_on(everything, plate)).sum()),
                )
            )
        written.append(of_plates)
    return keys, written


def _usual(wells_of: Sequence[_Wells], plate: Position) -> np.ndarray | None:
    """Return what most plates hold at each position; None where they disagree."""
    if len(wells_of) < 3:
        return None
    held = np.full((len(wells_of), *plate), _ABSENT)
    for k, wells in enumerate(wells_of):
        on = _on(wells.positions, plate)
        held[(k, *wells.positions[on].T)] = wells.held[on]
    middle = np.sort(held, axis=0)[len(held) // 2]  # what a majority holds is in the middle of all
    usual = np.where(2 * (held == middle).sum(axis=0) > len(held), middle, _UNSETTLED)
    agreeing = [np.mean(own[own != _ABSENT] == usual[own != _ABSENT]) for own in held if (own != _ABSENT).any()]
    return usual if agreeing and float(np.median(agreeing)) >= AGREE else None


def _mismatches(wells: _Wells, usual: np.ndarray | None, transform: PlateTransform, plate: Position) -> int:
    moved = transform.apply(wells.positions, plate)
    on = _on(moved, plate)
    n_off = int((~on).sum())
    if usual is None:
        return n_off
    own = np.full(plate, _ABSENT)
    own[tuple(moved[on].T)] = wells.held[on]
    wild = (own == _ANY) & (usual != _ABSENT)
    return n_off + int(((own != usual) & (usual != _UNSETTLED) & ~wild).sum())


def _on(positions: np.ndarray, plate: Position) -> np.ndarray:
    return np.asarray(((positions >= 0) & (positions < np.array(plate))).all(axis=1))


def _position(name: str) -> Position | None:
    spelling = spelling_of(name)  # also `A00` and `r00c00`: somebody counts from zero
    if spelling is None or spelling.form not in ("letters", "row_column"):
        return None
    return row_of(spelling.letters) if spelling.letters else spelling.row - 1, spelling.column - 1


def _said(row: int, column: int) -> str:
    # A row or column before the first has no name of its own: `A00` and `r00c01` are what the table says.
    if row < 0:
        return f"r{row + 1:02d}c{column + 1:02d}"
    return well_name(row, column) if column >= 0 else f"{well_name(row, 0)[:-2]}{column + 1:02d}"
