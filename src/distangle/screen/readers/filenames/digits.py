"""Report files that a pattern's literal digits leave out, such as other planes."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distangle.errors import ScreenError
from distangle.screen.readers.filenames.instrument_patterns import KNOWN
from distangle.screen.readers.filenames.pattern import Pattern, parse_pattern
from distangle.screen.roles import natural_sort_key

_OF_MICROSCOPES = frozenset(way for ways in KNOWN.values() for way in ways)
_BRACES = re.compile(r"(\{[^{}]*\})")
_FIGURES = re.compile(r"[0-9]+")
_NAME = "figures_"
_BEFORE = re.compile(
    r"(?:^|[^a-z])(?P<word>z|t|sk|plane|time|time[ _-]?point|tp|z[ _-]?step|cycle|cyc|round)[ _-]?$|[0-9}]p$",
    re.IGNORECASE,
)
"""What stands before the figures of a moment."""
_BLANK = re.compile(r"\{(?::[0-9]+)?\}")
_LETTER = re.compile(
    r"(?:^|[^a-z])(?:(?P<plane>z|plane|z[ _-]?step)|(?P<time>t|sk|tp|time|time[ _-]?point)|(?P<cycle>cycle|cyc|round))"
    r"[ _-]?$",
    re.IGNORECASE,
)
_BEFORE_PLANE = re.compile(r"(?:^|[^a-z])(?:z|plane|z[ _-]?step)[ _-]?$|[0-9}]p$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class UnmatchedFile:
    """A file that a pattern would read if its figures were others.

    Attributes:
        path: Relative to the source.
        fields: What it says.
        figures: Its own figures where the pattern's are others, with what stands before them, such as `Z01`.
        of_moment: The figures are those of a plane, time or cycle.
        planes: Where they are those of a plane alone, that of the pattern and that of the file.
    """

    path: str
    fields: dict[str, str]
    figures: str
    of_moment: bool
    planes: tuple[str, ...] = ()


def unmatched_files(pattern: Pattern, paths: Iterable[str]) -> list[UnmatchedFile]:
    """Return the files of which only figures that stand in a pattern differ.

    Args:
        pattern: What did not read them.
        paths: Of files, relative to the source.
    """
    if pattern.text in _OF_MICROSCOPES:
        return []
    text, figures = _with_free_figures(pattern.text)
    if not figures:
        return []
    free = parse_pattern(text)
    found: list[UnmatchedFile] = []
    for path in paths:
        fields = free.read(path)
        if fields is None:
            continue
        own = [fields.pop(f"{_NAME}{k}") for k in range(len(figures))]
        differ = [k for k, (before, there) in enumerate(figures) if own[k] != there]
        if differ and all(value.isascii() and value.isdigit() for value in own):
            said = " ".join(f"{_word(figures[k][0])}{own[k]}" for k in differ)
            of_moment = all(_BEFORE.search(figures[k][0]) for k in differ)
            is_plane = len(differ) == 1 and _BEFORE_PLANE.search(figures[differ[0]][0])
            planes = tuple(str(int(text)) for text in (figures[differ[0]][1], own[differ[0]])) if is_plane else ()
            found.append(UnmatchedFile(path=path, fields=fields, figures=said, of_moment=of_moment, planes=planes))
    return found


class UnmatchedPlanes:
    """Read plane, time and cycle where a pattern has `{}`, as in `Z{}`.

    Args:
        pattern: How names are built.
    """

    def __init__(self, pattern: Pattern) -> None:
        pieces = _BRACES.split(pattern.text)
        self._axes: dict[str, str] = {}
        for k, piece in enumerate(pieces):
            axis = _axis_before(pieces[k - 1], is_first=k == 1) if _BLANK.fullmatch(piece) else ""
            if axis and f"{{{axis}" not in pattern.text and axis not in self._axes.values():
                name = f"{_NAME}{len(self._axes)}"
                self._axes[name] = axis
                pieces[k] = piece.replace("{", f"{{{name}", 1)
        is_known = pattern.text in _OF_MICROSCOPES
        self._pattern = parse_pattern("".join(pieces)) if self._axes and not is_known else None

    def read(self, path: str) -> dict[str, str]:
        """Return `plane`, `time` and `cycle`, as far as figures stand there."""
        fields = self._pattern.read(path) if self._pattern is not None else None
        values = {axis: (fields or {}).get(name, "") for name, axis in self._axes.items()}
        return {axis: value for axis, value in values.items() if value.isascii() and value.isdigit()}


def refuse_lost_channels(pattern: Pattern, channels: Iterable[str], lost: Sequence[UnmatchedFile]) -> None:
    """Refuse a pattern whose figures leave out all files of a channel.

    Args:
        pattern: How files are read.
        channels: As written in the files that were read.
        lost: The files that were not.

    Raises:
        ScreenError: A channel is in the files left out only.
    """
    there = {_plain(channel) for channel in channels}
    gone: dict[str, list[UnmatchedFile]] = defaultdict(list)
    for file in lost:
        if _plain(file.fields.get("channel", "")) not in there:
            gone[file.fields["channel"]].append(file)
    if not gone:
        return
    names = sorted(gone, key=natural_sort_key)
    files = gone[names[0]]
    message = (
        f"--pattern {pattern.text!r} leaves out the channel {', '.join(map(repr, names))}: {len(files)} files such as "
        f"{files[0].path.rsplit('/', 1)[-1]} have {files[0].figures} where figures stand in the pattern. "
    )
    wanted = sorted(set(channels), key=natural_sort_key)
    if files[0].planes:
        planes = ",".join([*(f"{name}={files[0].planes[0]}" for name in wanted), f"{names[0]}={files[0].planes[1]}"])
        message += f"Write {{plane}} there and choose a plane per channel, --plane {planes}; "
    elif files[0].of_moment:
        message += "Write {time} or {cycle} there and choose with --time or --cycle; "
    else:
        message += "Write {} there; "
    message += f"or name the channels that are wanted: --channels {','.join(wanted)}."
    raise ScreenError(message)


def _with_free_figures(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Return a pattern with digits freed, and those digits with the text before."""
    figures: list[tuple[str, str]] = []
    pieces: list[str] = []
    before = ""
    for piece in _BRACES.split(text):
        if piece.startswith("{"):
            pieces.append(piece)
            before = f"{before}}}"
            continue
        rest = 0
        for match in _FIGURES.finditer(piece):
            pieces += [piece[rest : match.start()], f"{{{_NAME}{len(figures)}}}"]
            figures.append((before + piece[: match.start()], match[0]))
            rest = match.end()
        pieces.append(piece[rest:])
        before += piece
    return "".join(pieces), figures


def _axis_before(text: str, *, is_first: bool) -> str:
    if text.lower() == "p" and not is_first:
        return "plane"  # of Harmony's f01p01; at the start it is a plate
    match = _LETTER.search(text)
    if match is None:
        return ""
    return next(axis for axis in ("plane", "time", "cycle") if match[axis])


def _word(before: str) -> str:
    match = re.search(r"[A-Za-z]+[ _-]?$", before)
    return match[0] if match else ""


def _plain(channel: str) -> str:
    return str(int(channel)) if channel.isascii() and channel.isdigit() else channel.casefold()
