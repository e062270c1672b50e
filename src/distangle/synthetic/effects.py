"""Define what perturbations change: traits of cells, and types of effects.

An effect changes traits of single cells, never the gain of a whole image, so it remains after standardizing every
image and channel. An effect on one channel leaves cell geometry and all other channels unchanged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import combinations

import numpy as np

from distangle.synthetic.cells import CellType, PerCell

ALL_CHANNELS = (1, 2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Traits:
    """Traits of each cell: factors around 1, and amounts that are 0 in controls."""

    nucleus_size: PerCell
    nucleus_gain: PerCell
    chromatin_spots: PerCell
    nucleus_fragments: PerCell
    er_reach: PerCell
    er_gain: PerCell
    er_holes: PerCell
    fibers: PerCell
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


ADDITIVE_TRAITS = {
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
    """Draw the traits of control cells.

    They differ from cell to cell, and a few cells divide.
    """
    names = [item.name for item in fields(Traits)]
    std = {name: 0.27 if name.endswith("_gain") else 0.1 for name in names}
    values = {
        name: np.exp(rng.normal(0, std[name], n_cells)).astype(np.float32)
        if name not in ADDITIVE_TRAITS
        else np.zeros(n_cells, np.float32)
        for name in names
    }
    values["fibers"] *= np.float32(kind.fibers)
    values["cortex"] *= np.float32(kind.cortex)
    is_dividing = rng.uniform(size=n_cells) < 0.025
    values["nucleus_gain"] = np.where(is_dividing, 1.9, values["nucleus_gain"]).astype(np.float32)
    values["nucleus_size"] = np.where(is_dividing, 0.72, values["nucleus_size"]).astype(np.float32)
    return Traits(**values)


@dataclass(frozen=True)
class EffectType:
    """One type of effect at strength 1, in a share of the cells.

    It multiplies traits by factors, and adds amounts to traits.
    """

    name: str
    channels: tuple[int, ...]
    description: str
    factors: Mapping[str, float] = field(default_factory=dict)
    amounts: Mapping[str, float] = field(default_factory=dict)
    share: float = 1.0

    @property
    def traits(self) -> frozenset[str]:
        """The traits that it changes."""
        return frozenset(self.factors) | frozenset(self.amounts)


_CHANNEL_EFFECTS = (
    EffectType("nuclei_enlarged", (1,), "nuclei enlarged", {"nucleus_size": 1.45}),
    EffectType("nuclei_shrunken", (1,), "nuclei shrunken and dense", {"nucleus_size": 0.6, "nucleus_gain": 1.5}),
    EffectType("nuclei_fragmented", (1,), "nuclei in fragments (apoptotic)", {}, {"nucleus_fragments": 0.65}),
    EffectType("nuclei_speckled", (1,), "chromatin in bright speckles", {}, {"chromatin_spots": 1.0}),
    EffectType("nuclei_uneven", (1,), "half of the nuclei far brighter", {"nucleus_gain": 2.6}, {}, 0.45),
    EffectType("er_perinuclear", (2,), "ER drawn together around the nucleus", {"er_reach": 0.17, "er_gain": 1.6}),
    EffectType("er_vacuolated", (2,), "dark vacuoles in the ER", {}, {"er_holes": 1.0}),
    EffectType("er_uneven", (2,), "half of the cells with far brighter ER", {"er_gain": 2.8}, {}, 0.4),
    EffectType("actin_stress_fibres", (3,), "thick actin stress fibres", {"fibers": 3.2, "cortex": 0.6}),
    EffectType("actin_cortical_ring", (3,), "actin in a cortical ring", {"fibers": 0.2, "cortex": 3.2}),
    EffectType(
        "actin_loss", (3,), "actin fibres lost, dots left", {"fibers": 0.06, "cortex": 0.12}, {"actin_puncta": 1.0}
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
_AGGREGATE_EFFECTS = tuple(
    EffectType(f"{name}_aggregates", (channel,), f"bright aggregates in {description}", {}, {f"{name}_aggregates": 1.0})
    for name, channel, description in (
        ("er", 2, "ER"),
        ("actin", 3, "actin"),
        ("rna", 4, "cytoplasmic RNA"),
        ("mito", 5, "mitochondria"),
        ("golgi", 6, "Golgi"),
    )
)
_CELL_EFFECTS = (
    EffectType("cell_count_low", ALL_CHANNELS, "about half as many cells", {"density": 0.45}),
    EffectType("cell_size_large", ALL_CHANNELS, "cells larger", {"cell_size": 1.4}),
    EffectType("cell_size_small", ALL_CHANNELS, "cells smaller", {"cell_size": 0.72}),
)
EFFECT_TYPES: dict[str, EffectType] = {
    kind.name: kind for kind in (*_CHANNEL_EFFECTS, *_AGGREGATE_EFFECTS, *_CELL_EFFECTS)
}


@dataclass(frozen=True)
class Effect:
    """The effect of one perturbation; without types it changes nothing."""

    kinds: tuple[str, ...] = ()
    strength: float = 0.0
    local: bool = False

    @property
    def name(self) -> str:
        """The types joined by '+', or 'none'."""
        return "+".join(self.kinds) or "none"

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels that it changes, counted from 1."""
        return tuple(sorted({channel for kind in self.kinds for channel in EFFECT_TYPES[kind].channels}))

    @property
    def description(self) -> str:
        """What it does, in a sentence."""
        if not self.kinds:
            return "no effect"
        where = ", in one region of each site" if self.local else ""
        return " and ".join(EFFECT_TYPES[kind].description for kind in self.kinds) + where

    def factor(self, trait: str) -> float:
        """Return the factor on a trait of the whole site: `density` or `cell_size`."""
        exponents = [EFFECT_TYPES[kind].factors.get(trait, 1.0) for kind in self.kinds]
        return float(np.prod(exponents) ** self.strength)

    def change(self, traits: Traits, cells: PerCell, susceptibility: PerCell) -> Traits:
        """Return the traits after the effect.

        Args:
            traits: Of control cells.
            cells: 1 for cells that the effect reaches, 0 for others.
            susceptibility: In [0, 1) for each cell; a type with a share of 0.4 changes cells below 0.4.
        """
        new_traits: dict[str, PerCell] = {}
        for kind in (EFFECT_TYPES[name] for name in self.kinds):
            dose = np.where(susceptibility < kind.share, cells, 0) * self.strength
            for trait, factor in kind.factors.items():
                if trait in ("density", "cell_size"):
                    continue
                value = new_traits.get(trait, getattr(traits, trait))
                new_traits[trait] = (value * factor**dose).astype(np.float32)
            for trait, amount in kind.amounts.items():
                value = new_traits.get(trait, getattr(traits, trait))
                new_traits[trait] = (value + amount * dose).astype(np.float32)
        return replace(traits, **new_traits)


