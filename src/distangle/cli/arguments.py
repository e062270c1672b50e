"""Parse command-line values: pairs, lists, filters, and flags that are settings."""

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
    """Repeat a flag before every further pair of its values.

    `--map a=1 b=2` becomes `--map a=1 --map b=2`. The name of an existing file or folder stays a separate argument.

    Args:
        words: Arguments of a command line.
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
    """Return a count, such as the number of workers or sites.

    Raises:
        ConfigError: The count is below `minimum`.
    """
    if number < least:
        raise ConfigError(f"{flag} {number}: expected {least} or more.")
    return number


def parse_key_values(given: Iterable[str], *, flag: str, parse: bool = False) -> dict[str, Any]:
    """Parse `name=value` pairs; one word can hold several, separated by commas.

    Args:
        words: Values of the flag.
        flag: Name of the flag, for the error message.
        parse: Read each value as YAML instead of text, one pair per word.

    Raises:
        ConfigError: A word has no `=`, or a name occurs twice.
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
    """Parse `column=value,value` filters; a repeated column collects all its values.

    Args:
        words: Values of the flag.
        flag: Name of the flag, for the error message.

    Raises:
        ConfigError: A word has no `=` or no value.
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
    """Parse comma-separated names without repeats.

    Args:
        text: Value of the flag.
        choices: Allowed names.
        flag: Name of the flag, for the error message.

    Raises:
        ConfigError: A name is not allowed.
    """
    found: list[Name] = []
    for word in (piece.strip() for piece in words.split(",")):
        match = [name for name in known if name == word]
        if not match:
            raise ConfigError(f"{flag} {words!r}: {word!r} is none of them. {did_you_mean(word, known)}")
        found += [name for name in match if name not in found]
    return found


def parse_int_list(words: str, *, flag: str) -> tuple[int, ...]:
    """Parse comma-separated integers, such as `0,1,2`, in order, without repeats.

    Args:
        text: Value of the flag; "" gives no number.
        flag: Name of the flag, for the error message.

    Raises:
        ConfigError: A part between commas is not a non-negative integer.
    """
    pieces = [piece.strip() for piece in words.split(",") if piece.strip()]
    for piece in pieces:
        if not piece.isdecimal():
            raise ConfigError(f"{flag} {words!r}: {piece!r} is no whole number. Expected such as 0,1,2.")
    return tuple(dict.fromkeys(int(piece) for piece in pieces))


def check_exclusive(flag: str, others: Mapping[str, Any], reason: str) -> None:
    """Refuse flags that another flag would override.

    Args:
        flag: The flag that stays.
        others: Value of every other flag by name; None if it was not given.
        reason: Sentence that explains the conflict.

    Raises:
        ConfigError: One of the other flags was given.
    """
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise ConfigError(f"Leave out {', '.join(given)} beside {flag}. {reason}")


def score_lines(scores: "Scores") -> Iterator[tuple[str, ...]]:
    """Yield the rows of the score table, accuracy and balanced accuracy side by side.

    Round brackets hold a confidence interval. Square brackets hold the values of the groups if they are too few for an
    interval. The last columns are the balanced accuracy of the cell-free `BASELINES`.

    Args:
        scores: All scores; those of single cell types are left out here.
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
    """Yield the explanation of the square brackets of `score_lines`.

    Args:
        scores: All scores.
    """
    from distangle.core.stats import LEAST_GROUPS

    few = [row for row in scores.rows if row.by_group and row.interval is None and row.subset == "all"]
    if few:
        row = few[0]
        yield (
            f"In square brackets: {', '.join(row.by_group)}, one by one. An interval takes {LEAST_GROUPS} "
            f"{row.interval_over}s or more; there are {row.n_groups}."
        )


_FLAG = re.compile(r"--([A-Za-z_][\w.-]*)(?:=(.*))?", re.DOTALL)


def settings(*, preset: str | None = None, config: Path | None = None, set: Words = ()) -> None:
    """Print a complete configuration as YAML, to edit and pass to `--config`.

    Args:
        preset: Preset to print: `seed` (the default), `rcic1st`, `small` or `scratch`.
        config: YAML file with settings that replace those of the preset.
        set: Setting to change, such as `optim.lr=1e-4`. `--optim.lr 1e-4` does the same.
    """
    from distangle.training import resolve_config, write_config

    print_result(write_config(resolve_config(preset, set, file=config)).rstrip())


def expand_setting_flags(typed: Sequence[str], verb: Callable[..., Any]) -> list[str]:
    """Replace flags that name settings by `--set NAME=VALUE`, in their order.

    Args:
        words: Arguments after the verb.
        verb: Function of the verb; the flags that it declares stay unchanged.

    Raises:
        ConfigError: A setting has no value.
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
    """Print the settings part of a help text: meaning and value in each preset.

    Args:
        verb: Function of the verb; the flags that it declares are left out.
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
    """Print the settings of a simulation with their defaults."""
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
