"""Learn perturbation effects on cells, correct batch effects, explain results."""

__version__ = "0.1.0"
