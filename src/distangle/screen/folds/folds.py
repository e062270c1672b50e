"""Folds of a screen: which sites are for training and which are held out."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from distangle.core.io import atomic_write
from distangle.core.random import rng_for
from distangle.core.unicode_names import normalize_name
from distangle.core.untrusted_files import check_type, read_regular_file
from distangle.errors import FoldError, did_you_mean
from distangle.screen.plates import location_name
from distangle.screen.roles import NEGATIVE, natural_sort_key
from distangle.screen.screen import KEY_COLUMNS, WELL_COLUMNS, Screen

TRAIN = "train"
HELD_OUT = "held_out"
UNLABELLED = "unlabelled"
NO_HOLD_OUT = "nothing"  # description of folds that hold nothing out
EXCLUDED = "aside"  # in the screen, predicted like all of it, and neither trained on nor scored

_COLUMNS = (*KEY_COLUMNS, "fold")
_META = b"distangle.folds"
_ABOUT_FILES = re.compile(r"(path|page)_[0-9]+|size|mtime|sha256")


@dataclass(frozen=True, kw_only=True)
class Folds:
    """A division of a screen's sites, as an artefact of its own.

    Attributes:
        table: `experiment, plate, well, site, fold`, in the order of the screen's sites; fold is `train`,
            `held_out`, `unlabelled` or `aside`.
        description: What was held out, such as `replicate=2`.
        forced: It divides plates, or has the same picture on both sides, because the user said so.
        notes: What a forced division does wrong; stamped on every figure.
        unlabelled: Whose labels are hidden, such as `experiment=HUVEC-03`; "" for nobody's.
    """

    table: pd.DataFrame
    description: str
    forced: bool = False
    notes: tuple[str, ...] = ()
    unlabelled: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the table and its description: equal for equal folds."""
        said = {"rows": self.table.astype(str).to_numpy().tolist(), **self._said}
        return hashlib.sha256(json.dumps(said, ensure_ascii=True).encode()).hexdigest()

    @property
    def _said(self) -> dict[str, object]:
        said: dict[str, object] = {"description": self.description, "forced": self.forced, "notes": list(self.notes)}
        return said | ({"unlabelled": self.unlabelled} if self.unlabelled else {})

    def of(self, screen: Screen) -> np.ndarray:
        """Return the fold of each site of a screen, as text [site].

        Args:
            screen: The screen they were made of, or any part of it, in any order.

        Raises:
            FoldError: The screen has a site that these folds do not know.
        """
        fold_of = dict(zip(_keys(self.table), self.table["fold"], strict=True))
        keys = _keys(screen.sites)
        unknown = [key for key in keys if key not in fold_of]
        if unknown:
            raise FoldError(
                f"{len(unknown)} of {len(keys)} sites are in no fold, the first {location_name(*unknown[0])}. "
                "The screen was indexed again after the folds were made: make them anew."
            )
        return np.array([fold_of[key] for key in keys], dtype=object).astype(str)

    def write(self, path: Path) -> Path:
        """Write as Parquet with the description and the hash in it; return the path."""
        table = pa.Table.from_pandas(self.table, preserve_index=False)
        said = {**self._said, "sha256": self.sha256}
        meta = {**(table.schema.metadata or {}), _META: json.dumps(said).encode()}
        with atomic_write(path) as temporary:
            pq.write_table(table.replace_schema_metadata(meta), temporary)
        return path

    @classmethod
    def read(cls, path: Path) -> "Folds":
        """Read what `write` wrote.

        Raises:
            FoldError: It is no such file, or was changed since.
        """
        if not path.is_file():
            raise FoldError(f"No folds at {path}. `distangle folds` and `distangle train` write them.")
        fix = "Restore it from a copy, or make the folds anew: `distangle folds SCREEN --out FILE`."
        with read_regular_file(path, fix=fix, error=FoldError):
            read = pq.read_table(path)
        meta = (read.schema.metadata or {}).get(_META)
        if meta is None or not set(_COLUMNS) <= set(read.column_names):
            raise FoldError(f"{path} holds no folds: expected the columns {', '.join(_COLUMNS)} and their description.")
        with read_regular_file(path, fix=fix, error=FoldError):
            said = json.loads(meta)
            folds = cls(
                table=read.to_pandas()[list(_COLUMNS)],
                description=check_type(said["description"], str, name="description"),
                forced=check_type(said["forced"], bool, name="forced"),
                notes=tuple(said["notes"]),
                unlabelled=said.get("unlabelled", ""),
            )
            if folds.sha256 != said["sha256"]:
                raise FoldError(
                    f"{path} was changed: its rows do not match their hash {said['sha256'][:12]}. Make the folds anew."
                )
        return folds


