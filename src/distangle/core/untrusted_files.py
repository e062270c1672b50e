"""Read files of unknown origin completely and unaltered, or refuse them."""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from distangle.errors import DistangleError, RunError

MAX_JSON_BYTES = 256 * 2**20  # the largest file that distangle writes, a planted truth, has a hundredth of it
_NAMES: dict[type, str] = {
    dict: "names and values",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "nothing",
}


class UnexpectedContent(ValueError):
    """The content of a file has another type than expected; the message may be shown."""


@contextlib.contextmanager
def read_regular_file(path: Path, *, fix: str, error: type[DistangleError] = RunError) -> Iterator[None]:
    """Turn the errors of a reader on a damaged file into one that names the file.

    The reader's own message is dropped: some of them advise switching off a protection.

    Args:
        path: The file that is read inside the `with`.
        fix: A sentence with the next step.
        error: Type of the error.

    Raises:
        DistangleError: Of type `error`: the file cannot be read. A `DistangleError` from inside the `with` passes.
    """
    try:
        yield
    except DistangleError:
        raise
    except Exception as cause:  # noqa: BLE001 - every format has a reader with errors of its own
        raise error(f"{path} is damaged: {reason_of(cause)}. {fix}") from cause


def read_json(path: Path, *, fix: str, error: type[DistangleError] = RunError) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        fix: A sentence with the next step, for error messages.
        error: Type of the error.

    Raises:
        DistangleError: The file is not JSON, too long, nested too deeply, or not an object.
    """
    with read_regular_file(path, fix=fix, error=error):
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise UnexpectedContent(f"it has {size} bytes; the limit is {MAX_JSON_BYTES}")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise UnexpectedContent(f"expected names and values, `{{...}}`, found {_type_name(content)}")
    return content


def check_type(value: Any, kind: type | tuple[type, ...], *, name: str) -> Any:
    """Return a value that was read from a file, or refuse it.

    Args:
        value: The value.
        kind: Type or types that it must have.
        name: Its name in the file.

    Raises:
        UnexpectedContent: It has another type.
    """
    if not isinstance(value, kind) or (isinstance(value, bool) and bool not in _as_tuple(kind)):
        expected = " or ".join(_NAMES.get(type_, type_.__name__) for type_ in _as_tuple(kind))
        raise UnexpectedContent(f"expected {expected} for {name!r}, found {_type_name(value)}")
    return value


def reason_of(cause: Exception) -> str:
    """Return the reason of a reader's error in our own words."""
    if isinstance(cause, UnexpectedContent):
        return str(cause)
    if isinstance(cause, json.JSONDecodeError):
        return f"it is not JSON from line {cause.lineno} on"
    if isinstance(cause, UnicodeDecodeError):
        return f"byte {cause.start} is not UTF-8 text"
    if isinstance(cause, RecursionError):
        return "it is nested too deeply"
    if isinstance(cause, MemoryError):
        return "it claims sizes that do not fit in memory"
    if isinstance(cause, KeyError) and cause.args:
        return f"it lacks {str(cause.args[0])[:80]!r}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    if isinstance(cause, TypeError) and (names := re.findall(r"'(\w+)'", str(cause))) and "argument" in str(cause):
        return f"it lacks {', '.join(map(repr, names))}" if "missing" in str(cause) else f"it has {names[-1]!r} too"
    errors = getattr(cause, "errors", None)
    if callable(errors):  # pydantic's
        first = errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'it'}: {str(first['msg']).lower()}"
    return f"it is truncated or was altered ({type(cause).__name__})"


def links_out(root: Path, names: Iterable[str] | None = None) -> list[Path]:
    """Return links below a folder that lead out of it.

    The folder itself may be a link.

    Args:
        root: The folder.
        names: Visit only these paths inside the folder and what lies below them; None for all.
    """
    inside = Path(os.path.realpath(root))
    links: list[Path] = []

    def visit(path: Path) -> None:
        if path.is_symlink():
            target = Path(os.path.realpath(path))
            if target != inside and inside not in target.parents:
                links.append(path)
            return
        if path.is_dir():
            with contextlib.suppress(OSError), os.scandir(path) as entries:
                for entry in sorted(entries, key=lambda item: item.name):
                    if entry.is_symlink() or entry.is_dir(follow_symlinks=False):
                        visit(Path(entry.path))

    if names is None:
        visit(inside)
    else:
        for name in names:
            visit(inside / name)
    return [root / path.relative_to(inside) for path in links]


def _as_tuple(kind: type | tuple[type, ...]) -> tuple[type, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


def _type_name(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)
