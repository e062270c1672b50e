"""Find leaks between folds: shared images, shared layouts, telling positions."""

from distangle.screen.leaks.baselines import guess_by_place
from distangle.screen.leaks.find import find_leaks
from distangle.screen.leaks.layouts import Twins, layout_twins, plate_groups

__all__ = ["Twins", "find_leaks", "guess_by_place", "layout_twins", "plate_groups"]
