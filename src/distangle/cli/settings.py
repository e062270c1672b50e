"""Settings on a command line: `--optim.lr 1e-4` is `--set optim.lr=1e-4`, and help lists every one of them."""

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distangle.cli.console import tell, tell_below
from distangle.cli.words import Words
from distangle.errors import ConfigError

_FLAG = re.compile(r"--([A-Za-z_][\w.-]*)(?:=(.*))?", re.DOTALL)


def settings(*, preset: str | None = None, config: Path | None = None, set: Words = ()) -> None:
    """Print a whole configuration as YAML: a file to change and to give to `--config`.

    Args:
        preset: `seed`, `rcic1st`, `small` or `scratch`.
        config: YAML file with settings that replace those of the preset.
        set: Any setting, such as `optim.lr=1e-4`; `--optim.lr 1e-4` is the same.
    """
    from distangle.training import resolve_config, write_config

    tell(write_config(resolve_config(preset, set, file=config)).rstrip())


def as_words(typed: Sequence[str], verb: Callable[..., Any]) -> list[str]:
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
    from distangle.training.meanings import MEANINGS

    by_preset = {name: values_of(resolve_config(name)) for name in PRESETS}
    declared = inspect.signature(verb).parameters
    names = [name for name in next(iter(by_preset.values())) if name not in declared]
    tell("Settings: each may be a flag, a line in the file of --config, or a --set. In brackets what the presets say.")
    for name in names:
        values: dict[str, list[str]] = {}
        for preset, settings_of in by_preset.items():
            values.setdefault(_shown(settings_of[name]), []).append(preset)
        alone = len(values) == 1
        said = "; ".join(value if alone else f"{value} in {', '.join(presets)}" for value, presets in values.items())
        tell_below(f"--{name.replace('_', '-')}", f"{MEANINGS[name]} [{said}]")


def list_simulation() -> None:
    """Print the part of a help text that names every setting of a simulation with its value."""
    from distangle.synthetic import SimulationConfig

    tell("Settings of --set, and their values:")
    for name, field in SimulationConfig.model_fields.items():
        if name not in ("seed", "null"):
            tell_below(name, f"{field.description or ''} [{_shown(field.default)}]".strip())


def _undotted(verb: Callable[..., Any]) -> set[str]:
    from distangle.training import settings as known

    # `--lr` is none, but as a setting it is refused with the name that was meant.
    names = {name.rpartition(".")[2] for name, _ in known()}
    return names - {*inspect.signature(verb).parameters}


def _shown(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
