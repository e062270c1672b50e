"""From a site to numbers: read, standardise, turn and crop."""

from distangle.images.batches import fix_statistics, measure_sites, pixel_batches, ready_batches
from distangle.images.intensity import (
    Standardisation,
    channel_statistics,
    control_rows,
    pooled_statistics,
    standardise,
    statistics_by_site,
)
from distangle.images.pack import DEFAULT_LEVEL, Packed, pack_screen
from distangle.images.packer import Format
from distangle.images.planes import sample_sites, survey
from distangle.images.preparation import Preparation, bin_pixels, binning_for
from distangle.images.read import probe_image, read_image
from distangle.images.site import SiteReader
from distangle.images.store import ImageStore
from distangle.images.tails import zeroed_tails
from distangle.images.threads import Threads
from distangle.images.views import N_VIEWS, View, random_view, take_view, undo_view

__all__ = [
    "DEFAULT_LEVEL",
    "Format",
    "N_VIEWS",
    "ImageStore",
    "Packed",
    "Preparation",
    "SiteReader",
    "Standardisation",
    "Threads",
    "View",
    "bin_pixels",
    "binning_for",
    "channel_statistics",
    "control_rows",
    "fix_statistics",
    "measure_sites",
    "pack_screen",
    "pixel_batches",
    "pooled_statistics",
    "probe_image",
    "random_view",
    "read_image",
    "ready_batches",
    "sample_sites",
    "standardise",
    "statistics_by_site",
    "survey",
    "take_view",
    "undo_view",
    "zeroed_tails",
]
