"""Which stain moved the network, and what chance would have said."""
