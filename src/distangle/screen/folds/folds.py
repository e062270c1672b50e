"""Make, validate, read and write folds: training and held-out sites."""

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
from distangle.screen.screen import KEY_COLUMNS, PLATE_COLUMNS, WELL_COLUMNS, Screen

TRAIN = "train"
HELD_OUT = "held_out"
UNLABELLED = "unlabelled"
NO_HOLD_OUT = "nothing"  # description of folds without held-out sites
EXCLUDED = "aside"  # sites that are predicted, but neither trained on nor scored

_COLUMNS = (*KEY_COLUMNS, "fold")
_METADATA_KEY = b"distangle.folds"
_FILE_COLUMN = re.compile(r"(path|page)_[0-9]+|size|mtime|sha256")


@dataclass(frozen=True, kw_only=True)
class Folds:
    """The fold of every site of a screen.

    Attributes:
        table: `experiment, plate, well, site, fold`, in the order of the screen's sites; fold is `train`,
            `held_out`, `unlabelled` or `aside`.
        description: What is held out, such as `replicate=2`.
        forced: Whether the user forced folds that split plates or share images.
        notes: Leaks of forced folds; stamped on every figure.
        unlabelled: Sites with hidden labels, such as `experiment=HUVEC-03`; "" for none.
    """

    table: pd.DataFrame
    description: str
    forced: bool = False
    notes: tuple[str, ...] = ()
    unlabelled: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the table and its description: equal for equal folds."""
        content = {"rows": self.table.astype(str).to_numpy().tolist(), **self._metadata}
        return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()

    @property
    def _metadata(self) -> dict[str, object]:
        content: dict[str, object] = {"description": self.description, "forced": self.forced, "notes": list(self.notes)}
        return content | ({"unlabelled": self.unlabelled} if self.unlabelled else {})

    def of(self, screen: Screen) -> np.ndarray:
        """Return the fold of each site of a screen, as text [site].

        Args:
            screen: The screen of the folds or a part of it, in any order.

        Raises:
            FoldError: The folds lack a site of the screen.
        """
        fold = self.table["fold"].to_numpy(dtype=object)
        if _have_equal_keys(self.table, screen.sites):
            return fold.astype(str)
        last = ~self.table.duplicated(list(KEY_COLUMNS), keep="last").to_numpy()
        keys = pd.MultiIndex.from_frame(self.table.loc[last, list(KEY_COLUMNS)])
        positions = keys.get_indexer(pd.MultiIndex.from_frame(screen.sites[list(KEY_COLUMNS)]))
        unknown = np.flatnonzero(positions < 0)
        if len(unknown):
            first = _location(screen.sites, int(unknown[0]))
            raise FoldError(
                f"{len(unknown)} of {len(positions)} sites are in no fold, the first {first}. "
                "The screen was indexed again after the folds were made: make new folds."
            )
        return np.asarray(fold[last][positions].astype(str))

    def write(self, path: Path) -> Path:
        """Write as Parquet with description and hash; return the path."""
        table = pa.Table.from_pandas(self.table, preserve_index=False)
        metadata = {**self._metadata, "sha256": self.sha256}
        schema_metadata = {**(table.schema.metadata or {}), _METADATA_KEY: json.dumps(metadata).encode()}
        with atomic_write(path) as temporary:
            pq.write_table(table.replace_schema_metadata(schema_metadata), temporary)
        return path

    @classmethod
    def read(cls, path: Path) -> "Folds":
        """Read what `write` wrote.

        Raises:
            FoldError: It is not a file of folds, or was changed.
        """
        if not path.is_file():
            raise FoldError(f"No folds at {path}. `distangle folds` and `distangle train` write them.")
        fix = "Restore it from a copy, or make new folds: `distangle folds SCREEN --out FILE`."
        with read_regular_file(path, fix=fix, error=FoldError):
            parquet = pq.read_table(path)
        schema_metadata = (parquet.schema.metadata or {}).get(_METADATA_KEY)
        if schema_metadata is None or not set(_COLUMNS) <= set(parquet.column_names):
            raise FoldError(
                f"{path} is not a file of folds: expected the columns {', '.join(_COLUMNS)} and their description."
            )
        with read_regular_file(path, fix=fix, error=FoldError):
            metadata = json.loads(schema_metadata)
            folds = cls(
                table=parquet.to_pandas()[list(_COLUMNS)],
                description=check_type(metadata["description"], str, name="description"),
                forced=check_type(metadata["forced"], bool, name="forced"),
                notes=tuple(metadata["notes"]),
                unlabelled=metadata.get("unlabelled", ""),
            )
            if folds.sha256 != metadata["sha256"]:
                raise FoldError(
                    f"{path} was changed: its rows do not match their hash {metadata['sha256'][:12]}. Make new folds."
                )
        return folds


def fold_columns(screen: Screen) -> list[str]:
    """Return the columns that may define folds or labels: all except file columns."""
    return [name for name in screen.sites.columns if not _FILE_COLUMN.fullmatch(name)]


def hold_out(screen: Screen, *, column: str = "experiment", values: Sequence[str], force: bool = False) -> Folds:
    """Hold out the sites whose `column` has one of the values; train on all others.

    Sites of one plate share staining, layout and often cells: a plate on both sides inflates the score, so folds that
    split plates are refused.

    Args:
        screen: The screen to split.
        column: `experiment`, `plate`, `cell_type`, or a column of the table such as `replicate`.
        values: The values to hold out.
        force: Allow leaks; the folds then list them.

    Raises:
        FoldError: No such column or value, an empty fold, sites without a value, a split plate, or equal images on
            both sides.
    """
    groups, requested = match_values(screen, column, values, to="hold out")
    description = f"{column}={','.join(requested)}"
    notes = []
    n_missing = int((groups == "").sum())
    if n_missing and not force:
        raise FoldError(
            f"Refused to hold out {description}: {n_missing} of {len(groups)} sites have no {column}, so their fold is "
            f"unknown. Expected a value for every site. Fill in the {column} of these sites and index again, or hold "
            "out by a column without missing values. Or add --force-split; every figure is then stamped."
        )
    if n_missing:
        notes.append(f"{n_missing} sites have no {column}: their fold is unknown")
    return build_folds(screen, groups.isin(requested).to_numpy(), description, notes=notes, force=force)


def hold_nothing_out(screen: Screen) -> Folds:
    """Train on every site; then nothing can be scored."""
    table = screen.sites[list(KEY_COLUMNS)].reset_index(drop=True)
    table["fold"] = pd.Series([TRAIN] * len(table), dtype="str")
    return Folds(table=table, description=NO_HOLD_OUT)


def match_values(screen: Screen, column: str, values: Sequence[str], *, to: str) -> tuple[pd.Series, list[str]]:
    """Return a column of the sites, and the requested values in natural order.

    Args:
        screen: The screen.
        column: One of `fold_columns`.
        values: Values that must occur in the column.
        to: The purpose, for the messages: `hold out`, `hide labels`.

    Raises:
        FoldError: No such column or value, or no value at all.
    """
    columns = fold_columns(screen)
    if column not in columns:
        raise FoldError(f"No column {column!r} to {to} by. {did_you_mean(column, columns)}")
    groups = screen.sites[column].astype(str)
    known_values = sorted({str(value) for value in groups.unique() if value}, key=natural_sort_key)
    requested = sorted(
        {value if value in known_values else normalize_name(value) for value in values}, key=natural_sort_key
    )
    if not requested:
        raise FoldError(f"Nothing to {to}: name values of {column!r}: {', '.join(known_values[:40])}.")
    for value in requested:
        if value not in known_values:
            raise FoldError(f"No site has {column}={value!r}. {did_you_mean(value, known_values)}")
    return groups, requested


def folds_by_experiment(screen: Screen, *, n_folds: int, fold: int, seed: int, force: bool = False) -> Folds:
    """Hold out one of `n_folds` sets of experiments, balanced by cell type.

    Args:
        screen: The screen to split.
        n_folds: Number of sets; every experiment is held out in exactly one.
        fold: Index of the set, from 0.
        seed: Seed of the random assignment.
        force: As in `hold_out`.

    Raises:
        FoldError: Fewer experiments than sets, no such set, or equal images on both sides.
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
    ordered: list[str] = []
    for cell_type in sorted(by_type):
        order = rng_for(seed, "folds by experiment", cell_type).permutation(len(by_type[cell_type]))
        ordered += [by_type[cell_type][k] for k in order]
    held_out = sorted(ordered[fold::n_folds], key=natural_sort_key)
    description = f"experiment={','.join(held_out)} (fold {fold} of {n_folds}, seed {seed})"
    return build_folds(screen, sites["experiment"].isin(held_out).to_numpy(), description, notes=[], force=force)


