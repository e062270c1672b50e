"""Words of a command line that carry more than one value.

Settings on a command line: `--optim.lr 1e-4` is `--set optim.lr=1e-4`, and help lists every one of them.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Parameter

from distangle.cli.console import print_below, print_result
from distangle.core import plain_yaml
from distangle.core.untrusted_files import UnexpectedContent
from distangle.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from distangle.results import ScoreRow, Scores

BASELINES = ("position", "plate", "intensity")  # alone, without looking at a cell

Name = TypeVar("Name", bound=str)
Words = Annotated[tuple[str, ...], Parameter(negative=())]

_PAIR_FLAGS = ("--map", "--set", "--only", "--expect")
_PAIR = re.compile(r"[A-Za-z_][\w.-]*=.*", re.DOTALL)


def repeat_flags(typed: Sequence[str]) -> list[str]:
    """Repeat a flag before each further pair: `--map a=1 b=2` becomes `--map a=1 --map b=2`.

    Args:
        typed: The words of a command line. A word that names a file or folder which is there stays alone.
    """
    words: list[str] = []
    flag, is_value = "", False
    for word in typed:
        name, separator, _ = word.partition("=")
        if word.startswith("--"):
            flag = name if name in _PAIR_FLAGS else ""
            is_value = not separator
        elif is_value:
            is_value = False
        elif flag and _PAIR.fullmatch(word) and not _is_there(word):
            words.append(flag)
        else:
            flag = ""
        words.append(word)
    return words


def _is_there(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):
        return False


def check_minimum(number: int, least: int, *, flag: str) -> int:
    """Return a number of workers or of sites.

    Raises:
        ConfigError: Fewer than `least`.
    """
    if number < least:
        raise ConfigError(f"{flag} {number}: expected {least} or more.")
    return number


def parse_key_values(given: Iterable[str], *, flag: str, parse: bool = False) -> dict[str, Any]:
    """Read `name=value` pairs, several to a word with commas between.

    Args:
        given: The words.
        flag: Named in the error.
        parse: Read values as YAML instead of text, one pair to a word.

    Raises:
        ConfigError: A word without `=`, or a name twice.
    """
    found: dict[str, Any] = {}
    words = [word for word in given] if parse else [part for word in given for part in word.split(",") if part.strip()]
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name.strip():
            raise ConfigError(f"{flag} {word!r}: expected NAME=VALUE.")
        if name.strip() in found:
            raise ConfigError(f"{flag} names {name.strip()!r} twice.")
        try:
            found[name.strip()] = plain_yaml.load(value) if parse else value.strip()
        except UnexpectedContent as error:
            raise ConfigError(
                f"{flag} {name.strip()}: {error}. Expected a number, a word, true or false, or a list."
            ) from error
    return found


def parse_filters(given: Iterable[str], *, flag: str) -> dict[str, list[str]]:
    """Read `column=value,value` words; a column named twice takes the values of both.

    Args:
        given: The words.
        flag: Named in the error.

    Raises:
        ConfigError: A word without `=`, or without a value.
    """
    from distangle.core.unicode_names import normalize_name

    found: dict[str, list[str]] = {}
    for word in given:
        name, _, values = word.partition("=")
        split = [normalize_name(value) for value in values.split(",") if value.strip()]
        if not name.strip() or not split:
            raise ConfigError(f"{flag} {word!r}: expected COLUMN=VALUE or COLUMN=VALUE,VALUE, such as well=B02,B03.")
        found.setdefault(name.strip(), []).extend(split)
    return found


def parse_choices(words: str, known: Sequence[Name], *, flag: str) -> list[Name]:
    """Read names with commas between, each once.

    Args:
        words: As typed.
        known: What may be named.
        flag: Named in the error.

    Raises:
        ConfigError: A name that is none of them.
    """
    found: list[Name] = []
    for word in (piece.strip() for piece in words.split(",")):
        match = [name for name in known if name == word]
        if not match:
            raise ConfigError(f"{flag} {words!r}: {word!r} is none of them. {did_you_mean(word, known)}")
        found += [name for name in match if name not in found]
    return found


def parse_int_list(words: str, *, flag: str) -> tuple[int, ...]:
    """Read whole numbers with commas between, such as `0,1,2`; each once, in their order.

    Args:
        words: As typed; "" is none.
        flag: Named in the error.

    Raises:
        ConfigError: Something else between the commas.
    """
    pieces = [piece.strip() for piece in words.split(",") if piece.strip()]
    for piece in pieces:
        if not piece.isdecimal():
            raise ConfigError(f"{flag} {words!r}: {piece!r} is no whole number. Expected such as 0,1,2.")
    return tuple(dict.fromkeys(int(piece) for piece in pieces))


def check_exclusive(flag: str, others: Mapping[str, Any], reason: str) -> None:
    """Refuse flags that would be ignored beside another one.

    Args:
        flag: The one that stays.
        others: Value of every other flag; None where it was not given.
        reason: A sentence for the person who typed them.

    Raises:
        ConfigError: One of the others was given.
    """
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise ConfigError(f"Leave out {', '.join(given)} beside {flag}. {reason}")


def score_lines(scores: "Scores") -> Iterator[tuple[str, ...]]:
    """Give the lines of the score table for a terminal: accuracy and balanced accuracy side by side.

    Each has its interval in round brackets, or the values of the groups in square ones where they are too few. Beside
    them is the balanced accuracy of rules that see no cell: `BASELINES`.

    Args:
        scores: All rows; those of single cell types stay in scores.json and in the report.
    """
    balanced = {_place(row): row for row in scores.rows if row.metric == "balanced accuracy"}
    for row in scores.rows:
        if row.metric == "accuracy" and not row.subset.startswith("cell type"):
            numbers = (_with_interval(row), _with_interval(balanced[_place(row)]))
            naive = (balanced[_place(row)].baselines.get(rule) for rule in BASELINES)
            blind = ("-" if value is None else f"{value:.3f}" for value in naive)
            yield row.level, str(row.views), row.wells, row.subset, *numbers, f"{row.chance:.3f}", *blind, str(row.n)


def _place(row: "ScoreRow") -> tuple[str, int, str, str]:
    return row.level, row.views, row.wells, row.subset


def _with_interval(row: "ScoreRow") -> str:
    if row.interval:
        return f"{row.value:.3f} ({row.interval[0]:.3f}-{row.interval[1]:.3f})"
    groups = f" [{' '.join(f'{value:.3f}' for value in row.by_group.values())}]" if row.by_group else ""
    return f"{row.value:.3f}{groups}"


def of_few_groups(scores: "Scores") -> Iterator[str]:
    """Say what the square brackets of `score_lines` are, where there are any.

    Args:
        scores: All rows.
    """
    from distangle.core.stats import MIN_GROUPS

    few = [row for row in scores.rows if row.by_group and row.interval is None and row.subset == "all"]
    if few:
        row = few[0]
        yield (
            f"In square brackets: {', '.join(row.by_group)}, one by one. An interval takes {MIN_GROUPS} "
            f"{row.interval_over}s or more; there are {row.n_groups}."
        )


_FLAG = re.compile(r"--([A-Za-z_][\w.-]*)(?:=(.*))?", re.DOTALL)


def settings(*, preset: str | None = None, config: Path | None = None, set: Words = ()) -> None:
    """Print a whole configuration as YAML: a file to change and to give to `--config`.

    Args:
        preset: `seed`, `rcic1st`, `small` or `scratch`.
        config: YAML file with settings that replace those of the preset.
        set: Any setting, such as `optim.lr=1e-4`; `--optim.lr 1e-4` is the same.
    """
    from distangle.training import resolve_config, write_config

    print_result(write_config(resolve_config(preset, set, file=config)).rstrip())


def expand_setting_flags(typed: Sequence[str], verb: Callable[..., Any]) -> list[str]:
    """Turn the flags that are settings into `--set NAME=VALUE`, in their order.

    Args:
        typed: The words after the verb.
        verb: Its function; the flags that it declares are left alone.

    Raises:
        ConfigError: A setting without a value.
    """
    declared = {"help", "h", "from", *inspect.signature(verb).parameters}
    undotted: set[str] | None = None
    words: list[str] = []
    left = list(typed)
    while left:
        word = left.pop(0)
        flag = _FLAG.fullmatch(word)
        name = flag[1].replace("-", "_") if flag else ""
        if flag is None or name in declared or name.removeprefix("no_") in declared:
            words.append(word)
            continue
        if undotted is None:
            undotted = _undotted(verb)  # loads the settings, which costs a second
        if "." not in name and name not in undotted:
            words.append(word)
            continue
        value = flag[2]
        if value is None:
            if not left or left[0].startswith("--"):
                raise ConfigError(f"{word} needs a value, such as `{word} 1`; true or false for a switch.")
            value = left.pop(0)
        words += ["--set", f"{name}={value}"]
    return words


def list_settings(verb: Callable[..., Any]) -> None:
    """Print the part of a help text that says of every setting what it is, and its value in each preset.

    Args:
        verb: The function of the verb; the flags that it declares are left out.
    """
    from distangle.training import PRESETS, resolve_config, values_of
    from distangle.training.config_help import MEANINGS

    by_preset = {name: values_of(resolve_config(name)) for name in PRESETS}
    declared = inspect.signature(verb).parameters
    names = [name for name in next(iter(by_preset.values())) if name not in declared]
    print_result(
        "Settings: each may be a flag, a line in the file of --config, or a --set. In brackets what the presets say."
    )
    for name in names:
        values: dict[str, list[str]] = {}
        for preset, settings_of in by_preset.items():
            values.setdefault(_shown(settings_of[name]), []).append(preset)
        alone = len(values) == 1
        said = "; ".join(value if alone else f"{value} in {', '.join(presets)}" for value, presets in values.items())
        print_below(f"--{name.replace('_', '-')}", f"{MEANINGS[name]} [{said}]")


def list_simulation() -> None:
    """Print the part of a help text that names every setting of a simulation with its value."""
    from distangle.synthetic import SimulationConfig

    print_result("Settings of --set, and their values:")
    for name, field in SimulationConfig.model_fields.items():
        if name not in ("seed", "null"):
            print_below(name, f"{field.description or ''} [{_shown(field.default)}]".strip())


def _undotted(verb: Callable[..., Any]) -> set[str]:
    from distangle.training import settings as known

    # `--lr` is none, but as a setting it is refused with the name that was meant.
    names = {name.rpartition(".")[2] for name, _ in known()}
    return names - {*inspect.signature(verb).parameters}


def _shown(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
