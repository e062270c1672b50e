"""Channels of an image: stain, organelle and display colour.

What was done to the cells of a well, and which part that plays in the screen.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Channel(BaseModel):
    """One stain of a screen.

    Attributes:
        name: Short name, unique in the screen.
        stain: The dye; "" if not told.
        organelle: What it binds to; "" if not told.
        colour: `#RRGGBB`, to be seen on black; "" if not told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    stain: str = ""
    organelle: str = ""
    colour: Annotated[str, Field(pattern=r"^(#[0-9A-Fa-f]{6})?$")] = ""


# Distinct from each other and light enough on black; the first is a lighter blue than #0000FF.
_COLOURS = ("#4C6FFF", "#2AFF1F", "#FF3B3B", "#2DFFFC", "#FA00FD", "#FEFF28", "#FF9F1C", "#FFFFFF")

_KNOWN = {
    "dapi": ("DAPI", "nuclei", "#4C6FFF"),
    "hoechst": ("Hoechst", "nuclei", "#4C6FFF"),
    "dna": ("", "nuclei", "#4C6FFF"),
    "actin": ("", "actin", "#FF3B3B"),
    "tubulin": ("", "microtubules", "#2AFF1F"),
    "er": ("", "endoplasmic reticulum", "#2AFF1F"),
    "rna": ("", "nucleoli and cytoplasmic RNA", "#2DFFFC"),
    "agp": ("", "actin, Golgi and plasma membrane", "#FF9F1C"),
    "mito": ("", "mitochondria", "#FA00FD"),
}


def named_channels(names: list[str]) -> tuple[Channel, ...]:
    """Return channels that only have names, each with a colour of its own.

    Names that are common in Cell Painting and in BBBC021 also bring their organelle.
    """
    channels: list[Channel] = []
    taken: set[str] = set()
    for name in names:
        stain, organelle, wanted = _KNOWN.get(name.lower().removeprefix("orig"), ("", "", ""))
        free = [colour for colour in (wanted, *_COLOURS) if colour and colour not in taken]
        colour = free[0] if free else _COLOURS[len(channels) % len(_COLOURS)]
        taken.add(colour)
        channels.append(Channel(name=name, stain=stain, organelle=organelle, colour=colour))
    return tuple(channels)


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


def natural_sort_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Return a key that sorts `sirna_2` before `sirna_10`."""
    parts = re.split(r"([0-9]+)", name)
    # Odd parts are the figures. The name itself breaks ties such as "a1" and "a01".
    return tuple((0, int(p), "") if i % 2 else (1, 0, p.lower()) for i, p in enumerate(parts) if p), name


def ordered_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return the known names once each, in natural order: position k is class k.

    "" is unknown, no class.
    """
    return tuple(sorted({name for name in names if name}, key=natural_sort_key))


def ordered_classes_sha256(names: Iterable[str]) -> str:
    """Return the hash by which screen and network recognise their class list."""
    return hashlib.sha256(json.dumps(list(names), ensure_ascii=True).encode()).hexdigest()