def build_folds(
    screen: Screen,
    is_held_out: np.ndarray,
    description: str,
    *,
    notes: Sequence[str] = (),
    force: bool = False,
    is_excluded: np.ndarray | None = None,
) -> Folds:
    """Make folds; refuse sides that share a plate, a well or an image.

    Args:
        screen: The screen to split.
        is_held_out: Whether each site is held out, bool [site].
        description: Description of what is held out.
        notes: Leaks that are already known.
        force: As in `hold_out`.
        is_excluded: Sites on neither side, bool [site]; None for none.

    Raises:
        FoldError: As in `hold_out`.
    """
    used = np.ones(len(is_held_out), dtype=bool) if is_excluded is None else ~is_excluded
    for name, n in (("training", int((used & ~is_held_out).sum())), ("held-out", int((used & is_held_out).sum()))):
        if n == 0:
            message = f"The {name} fold of {description} is empty: {int(used.sum())} sites are in the other one. "
            message += "Hold out some of the values, not all."
            raise FoldError(message)
    notes = [*notes, *find_overlaps(screen.sites[used], is_held_out[used])]
    if notes and not force:
        raise _leakage_error(screen, description, notes)
    table = screen.sites[list(KEY_COLUMNS)].reset_index(drop=True)
    table["fold"] = pd.Series(np.where(used, np.where(is_held_out, HELD_OUT, TRAIN), EXCLUDED), dtype="str")
    return Folds(table=table, description=description, forced=bool(notes), notes=tuple(notes))


