"""Parse command-line values: pairs, lists, filters, and flags that are settings."""

import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from cyclopts import Parameter

from distangle.cli.console import print_below, print_result
from distangle.core import plain_yaml
from distangle.core.untrusted_files import UnexpectedContent
from distangle.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from distangle.core.partitions import RayWorkers

Name = TypeVar("Name", bound=str)
RepeatedOption = Annotated[tuple[str, ...], Parameter(negative=())]

_FLAG = re.compile(r"--([A-Za-z_][\w.-]*)(?:=(.*))?", re.DOTALL)
_PAIR_FLAGS = ("--map", "--set", "--only", "--expect")
_PAIR = re.compile(r"[A-Za-z_][\w.-]*=.*", re.DOTALL)


def repeat_flags(arguments: Sequence[str]) -> list[str]:
    """Repeat a flag before every further pair of its values.

    `--map a=1 b=2` becomes `--map a=1 --map b=2`. The name of an existing file or folder stays a separate argument.

    Args:
        arguments: Arguments of a command line.
    """
    repeated: list[str] = []
    flag, is_value = "", False
    for argument in arguments:
        name, separator, _ = argument.partition("=")
        if argument.startswith("--"):
            flag = name if name in _PAIR_FLAGS else ""
            is_value = not separator
        elif is_value:
            is_value = False
        elif flag and _PAIR.fullmatch(argument) and not _exists(argument):
            repeated.append(flag)
        else:
            flag = ""
        repeated.append(argument)
    return repeated


def _exists(argument: str) -> bool:
    try:
        return Path(argument).exists()
    except (OSError, ValueError):
        return False


def check_minimum(number: int, minimum: int, *, flag: str) -> int:
    """Return a count, such as the number of workers or sites.

    Raises:
        ConfigError: The count is below `minimum`.
    """
    if number < minimum:
        raise ConfigError(f"{flag} {number}: expected {minimum} or more.")
    return number


def parse_key_values(arguments: Iterable[str], *, flag: str, parse: bool = False) -> dict[str, Any]:
    """Parse `name=value` pairs; one word can hold several, separated by commas.

    Args:
        arguments: Values of the flag.
        flag: Name of the flag, for the error message.
        parse: Read each value as YAML instead of text, one pair per word.

    Raises:
        ConfigError: A word has no `=`, or a name occurs twice.
    """
    values: dict[str, Any] = {}
    pairs = (
        [pair for pair in arguments]
        if parse
        else [part for pair in arguments for part in pair.split(",") if part.strip()]
    )
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name.strip():
            raise ConfigError(f"{flag} {pair!r}: expected NAME=VALUE.")
        if name.strip() in values:
            raise ConfigError(f"{flag}: {name.strip()!r} occurs twice. Expected every name once.")
        try:
            values[name.strip()] = plain_yaml.load(value) if parse else value.strip()
        except UnexpectedContent as error:
            raise ConfigError(
                f"{flag} {name.strip()}: {error}. Expected a number, a word, true or false, or a list."
            ) from error
    return values


def parse_filters(arguments: Iterable[str], *, flag: str) -> dict[str, list[str]]:
    """Parse `column=value,value` filters; a repeated column collects all its values.

    Args:
        arguments: Values of the flag.
        flag: Name of the flag, for the error message.

    Raises:
        ConfigError: A word has no `=` or no value.
    """
    from distangle.core.unicode_names import normalize_name

    filters: dict[str, list[str]] = {}
    for argument in arguments:
        name, _, text = argument.partition("=")
        values = [normalize_name(value) for value in text.split(",") if value.strip()]
        if not name.strip() or not values:
            raise ConfigError(
                f"{flag} {argument!r}: expected COLUMN=VALUE or COLUMN=VALUE,VALUE, such as well=B02,B03."
            )
        filters.setdefault(name.strip(), []).extend(values)
    return filters


def parse_choices(text: str, choices: Sequence[Name], *, flag: str) -> list[Name]:
    """Parse comma-separated names without repeats.

    Args:
        text: Value of the flag.
        choices: Allowed names.
        flag: Name of the flag, for the error message.

    Raises:
        ConfigError: A name is not allowed.
    """
    selection: list[Name] = []
    for word in (piece.strip() for piece in text.split(",")):
        matches = [name for name in choices if name == word]
        if not matches:
            raise ConfigError(f"{flag} {text!r}: unknown name {word!r}. {did_you_mean(word, choices)}")
        selection += [name for name in matches if name not in selection]
    return selection


