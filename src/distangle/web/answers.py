"""Turn tables and errors into answers of the server."""

import gzip
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from starlette.responses import Response

GZIP_LEVEL = 1  # on one machine, time counts more than bytes


class AnswerError(Exception):
    """A request that gets an error as its answer.

    Attributes:
        status: HTTP status.
        text: What was found and what was expected; no path of this machine.
        next_step: What to do; may be empty.
    """

    def __init__(self, status: int, text: str, next_step: str = "") -> None:
        super().__init__(text)
        self.status, self.text, self.next_step = status, text, next_step


@dataclass(frozen=True)
class JsonBytes:
    """A JSON text that is made once and sent often.

    Attributes:
        plain: The text in UTF-8.
        packed: The same, compressed by gzip.
    """

    plain: bytes
    packed: bytes

    @classmethod
    def of(cls, content: Any) -> "JsonBytes":
        """Return the bytes of a JSON value."""
        plain = to_json(content)
        return cls(plain, gzip.compress(plain, GZIP_LEVEL, mtime=0))

    def response(self, accept: str) -> Response:
        """Return the answer.

        Args:
            accept: The header `Accept-Encoding` of the request.
        """
        headers = {"Vary": "Accept-Encoding"}
        if "gzip" in accept.lower():
            return Response(self.packed, media_type="application/json", headers={**headers, "Content-Encoding": "gzip"})
        return Response(self.plain, media_type="application/json", headers=headers)


def to_json(content: Any) -> bytes:
    """Return JSON in UTF-8 without `<`, so that no browser takes it for a page."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").encode()


def json_response(content: Any, status: int = 200) -> Response:
    """Return a small JSON answer."""
    return Response(to_json(content), status_code=status, media_type="application/json")


def error_response(error: AnswerError) -> Response:
    """Return the answer to a request that failed."""
    return json_response({"error": error.text, "next_step": error.next_step}, error.status)


def columnar(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table as columns of numbers, or of codes with their texts.

    Args:
        table: Columns of numbers, of truth values (0 and 1), or of text ("" and None are empty).
    """
    return {"n": len(table), "columns": {str(name): _column(table[name]) for name in table}}


def number(value: Any) -> float | int | None:
    """Return a number for JSON; None if it is not finite."""
    if value is None or not np.isfinite(value):
        return None
    return int(value) if isinstance(value, int | np.integer) else float(f"{float(value):.7g}")


def cell(value: Any) -> float | int | str | None:
    """Return the value of a cell for JSON."""
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, int | float | np.number):
        return number(value)
    return "" if value is None or value is pd.NA else str(value)


def _column(values: pd.Series) -> dict[str, Any]:
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_integer_dtype(values):
        return {"kind": "number", "values": values.astype("int64").tolist()}
    if pd.api.types.is_numeric_dtype(values):
        return {"kind": "number", "values": _numbers(values.to_numpy(dtype=np.float64, na_value=np.nan))}
    codes, levels = pd.factorize(values)
    names = [str(level) for level in levels]
    if "" in names:
        empty = names.index("")
        codes = np.where(codes == empty, -1, codes - (codes > empty))
        names.pop(empty)
    return {"kind": "text", "levels": names, "codes": codes.tolist()}


def _numbers(values: np.ndarray) -> list[float | None]:
    """Return floats of 7 digits; None where a value is not finite."""
    finite = np.isfinite(values)
    if np.all(values[finite] == np.rint(values[finite])):
        rounded = values
    else:
        # Scaled by a power of ten: a tenth of the time of printing each number.
        largest = np.abs(values[finite]).max()
        decimals = int(np.clip(6 - np.floor(np.log10(largest or 1)), 0, 12))
        small = np.abs(values[finite & (values != 0)]).min() if (finite & (values != 0)).any() else 1
        if small < 10.0 ** (2 - decimals):  # p-values
            return [float(f"{value:.7g}") if np.isfinite(value) else None for value in values.tolist()]
        rounded = np.round(values, decimals)
    texts: list[float | None] = rounded.tolist()
    if finite.all():
        return texts
    return [value if good else None for value, good in zip(texts, finite.tolist(), strict=True)]
