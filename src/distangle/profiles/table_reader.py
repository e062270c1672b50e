"""Read a feature table, CSV or Parquet."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from distangle.core.untrusted_files import read_regular_file
from distangle.errors import ProfileError, brief
from distangle.profiles.run_reader import Source

HEAD = "Metadata_"
FIX = "Write the file again, or leave it out."
_MISSING_WORDS = ["", "nan", "NaN", "NA", "N/A", "null"]


def read_feature_table(path: Path) -> Source:
    """Read the rows of a table; columns without the head `Metadata_` are features.

    A column that holds text or has no name is left out.

    Args:
        path: A file that ends in .csv, .csv.gz or .parquet.

    Raises:
        ProfileError: The file is damaged, of another type, without columns, or two columns have one name.
    """
    with read_regular_file(path, fix=FIX, error=ProfileError):
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            frame.columns = frame.columns.map(str)
            _check_columns(list(frame.columns), path)
        elif path.name.endswith((".csv", ".csv.gz")):
            frame = _read_csv(path)
        else:
            raise ProfileError(
                f"{path.name} has an unknown ending. Expected .csv, .parquet, .npz or .h5ad. Convert it."
            )
    columns = [str(name) for name in frame.columns]
    unnamed = [name for name in columns if re.fullmatch(r"\s*|Unnamed: \d+|__index_level_\d+__", name)]
    table = frame[[name for name in columns if name.startswith(HEAD)]]
    rest = frame.drop(columns=[*table.columns, *unnamed])
    features = rest.select_dtypes(include="number")
    source = Source(table=table, features=features, labels=[f"{path.name} row {n + 1}" for n in range(len(frame))])
    source.left_out += [(name or "column without a name", "it has no name") for name in unnamed]
    source.left_out += [(name, _text_reason(rest[name])) for name in map(str, rest) if name not in features]
    return source


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        first = pd.read_csv(path, nrows=1, header=None, dtype=str, keep_default_na=False)
        _check_columns([str(name) for name in first.iloc[0]], path)
        names = list(pd.read_csv(path, nrows=0).columns)
        types: Any = {name: str for name in names if name.startswith(HEAD)}
        others = {name: _MISSING_WORDS for name in names if not name.startswith(HEAD)}
        frame = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=others, low_memory=False)
    except pd.errors.EmptyDataError as cause:
        raise ProfileError(f"{path} is empty. Expected a line of column names, then rows. {FIX}") from cause
    except pd.errors.ParserError as cause:
        counts = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(cause))
        if counts is None:
            raise
        raise ProfileError(
            f"Line {counts[2]} of {path} has {counts[3]} cells. Expected {counts[1]}, as in the line of column names. "
            "Correct the line: a name with a comma needs quotes."
        ) from cause
    if not isinstance(frame.index, pd.RangeIndex):
        raise ProfileError(
            f"The rows of {path} have more cells than its line of column names, {len(names)}. Expected equal numbers. "
            "Name every column."
        )
    frame.columns = frame.columns.map(str)
    return frame


def _check_columns(names: Sequence[str], path: Path) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1 and name.strip()]
    if twice:
        kind = "columns" if any(name.startswith(HEAD) for name in twice) else "features"
        raise ProfileError(
            f"{path} has two {kind} of one name: {', '.join(map(brief, twice[:10]))}"
            f"{f' and {len(twice) - 10} more' if len(twice) > 10 else ''}. Expected names once. Rename them."
        )
    if len(names) == 1 and re.search(r"[;\t]", names[0]):
        raise ProfileError(
            f"{path} has one column, {brief(names[0])!r}. Expected columns with commas between them. Write it with "
            "commas."
        )


def _text_reason(values: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(values):
        return "it holds true and false"
    texts = values.astype(object).where(values.notna(), "").map(str)
    is_text = (pd.to_numeric(texts, errors="coerce").isna() & (texts != "")).to_numpy()
    if not is_text.any():
        return f"it holds {values.dtype}, not numbers"
    row = int(is_text.argmax())
    example = brief(texts.iloc[row], max_length=30)
    return f"it holds text in {int(is_text.sum())} rows, such as {example!r} in row {row + 1}"
