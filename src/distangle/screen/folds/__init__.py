"""Folds: which sites train, validate or are held out, and what leaks between them."""
