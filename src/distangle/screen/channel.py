"""Channels of an image: stain, organelle and display colour."""

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
