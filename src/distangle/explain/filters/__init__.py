"""1x1 filters as averages of channels, and whether they can be pruned."""
