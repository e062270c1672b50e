"""Give pseudo labels to unlabelled wells.

Which wells, which labels, how they join a batch, and when they end.
"""
