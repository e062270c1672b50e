"""Index screens: which perturbation is in which well, and in which fold."""

from distangle.screen.folds.coverage import ClassCoverage, class_coverage
from distangle.screen.folds.folds import (
    EXCLUDED,
    HELD_OUT,
    NO_HOLD_OUT,
    TRAIN,
    UNLABELLED,
    Folds,
    fold_columns,
    folds_by_experiment,
    hold_nothing_out,
    hold_out,
    validate_folds,
)
from distangle.screen.folds.hidden_labels import hide_labels, hide_labels_by, refuse_reported
from distangle.screen.folds.make import folds_from_options, stratified_group_folds
from distangle.screen.folds.wilds import by_wilds, wilds_parts
from distangle.screen.image_folder import check_images, with_images
from distangle.screen.indexing.files import Probe
from distangle.screen.indexing.hashing import sha256_of_site, site_sha256
from distangle.screen.indexing.index import conservation_line, index
from distangle.screen.indexing.records import IndexOptions, Reader, ReaderResult, SiteRecord
from distangle.screen.origin import allow_source, allowed_sources
from distangle.screen.plates import parse_well, smallest_plate, well_name
from distangle.screen.problems import Problem
from distangle.screen.readers import LAYOUTS
from distangle.screen.reserved_columns import rename_columns
from distangle.screen.roles import (
    CONTROLS,
    NEGATIVE,
    Channel,
    Role,
    channel_labels,
    natural_sort_key,
    ordered_classes,
    ordered_classes_sha256,
)
from distangle.screen.screen import Screen, ScreenMetadata, read_screen, write_screen
from distangle.screen.statistics import ScreenStatistics, reconcile_class_sets, statistics, statistics_table

__all__ = [
    "EXCLUDED",
    "Channel",
    "SiteRecord",
    "Folds",
    "ReaderResult",
    "HELD_OUT",
    "NO_HOLD_OUT",
    "LAYOUTS",
    "ClassCoverage",
    "Reader",
    "Probe",
    "Problem",
    "IndexOptions",
    "CONTROLS",
    "NEGATIVE",
    "Role",
    "Screen",
    "ScreenMetadata",
    "ScreenStatistics",
    "TRAIN",
    "UNLABELLED",
    "allow_source",
    "allowed_sources",
    "folds_by_experiment",
    "stratified_group_folds",
    "by_wilds",
    "check_images",
    "class_coverage",
    "validate_folds",
    "ordered_classes",
    "ordered_classes_sha256",
    "conservation_line",
    "folds_from_options",
    "fold_columns",
    "hide_labels",
    "hide_labels_by",
    "hold_nothing_out",
    "hold_out",
    "index",
    "channel_labels",
    "natural_sort_key",
    "parse_well",
    "read_screen",
    "reconcile_class_sets",
    "rename_columns",
    "refuse_reported",
    "sha256_of_site",
    "site_sha256",
    "smallest_plate",
    "statistics",
    "statistics_table",
    "well_name",
    "wilds_parts",
    "with_images",
    "write_screen",
]
