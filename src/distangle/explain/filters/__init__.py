"""1x1 filters as averages of channels: bands and blocks of equal weights, and whether such filters can be pruned."""
