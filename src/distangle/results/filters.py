"""The 1x1 filters of a network: bands and blocks of every layer, and what leaving filters out costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from distangle.commit import commit_json, committed
from distangle.reading import whole
from distangle.results.stated import Kinds, again, stated

_FILES = ("filters.json", "filters.safetensors")
_KINDS: Kinds = {
    **dict.fromkeys(("shown", "sentences", "prune", "layers"), list),
    "claim": (dict, type(None)),
    "settings": dict,
}


@dataclass(frozen=True, kw_only=True)
class FilterBands:
    """The filters of a few layers, and numbers of all.

    Attributes:
        weights: float32 [filter, input] by `LAYER|printed`, and by `LAYER|gamma` where a norm stands before the layer.
        shown: Names of the layers whose weights these are.
        layers: One entry per layer and kind of weights: `layer`, `weights` (`printed` | `gamma` | `gamma_over_sd`),
            `filters`, `inputs`, `dense`, and by number of bands and blocks `value` with the nulls `shuffled` and
            `initial`.
        claim: The two layers of Fig. 10 among all dense layers: `layers`, `of`, and `rank` by number; None where the
            network has no dense layers.
        prune: What leaving filters out does to the accuracy; empty where it was not tried.
        settings: Thresholds and draws.
        sentences: What all this says.
    """

    weights: Mapping[str, np.ndarray]
    shown: Sequence[str]
    layers: Sequence[Mapping[str, Any]]
    claim: Mapping[str, Any] | None
    prune: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    sentences: Sequence[str]

    def write(self, folder: Path) -> list[Path]:
        """Write `filters.json` and `filters.safetensors`; return the paths."""
        said, weights = (folder / name for name in _FILES)
        with committed(weights) as temporary:
            save_file(
                {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in self.weights.items()}, temporary
            )
        commit_json(
            said,
            {
                "shown": list(self.shown),
                "sentences": list(self.sentences),
                "claim": self.claim,
                "prune": list(self.prune),
                "settings": dict(self.settings),
                "layers": list(self.layers),
            },
        )
        return [said, weights]

    @classmethod
    def read(cls, folder: Path) -> "FilterBands":
        """Read what `write` wrote.

        Raises:
            RunError: The filters of the run have not been examined yet.
        """
        path, weights = (folder / name for name in _FILES)
        told = stated(path, what="filters", kinds=_KINDS)
        with whole(weights, fix=again(folder)):
            found = load_file(weights)
        return cls(**told, weights=found)
