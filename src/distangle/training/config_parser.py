"""Read one configuration from a preset, a file and the command line.

They are taken in that order, and nothing is ignored.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from distangle.core import plain_yaml
from distangle.core.untrusted_files import UnexpectedContent
from distangle.errors import ConfigError, did_you_mean
from distangle.training.config import PRESETS, TrainingConfig

_WHOLE = "`distangle settings` prints a whole configuration."


class ConfigValue(NamedTuple):
    """A value that somebody set, and where: `mine.yaml line 3: `, or nothing."""

    value: Any
    where: str = ""


def resolve_config(
    preset: str | None = None,
    changes: Iterable[str] = (),
    *,
    file: Path | None = None,
    base: TrainingConfig | None = None,
    **direct: Any,
) -> TrainingConfig:
    """Return a preset, with a file on top, with single settings on top of that.

    Args:
        preset: `seed`, `rcic1st`, `small` or `scratch`; None takes the one that the file names, else `seed`.
        changes: Such as `"optim.lr=1e-4"`; read as YAML values, the last of several wins.
        file: YAML with any of the settings, nested or as `optim.lr`.
        base: Stands in for the preset: the configuration of an earlier run.
        direct: Top-level fields; None leaves what the others say.

    Raises:
        ConfigError: Unknown preset, unknown key (with its line and the nearest known one), a key twice in the file,
            or a value out of range.
    """
    from_file = {} if file is None else _settings_in(file)
    given = {name: ConfigValue(value) for name, value in direct.items() if value is not None}
    for change in changes:
        name, separator, text = change.partition("=")
        if not separator:
            raise ConfigError(f"{change!r} is not a setting. Expected KEY=VALUE, such as optim.lr=1e-4.")
        value = _value(_known(name.strip(), ""), text)
        if name.strip() == "preset":
            preset = str(value)
        else:
            given[name.strip()] = ConfigValue(value)
    if base is None:
        base = _preset(preset, from_file)
    elif preset not in (None, base.preset):
        raise ConfigError(f"The run that is repeated has the preset {base.preset!r}; leave out `--preset {preset}`.")
    return _validated(base.model_dump(), from_file | given)


def write_config(config: TrainingConfig) -> str:
    """Return the configuration as YAML, every value resolved."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def read_config(path: Path) -> TrainingConfig:
    """Read a configuration file; settings that it does not name keep their default.

    Raises:
        ConfigError: A key or value is not understood; the message names it and its line.
    """
    return _validated({}, _settings_in(path))


