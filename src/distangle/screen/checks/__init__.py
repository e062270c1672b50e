"""Check a screen by its tables alone, without pixels."""

from distangle.screen.checks.finding import Checked, Finding, Law
from distangle.screen.checks.tables import check_tables

__all__ = ["Checked", "Finding", "Law", "check_tables"]
