"""Indexing of a source folder: records, validation, wells and file checks."""
