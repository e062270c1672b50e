"""Where the network looked: activation maps of sites."""
