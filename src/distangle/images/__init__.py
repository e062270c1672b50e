"""From a site to numbers: read, standardise, turn and crop."""

from distangle.images.batches import measure_sites, ready_batches
from distangle.images.intensity import (
    Standardisation,
    channel_statistics,
    control_rows,
    pooled_statistics,
    standardise,
    statistics_by_site,
)
from distangle.images.preparation import Preparation, bin_pixels, binning_for
from distangle.images.read import probe_image, read_image
from distangle.images.store import ImageStore
from distangle.images.views import N_VIEWS, View, random_view, take_view, undo_view

__all__ = [
    "N_VIEWS",
    "ImageStore",
    "Preparation",
    "Standardisation",
    "View",
    "bin_pixels",
    "binning_for",
    "channel_statistics",
    "control_rows",
    "measure_sites",
    "pooled_statistics",
    "probe_image",
    "random_view",
    "read_image",
    "ready_batches",
    "standardise",
    "statistics_by_site",
    "take_view",
    "undo_view",
]