def fold_columns(screen: Screen) -> list[str]:
    """Return the columns that may define folds or labels: all but those on files."""
    return [name for name in screen.sites.columns if not _ABOUT_FILES.fullmatch(name)]


def hold_out(screen: Screen, *, column: str = "experiment", values: Sequence[str], force: bool = False) -> Folds:
    """Hold out the sites whose `column` has one of the values; train on all others.

    Sites of one plate share its staining, its layout and often its cells: a plate on both sides makes any
    score look better than it is, so a division of plates is refused.

    Args:
        screen: The screen to divide.
        column: `experiment`, `plate`, `cell_type`, or a column of the table such as `replicate`.
        values: What is held out.
        force: Divide all the same; the folds then carry what is wrong with them.

    Raises:
        FoldError: No such column or value, an empty fold, sites without a value, a divided plate, or the same
            picture on both sides.
    """
    groups, wanted = match_values(screen, column, values, to="hold out")
    description = f"{column}={','.join(wanted)}"
    notes = []
    n_missing = int((groups == "").sum())
    if n_missing and not force:
        raise FoldError(
            f"Refused to hold out {description}: {n_missing} of {len(groups)} sites have no {column}, so their fold is "
            f"unknown. Expected a value for every site. Fill in the {column} of these sites and index again, or hold "
            "out by a column without missing values. Or say --force-split: it is stamped on every figure then."
        )
    if n_missing:
        notes.append(f"{n_missing} sites have no {column}: which fold they belong to is not known")
    return build_folds(screen, groups.isin(wanted).to_numpy(), description, notes=notes, force=force)


def hold_nothing_out(screen: Screen) -> Folds:
    """Train on every site; nothing can be scored then."""
    table = screen.sites[list(KEY_COLUMNS)].reset_index(drop=True)
    table["fold"] = pd.Series([TRAIN] * len(table), dtype="str")
    return Folds(table=table, description=NO_HOLD_OUT)


def match_values(screen: Screen, column: str, values: Sequence[str], *, to: str) -> tuple[pd.Series, list[str]]:
    """Return a column of the sites, and the values asked for in their natural order.

    Args:
        screen: The screen.
        column: One of `fold_columns`.
        values: Each of them is somewhere in the column.
        to: What is to be done by it, for the messages: `hold out`, `hide labels`.

    Raises:
        FoldError: No such column or value, or no value at all.
    """
    columns = fold_columns(screen)
    if column not in columns:
        raise FoldError(f"No column {column!r} to {to} by. {did_you_mean(column, columns)}")
    groups = screen.sites[column].astype(str)
    there = sorted({value for value in groups if value}, key=natural_sort_key)
    wanted = sorted({value if value in there else normalize_name(value) for value in values}, key=natural_sort_key)
    if not wanted:
        raise FoldError(f"Nothing to {to}: name values of {column!r}: {', '.join(there[:40])}.")
    for value in wanted:
        if value not in there:
            raise FoldError(f"No site has {column}={value!r}. {did_you_mean(value, there)}")
    return groups, wanted


