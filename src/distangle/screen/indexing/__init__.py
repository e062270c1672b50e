"""Indexing of a source folder: site records, validation, well positions and file checks."""
