"""Image regions and channels that drive a prediction, and tests of them."""

from distangle.explain.benchmark.run import N_BENCHMARK_STEPS, benchmark_run
from distangle.explain.channels.coalition_outputs import ShapleySettings
from distangle.explain.channels.map_scores import channel_attention, inverse_attention, map_channel_correlation
from distangle.explain.channels.nulls import (
    RandomMaps,
    ShapleyNull,
    combine_p_values,
    control_p_value,
    labels_null,
    null_channel_attention,
    null_correlation,
    p_values,
    random_smooth_maps,
    shapley_null,
)
from distangle.explain.channels.replacement import Removal, baseline_images, default_removal
from distangle.explain.channels.shapley import ChannelAblation, ChannelShapley, channel_ablation, channel_shapley
from distangle.explain.context import ExplanationContext, PlantedTruth, SiteSelection, load_context
from distangle.explain.explain_sites import ExplainSettings, explain_sites
from distangle.explain.faithfulness import FaithfulnessSettings, OtherNetworks, examine, examine_seeds
from distangle.explain.filters.pruning import prune_effect
from distangle.explain.filters.run import FilterSettings, examine_filters
from distangle.explain.ground_truth import PlantedCircle, compare_with_truth
from distangle.explain.maps.api import MAP_METHODS, attribution_map
from distangle.explain.maps.attribution_map import AttributionMaps
from distangle.explain.maps.cells import CellOverlap, nuclei_channel, overlap_with_cells, segment
from distangle.explain.maps.grad_cam import closed_form_maps, grad_cam_maps
from distangle.explain.maps.mean_maps import PERTURBATION, WELL, MeanMaps, edge_area, edge_shares, mean_maps
from distangle.explain.maps.pixel_attribution import PixelAttributionSettings
from distangle.explain.run import AnalysisOptions, explain_run, n_steps
from distangle.explain.selection import control_wells, matching_controls, matching_wells, select_sites
from distangle.explain.sites import BatchStatistics, ExplainedSites, NetworkSites, SiteBatch, target_of
from distangle.explain.templates.compare import TemplateSettings, compare_templates
from distangle.explain.text import (
    BENCHMARK_HEADER,
    PARTS,
    analysis_sentences,
    benchmark_lines,
    benchmark_sentences,
    sentences,
)

__all__ = [
    "AttributionMaps",
    "AnalysisOptions",
    "BENCHMARK_HEADER",
    "N_BENCHMARK_STEPS",
    "CellOverlap",
    "ChannelAblation",
    "ChannelShapley",
    "ExplainedSites",
    "PlantedCircle",
    "ExplainSettings",
    "FaithfulnessSettings",
    "FilterSettings",
    "MeanMaps",
    "NetworkSites",
    "ExplanationContext",
    "OtherNetworks",
    "PERTURBATION",
    "PARTS",
    "MAP_METHODS",
    "SiteBatch",
    "PlantedTruth",
    "PixelAttributionSettings",
    "RandomMaps",
    "Removal",
    "ShapleyNull",
    "ShapleySettings",
    "BatchStatistics",
    "SiteSelection",
    "TemplateSettings",
    "WELL",
    "grad_cam_maps",
    "benchmark_lines",
    "benchmark_run",
    "benchmark_sentences",
    "channel_ablation",
    "channel_attention",
    "channel_shapley",
    "select_sites",
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
    "combine_p_values",
    "labels_null",
    "map_channel_correlation",
    "mean_maps",
    "n_steps",
    "nuclei_channel",
    "null_channel_attention",
    "null_correlation",
    "load_context",
    "overlap_with_cells",
    "matching_wells",
    "p_values",
    "analysis_sentences",
    "prune_effect",
    "attribution_map",
    "random_smooth_maps",
    "segment",
    "sentences",
    "shapley_null",
    "baseline_images",
    "target_of",
    "matching_controls",
    "control_p_value",
    "control_wells",
]
