"""Compute the sections of the report page, one module per subject."""
