"""What is odd in a screen, found from its tables alone: places, copies, gaps, names, controls and totals."""

from distangle.screen.checks.finding import Checked, Finding, Law
from distangle.screen.checks.tables import check_tables

__all__ = ["Checked", "Finding", "Law", "check_tables"]
