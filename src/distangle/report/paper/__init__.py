"""Draw the figures of the paper from a run, one module per figure."""

from distangle.report.paper.figure import PaperFigure, UnavailableFigure
from distangle.report.paper.render import FIGURES, draw_figures, read_index

__all__ = ["FIGURES", "PaperFigure", "UnavailableFigure", "draw_figures", "read_index"]
