"""Serve a run, a screen or profiles to a browser on this machine; no torch."""
