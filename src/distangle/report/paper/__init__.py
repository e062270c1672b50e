"""The figures of the paper, a file each: drawn from any run, with the number that the caption claims."""

from distangle.report.paper.draw import FIGURES, draw_figures, read_listed
from distangle.report.paper.drawn import Drawn, Missing

__all__ = ["FIGURES", "Drawn", "Missing", "draw_figures", "read_listed"]
