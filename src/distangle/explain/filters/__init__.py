"""1x1 filters as weighted averages of channels, and their pruning."""
