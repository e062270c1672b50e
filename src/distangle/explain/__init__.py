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
    "BENCHMARK_HEADER",
    "MAP_METHODS",
    "N_BENCHMARK_STEPS",
    "PARTS",
    "PERTURBATION",
    "WELL",
    "AnalysisOptions",
    "AttributionMaps",
    "BatchStatistics",
    "CellOverlap",
    "ChannelAblation",
    "ChannelShapley",
    "ExplainSettings",
    "ExplainedSites",
    "ExplanationContext",
    "FaithfulnessSettings",
    "FilterSettings",
    "MeanMaps",
    "NetworkSites",
    "OtherNetworks",
    "PixelAttributionSettings",
    "PlantedCircle",
    "PlantedTruth",
    "RandomMaps",
    "Removal",
    "ShapleyNull",
    "ShapleySettings",
    "SiteBatch",
    "SiteSelection",
    "TemplateSettings",
    "analysis_sentences",
    "attribution_map",
    "baseline_images",
    "benchmark_lines",
    "benchmark_run",
    "benchmark_sentences",
    "channel_ablation",
    "channel_attention",
    "channel_shapley",
    "closed_form_maps",
    "combine_p_values",
    "compare_templates",
    "compare_with_truth",
    "control_p_value",
    "control_wells",
    "default_removal",
    "edge_area",
    "edge_shares",
    "examine",
    "examine_filters",
    "examine_seeds",
    "explain_run",
    "explain_sites",
    "grad_cam_maps",
    "inverse_attention",
    "labels_null",
    "load_context",
    "map_channel_correlation",
    "matching_controls",
    "matching_wells",
    "mean_maps",
    "n_steps",
    "nuclei_channel",
    "null_channel_attention",
    "null_correlation",
    "overlap_with_cells",
    "p_values",
    "prune_effect",
    "random_smooth_maps",
    "segment",
    "select_sites",
    "sentences",
    "shapley_null",
    "target_of",
]
