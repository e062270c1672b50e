"""The truth table: how often each method of explanation finds what was planted in a synthetic screen."""
