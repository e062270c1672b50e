"""Learn perturbation effects on cells, correct batch effects, explain results."""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load `distangle.plot` on first use, because it loads matplotlib."""
    if name == "plot":
        return importlib.import_module("distangle.plot")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
