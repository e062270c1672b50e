"""Labels that the network gives to wells that have none: who gets one, which, how they join a batch, when they end."""
