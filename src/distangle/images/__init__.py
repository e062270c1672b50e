"""Read, preprocess, augment, pack and check the images of sites."""

from distangle.images.augmentation import N_VIEWS, Augmentation, augment, invert_augmentation, random_augmentation
from distangle.images.cache import ImageCache, VerifiedReader, normalized_batches, raw_batches, readable_batches
from distangle.images.normalization import fit_normalization, fix_statistics, own_statistics
from distangle.images.packing.pack import DEFAULT_LEVEL, PackResult, pack_screen
from distangle.images.packing.writer import Format
from distangle.images.preprocessing import (
    Preprocessing,
    Standardization,
    bin_pixels,
    binning_for,
    channel_statistics,
    control_rows,
    pooled_statistics,
    standardize,
    statistics_by_site,
)
from distangle.images.quality.survey import measure_planes, sample_sites
from distangle.images.readers.read import probe_image, read_image
from distangle.images.readers.tiff import find_zeroed_rows
from distangle.images.thread_pool import ForkSafeThreadPool

__all__ = [
    "DEFAULT_LEVEL",
    "Format",
    "N_VIEWS",
    "ImageCache",
    "PackResult",
    "Preprocessing",
    "VerifiedReader",
    "Standardization",
    "ForkSafeThreadPool",
    "Augmentation",
    "bin_pixels",
    "binning_for",
    "channel_statistics",
    "control_rows",
    "fix_statistics",
    "fit_normalization",
    "own_statistics",
    "pack_screen",
    "raw_batches",
    "readable_batches",
    "pooled_statistics",
    "probe_image",
    "random_augmentation",
    "read_image",
    "normalized_batches",
    "sample_sites",
    "standardize",
    "statistics_by_site",
    "measure_planes",
    "augment",
    "invert_augmentation",
    "find_zeroed_rows",
]
