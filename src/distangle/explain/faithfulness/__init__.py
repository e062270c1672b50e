"""Tests of whether maps reflect the network that they explain."""

from distangle.explain.faithfulness.curves import Curves, curves
from distangle.explain.faithfulness.examine import OtherNetworks, examine
from distangle.explain.faithfulness.likeness import likeness, random_likeness
from distangle.explain.faithfulness.method import MapMethod, map_method, maps_of, on_grid
from distangle.explain.faithfulness.randomisation import Randomisation, randomisation
from distangle.explain.faithfulness.randomised import Randomised, cascade, stages_of
from distangle.explain.faithfulness.seeds import examine_seeds
from distangle.explain.faithfulness.settings import FaithfulnessSettings
from distangle.explain.faithfulness.verdicts import verdicts

__all__ = [
    "Curves",
    "FaithfulnessSettings",
    "MapMethod",
    "OtherNetworks",
    "Randomisation",
    "Randomised",
    "cascade",
    "curves",
    "examine",
    "examine_seeds",
    "map_method",
    "likeness",
    "maps_of",
    "on_grid",
    "random_likeness",
    "randomisation",
    "stages_of",
    "verdicts",
]
