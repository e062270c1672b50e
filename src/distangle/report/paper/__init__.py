"""Draw the figures of the paper from a run, one module per figure."""

from distangle.report.paper.draw import FIGURES, draw_figures, read_listed
from distangle.report.paper.drawn import Drawn, Missing

__all__ = ["FIGURES", "Drawn", "Missing", "draw_figures", "read_listed"]
