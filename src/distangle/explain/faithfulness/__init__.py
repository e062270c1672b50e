"""Tests of whether maps reflect the network that they explain."""

from distangle.explain.faithfulness.consistency import examine_seeds
from distangle.explain.faithfulness.curves import DeletionInsertion, deletion_insertion
from distangle.explain.faithfulness.map_similarity import (
    MapMethod,
    map_method,
    maps_of,
    on_grid,
    random_similarity,
    similarity,
)
from distangle.explain.faithfulness.model_randomization import (
    RandomizationResult,
    RandomizedNetwork,
    cascade,
    model_randomization,
    stages_of,
)
from distangle.explain.faithfulness.run import FaithfulnessSettings, OtherNetworks, examine
from distangle.explain.faithfulness.verdicts import verdicts

__all__ = [
    "DeletionInsertion",
    "FaithfulnessSettings",
    "MapMethod",
    "OtherNetworks",
    "RandomizationResult",
    "RandomizedNetwork",
    "cascade",
    "deletion_insertion",
    "examine",
    "examine_seeds",
    "map_method",
    "maps_of",
    "model_randomization",
    "on_grid",
    "random_similarity",
    "similarity",
    "stages_of",
    "verdicts",
]
