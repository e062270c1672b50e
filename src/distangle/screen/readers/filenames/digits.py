"""Find files that the literal digits of a pattern exclude, such as other planes."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distangle.errors import ScreenError
from distangle.screen.readers.filenames.instrument_patterns import KNOWN
from distangle.screen.readers.filenames.pattern import Pattern, parse_pattern
from distangle.screen.roles import natural_sort_key

_INSTRUMENT_PATTERNS = frozenset(text for texts in KNOWN.values() for text in texts)
_BRACED = re.compile(r"(\{[^{}]*\})")
_DIGITS = re.compile(r"[0-9]+")
_FIELD_PREFIX = "digits_"
_AXIS_PREFIX = re.compile(
    r"(?:^|[^a-z])(?P<word>z|t|sk|plane|time|time[ _-]?point|tp|z[ _-]?step|cycle|cyc|round)[ _-]?$|[0-9}]p$",
    re.IGNORECASE,
)
"""Text before the digits of a plane, time or cycle."""
_UNNAMED_FIELD = re.compile(r"\{(?::[0-9]+)?\}")
_AXIS_WORD = re.compile(
    r"(?:^|[^a-z])(?:(?P<plane>z|plane|z[ _-]?step)|(?P<time>t|sk|tp|time|time[ _-]?point)|(?P<cycle>cycle|cyc|round))"
    r"[ _-]?$",
    re.IGNORECASE,
)
_PLANE_PREFIX = re.compile(r"(?:^|[^a-z])(?:z|plane|z[ _-]?step)[ _-]?$|[0-9}]p$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class UnmatchedFile:
    """A file that matches a pattern except for literal digits.

    Attributes:
        path: Relative to the source.
        fields: Fields of the file name.
        digits: The digits that differ from the pattern, with the letters before them, such as `Z01`.
        is_plane_or_time: The digits are those of a plane, time or cycle.
        planes: The plane of the pattern and that of the file, if only the plane differs.
    """

    path: str
    fields: dict[str, str]
    digits: str
    is_plane_or_time: bool
    planes: tuple[str, ...] = ()


def unmatched_files(pattern: Pattern, paths: Iterable[str]) -> list[UnmatchedFile]:
    """Return the files that differ from a pattern only in literal digits.

    Args:
        pattern: A pattern that does not match the files.
        paths: Paths of files, relative to the source.
    """
    if pattern.text in _INSTRUMENT_PATTERNS:
        return []
    free_text, literals = _free_digits(pattern.text)
    if not literals:
        return []
    free_pattern = parse_pattern(free_text)
    unmatched: list[UnmatchedFile] = []
    for path in paths:
        fields = free_pattern.read(path)
        if fields is None:
            continue
        digits = [fields.pop(f"{_FIELD_PREFIX}{k}") for k in range(len(literals))]
        differing = [k for k, (prefix, literal) in enumerate(literals) if digits[k] != literal]
        if differing and all(value.isascii() and value.isdigit() for value in digits):
            description = " ".join(f"{_last_word(literals[k][0])}{digits[k]}" for k in differing)
            is_plane_or_time = all(_AXIS_PREFIX.search(literals[k][0]) for k in differing)
            is_plane = len(differing) == 1 and _PLANE_PREFIX.search(literals[differing[0]][0])
            planes = (
                tuple(str(int(plane)) for plane in (literals[differing[0]][1], digits[differing[0]]))
                if is_plane
                else ()
            )
            unmatched.append(
                UnmatchedFile(
                    path=path, fields=fields, digits=description, is_plane_or_time=is_plane_or_time, planes=planes
                )
            )
    return unmatched


class UnmatchedPlanes:
    """Read plane, time and cycle from unnamed fields, such as `Z{}`.

    Args:
        pattern: The pattern of the file names.
    """

    def __init__(self, pattern: Pattern) -> None:
        pieces = _BRACED.split(pattern.text)
        self._axes: dict[str, str] = {}
        for k, piece in enumerate(pieces):
            axis = _axis_of_prefix(pieces[k - 1], is_first=k == 1) if _UNNAMED_FIELD.fullmatch(piece) else ""
            if axis and f"{{{axis}" not in pattern.text and axis not in self._axes.values():
                name = f"{_FIELD_PREFIX}{len(self._axes)}"
                self._axes[name] = axis
                pieces[k] = piece.replace("{", f"{{{name}", 1)
        is_instrument = pattern.text in _INSTRUMENT_PATTERNS
        self._pattern = parse_pattern("".join(pieces)) if self._axes and not is_instrument else None

    def read(self, path: str) -> dict[str, str]:
        """Return `plane`, `time` and `cycle`, as far as they are digits."""
        fields = self._pattern.read(path) if self._pattern is not None else None
        values = {axis: (fields or {}).get(name, "") for name, axis in self._axes.items()}
        return {axis: value for axis, value in values.items() if value.isascii() and value.isdigit()}


def refuse_lost_channels(pattern: Pattern, channels: Iterable[str], unmatched: Sequence[UnmatchedFile]) -> None:
    """Refuse a pattern whose literal digits exclude all files of a channel.

    Args:
        pattern: How files are read.
        channels: As written in the files that were read.
        unmatched: The files that were not.

    Raises:
        ScreenError: A channel is in the files left out only.
    """
    present = {_normalize_channel(channel) for channel in channels}
    missing: dict[str, list[UnmatchedFile]] = defaultdict(list)
    for file in unmatched:
        if _normalize_channel(file.fields.get("channel", "")) not in present:
            missing[file.fields["channel"]].append(file)
    if not missing:
        return
    names = sorted(missing, key=natural_sort_key)
    files = missing[names[0]]
    message = (
        f"--pattern {pattern.text!r} excludes the channel {', '.join(map(repr, names))}: {len(files)} files such as "
        f"{files[0].path.rsplit('/', 1)[-1]} have {files[0].digits} where the pattern has digits. "
    )
    present_names = sorted(set(channels), key=natural_sort_key)
    if files[0].planes:
        planes = ",".join(
            [*(f"{name}={files[0].planes[0]}" for name in present_names), f"{names[0]}={files[0].planes[1]}"]
        )
        message += f"Write {{plane}} there and select a plane per channel, --plane {planes}; "
    elif files[0].is_plane_or_time:
        message += "Write {time} or {cycle} there and select with --time or --cycle; "
    else:
        message += "Write {} there; "
    message += f"or name the wanted channels: --channels {','.join(present_names)}."
    raise ScreenError(message)


def _free_digits(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Return a pattern with digits freed, and those digits with the text before."""
    literals: list[tuple[str, str]] = []
    pieces: list[str] = []
    prefix = ""
    for piece in _BRACED.split(text):
        if piece.startswith("{"):
            pieces.append(piece)
            prefix = f"{prefix}}}"
            continue
        start = 0
        for match in _DIGITS.finditer(piece):
            pieces += [piece[start : match.start()], f"{{{_FIELD_PREFIX}{len(literals)}}}"]
            literals.append((prefix + piece[: match.start()], match[0]))
            start = match.end()
        pieces.append(piece[start:])
        prefix += piece
    return "".join(pieces), literals


def _axis_of_prefix(text: str, *, is_first: bool) -> str:
    if text.lower() == "p" and not is_first:
        return "plane"  # of Harmony's f01p01; at the start it is a plate
    match = _AXIS_WORD.search(text)
    if match is None:
        return ""
    return next(axis for axis in ("plane", "time", "cycle") if match[axis])


def _last_word(prefix: str) -> str:
    match = re.search(r"[A-Za-z]+[ _-]?$", prefix)
    return match[0] if match else ""


def _normalize_channel(channel: str) -> str:
    return str(int(channel)) if channel.isascii() and channel.isdigit() else channel.casefold()
