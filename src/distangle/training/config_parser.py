"""Read a configuration from a preset, a file and the command line, in this order."""

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

_FULL_CONFIG_HINT = "`distangle settings` prints a whole configuration."


class ConfigValue(NamedTuple):
    """A value that a user set, and its place: `mine.yaml line 3: `, or nothing."""

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
    """Return a preset, overridden by a file, overridden by single settings.

    Args:
        preset: `seed`, `rcic1st`, `small` or `scratch`; None for the preset that the file names, else `seed`.
        changes: Settings such as `"optim.lr=1e-4"`; values are YAML, and the last of several wins.
        file: YAML with any of the settings, nested or as `optim.lr`.
        base: Replaces the preset: the configuration of an earlier run.
        direct: Top-level fields; None does not override.

    Raises:
        ConfigError: A preset or key is unknown (the message gives its line and the nearest name), a key occurs twice in
            the file, or a value is out of range.
    """
    from_file = {} if file is None else _read_settings(file)
    values = {name: ConfigValue(value) for name, value in direct.items() if value is not None}
    for change in changes:
        name, separator, text = change.partition("=")
        if not separator:
            raise ConfigError(f"{change!r} is not a setting. Expected KEY=VALUE, such as optim.lr=1e-4.")
        value = _parse_value(_check_name(name.strip(), ""), text)
        if name.strip() == "preset":
            preset = str(value)
        else:
            values[name.strip()] = ConfigValue(value)
    if base is None:
        base = _preset_config(preset, from_file)
    elif preset not in (None, base.preset):
        raise ConfigError(f"The earlier run has the preset {base.preset!r}; leave out `--preset {preset}`.")
    return _validate(base.model_dump(), from_file | values)


def write_config(config: TrainingConfig) -> str:
    """Return the configuration as YAML, with every value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def read_config(path: Path) -> TrainingConfig:
    """Read a configuration file; missing settings keep their defaults.

    Raises:
        ConfigError: A key or value is invalid; the message names it and its line.
    """
    return _validate({}, _read_settings(path))


def settings(model: type[BaseModel] = TrainingConfig, *, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting by its dotted name, such as `optim.lr`, in order.

    Args:
        model: Section to start from.
        prefix: Prefix of every name.
    """
    for name, field in model.model_fields.items():
        section = _section(field)
        if section is None:
            yield f"{prefix}{name}", field
        else:
            yield from settings(section, prefix=f"{prefix}{name}.")


def values_of(config: TrainingConfig) -> dict[str, Any]:
    """Return the values of a configuration by dotted name."""
    dumped = config.model_dump(mode="json")
    return {name: _lookup(dumped, name) for name, _ in settings()}


def _section(field: FieldInfo) -> type[BaseModel] | None:
    for annotation in (field.annotation, *get_args(field.annotation)):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
    return None


def _lookup(nested: Any, name: str) -> Any:
    for key in name.split("."):
        nested = nested[key] if isinstance(nested, Mapping) else None
    return nested


def _preset_config(preset: str | None, from_file: Mapping[str, ConfigValue]) -> TrainingConfig:
    in_file = from_file.get("preset")
    if in_file is not None and preset not in (None, in_file.value):
        raise ConfigError(
            f"{in_file.where}the preset is {in_file.value!r}, the command line names {preset!r}: remove one of them."
        )
    name = preset or (in_file.value if in_file is not None else "seed")
    if name not in PRESETS:
        raise ConfigError(f"{in_file.where if in_file else ''}No preset {name!r}. {did_you_mean(str(name), PRESETS)}")
    return TrainingConfig.model_validate(PRESETS[name])


def _check_name(name: str, where: str) -> str:
    """Return the name of a setting, or refuse it with the nearest one."""
    names = [setting for setting, _ in settings()]
    if name in names:
        return name
    children = [setting for setting in names if setting.startswith(f"{name}.")]
    if children:
        raise ConfigError(f"{where}No setting {name!r}: it is a section. Expected one of {', '.join(children)}.")
    raise ConfigError(
        f"{where}No setting {_abbreviate(name)}. {_suggestion(name, names)}`distangle settings` lists all {len(names)}."
    )


