"""Benchmark of the explanation methods on a planted truth."""
