"""Learn what a perturbation does to cells, apart from batch noise, and show which place and stain gave it away."""

__version__ = "0.1.0"
