"""Learn what a perturbation does to cells, apart from batch noise, and show what gave it away."""

__version__ = "0.1.0"
