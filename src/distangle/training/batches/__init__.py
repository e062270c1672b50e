"""From the sites of a fold to the batches of an epoch: views, CutMix, plates kept pure, controls beside them."""
