"""Parse patterns of paths, such as `{plate}/{well}_s{site}_w{channel}.tif`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from distangle.errors import ScreenError, did_you_mean
from distangle.screen.readers.filenames.instrument_patterns import CHANNELS, KNOWN, WELL_BASE

# Options of `index` for files with metadata in their names.
FILE_NAME_OPTIONS = frozenset(
    ("pattern", "mapping", "channels", "controls", "planes", "time", "cycle", "acquisition", "well_base", "well_order")
)
FIELDS = (
    *("experiment", "plate", "well", "row", "column", "well_number", "site", "site_x", "site_y"),
    *("channel", "plane", "time", "cell_type"),
)
"""Fields that do not become extra columns."""

_TABLE_COLUMNS = ("perturbation", "role", "split")

_FIELD_REGEX = {
    "well": "[A-Za-z]{1,2}[0-9]{1,4}",
    "row": "[A-Za-z]{1,2}|[0-9]{1,3}",
    "column": "[0-9]{1,4}",
    "well_number": "[0-9]{1,5}",
    "site_x": "[0-9]{1,6}",
    "site_y": "[0-9]{1,6}",
    "site": "[0-9]{1,6}",
    "plane": "[0-9]{1,6}",
    "time": "[0-9]{1,6}",
}
# More spellings of wells, for sources without a usual one: A-01, r02c07, 17, A01.a1.
_LOOSE_WELL = (
    r"(?:well[-_ ]?)?[A-Za-z]{1,2}[-_ ]?[0-9]{1,4}(?:[.][A-Za-z][0-9]{1,2})?"
    r"|r(?:ow)?[-_ ]?[0-9]{1,4}[-_ ]?c(?:ol(?:umn)?)?[-_ ]?[0-9]{1,4}|[0-9]{1,5}"
)
_BRACES = re.compile(r"\{([^{}]*)\}")
_FIELD = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)?(?::(?P<width>[1-9][0-9]*))?(?P<fixed>=.*)?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A parsed pattern.

    Attributes:
        text: The pattern as written.
        names: Fields that it reads or fixes.
        fixed: Fields with a fixed value in the pattern.
        base: First number of rows, columns and wells of a known instrument; None if unknown.
    """

    text: str
    names: tuple[str, ...]
    fixed: Mapping[str, str]
    base: int | None = None
    _regexes: tuple[tuple[int, re.Pattern[str]], ...]  # each with the number of path parts that it matches
    _loose_regexes: tuple[tuple[int, re.Pattern[str]], ...] = ()
    _channels: re.Pattern[str] | None = None

    @property
    def has_alternatives(self) -> bool:
        """Whether it is a known name with several patterns."""
        return len(self._regexes) > 1

    def with_any_well(self) -> "Pattern":
        """Return the pattern that also reads wells such as `A-01`, `r02c07` or `17`."""
        return replace(self, _regexes=self._loose_regexes or self._regexes)

    def read(self, path: str) -> dict[str, str] | None:
        """Read the fields of a path, with `well` for row and column; None if unmatched."""
        parts = path.split("/")
        match = next((m for depth, regex in self._regexes if (m := regex.fullmatch("/".join(parts[-depth:])))), None)
        if match is None:
            return None
        fields = {**self.fixed, **match.groupdict()}
        if self._channels is not None and not self._channels.fullmatch(fields.get("channel", "")):
            return None
        if "well_number" in fields:
            fields["well"] = fields.pop("well_number")
        if "row" in fields:
            row, column = fields.pop("row"), fields.pop("column")
            fields["well"] = f"r{row}c{column}" if row.isdigit() else f"{row}{int(column):02d}"
        return fields