def validate_folds(screen: Screen, folds: Folds, *, force: bool = False) -> Folds:
    """Check folds against a screen: note leaks, or refuse them.

    Args:
        screen: The screen of the folds.
        folds: Folds read from a file; forced folds stay forced.
        force: As in `hold_out`.

    Raises:
        FoldError: As in `hold_out`; or the folds lack a site of the screen.
    """
    fold = folds.of(screen)
    sides = (TRAIN,) if folds.description == NO_HOLD_OUT else (TRAIN, HELD_OUT)
    empty = [name.replace("_", " ") for name in sides if not (fold == name).any()]
    if empty:
        message = f"No site of this screen is {' or '.join(empty)} by the folds of {folds.description}: they were "
        message += "made of another screen. Make folds of this one: `distangle folds`."
        raise FoldError(message)
    used = (fold == TRAIN) | (fold == HELD_OUT)
    notes = [
        overlap for overlap in find_overlaps(screen.sites[used], fold[used] == HELD_OUT) if overlap not in folds.notes
    ]
    if not notes:
        return folds
    if not (force or folds.forced):
        raise _leakage_error(screen, folds.description, notes)
    return replace(folds, forced=True, notes=(*folds.notes, *notes))


def _leakage_error(screen: Screen, description: str, notes: Sequence[str]) -> FoldError:
    experiments = sorted(set(screen.sites["experiment"]), key=natural_sort_key)
    remedy = f"Hold out {'whole experiments' if len(experiments) > 1 else 'whole plates'} instead"
    if all("byte for byte" in note for note in notes):
        remedy = "Index without the copies, or hold out both"
    return FoldError(
        f"Refused to hold out {description}: {'; '.join(notes)}. A score on such folds is inflated. {remedy}, or add "
        "--force-split; every figure is then stamped."
    )


