"""Measure planes and check the quality of images."""
