"""Read, align and compare profiles of wells and perturbations; no torch."""

from typing import TYPE_CHECKING

from distangle.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from distangle.profiles.aggregation import aggregate
    from distangle.profiles.alignment import STEPS, Alignment, align, fit_alignment
    from distangle.profiles.alignment_file import read_alignment, write_alignment
    from distangle.profiles.batch_effects import measure_batch_effects
    from distangle.profiles.compute import ProfileOptions, compute_profiles
    from distangle.profiles.control_sides import part_controls, without_references
    from distangle.profiles.label_retrieval import consistency
    from distangle.profiles.map import map_profiles
    from distangle.profiles.multiple_testing import benjamini_hochberg, combine_doses, simes
    from distangle.profiles.readers import ProfilesFile, read_profiles
    from distangle.profiles.relations import energy_distance, nearest_and_opposite, recall_of_edges
    from distangle.profiles.retrieval import activity
    from distangle.profiles.run import profile_run
    from distangle.profiles.run_reader import RunRows
    from distangle.profiles.similarity import find_clusters, similarity_matrix

__all__ = [
    "STEPS",
    "Alignment",
    "ProfileOptions",
    "ProfilesFile",
    "RunRows",
    "activity",
    "aggregate",
    "align",
    "benjamini_hochberg",
    "combine_doses",
    "compute_profiles",
    "consistency",
    "energy_distance",
    "find_clusters",
    "fit_alignment",
    "map_profiles",
    "measure_batch_effects",
    "nearest_and_opposite",
    "part_controls",
    "profile_run",
    "read_alignment",
    "read_profiles",
    "recall_of_edges",
    "similarity_matrix",
    "simes",
    "without_references",
    "write_alignment",
]

# Loaded lazily: pandas, scipy and scikit-learn take seconds to import.
_MODULES = {
    "STEPS": "alignment",
    "Alignment": "alignment",
    "ProfileOptions": "compute",
    "ProfilesFile": "readers",
    "RunRows": "run_reader",
    "activity": "retrieval",
    "aggregate": "aggregation",
    "align": "alignment",
    "benjamini_hochberg": "multiple_testing",
    "combine_doses": "multiple_testing",
    "compute_profiles": "compute",
    "consistency": "label_retrieval",
    "energy_distance": "relations",
    "find_clusters": "similarity",
    "fit_alignment": "alignment",
    "map_profiles": "map",
    "measure_batch_effects": "batch_effects",
    "nearest_and_opposite": "relations",
    "part_controls": "control_sides",
    "profile_run": "run",
    "read_alignment": "alignment_file",
    "read_profiles": "readers",
    "recall_of_edges": "relations",
    "similarity_matrix": "similarity",
    "simes": "multiple_testing",
    "without_references": "control_sides",
    "write_alignment": "alignment_file",
}

__getattr__ = lazy_names(__name__, _MODULES)
