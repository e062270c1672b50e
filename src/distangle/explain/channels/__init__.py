"""Channel attribution: scores of the channels and their null distributions."""
