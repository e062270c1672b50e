"""Read files of unknown origin whole and as written, or refuse them."""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from distangle.errors import DistangleError, RunError

MOST_JSON = 256 * 2**20  # bytes; the largest that is written, a planted truth, has a hundredth of it


@contextlib.contextmanager
def read_regular_file(path: Path, *, fix: str, error: type[DistangleError] = RunError) -> Iterator[None]:
    """Turn what a reader raises on a damaged file into one error that names it.

    The words of the reader are not handed on: some of them advise to switch a protection off.

    Args:
        path: The file that is read inside the `with`.
        fix: A sentence with the next step.
        error: Of which kind.

    Raises:
        DistangleError: Of the kind `error`: the file cannot be read. Errors raised on purpose pass.
    """
    try:
        yield
    except DistangleError:
        raise
    except Exception as wrong:  # noqa: BLE001 - every format has a reader with errors of its own
        raise error(f"{path} is damaged: {reason_of(wrong)}. {fix}") from wrong


def read_json(path: Path, *, fix: str, error: type[DistangleError] = RunError) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        fix: A sentence with the next step, for the error.
        error: Of which kind.

    Raises:
        DistangleError: It is no JSON, too long, nested too deeply, or no object.
    """
    with read_regular_file(path, fix=fix, error=error):
        size = path.stat().st_size
        if size > MOST_JSON:
            raise UnexpectedContent(f"it has {size} bytes, at most {MOST_JSON} are read")
        said = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(said, dict):
            raise UnexpectedContent(f"expected names and values, `{{...}}`, found {_a(said)}")
    return said


class UnexpectedContent(ValueError):
    """The content of a file is not of the expected kind; the message may be shown."""


def check_fields(value: Any, kind: type | tuple[type, ...], *, name: str) -> Any:
    """Return a value that was read from a file, or refuse it.

    Args:
        value: What was read.
        kind: What it must be an instance of.
        name: What it is called there.

    Raises:
        Unlike: It is of another kind.
    """
    if not isinstance(value, kind) or (isinstance(value, bool) and bool not in _kinds(kind)):
        words = " or ".join(_NAMES.get(one, one.__name__) for one in _kinds(kind))
        raise UnexpectedContent(f"expected {words} for {name!r}, found {_a(value)}")
    return value


def reason_of(wrong: Exception) -> str:
    """Return in our own words what a reader stumbled over."""
    if isinstance(wrong, UnexpectedContent):
        return str(wrong)
    if isinstance(wrong, json.JSONDecodeError):
        return f"it is no JSON from line {wrong.lineno} on"
    if isinstance(wrong, UnicodeDecodeError):
        return f"byte {wrong.start} is no UTF-8 text"
    if isinstance(wrong, RecursionError):
        return "it is nested too deeply"
    if isinstance(wrong, MemoryError):
        return "it names sizes that no memory holds"
    if isinstance(wrong, KeyError) and wrong.args:
        return f"it lacks {str(wrong.args[0])[:80]!r}"
    if isinstance(wrong, OSError) and wrong.strerror:
        return wrong.strerror.lower()
    if isinstance(wrong, TypeError) and (names := re.findall(r"'(\w+)'", str(wrong))) and "argument" in str(wrong):
        return f"it lacks {', '.join(map(repr, names))}" if "missing" in str(wrong) else f"it has {names[-1]!r} too"
    errors = getattr(wrong, "errors", None)
    if callable(errors):  # pydantic's
        first = errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'it'}: {str(first['msg']).lower()}"
    return f"it is cut short, or was altered ({type(wrong).__name__})"


def links_out(root: Path, names: Iterable[str] | None = None) -> list[Path]:
    """Return links below a folder that lead out of it.

    The folder itself may be a link.

    Args:
        root: The folder.
        names: Look only at these paths inside it and at what lies below them; None for all.
    """
    inside = Path(os.path.realpath(root))
    found: list[Path] = []

    def look(path: Path) -> None:
        if path.is_symlink():
            target = Path(os.path.realpath(path))
            if target != inside and inside not in target.parents:
                found.append(path)
            return
        if path.is_dir():
            with contextlib.suppress(OSError), os.scandir(path) as entries:
                for entry in sorted(entries, key=lambda one: one.name):
                    if entry.is_symlink() or entry.is_dir(follow_symlinks=False):
                        look(Path(entry.path))

    if names is None:
        look(inside)
    else:
        for name in names:
            look(inside / name)
    return [root / path.relative_to(inside) for path in found]


def _kinds(kind: type | tuple[type, ...]) -> tuple[type, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


def _a(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)


_NAMES: dict[type, str] = {
    dict: "names and values",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "nothing",
}
