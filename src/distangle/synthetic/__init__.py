"""Simulate a screen with planted effects of known channel and region."""

from distangle.synthetic.design import SimulationConfig
from distangle.synthetic.simulate import simulate
from distangle.synthetic.truth import Place, Truth, read_truth

__all__ = ["Place", "SimulationConfig", "Truth", "read_truth", "simulate"]
