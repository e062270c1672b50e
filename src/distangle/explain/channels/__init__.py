"""Which channel moved the network, and what chance would have said."""