def _suggestion(name: str, names: list[str]) -> str:
    # A right name without its section, such as `lr`, is far from `optim.lr` letter by letter.
    last_parts = {setting: setting.rpartition(".")[2] for setting in names}
    matches = difflib.get_close_matches(name.rpartition(".")[2], set(last_parts.values()), n=1, cutoff=0.75)
    name_parts = name.rpartition(".")[2].replace("-", "_").split("_")
    matches += ["".join(word[:1] for word in name_parts)] if len(name_parts) > 1 else []  # learning_rate is lr
    candidates = [setting for setting in names if last_parts[setting] in matches]
    candidates = sorted(candidates, key=lambda setting: -difflib.SequenceMatcher(None, name, setting).ratio())
    candidates = candidates[:3] or difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    return f"Did you mean {' or '.join(map(repr, candidates))}? " if candidates else ""


def _parse_value(name: str, text: str) -> Any:
    try:
        return plain_yaml.load(text)
    except UnexpectedContent as error:
        raise ConfigError(
            f"{name}={text[:80]}: the value is not valid YAML. Quote it, or write a number, a word or true/false."
        ) from error


def _read_settings(path: Path) -> dict[str, ConfigValue]:
    """Read a YAML file by dotted names, each with its line."""
    try:
        root = plain_yaml.compose(path.read_text(encoding="utf-8"))
    except UnexpectedContent as error:
        raise ConfigError(f"{path} is not valid YAML: {error}. Expected lines such as `epochs: 60`.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read as a configuration ({error}). `distangle settings > FILE` writes one."
        ) from error
    settings_by_name: dict[str, ConfigValue] = {}
    if root is not None:
        _collect_settings(root, path, "", settings_by_name)
    return settings_by_name


def _collect_settings(node: yaml.Node, path: Path, prefix: str, settings_by_name: dict[str, ConfigValue]) -> None:
    if not isinstance(node, yaml.MappingNode):
        if prefix and node.tag == "tag:yaml.org,2002:null":  # every line of a section is commented out
            return
        line = node.start_mark.line + 1
        children = [name for name, _ in settings() if name.startswith(prefix)]
        raise ConfigError(
            f"{path} line {line}: expected settings {f'of {prefix[:-1]!r}' if prefix else 'by name'}, one a line, "
            f"such as {children[0].removeprefix(prefix)!r}. {_FULL_CONFIG_HINT}"
        )
    sections = {".".join(parts[:n]) for name, _ in settings() for parts in [name.split(".")] for n in range(len(parts))}
    for key, value in node.value:
        line = key.start_mark.line + 1
        name = f"{prefix}{key.value}"
        if name in sections:
            _collect_settings(value, path, f"{name}.", settings_by_name)
            continue
        where = f"{path} line {line}: "
        _check_name(name, where)
        if name in settings_by_name:
            raise ConfigError(
                f"{where}{name!r} occurs twice; the first time at {settings_by_name[name].where.rstrip(': ')}."
            )
        try:
            settings_by_name[name] = ConfigValue(plain_yaml.value_of(value), where)
        except UnexpectedContent as error:
            raise ConfigError(
                f"{where}the value of {name!r} is not understood: {error}. {_FULL_CONFIG_HINT}"
            ) from error


def _validate(merged: dict[str, Any], values: Mapping[str, ConfigValue]) -> TrainingConfig:
    for name, (value, _) in values.items():
        *sections, last = name.split(".")
        inner = merged
        for section in sections:
            child = inner.get(section)
            inner[section] = child if isinstance(child, dict) else {}
            inner = inner[section]
        inner[last] = value
    try:
        return TrainingConfig.model_validate(merged)
    except ValidationError as error:
        problems = []
        for detail in error.errors():
            name = ".".join(map(str, detail["loc"]))
            where = next(
                (values[given_name].where for given_name in values if f"{name}.".startswith(f"{given_name}.")), ""
            )
            if name:
                problems.append(f"{where}{name} = {_abbreviate(detail['input'])}: {detail['msg'].lower()}")
            else:  # two settings that exclude each other: the message names both
                problems.append(detail["msg"].removeprefix("Value error, "))
        raise ConfigError(f"{error.error_count()} setting(s) out of range: {'; '.join(problems)}.") from error


def _abbreviate(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