def parse_int_list(text: str, *, flag: str) -> tuple[int, ...]:
    """Parse comma-separated integers, such as `0,1,2`, in order, without repeats.

    Args:
        text: Value of the flag; "" gives no number.
        flag: Name of the flag, for the error message.

    Raises:
        ConfigError: A part between commas is not a non-negative integer.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if not part.isdecimal():
            raise ConfigError(f"{flag} {text!r}: {part!r} is not an integer. Expected integers such as 0,1,2.")
    return tuple(dict.fromkeys(int(part) for part in parts))


def check_exclusive(flag: str, others: Mapping[str, Any], reason: str) -> None:
    """Refuse flags that another flag would override.

    Args:
        flag: The flag that stays.
        others: Value of every other flag by name; None if it was not given.
        reason: Sentence that explains the conflict.

    Raises:
        ConfigError: One of the other flags was given.
    """
    conflicts = [name for name, value in others.items() if value is not None]
    if conflicts:
        raise ConfigError(f"Remove {', '.join(conflicts)}: not allowed with {flag}. {reason}")


def parse_ray_workers(
    on: Literal["local", "ray"], workers: int | None, *, device: str | None = None
) -> "RayWorkers | None":
    """Return the workers of `--on ray`; None for this process.

    Args:
        on: Where to compute.
        workers: Number of workers; None for one on each core, or on each GPU.
        device: Device of each worker; None for the default.

    Raises:
        ConfigError: A flag does not fit.
    """
    if on == "local":
        return None
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"--on ray: {os.environ['WORLD_SIZE']} ranks run. Start it without torchrun.")
    if device not in (None, "cpu", "cuda"):
        raise ConfigError(f"--device {device} --on ray: expected cpu or cuda. Ray gives each worker a GPU of its own.")
    from distangle.core.partitions import RayWorkers

    return RayWorkers(n=workers, with_gpu=device == "cuda")


def settings(*, preset: str | None = None, config: Path | None = None, set: RepeatedOption = ()) -> None:
    """Print a complete configuration as YAML, to edit and pass to `--config`.

    Args:
        preset: Preset to print: `seed` (the default), `rcic1st`, `small` or `scratch`.
        config: YAML file with settings that replace those of the preset.
        set: Setting to change, such as `optim.lr=1e-4`. `--optim.lr 1e-4` does the same.
    """
    from distangle.training import resolve_config, write_config

    print_result(write_config(resolve_config(preset, set, file=config)).rstrip())


def expand_setting_flags(arguments: Sequence[str], verb: Callable[..., Any]) -> list[str]:
    """Replace flags that name settings by `--set NAME=VALUE`, in their order.

    Args:
        arguments: Arguments after the verb.
        verb: Function of the verb; the flags that it declares stay unchanged.

    Raises:
        ConfigError: A setting has no value.
    """
    declared = {"help", "h", "from", *inspect.signature(verb).parameters}
    short_names: set[str] | None = None
    expanded: list[str] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        flag = _FLAG.fullmatch(argument)
        name = flag[1].replace("-", "_") if flag else ""
        if flag is None or name in declared or name.removeprefix("no_") in declared:
            expanded.append(argument)
            continue
        if short_names is None:
            short_names = _short_names(verb)  # loads the settings, which takes a second
        if "." not in name and name not in short_names:
            expanded.append(argument)
            continue
        value = flag[2]
        if value is None:
            if not remaining or remaining[0].startswith("--"):
                raise ConfigError(f"{argument} needs a value, such as `{argument} 1`; true or false for a switch.")
            value = remaining.pop(0)
        expanded += ["--set", f"{name}={value}"]
    return expanded


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
        "Settings: set each by a flag, by --set, or in the file of --config. Brackets show the values of the presets."
    )
    for name in names:
        values: dict[str, list[str]] = {}
        for preset, settings_of_preset in by_preset.items():
            values.setdefault(_format_value(settings_of_preset[name]), []).append(preset)
        is_common = len(values) == 1
        text = "; ".join(
            value if is_common else f"{value} in {', '.join(presets)}" for value, presets in values.items()
        )
        print_below(f"--{name.replace('_', '-')}", f"{MEANINGS[name]} [{text}]")


def list_simulation() -> None:
    """Print the settings of a simulation with their defaults."""
    from distangle.synthetic import SimulationConfig

    print_result("Settings for --set, with their defaults:")
    for name, field in SimulationConfig.model_fields.items():
        if name not in ("seed", "null"):
            print_below(name, f"{field.description or ''} [{_format_value(field.default)}]".strip())


def _short_names(verb: Callable[..., Any]) -> set[str]:
    from distangle.training import settings as list_names

    # `--lr` is not a setting. Passed on as one, it is refused with the full name as a suggestion.
    names = {name.rpartition(".")[2] for name, _ in list_names()}
    return names - {*inspect.signature(verb).parameters}


def _format_value(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
