"""Check a screen by its tables alone, without pixels."""

from distangle.screen.checks.run import check_tables
from distangle.screen.problems import CheckReport, Invariant

__all__ = ["CheckReport", "Invariant", "check_tables"]
