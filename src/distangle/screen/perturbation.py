"""What was done to the cells of a well, and which part that plays in the screen."""

import hashlib
import json
import re
from collections.abc import Iterable
from enum import StrEnum


class Role(StrEnum):
    """The part that a well plays in a screen."""

    TREATMENT = "treatment"
    NEGATIVE_CONTROL = "negative_control"
    POSITIVE_CONTROL = "positive_control"
    UNTREATED = "untreated"
    UNKNOWN = "unknown"


NEGATIVE = (Role.NEGATIVE_CONTROL, Role.UNTREATED)
"""Wells that show what cells do by themselves."""

CONTROLS = (*NEGATIVE, Role.POSITIVE_CONTROL)
"""Wells that are no treatment."""

_ROLE_WORDS = {
    "trt": Role.TREATMENT,
    "negcon": Role.NEGATIVE_CONTROL,
    "poscon": Role.POSITIVE_CONTROL,
    "": Role.UNKNOWN,
    **{role.value: role for role in Role},
}

ROLE_WORDS = tuple(word for word in _ROLE_WORDS if word)
"""What a table may write in its role column: our words, which are RxRx1's, and JUMP's."""


def role_of(word: str) -> Role | None:
    """Return the role that a table's word means; None when nothing understands it.

    Case, blanks and hyphens do not count; JUMP's `poscon_cp` and `poscon_diverse` are positive controls.
    """
    plain = re.sub(r"[\s-]+", "_", word.strip().lower())
    if plain.startswith("poscon_"):
        return Role.POSITIVE_CONTROL
    return _ROLE_WORDS.get(plain)


def natural_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Return a key that sorts `sirna_2` before `sirna_10`."""
    parts = re.split(r"([0-9]+)", name)
    # Odd parts are the figures. The name itself breaks ties such as "a1" and "a01".
    return tuple((0, int(p), "") if i % 2 else (1, 0, p.lower()) for i, p in enumerate(parts) if p), name


def class_list(names: Iterable[str]) -> tuple[str, ...]:
    """Return the known names once each, in natural order: position k is class k.

    "" is unknown, no class.
    """
    return tuple(sorted({name for name in names if name}, key=natural_key))


def class_list_sha256(names: Iterable[str]) -> str:
    """Return the hash by which screen and network recognise their class list."""
    return hashlib.sha256(json.dumps(list(names), ensure_ascii=True).encode()).hexdigest()
