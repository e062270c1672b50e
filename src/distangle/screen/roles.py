"""Channels, roles of wells, and the order of classes."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Channel(BaseModel):
    """A channel of a screen.

    Attributes:
        name: Short name, unique in the screen.
        stain: The dye; "" if unknown.
        organelle: The stained structure; "" if unknown.
        color: `#RRGGBB` for display on black; "" if unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    stain: str = ""
    organelle: str = ""
    color: Annotated[str, Field(pattern=r"^(#[0-9A-Fa-f]{6})?$")] = ""

    @property
    def label(self) -> str:
        """The name for readers, such as `nuclei (Hoechst 33342)`.

        A name that is only a number or the dye is replaced by the organelle, if that is known.
        """
        is_code = _CHANNEL_CODE.fullmatch(self.name) is not None or self.name.lower() == self.stain.lower()
        name = self.organelle if self.organelle and is_code else self.name
        return f"{name} ({self.stain})" if self.stain and self.stain.lower() not in name.lower() else name


def channel_labels(channels: Sequence[Channel]) -> list[str]:
    """Return the labels of the channels of a screen, all different."""
    labels = [channel.label for channel in channels]
    return [
        label if labels.count(label) == 1 else f"{label} [{channel.name}]"
        for label, channel in zip(labels, channels, strict=True)
    ]


_CHANNEL_CODE = re.compile(r"(w|c|ch|chan|channel)?[ _-]*[0-9]+", re.IGNORECASE)

# Distinct from each other and light enough on black; the first is a lighter blue than #0000FF.
_COLORS = ("#4C6FFF", "#2AFF1F", "#FF3B3B", "#2DFFFC", "#FA00FD", "#FEFF28", "#FF9F1C", "#FFFFFF")

_COMMON_CHANNELS = {
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
    """Return channels with the given names and distinct colors.

    Common names of Cell Painting and BBBC021 also set the stain and organelle.
    """
    channels: list[Channel] = []
    used: set[str] = set()
    for name in names:
        stain, organelle, preferred = _COMMON_CHANNELS.get(name.lower().removeprefix("orig"), ("", "", ""))
        free = [color for color in (preferred, *_COLORS) if color and color not in used]
        color = free[0] if free else _COLORS[len(channels) % len(_COLORS)]
        used.add(color)
        channels.append(Channel(name=name, stain=stain, organelle=organelle, color=color))
    return tuple(channels)


class Role(StrEnum):
    """The role of a well in a screen."""

    TREATMENT = "treatment"
    NEGATIVE_CONTROL = "negative_control"
    POSITIVE_CONTROL = "positive_control"
    UNTREATED = "untreated"
    UNKNOWN = "unknown"


NEGATIVE = (Role.NEGATIVE_CONTROL, Role.UNTREATED)
"""Roles of wells without an active perturbation."""

CONTROLS = (*NEGATIVE, Role.POSITIVE_CONTROL)
"""Roles of all control wells."""

_ROLE_WORDS = {
    "trt": Role.TREATMENT,
    "negcon": Role.NEGATIVE_CONTROL,
    "poscon": Role.POSITIVE_CONTROL,
    "": Role.UNKNOWN,
    **{role.value: role for role in Role},
}

ROLE_WORDS = tuple(word for word in _ROLE_WORDS if word)
"""Accepted values of a role column: the terms of RxRx1 and of JUMP."""


def role_of(value: str) -> Role | None:
    """Return the role of a table value; None if unknown.

    Case, blanks and hyphens are ignored; JUMP's `poscon_cp` and `poscon_diverse` are positive controls.
    """
    plain = re.sub(r"[\s-]+", "_", value.strip().lower())
    if plain.startswith("poscon_"):
        return Role.POSITIVE_CONTROL
    return _ROLE_WORDS.get(plain)


def natural_sort_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Return a key that sorts `sirna_2` before `sirna_10`."""
    parts = re.split(r"([0-9]+)", name)
    # Odd parts are numbers. The name itself breaks ties such as "a1" and "a01".
    return tuple((0, int(p), "") if i % 2 else (1, 0, p.lower()) for i, p in enumerate(parts) if p), name


def ordered_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return the known names once each, in natural order: position k is class k.

    "" means unknown and is not a class.
    """
    return tuple(sorted({name for name in names if name}, key=natural_sort_key))


def ordered_classes_sha256(names: Iterable[str]) -> str:
    """Return the hash of a class list, for the comparison of screen and network."""
    return hashlib.sha256(json.dumps(list(names), ensure_ascii=True).encode()).hexdigest()
