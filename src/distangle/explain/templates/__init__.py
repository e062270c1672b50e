"""Geometry of templates and embeddings, in full space and in projections."""
