"""Index screens: which perturbation is in which well, and in which fold."""

from distangle.screen.channel import Channel
from distangle.screen.divide import divide
from distangle.screen.entry import Entry, Found, Layout, Request
from distangle.screen.files import Probe
from distangle.screen.folds import (
    ASIDE,
    HELD_OUT,
    NOTHING,
    TRAIN,
    UNLABELLED,
    Folds,
    by_experiment,
    checked,
    fold_columns,
    hold_nothing_out,
    hold_out,
)
from distangle.screen.grouped import by_group
from distangle.screen.image_folder import check_images, with_images
from distangle.screen.index import conservation_line, index
from distangle.screen.labels import LabelReport, check_labels
from distangle.screen.layouts import LAYOUTS
from distangle.screen.origin import allow, allowed
from distangle.screen.own_columns import rename_columns
from distangle.screen.perturbation import CONTROLS, NEGATIVE, Role, class_list, class_list_sha256, natural_key
from distangle.screen.plate import parse_well, smallest_plate, well_name
from distangle.screen.problems import Problem
from distangle.screen.statistics import Statistics, reconcile_class_sets, statistics, statistics_table
from distangle.screen.stored import sha256_of_site, site_sha256
from distangle.screen.table import Screen, ScreenCard, read_screen, write_screen
from distangle.screen.unlabelled import hide_labels, hide_labels_by, refuse_reported
from distangle.screen.wilds import by_wilds, wilds_parts

__all__ = [
    "ASIDE",
    "Channel",
    "Entry",
    "Folds",
    "Found",
    "HELD_OUT",
    "NOTHING",
    "LAYOUTS",
    "LabelReport",
    "Layout",
    "Probe",
    "Problem",
    "Request",
    "CONTROLS",
    "NEGATIVE",
    "Role",
    "Screen",
    "ScreenCard",
    "Statistics",
    "TRAIN",
    "UNLABELLED",
    "allow",
    "allowed",
    "by_experiment",
    "by_group",
    "by_wilds",
    "check_images",
    "check_labels",
    "checked",
    "class_list",
    "class_list_sha256",
    "conservation_line",
    "divide",
    "fold_columns",
    "hide_labels",
    "hide_labels_by",
    "hold_nothing_out",
    "hold_out",
    "index",
    "natural_key",
    "parse_well",
    "read_screen",
    "reconcile_class_sets",
    "rename_columns",
    "refuse_reported",
    "sha256_of_site",
    "site_sha256",
    "smallest_plate",
    "statistics",
    "statistics_table",
    "well_name",
    "wilds_parts",
    "with_images",
    "write_screen",
]
