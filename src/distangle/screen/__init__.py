"""Which perturbation is in which well of which plate of which experiment, and what lies in which fold."""

from distangle.screen.channel import Channel
from distangle.screen.index import conservation_line, index
from distangle.screen.layouts import LAYOUTS
from distangle.screen.perturbation import Role, class_list, class_list_sha256, natural_key
from distangle.screen.plate import parse_well, smallest_plate, well_name
from distangle.screen.table import Screen, ScreenCard, read_screen, write_screen

__all__ = [
    "LAYOUTS",
    "Channel",
    "Role",
    "Screen",
    "ScreenCard",
    "class_list",
    "class_list_sha256",
    "conservation_line",
    "index",
    "natural_key",
    "parse_well",
    "read_screen",
    "smallest_plate",
    "well_name",
    "write_screen",
]
