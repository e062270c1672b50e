"""Check a screen by its tables alone, without pixels."""

from distangle.screen.checks.finding import Checked, Law
from distangle.screen.checks.tables import check_tables

__all__ = ["Checked", "Law", "check_tables"]
