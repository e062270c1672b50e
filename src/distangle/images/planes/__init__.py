"""Measure the pixels of a screen plane by plane, before standardisation."""

from distangle.images.planes.measure import measure_plane
from distangle.images.planes.sample import sample_sites
from distangle.images.planes.survey import Survey, survey

__all__ = ["Survey", "measure_plane", "sample_sites", "survey"]
