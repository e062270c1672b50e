"""A screen with a planted truth: cells that look like cells, effects whose stain and place are known."""

from distangle.synthetic.config import SimulationConfig
from distangle.synthetic.simulate import simulate
from distangle.synthetic.truth import Place, Truth, read_truth

__all__ = ["Place", "SimulationConfig", "Truth", "read_truth", "simulate"]
