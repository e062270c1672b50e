"""Define what perturbations change: traits of cells, and kinds of effect.

An effect changes traits of single cells, never the gain of a whole image, so it survives standardising every image
and channel. Effects on one stain leave the geometry of the cells alone: every other stain stays as it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import combinations

import numpy as np

from distangle.synthetic.cells import CellType, PerCell

ALL_CHANNELS = (1, 2, 3, 4, 5, 6)
STAINS = ("nuclei", "ER", "actin", "nucleoli and RNA", "mitochondria", "Golgi")


@dataclass(frozen=True)
class Traits:
    """Intensities of each cell: factors around 1, and amounts that are 0 untreated."""

    nucleus_size: PerCell
    nucleus_gain: PerCell
    chromatin_spots: PerCell
    nucleus_fragments: PerCell
    er_reach: PerCell
    er_gain: PerCell
    er_holes: PerCell
    fibres: PerCell
    cortex: PerCell
    actin_puncta: PerCell
    nucleoli_count: PerCell
    nucleoli_size: PerCell
    nucleoli_dispersal: PerCell
    rna_gain: PerCell
    mito_length: PerCell
    mito_fragments: PerCell
    mito_reach: PerCell
    mito_gain: PerCell
    golgi_spread: PerCell
    golgi_ring: PerCell
    golgi_gain: PerCell
    er_aggregates: PerCell
    actin_aggregates: PerCell
    rna_aggregates: PerCell
    mito_aggregates: PerCell
    golgi_aggregates: PerCell


AMOUNTS = {
    "chromatin_spots",
    "nucleus_fragments",
    "er_holes",
    "actin_puncta",
    "nucleoli_dispersal",
    "mito_fragments",
    "golgi_ring",
    "er_aggregates",
    "actin_aggregates",
    "rna_aggregates",
    "mito_aggregates",
    "golgi_aggregates",
}


def no_effect(kind: CellType, n_cells: int, rng: np.random.Generator) -> Traits:
    """Draw the traits of untreated cells.

    They differ from cell to cell, and a few divide.
    """
    names = [item.name for item in fields(Traits)]
    width = {name: 0.27 if name.endswith("_gain") else 0.1 for name in names}
    values = {
        name: np.exp(rng.normal(0, width[name], n_cells)).astype(np.float32)
        if name not in AMOUNTS
        else np.zeros(n_cells, np.float32)
        for name in names
    }
    values["fibres"] *= np.float32(kind.fibres)
    values["cortex"] *= np.float32(kind.cortex)
    dividing = rng.uniform(size=n_cells) < 0.025
    values["nucleus_gain"] = np.where(dividing, 1.9, values["nucleus_gain"]).astype(np.float32)
    values["nucleus_size"] = np.where(dividing, 0.72, values["nucleus_size"]).astype(np.float32)
    return Traits(**values)


@dataclass(frozen=True)
class EffectType:
    """One kind of effect at strength 1, in a share of the cells.

    Factors on traits, and amounts added to them.
    """

    name: str
    channels: tuple[int, ...]
    words: str
    factors: Mapping[str, float] = field(default_factory=dict)
    amounts: Mapping[str, float] = field(default_factory=dict)
    share: float = 1.0

    @property
    def traits(self) -> frozenset[str]:
        """The traits that it touches."""
        return frozenset(self.factors) | frozenset(self.amounts)


_SINGLE = (
    EffectType("nuclei_enlarged", (1,), "nuclei enlarged", {"nucleus_size": 1.45}),
    EffectType("nuclei_shrunken", (1,), "nuclei shrunken and dense", {"nucleus_size": 0.6, "nucleus_gain": 1.5}),
    EffectType("nuclei_fragmented", (1,), "nuclei in fragments (apoptotic)", {}, {"nucleus_fragments": 0.65}),
    EffectType("nuclei_speckled", (1,), "chromatin in bright speckles", {}, {"chromatin_spots": 1.0}),
    EffectType("nuclei_uneven", (1,), "half of the nuclei far brighter", {"nucleus_gain": 2.6}, {}, 0.45),
    EffectType("er_perinuclear", (2,), "ER drawn together around the nucleus", {"er_reach": 0.17, "er_gain": 1.6}),
    EffectType("er_vacuolated", (2,), "dark vacuoles in the ER", {}, {"er_holes": 1.0}),
    EffectType("er_uneven", (2,), "half of the cells with far brighter ER", {"er_gain": 2.8}, {}, 0.4),
    EffectType("actin_stress_fibres", (3,), "thick actin stress fibres", {"fibres": 3.2, "cortex": 0.6}),
    EffectType("actin_cortical_ring", (3,), "actin in a cortical ring", {"fibres": 0.2, "cortex": 3.2}),
    EffectType(
        "actin_loss", (3,), "actin fibres lost, dots left", {"fibres": 0.06, "cortex": 0.12}, {"actin_puncta": 1.0}
    ),
    EffectType("nucleoli_many", (4,), "many small nucleoli", {"nucleoli_count": 3.5, "nucleoli_size": 0.95}),
    EffectType("nucleoli_large", (4,), "few, large nucleoli", {"nucleoli_count": 0.5, "nucleoli_size": 2.4}),
    EffectType("nucleoli_dispersed", (4,), "nucleoli dispersed over the nucleus", {}, {"nucleoli_dispersal": 1.0}),
    EffectType("mito_fragmented", (5,), "mitochondria in fragments", {}, {"mito_fragments": 1.0}),
    EffectType(
        "mito_hyperfused", (5,), "mitochondria fused into long networks", {"mito_length": 3.2, "mito_gain": 1.25}
    ),
    EffectType("mito_perinuclear", (5,), "mitochondria clustered at the nucleus", {"mito_reach": 0.22}),
    EffectType("mito_uneven", (5,), "half of the cells with far brighter mitochondria", {"mito_gain": 3.0}, {}, 0.4),
    EffectType("golgi_dispersed", (6,), "Golgi dispersed over the cell", {"golgi_spread": 4.5}),
    EffectType("golgi_compact", (6,), "Golgi in one compact bright body", {"golgi_spread": 0.15, "golgi_gain": 1.9}),
    EffectType("golgi_ring", (6,), "Golgi all around the nucleus", {"golgi_gain": 1.2}, {"golgi_ring": 1.0}),
)
_AGGREGATES = tuple(
    EffectType(f"{name}_aggregates", (channel,), f"bright aggregates in {words}", {}, {f"{name}_aggregates": 1.0})
    for name, channel, words in (
        ("er", 2, "ER"),
        ("actin", 3, "actin"),
        ("rna", 4, "cytoplasmic RNA"),
        ("mito", 5, "mitochondria"),
        ("golgi", 6, "Golgi"),
    )
)
_CELL_WIDE = (
    EffectType("cell_count_low", ALL_CHANNELS, "about half as many cells", {"density": 0.45}),
    EffectType("cell_size_large", ALL_CHANNELS, "cells larger", {"cell_size": 1.4}),
    EffectType("cell_size_small", ALL_CHANNELS, "cells smaller", {"cell_size": 0.72}),
)
KINDS: dict[str, EffectType] = {kind.name: kind for kind in (*_SINGLE, *_AGGREGATES, *_CELL_WIDE)}


@dataclass(frozen=True)
class Effect:
    """What one perturbation does: no kind at all is an untreated cell's lot."""

    kinds: tuple[str, ...] = ()
    strength: float = 0.0
    local: bool = False

    @property
    def name(self) -> str:
        """The kinds joined by '+', or 'none'."""
        return "+".join(self.kinds) or "none"

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels that it changes, counted from 1."""
        return tuple(sorted({channel for kind in self.kinds for channel in KINDS[kind].channels}))

    @property
    def words(self) -> str:
        """What it does, in a sentence."""
        if not self.kinds:
            return "no effect"
        where = ", in one region of each site" if self.local else ""
        return " and ".join(KINDS[kind].words for kind in self.kinds) + where

    def factor(self, trait: str) -> float:
        """Return the factor on a trait of the whole site: `density` or `cell_size`."""
        exponents = [KINDS[kind].factors.get(trait, 1.0) for kind in self.kinds]
        return float(np.prod(exponents) ** self.strength)

    def change(self, traits: Traits, cells: PerCell, susceptibility: PerCell) -> Traits:
        """Return the traits after the effect.

        Args:
            traits: As untreated.
            cells: 1 for the cells that the effect reaches, 0 for the others.
            susceptibility: In [0, 1) for each cell; a kind with a share of 0.4 acts on cells below 0.4.
        """
        changed: dict[str, PerCell] = {}
        for kind in (KINDS[name] for name in self.kinds):
            dose = np.where(susceptibility < kind.share, cells, 0) * self.strength
            for trait, factor in kind.factors.items():
                if trait in ("density", "cell_size"):
                    continue
                before = changed.get(trait, getattr(traits, trait))
                changed[trait] = (before * factor**dose).astype(np.float32)
            for trait, amount in kind.amounts.items():
                before = changed.get(trait, getattr(traits, trait))
                changed[trait] = (before + amount * dose).astype(np.float32)
        return replace(traits, **changed)


def _pools() -> tuple[list[list[tuple[str, ...]]], list[tuple[str, ...]]]:
    """Return, per channel, its effects (single kinds, then two kinds that go together); and two-stain pairs."""
    by_channel = []
    for channel in ALL_CHANNELS:
        kinds = [kind for kind in _SINGLE if kind.channels == (channel,)]
        both = [(one.name, other.name) for one, other in combinations(kinds, 2) if not one.traits & other.traits]
        by_channel.append([*[(kind.name,) for kind in kinds], *both])
    pairs: list[tuple[str, ...]] = [
        (one.name, other.name) for one, other in combinations(_SINGLE, 2) if one.channels != other.channels
    ]
    return by_channel, pairs


def draw_effects(
    treatments: Sequence[str],
    positive_controls: Sequence[str],
    *,
    strength: float,
    local_share: float,
    rng: np.random.Generator,
) -> dict[str, Effect]:
    """Give every perturbation its effect.

    Of the treatments without a place one in twelve changes number or size of the cells and one in eight changes
    two stains; all others change one stain, the channels taking turns. Effects differ from each other as long as
    there are any left. Positive controls act on one stain, 1.3 times as strongly, everywhere in the image.

    Args:
        treatments: Their names.
        positive_controls: Their names.
        strength: Factor on every effect; 0 plants nothing.
        local_share: Share of the treatments whose effect is confined to a place.
        rng: Source of the choice.
    """
    by_channel, pairs = _pools()
    turns = [int(channel) for channel in rng.permutation(6)]
    for pool in by_channel:
        n_kinds = sum(len(entry) == 1 for entry in pool)
        pool[:n_kinds] = [pool[int(i)] for i in rng.permutation(n_kinds)]
    n = len(treatments)
    n_local = round(local_share * n)
    n_wide = min(len(_CELL_WIDE), (n - n_local) // 12)
    n_pairs = (n - n_local) // 8
    drawn: list[Effect] = []

    def cycle(count: int, pools: list[list[tuple[str, ...]]], *, first: int, local: bool) -> None:
        used: dict[int, int] = {}
        for turn in range(count):
            channel = turns[(first + turn) % 6]
            place = used.get(channel, 0)
            used[channel] = place + 1
            pool = pools[channel]
            # Once a channel's effects are used up, the same come again, weaker.
            dose = strength * 0.6 ** (place // len(pool))
            drawn.append(Effect(pool[place % len(pool)], dose, local))

    cycle(n - n_local - n_wide - n_pairs, by_channel, first=0, local=False)
    for index in rng.permutation(len(pairs))[:n_pairs]:
        drawn.append(Effect(pairs[int(index)], strength))
    for index in rng.permutation(len(_CELL_WIDE))[:n_wide]:
        drawn.append(Effect((_CELL_WIDE[int(index)].name,), strength))
    aggregates = [(kind.name,) for kind in _AGGREGATES]
    local_pools = [
        [entry for entry in aggregates if KINDS[entry[0]].channels == (channel,)] + by_channel[channel - 1]
        for channel in ALL_CHANNELS
    ]
    cycle(n_local, local_pools, first=3, local=True)
    while len(drawn) < n:  # more pairs wanted than there are
        drawn.append(Effect(pairs[len(drawn) % len(pairs)], strength * 0.6))
    order = rng.permutation(n)
    effects = {name: drawn[int(order[i])] for i, name in enumerate(treatments)}
    strong = [entry for pool in zip(*(pool[:3] for pool in by_channel), strict=True) for entry in pool]
    for i, name in enumerate(positive_controls):
        effects[name] = Effect(strong[-1 - i % len(strong)], 1.3 * strength)
    return effects
