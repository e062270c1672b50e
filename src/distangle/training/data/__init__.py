"""Make the batches of an epoch from the sites of a fold."""
