"""Words of a command line that carry more than one value."""

from collections.abc import Iterable
from typing import Any

import yaml

from distangle.errors import ConfigError


def pairs(given: Iterable[str], *, flag: str, parse: bool = False) -> dict[str, Any]:
    """Read `name=value` pairs, several to a word with commas between.

    Args:
        given: The words.
        flag: Named in the error.
        parse: Read values as YAML instead of text, one pair to a word.

    Raises:
        ConfigError: A word without `=`, or a name twice.
    """
    found: dict[str, Any] = {}
    words = [word for word in given] if parse else [part for word in given for part in word.split(",")]
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name.strip():
            message = f"{flag} {word!r}: expected NAME=VALUE."
            raise ConfigError(message)
        if name.strip() in found:
            message = f"{flag} names {name.strip()!r} twice."
            raise ConfigError(message)
        found[name.strip()] = yaml.safe_load(value) if parse else value.strip()
    return found