def parse_pattern(text: str) -> Pattern:
    """Parse a pattern.

    `{name}` matches the text up to the next literal, `{name:3}` exactly three characters, `{}` ignored text. The field
    `{name=value}` matches nothing and has a fixed value. The fields are `well`, or `row` and `column` (letters or
    digits), or `well_number`; `site`, or `site_x` and `site_y`; `channel`, `plate`, `experiment`, `cell_type`, `plane`,
    `time`. Any other name becomes a column. A pattern without `/` matches the file name; each `/` adds a folder above.
    `tif` also matches `tiff`, and case does not matter.

    Args:
        text: The pattern, or a name in `KNOWN`.

    Raises:
        ScreenError: The pattern has no well, or a field is invalid.
    """
    if text in KNOWN:
        alternatives = [parse_pattern(written) for written in KNOWN[text]]
        return replace(
            alternatives[0],
            names=tuple(dict.fromkeys(name for alternative in alternatives for name in alternative.names)),
            base=WELL_BASE.get(text),
            _loose_regexes=(),
            _regexes=tuple(regex for alternative in alternatives for regex in alternative._regexes),
            _channels=CHANNELS.get(text),
        )
    if "{" not in text:
        message = f"--pattern {text!r} has no field. Write a pattern such as '{{well}}_s{{site}}_w{{channel}}.tif', "
        message += f"or the name of a known pattern. {did_you_mean(text, KNOWN)}"
        raise ScreenError(message)
    fixed: dict[str, str] = {}
    names: list[str] = []
    regex, start = "", 0
    for braces in _BRACES.finditer(text):
        regex += re.escape(text[start : braces.start()])
        start = braces.end()
        regex += _field_regex(text, braces[1], names, fixed)
    tail = text[start:]
    if {"{", "}"} & set(_BRACES.sub("", text)):
        raise ScreenError(f"--pattern {text!r}: an unpaired brace. Write fields as {{well}}.")
    ending = re.fullmatch(r"(.*\.)tiff?", tail, re.IGNORECASE | re.DOTALL)
    regex += f"{re.escape(ending[1])}tiff?" if ending else re.escape(tail)
    _require_well(text, names)
    depth = 1 + text.count("/")
    loose = regex.replace(f"(?P<well>{_FIELD_REGEX['well']})", f"(?P<well>{_LOOSE_WELL})")
    return Pattern(
        text=text,
        names=tuple(names),
        fixed=fixed,
        _regexes=((depth, re.compile(regex, re.IGNORECASE | re.DOTALL)),),
        _loose_regexes=((depth, re.compile(loose, re.IGNORECASE | re.DOTALL)),) if loose != regex else (),
    )


def _field_regex(text: str, inside: str, names: list[str], fixed: dict[str, str]) -> str:
    """Return the regular expression of a field; add its name to `names` or `fixed`."""
    field = _FIELD.fullmatch(inside)
    if field is None:
        raise ScreenError(
            f"--pattern {text!r}: {{{inside}}} is not a field. Write {{name}}, {{name:3}}, {{name=value}} or {{}}."
        )
    name, width = field["name"], field["width"]
    if name in _TABLE_COLUMNS:
        message = f"--pattern {text!r}: {name} is read from a table, not from file names. Write {{}} for {{{name}}}, "
        message += f"and name a table with the columns well and {name}: --tables FILE."
        raise ScreenError(message)
    if field["fixed"] == "=":
        raise ScreenError(f"--pattern {text!r}: {{{inside}}} has no value. Write a value, such as {{{name}=1}}.")
    if field["fixed"] is not None:
        if name is None or name in names:
            raise ScreenError(f"--pattern {text!r}: {{{inside}}} must fix a field that occurs nowhere else.")
        names.append(name)
        fixed[name] = field["fixed"][1:]
        return ""
    if name is None:
        return f"[^/]{{{width}}}" if width else "[^/]*?"
    if name in fixed:
        raise ScreenError(f"--pattern {text!r}: {name} is both fixed and read. Keep one.")
    if name in names:
        return f"(?P={name})"
    names.append(name)
    kind = _FIELD_REGEX.get(name)
    if width:
        characters = "[0-9]" if kind and "A-Z" not in kind else "[^/]"
        return f"(?P<{name}>{characters}{{{width}}})"
    return f"(?P<{name}>{kind or '[^/]+?'})"


def _require_well(text: str, names: list[str]) -> None:
    if ("row" in names) != ("column" in names):
        raise ScreenError(f"--pattern {text!r} has only one of {{row}} and {{column}}. Write both, or {{well}}.")
    if sum(name in names for name in ("well", "row", "well_number")) != 1:
        problem = "names the well twice" if {"well", "row", "well_number"} & set(names) else "has no field for the well"
        message = f"--pattern {text!r} {problem}. Expected {{well}}, or {{row}} and {{column}}. "
        unknown = [name for name in names if name not in FIELDS]
        message += did_you_mean(unknown[0], FIELDS) if unknown else "{well=A01} fixes it for a single well."
        raise ScreenError(message)
