"""Build the pages and figures of a run."""

from distangle.images.composites import (
    channel_colors,
    composite,
    contrast_limits,
    enlarge,
    exposure,
    grey,
    overlay,
    stretch,
)
from distangle.report.build import build_report
from distangle.report.data import REPORT_INPUTS
from distangle.report.paper import FIGURES, draw_figures
from distangle.report.plates import PlateGrid, WellState, plate_grid

__all__ = [
    "FIGURES",
    "PlateGrid",
    "REPORT_INPUTS",
    "WellState",
    "build_report",
    "channel_colors",
    "composite",
    "contrast_limits",
    "draw_figures",
    "enlarge",
    "exposure",
    "grey",
    "overlay",
    "plate_grid",
    "stretch",
]