def draw_effects(
    treatments: Sequence[str],
    positive_controls: Sequence[str],
    *,
    strength: float,
    local_share: float,
    rng: np.random.Generator,
) -> dict[str, Effect]:
    """Draw an effect for every perturbation.

    Of the treatments with a global effect, one in twelve changes number or size of the cells and one in eight changes
    two channels; all others change one channel, the channels taking turns. Effects differ from each other as long as
    enough exist. Positive controls change one channel, 1.3 times as strongly, everywhere in the image.

    Args:
        treatments: Their names.
        positive_controls: Their names.
        strength: Factor on every effect; 0 plants nothing.
        local_share: Share of the treatments with a local effect.
        rng: For all random choices.
    """
    by_channel, pairs = _effect_pools()
    channel_order = [int(channel) for channel in rng.permutation(6)]
    for pool in by_channel:
        n_kinds = sum(len(entry) == 1 for entry in pool)
        pool[:n_kinds] = [pool[int(i)] for i in rng.permutation(n_kinds)]
    n = len(treatments)
    n_local = round(local_share * n)
    n_wide = min(len(_CELL_EFFECTS), (n - n_local) // 12)
    n_pairs = (n - n_local) // 8
    pool_effects: list[Effect] = []

    def add_in_turn(count: int, pools: list[list[tuple[str, ...]]], *, first: int, local: bool) -> None:
        n_used: dict[int, int] = {}
        for step in range(count):
            channel = channel_order[(first + step) % 6]
            position = n_used.get(channel, 0)
            n_used[channel] = position + 1
            pool = pools[channel]
            # After the last effect of a channel, the same effects repeat, weaker.
            dose = strength * 0.6 ** (position // len(pool))
            pool_effects.append(Effect(pool[position % len(pool)], dose, local))

    add_in_turn(n - n_local - n_wide - n_pairs, by_channel, first=0, local=False)
    for index in rng.permutation(len(pairs))[:n_pairs]:
        pool_effects.append(Effect(pairs[int(index)], strength))
    for index in rng.permutation(len(_CELL_EFFECTS))[:n_wide]:
        pool_effects.append(Effect((_CELL_EFFECTS[int(index)].name,), strength))
    aggregates = [(kind.name,) for kind in _AGGREGATE_EFFECTS]
    local_pools = [
        [entry for entry in aggregates if EFFECT_TYPES[entry[0]].channels == (channel,)] + by_channel[channel - 1]
        for channel in ALL_CHANNELS
    ]
    add_in_turn(n_local, local_pools, first=3, local=True)
    while len(pool_effects) < n:  # more pairs needed than exist
        pool_effects.append(Effect(pairs[len(pool_effects) % len(pairs)], strength * 0.6))
    order = rng.permutation(n)
    effects = {name: pool_effects[int(order[i])] for i, name in enumerate(treatments)}
    strong = [entry for pool in zip(*(pool[:3] for pool in by_channel), strict=True) for entry in pool]
    for i, name in enumerate(positive_controls):
        effects[name] = Effect(strong[-1 - i % len(strong)], 1.3 * strength)
    return effects


def _effect_pools() -> tuple[list[list[tuple[str, ...]]], list[tuple[str, ...]]]:
    """Return the effects of each channel, and pairs of types in two channels.

    The effects of a channel are single types, then pairs of types with disjoint traits.
    """
    by_channel = []
    for channel in ALL_CHANNELS:
        kinds = [kind for kind in _CHANNEL_EFFECTS if kind.channels == (channel,)]
        double_kinds = [
            (first.name, second.name) for first, second in combinations(kinds, 2) if not first.traits & second.traits
        ]
        by_channel.append([*[(kind.name,) for kind in kinds], *double_kinds])
    pairs: list[tuple[str, ...]] = [
        (first.name, second.name)
        for first, second in combinations(_CHANNEL_EFFECTS, 2)
        if first.channels != second.channels
    ]
    return by_channel, pairs
