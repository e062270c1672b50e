"""Folds: training and held-out sites, and what leaks between them."""