def find_overlaps(sites: pd.DataFrame, is_held_out: np.ndarray) -> list[str]:
    """Return a sentence for every overlap of both sides; none for valid folds.

    Args:
        sites: Rows of a screen.
        is_held_out: Whether each is held out, bool [site].
    """
    return [
        *_split_plates(sites, is_held_out),
        *_split_wells(sites, is_held_out),
        *_split_controls(sites, is_held_out),
        *_shared_images(sites, is_held_out),
    ]


def _split_controls(sites: pd.DataFrame, is_held_out: np.ndarray) -> list[str]:
    """Return a sentence on experiments whose control wells are on both sides.

    An estimate from shared controls identifies the experiment.
    """
    control = sites["role"].isin(NEGATIVE).to_numpy()
    wells = sites.loc[control, list(WELL_COLUMNS)].assign(held=is_held_out[control])
    n_sides = wells.groupby(list(WELL_COLUMNS))["held"].nunique()
    names = sorted({str(key[0]) for key in n_sides.index[n_sides > 1]}, key=natural_sort_key)
    if not names:
        return []
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [f"controls of {listed} would be used on both sides"]


def _split_wells(sites: pd.DataFrame, is_held_out: np.ndarray) -> list[str]:
    keys, _ = _keys_on_both_sides(sites, is_held_out, WELL_COLUMNS)
    split_wells = [location_name(*key) for key in keys]
    if not split_wells:
        return []
    listed = ", ".join(split_wells[:3]) + (f" and {len(split_wells) - 3} more" if len(split_wells) > 3 else "")
    return [f"{len(split_wells)} wells would be on both sides, the same cells in another field ({listed})"]


def _split_plates(sites: pd.DataFrame, is_held_out: np.ndarray) -> list[str]:
    keys, n_plates = _keys_on_both_sides(sites, is_held_out, PLATE_COLUMNS)
    split_plates = [location_name(*key) for key in keys]
    if not split_plates:
        return []
    listed = ", ".join(split_plates[:5]) + (f" and {len(split_plates) - 5} more" if len(split_plates) > 5 else "")
    return [f"{len(split_plates)} of {n_plates} plates would be on both sides ({listed})"]


def _keys_on_both_sides(
    sites: pd.DataFrame, is_held_out: np.ndarray, columns: Sequence[str]
) -> tuple[list[tuple[str, ...]], int]:
    """Return the keys with sites on both sides, in table order, and the number of keys."""
    code = sites.groupby([sites[name] for name in columns], sort=False, dropna=False).ngroup().to_numpy()
    n, n_held_out = np.bincount(code), np.bincount(code, weights=is_held_out)
    split = sites.iloc[np.unique(code, return_index=True)[1][(n_held_out > 0) & (n_held_out < n)]]
    return list(zip(*(split[name].tolist() for name in columns), strict=True)), len(n)


def _shared_images(sites: pd.DataFrame, is_held_out: np.ndarray) -> list[str]:
    hashes = sites["sha256"].to_numpy(dtype=object)
    code = pd.factorize(hashes)[0]
    first_training = np.full(int(code.max(initial=-1)) + 1, -1)
    training = np.flatnonzero(~is_held_out)
    first_training[code[training[::-1]]] = training[::-1]
    held_out = np.flatnonzero(is_held_out)
    copies = held_out[(first_training[code[held_out]] >= 0) & (hashes[held_out] != "")]
    if not len(copies):
        return []
    pairs = [(int(first_training[code[k]]), int(k)) for k in copies[:3]]
    examples = [f"{_location(sites, a)} = {_location(sites, b)}" for a, b in pairs]
    more = f" and {len(copies) - 3} more" if len(copies) > 3 else ""
    pictures = f"{len(copies)} picture{'s' * (len(copies) > 1)}"
    return [f"{pictures} would be on both sides, byte for byte ({'; '.join(examples)}{more})"]


def _location(sites: pd.DataFrame, row: int) -> str:
    return location_name(*(str(sites[name].iat[row]) for name in KEY_COLUMNS))


def _have_equal_keys(table: pd.DataFrame, sites: pd.DataFrame) -> bool:
    """Return whether both tables name the same sites in the same order."""
    return len(table) == len(sites) and all(table[name].array.equals(sites[name].array) for name in KEY_COLUMNS)