def settings(model: type[BaseModel] = TrainingConfig, *, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Give every setting by its dotted name, such as `optim.lr`, in order.

    Args:
        model: Where to begin.
        prefix: Put before every name.
    """
    for name, field in model.model_fields.items():
        part = _part(field)
        if part is None:
            yield f"{prefix}{name}", field
        else:
            yield from settings(part, prefix=f"{prefix}{name}.")


def values_of(config: TrainingConfig) -> dict[str, Any]:
    """Return the values of a configuration by dotted name."""
    dumped = config.model_dump(mode="json")
    return {name: _at(dumped, name) for name, _ in settings()}


def _part(field: FieldInfo) -> type[BaseModel] | None:
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _at(nested: Any, name: str) -> Any:
    for key in name.split("."):
        nested = nested[key] if isinstance(nested, Mapping) else None
    return nested


def _preset(preset: str | None, from_file: Mapping[str, ConfigValue]) -> TrainingConfig:
    written = from_file.get("preset")
    if written is not None and preset not in (None, written.value):
        raise ConfigError(
            f"{written.where}the preset is {written.value!r}, the command line says {preset!r}: keep one of them."
        )
    name = preset or (written.value if written is not None else "seed")
    if name not in PRESETS:
        raise ConfigError(f"{written.where if written else ''}No preset {name!r}. {did_you_mean(str(name), PRESETS)}")
    return TrainingConfig.model_validate(PRESETS[name])


def _known(name: str, where: str) -> str:
    """Return the name of a setting as it is, or refuse it with the nearest one."""
    known = [setting for setting, _ in settings()]
    if name in known:
        return name
    below = [setting for setting in known if setting.startswith(f"{name}.")]
    if below:
        raise ConfigError(f"{where}No setting {name!r}: it is a part. Expected one of {', '.join(below)}.")
    raise ConfigError(
        f"{where}No setting {_short(name)}. {_meant(name, known)}`distangle settings` lists all {len(known)}."
    )


def _meant(name: str, known: list[str]) -> str:
    # A right name without its part, such as `lr`, is far from `optim.lr` letter by letter.
    last_of = {setting: setting.rpartition(".")[2] for setting in known}
    lasts = difflib.get_close_matches(name.rpartition(".")[2], set(last_of.values()), n=1, cutoff=0.75)
    words = name.rpartition(".")[2].replace("-", "_").split("_")
    lasts += ["".join(word[:1] for word in words)] if len(words) > 1 else []  # learning_rate is lr
    close = [setting for setting in known if last_of[setting] in lasts]
    close = sorted(close, key=lambda setting: -difflib.SequenceMatcher(None, name, setting).ratio())
    close = close[:3] or difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    return f"Did you mean {' or '.join(map(repr, close))}? " if close else ""


def _value(name: str, text: str) -> Any:
    try:
        return plain_yaml.load(text)
    except UnexpectedContent as error:
        raise ConfigError(
            f"{name}={text[:80]}: the value is no YAML. Quote it, or write a number, a word or true/false."
        ) from error


def _settings_in(path: Path) -> dict[str, ConfigValue]:
    """Read a YAML file by dotted names, each with its line."""
    try:
        root = plain_yaml.compose(path.read_text(encoding="utf-8"))
    except UnexpectedContent as error:
        raise ConfigError(f"{path} is no YAML: {error}. Expected lines such as `epochs: 60`.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read as a configuration ({error}). `distangle settings > FILE` writes one."
        ) from error
    found: dict[str, ConfigValue] = {}
    if root is not None:
        _gather(root, path, "", found)
    return found


def _gather(node: yaml.Node, path: Path, prefix: str, found: dict[str, ConfigValue]) -> None:
    if not isinstance(node, yaml.MappingNode):
        if prefix and node.tag == "tag:yaml.org,2002:null":  # every line of a part commented out
            return
        line = node.start_mark.line + 1
        below = [name for name, _ in settings() if name.startswith(prefix)]
        raise ConfigError(
            f"{path} line {line}: expected settings {f'of {prefix[:-1]!r}' if prefix else 'by name'}, one a line, "
            f"such as {below[0].removeprefix(prefix)!r}. {_WHOLE}"
        )
    parts = {".".join(pieces[:n]) for name, _ in settings() for pieces in [name.split(".")] for n in range(len(pieces))}
    for key, value in node.value:
        line = key.start_mark.line + 1
        name = f"{prefix}{key.value}"
        if name in parts:
            _gather(value, path, f"{name}.", found)
            continue
        where = f"{path} line {line}: "
        _known(name, where)
        if name in found:
            raise ConfigError(f"{where}{name!r} is there a second time; first: {found[name].where.rstrip(': ')}.")
        try:
            found[name] = ConfigValue(plain_yaml.value_of(value), where)
        except UnexpectedContent as error:
            raise ConfigError(f"{where}the value of {name!r} is not understood: {error}. {_WHOLE}") from error


def _validated(merged: dict[str, Any], given: Mapping[str, ConfigValue]) -> TrainingConfig:
    for name, (value, _) in given.items():
        *folders, last = name.split(".")
        inner = merged
        for folder in folders:
            below = inner.get(folder)
            inner[folder] = below if isinstance(below, dict) else {}
            inner = inner[folder]
        inner[last] = value
    try:
        return TrainingConfig.model_validate(merged)
    except ValidationError as error:
        said = []
        for one in error.errors():
            name = ".".join(map(str, one["loc"]))
            where = next((given[known].where for known in given if f"{name}.".startswith(f"{known}.")), "")
            if name:
                said.append(f"{where}{name} = {_short(one['input'])}: {one['msg'].lower()}")
            else:  # two settings that do not go together: the message names both
                said.append(one["msg"].removeprefix("Value error, "))
        raise ConfigError(f"{error.error_count()} setting(s) out of range: {'; '.join(said)}.") from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