def folds_by_experiment(screen: Screen, *, n_folds: int, fold: int, seed: int, force: bool = False) -> Folds:
    """Hold out one of `n_folds` sets of experiments, balanced by cell type.

    Args:
        screen: The screen to divide.
        n_folds: How many sets; every experiment is held out in exactly one of them.
        fold: Which set, from 0.
        seed: Another seed deals the experiments out in another way.
        force: As in `hold_out`.

    Raises:
        FoldError: Fewer experiments than sets, no such set, or the same picture on both sides.
    """
    sites = screen.sites
    experiments = sorted(set(sites["experiment"]), key=natural_sort_key)
    if not (2 <= n_folds <= len(experiments)):
        message = (
            f"{n_folds} folds of {len(experiments)} experiments ({', '.join(experiments[:20])}): expected from 2 to "
            "as many folds as experiments."
        )
        message += (
            " With a single experiment hold out plates: `--hold-out plate=NAME`." if len(experiments) == 1 else ""
        )
        raise FoldError(message)
    if not (0 <= fold < n_folds):
        raise FoldError(f"No fold {fold} of {n_folds}: they count from 0 to {n_folds - 1}.")
    cell_type_of = sites.groupby("experiment")["cell_type"].min().to_dict()
    by_type: dict[str, list[str]] = defaultdict(list)
    for experiment in experiments:
        by_type[cell_type_of[experiment]].append(experiment)
    dealt: list[str] = []
    for cell_type in sorted(by_type):
        order = rng_for(seed, "folds by experiment", cell_type).permutation(len(by_type[cell_type]))
        dealt += [by_type[cell_type][k] for k in order]
    held = sorted(dealt[fold::n_folds], key=natural_sort_key)
    description = f"experiment={','.join(held)} (fold {fold} of {n_folds}, seed {seed})"
    return build_folds(screen, sites["experiment"].isin(held).to_numpy(), description, notes=[], force=force)


def build_folds(
    screen: Screen,
    held: np.ndarray,
    description: str,
    *,
    notes: Sequence[str] = (),
    force: bool = False,
    aside: np.ndarray | None = None,
) -> Folds:
    """Make folds; refuse sides that share a plate, a well or an image.

    Args:
        screen: The screen to divide.
        held: Whether each site is held out, bool [site].
        description: What is held out, in words.
        notes: What is wrong with it already.
        force: As in `hold_out`.
        aside: Sites on neither side, bool [site]; None for none.

    Raises:
        FoldError: As in `hold_out`.
    """
    used = np.ones(len(held), dtype=bool) if aside is None else ~aside
    for name, n in (("training", int((used & ~held).sum())), ("held-out", int((used & held).sum()))):
        if n == 0:
            message = f"The {name} fold of {description} is empty: {int(used.sum())} sites are in the other one. "
            message += "Hold out some of the values, not all."
            raise FoldError(message)
    notes = [*notes, *shared_between(screen.sites[used], held[used])]
    if notes and not force:
        raise _too_good(screen, description, notes)
    table = screen.sites[list(KEY_COLUMNS)].reset_index(drop=True)
    table["fold"] = pd.Series(np.where(used, np.where(held, HELD_OUT, TRAIN), EXCLUDED), dtype="str")
    return Folds(table=table, description=description, forced=bool(notes), notes=tuple(notes))


def validate_folds(screen: Screen, folds: Folds, *, force: bool = False) -> Folds:
    """Check folds against a screen: mark what leaks, or refuse them.

    Args:
        screen: Of which they are a division, whoever made it.
        folds: That were read from a file; what was forced when they were made stays forced.
        force: As in `hold_out`.

    Raises:
        FoldError: As in `hold_out`; or the screen has a site that these folds do not know.
    """
    fold = folds.of(screen)
    sides = (TRAIN,) if folds.description == NO_HOLD_OUT else (TRAIN, HELD_OUT)
    empty = [name.replace("_", " ") for name in sides if not (fold == name).any()]
    if empty:
        message = f"No site of this screen is {' or '.join(empty)} by the folds of {folds.description}: they were "
        message += "made of another screen. Make them of this one, `distangle folds`."
        raise FoldError(message)
    used = (fold == TRAIN) | (fold == HELD_OUT)
    notes = [said for said in shared_between(screen.sites[used], fold[used] == HELD_OUT) if said not in folds.notes]
    if not notes:
        return folds
    if not (force or folds.forced):
        raise _too_good(screen, folds.description, notes)
    return replace(folds, forced=True, notes=(*folds.notes, *notes))


