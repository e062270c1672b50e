"""Image regions and channels that drive a prediction, and tests of them."""

from distangle.explain.benchmark.run import BENCHMARK_PIECES, benchmark_run
from distangle.explain.benchmark.words import BENCHMARK_HEADER, benchmark_lines, benchmark_sentences
from distangle.explain.choose import choose_rows, other_beside, untreated_beside, untreated_wells
from distangle.explain.chosen import ChosenSites, NetworkSites, Piece, StatisticsGroup, target_of
from distangle.explain.explain import ExplainSettings, explain_sites
from distangle.explain.faithfulness import FaithfulnessSettings, OtherNetworks, examine, examine_seeds
from distangle.explain.filters.effect import prune_effect
from distangle.explain.filters.examine import FilterSettings, examine_filters
from distangle.explain.opened import Opened, PlantedTruth, SiteSelection, open_run
from distangle.explain.parts import AnalysisOptions
from distangle.explain.places.activation_map import ActivationMaps
from distangle.explain.places.at_image import PixelAttributionSettings
from distangle.explain.places.cells import nuclear_channel, segment
from distangle.explain.places.door import PLACE_METHODS, place_maps
from distangle.explain.places.grad_cam import activation_maps, closed_form_maps
from distangle.explain.places.mean_maps import PERTURBATION, WELL, MeanMaps, edge_area, edge_shares, mean_maps
from distangle.explain.places.overlap import CellOverlap, overlap_with_cells
from distangle.explain.planted import Circle, compare_with_truth
from distangle.explain.run import explain_run, n_steps
from distangle.explain.stains.answers import Taking
from distangle.explain.stains.channel_ablation import ChannelAblation, channel_ablation
from distangle.explain.stains.channel_attention import channel_attention, inverse_attention, map_channel_correlation
from distangle.explain.stains.channel_shapley import ChannelShapley, channel_shapley
from distangle.explain.stains.label_nulls import joined_p, labels_null, untreated_p
from distangle.explain.stains.nulls import (
    RandomMaps,
    ShapleyNull,
    null_channel_attention,
    null_correlation,
    p_values,
    random_smooth_maps,
    shapley_null,
)
from distangle.explain.stains.removal import Removal, default_removal, stand_ins
from distangle.explain.templates.compare import TemplateSettings, compare_templates
from distangle.explain.words import PARTS, part_sentences, sentences

__all__ = [
    "ActivationMaps",
    "AnalysisOptions",
    "BENCHMARK_HEADER",
    "BENCHMARK_PIECES",
    "CellOverlap",
    "ChannelAblation",
    "ChannelShapley",
    "ChosenSites",
    "Circle",
    "ExplainSettings",
    "FaithfulnessSettings",
    "FilterSettings",
    "MeanMaps",
    "NetworkSites",
    "Opened",
    "OtherNetworks",
    "PERTURBATION",
    "PARTS",
    "PLACE_METHODS",
    "Piece",
    "PlantedTruth",
    "PixelAttributionSettings",
    "RandomMaps",
    "Removal",
    "ShapleyNull",
    "Taking",
    "StatisticsGroup",
    "SiteSelection",
    "TemplateSettings",
    "WELL",
    "activation_maps",
    "benchmark_lines",
    "benchmark_run",
    "benchmark_sentences",
    "channel_ablation",
    "channel_attention",
    "channel_shapley",
    "choose_rows",
    "closed_form_maps",
    "compare_templates",
    "compare_with_truth",
    "default_removal",
    "edge_area",
    "edge_shares",
    "examine",
    "examine_filters",
    "examine_seeds",
    "explain_run",
    "explain_sites",
    "inverse_attention",
    "joined_p",
    "labels_null",
    "map_channel_correlation",
    "mean_maps",
    "n_steps",
    "nuclear_channel",
    "null_channel_attention",
    "null_correlation",
    "open_run",
    "overlap_with_cells",
    "other_beside",
    "p_values",
    "part_sentences",
    "prune_effect",
    "place_maps",
    "random_smooth_maps",
    "segment",
    "sentences",
    "shapley_null",
    "stand_ins",
    "target_of",
    "untreated_beside",
    "untreated_p",
    "untreated_wells",
]
