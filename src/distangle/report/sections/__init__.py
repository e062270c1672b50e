"""Sections of the report page, one file per subject."""