def _too_good(screen: Screen, description: str, notes: Sequence[str]) -> FoldError:
    experiments = sorted(set(screen.sites["experiment"]), key=natural_sort_key)
    remedy = f"Hold out {'whole experiments' if len(experiments) > 1 else 'whole plates'} instead"
    if all("byte for byte" in note for note in notes):
        remedy = "Index without the copies, or hold out both"
    return FoldError(
        f"Refused to hold out {description}: {'; '.join(notes)}. A score on such folds is too good. {remedy}, or say "
        "--force-split: it is stamped on every figure then."
    )


def shared_between(sites: pd.DataFrame, held: np.ndarray) -> list[str]:
    """Return what lies on both sides, a sentence each; nothing for honest folds.

    Args:
        sites: Rows of a screen.
        held: Whether each is held out, bool [site].
    """
    return [
        *_divided_plates(sites, held),
        *_divided_wells(sites, held),
        *_divided_controls(sites, held),
        *_same_pictures(sites, held),
    ]


def _divided_controls(sites: pd.DataFrame, held: np.ndarray) -> list[str]:
    """Name the experiments whose control wells would correct both sides.

    An estimate from them names the experiment.
    """
    control = sites["role"].isin(NEGATIVE).to_numpy()
    wells = sites.loc[control, list(WELL_COLUMNS)].assign(held=held[control])
    both = wells.groupby(list(WELL_COLUMNS))["held"].nunique()
    names = sorted({str(key[0]) for key in both.index[both > 1]}, key=natural_sort_key)
    if not names:
        return []
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [f"controls of {listed} would be used on both sides"]


def _divided_wells(sites: pd.DataFrame, held: np.ndarray) -> list[str]:
    sides: dict[tuple[str, str, str], set[bool]] = defaultdict(set)
    for *well, side in zip(sites["experiment"], sites["plate"], sites["well"], held.tolist(), strict=True):
        sides[well[0], well[1], well[2]].add(side)
    both = [location_name(*key) for key, side in sides.items() if len(side) > 1]
    if not both:
        return []
    listed = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
    return [f"{len(both)} wells would be on both sides, the same cells in another field ({listed})"]


def _divided_plates(sites: pd.DataFrame, held: np.ndarray) -> list[str]:
    sides: dict[tuple[str, str], set[bool]] = defaultdict(set)
    for experiment, plate, side in zip(sites["experiment"], sites["plate"], held.tolist(), strict=True):
        sides[experiment, plate].add(side)
    build_folds = [location_name(*key) for key, both in sides.items() if len(both) > 1]
    if not build_folds:
        return []
    listed = ", ".join(build_folds[:5]) + (f" and {len(build_folds) - 5} more" if len(build_folds) > 5 else "")
    return [f"{len(build_folds)} of {len(sides)} plates would be on both sides ({listed})"]


def _same_pictures(sites: pd.DataFrame, held: np.ndarray) -> list[str]:
    keys = _keys(sites)
    first: dict[str, int] = {}
    hashes = sites["sha256"].tolist()
    for k in np.flatnonzero(~held):
        first.setdefault(hashes[k], int(k))
    pairs = [(first[hashes[k]], int(k)) for k in np.flatnonzero(held) if hashes[k] and hashes[k] in first]
    if not pairs:
        return []
    said = [f"{location_name(*keys[a])} = {location_name(*keys[b])}" for a, b in pairs[:3]]
    more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
    pictures = f"{len(pairs)} picture{'s' * (len(pairs) > 1)}"
    return [f"{pictures} would be on both sides, byte for byte ({'; '.join(said)}{more})"]


def _keys(table: pd.DataFrame) -> list[tuple[str, str, str, int]]:
    return list(zip(*(table[name].tolist() for name in KEY_COLUMNS), strict=True))
