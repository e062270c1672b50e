"""Join the metadata of a table to profiles by plate and well."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from distangle.core.untrusted_files import read_regular_file
from distangle.errors import ProfileError, brief
from distangle.screen.plates import split_well, well_name

_HEAD = "Metadata_"
_KEYS = ("Metadata_Experiment", "Metadata_Plate", "Metadata_Well")
_FIX = "Write the table again."


def join_metadata(table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, str]:
    """Add the columns of a metadata table to the rows of its plates and wells.

    The keys are those of experiment, plate and well that both tables have, with or without the head `Metadata_`. A
    column that the rows have already is filled where it is empty.

    Args:
        table: Rows of profiles, as text.
        path: CSV or Parquet table.

    Returns:
        The rows with the columns, and a sentence with the numbers of rows that met.

    Raises:
        ProfileError: The metadata have neither plate nor well, two different rows of one key, no row in common with the
            profiles, or another value in a column of the profiles.
    """
    if not path.is_file():
        raise ProfileError(f"{path} is no file. Expected a table of plates and wells. Check the path.")
    with read_regular_file(path, fix=_FIX, error=ProfileError):
        frame = (
            pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str, keep_default_na=False)
        )
    frame = frame.rename(columns=lambda name: name if str(name).startswith(_HEAD) else f"{_HEAD}{name}")
    frame = frame.rename(columns={name: standard for name in frame for standard in [_standard(str(name))] if standard})
    if twice := sorted({str(name) for name in frame.columns[frame.columns.duplicated()]}):
        raise ProfileError(f"{path} has two columns {', '.join(map(brief, twice))}. Expected one. Remove the other.")
    frame = frame.astype(object).where(frame.notna(), "").map(lambda value: str(value).strip()).drop_duplicates()
    keys = [name for name in _KEYS if name in frame and name in table and (table[name] != "").any()]
    if not set(_KEYS[1:]) & set(keys):
        raise ProfileError(
            f"{path} has neither a column Plate nor Well: {', '.join(map(brief, frame.columns[:10]))}. "
            "Expected one of them at least, to find the profiles of a row. Rename the column of the plate or well."
        )
    if _KEYS[2] in keys:
        wells = [split_well(name) for name in frame[_KEYS[2]]]
        pairs = zip(wells, frame[_KEYS[2]], strict=True)
        frame[_KEYS[2]] = [well_name(*well) if well else name for well, name in pairs]
    _check_unique(frame, keys, path)
    index = {key: number for number, key in enumerate(frame[keys].itertuples(index=False, name=None))}
    places = [index.get(key, -1) for key in table[keys].itertuples(index=False, name=None)]
    n_matched = sum(place >= 0 for place in places)
    if not n_matched:
        raise ProfileError(
            f"No profile has a row in {path}: the profiles have {_example(table[keys])}, the metadata "
            f"{_example(frame[keys])}. Expected equal values of {', '.join(keys)}. "
            "Write the names of one of them as the other has them."
        )
    joined = table.copy()
    for name in (name for name in frame if name not in keys):
        values = pd.Series([frame[name].iloc[place] if place >= 0 else "" for place in places], index=table.index)
        joined[name] = values if name not in table else _fill(table[name], values, name=str(name), path=path)
    n_unused = len(frame) - len({place for place in places if place >= 0})
    return joined, (
        f"metadata: {n_matched} of {len(table)} profiles have a row in {path.name}; {n_unused} of its {len(frame)} "
        "rows have no profile."
    )


def _standard(name: str) -> str:
    """Return the standard name of a key column, or "" for other columns."""
    return next((key for key in _KEYS if name.lower() == key.lower()), "")


def _check_unique(frame: pd.DataFrame, keys: Sequence[str], path: Path) -> None:
    twice = frame[frame.duplicated(subset=list(keys), keep=False)]
    if len(twice):
        key = ", ".join(f"{name.removeprefix(_HEAD).lower()} {twice[name].iloc[0]}" for name in keys)
        raise ProfileError(
            f"{path} has {len(twice)} rows that contradict each other, such as two of {key}. Expected one row for each "
            f"value of {', '.join(keys)}. Remove one, or add the column that tells them apart."
        )


def _fill(values: pd.Series, others: pd.Series, *, name: str, path: Path) -> pd.Series:
    clash = (values != "") & (others != "") & (values != others)
    if clash.any():
        raise ProfileError(
            f"{path} gives {int(clash.sum())} profiles another {name}, such as {brief(others[clash].iloc[0])!r} for "
            f"{brief(values[clash].iloc[0])!r}. Expected equal values. Rename the column or correct the table."
        )
    return values.where(values != "", others)


def _example(rows: pd.DataFrame) -> str:
    return " ".join(map(brief, rows.iloc[0])) if len(rows) else "no row"
