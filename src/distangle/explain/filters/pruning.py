"""Remove redundant filters and measure the accuracy without them."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from distangle.core.progress import Advance, no_progress
from distangle.core.random import rng_for
from distangle.core.stats import mean_interval
from distangle.errors import ExplanationError
from distangle.explain.filters.layers import FilterLayer, filter_layers
from distangle.explain.filters.similarity import Thresholds, are_bands, duplicate_groups
from distangle.images import ImageCache
from distangle.inference import load_statistics, open_model, predict_sites, store_of
from distangle.model import ModelCard, PerturbationClassifier, PlateBatchNorm
from distangle.model.device import inference_device
from distangle.profiles.geometry import cosines
from distangle.results import RunFolder
from distangle.screen import HELD_OUT, Folds, Screen
from distangle.screen.screen import WELL_COLUMNS

Kind = Literal["merge_duplicates", "zero_bands"]
KINDS: tuple[Kind, ...] = ("merge_duplicates", "zero_bands")


@dataclass(frozen=True)
class PruneCandidate:
    """A filter to remove.

    Attributes:
        layer: Name of its layer.
        filter: Index of the filter in the layer.
        into: The filter that replaces its output in the next layer, and its factor; None for no replacement.
    """

    layer: str
    filter: int
    into: tuple[int, float] | None = None


@dataclass(frozen=True)
class _HeldOutData:
    """The labeled held-out sites of a run, and their prediction."""

    store: ImageCache
    card: ModelCard
    rows: np.ndarray
    truth: np.ndarray
    experiments: np.ndarray
    n_wells: int
    norms: PlateBatchNorm | None

    @classmethod
    def of(cls, run: RunFolder, screen: Screen, card: ModelCard) -> "_HeldOutData":
        fold = Folds.read(run.folds).of(screen)
        # All sites of these experiments, because the statistics that standardize an image must not change.
        in_experiments = screen.sites["experiment"].isin(set(screen.sites["experiment"][fold == HELD_OUT])).to_numpy()
        sites = screen.sites[in_experiments].reset_index(drop=True)
        trained = card.trained_classes
        truth = sites[card.target].astype(str)
        rows = np.flatnonzero((fold[in_experiments] == HELD_OUT) & truth.isin(trained).to_numpy())
        if not len(rows):
            check_held_out(run)
            raise ExplanationError(
                "No held-out site has a label that the network was trained on, so there is no accuracy to measure."
            )
        return cls(
            store=store_of(run, dataclasses.replace(screen, sites=sites), card),
            card=card,
            rows=rows,
            truth=truth.to_numpy(dtype=object)[rows],
            experiments=sites["experiment"].to_numpy(dtype=object)[rows],
            n_wells=len(sites.iloc[rows].drop_duplicates(list(WELL_COLUMNS))),
            norms=load_statistics(run),
        )

    def predict(self, model: PerturbationClassifier) -> np.ndarray:
        """Return the predicted name of each site; "" for an unreadable one."""
        predictions = predict_sites(model, self.card, self.store, norms=self.norms)
        return np.asarray(predictions.table["predicted"].to_numpy(dtype=object)[self.rows])


def suggest_candidates(layers: Sequence[FilterLayer], kind: Kind, thresholds: Thresholds) -> list[PruneCandidate]:
    """Return duplicate and banded filters of layers that can be pruned.

    A filter is removed by setting its weights in the next convolution to 0. Filters are compared with the gain of the
    norm before them, if there is one.

    Args:
        layers: Layers of the network; those without a following norm, ReLU and convolution are skipped.
        kind: Duplicates or bands.
        thresholds: Thresholds for duplicates and bands.
    """
    candidates: list[PruneCandidate] = []
    for layer in layers:
        if layer.next_layers is None:
            continue
        folded = layer.folded()
        filters = layer.filters if folded is None else folded
        if kind == "zero_bands":
            candidates += [PruneCandidate(layer.name, int(k)) for k in np.flatnonzero(are_bands(filters, thresholds))]
            continue
        first = duplicate_groups(cosines(filters), above=thresholds.duplicate)
        for k in np.flatnonzero(first != np.arange(len(first))):
            representative = int(first[k])
            candidates.append(
                PruneCandidate(layer.name, int(k), into=(representative, _share(layer, int(k), representative)))
            )
    return candidates


def random_candidates(
    layers: Sequence[FilterLayer], removals: Sequence[PruneCandidate], rng: np.random.Generator
) -> list[PruneCandidate]:
    """Draw as many random filters per layer as there are removals.

    Args:
        layers: Layers of the removals.
        removals: Removals whose numbers are matched.
        rng: Random generator; equal generators give equal draws.
    """
    candidates = []
    for layer in layers:
        n = sum(removal.layer == layer.name for removal in removals)
        drawn_filters = rng.choice(layer.convolution.out_channels, size=n, replace=False)
        candidates += [PruneCandidate(layer.name, int(k)) for k in np.sort(drawn_filters)]
    return candidates


@contextlib.contextmanager
def pruned_network(model: PerturbationClassifier, removals: Sequence[PruneCandidate]) -> Iterator[None]:
    """Remove filters from a network, and restore its weights afterwards.

    Args:
        model: The network; changed in place.
        removals: Removals in layers that are followed by a convolution.

    Raises:
        ExplanationError: A layer is not followed by a convolution of its own.
    """
    layers = {layer.name: layer for layer in filter_layers(model)}
    original: dict[str, torch.Tensor] = {}
    try:
        with torch.no_grad():
            for removal in removals:
                next_layers = layers[removal.layer].next_layers
                if next_layers is None:
                    raise ExplanationError(
                        f"{removal.layer} is not followed by a norm, a ReLU and a convolution of its own, so its "
                        "filters "
                        "cannot be removed one by one. Choose conv1 of a dense layer or of a bottleneck."
                    )
                weight = next_layers[1].weight
                original.setdefault(removal.layer, weight.clone())
                if removal.into is not None:
                    representative, share = removal.into
                    weight[:, representative] += share * weight[:, removal.filter]
            for removal in removals:
                layers[removal.layer].next_layers[1].weight[:, removal.filter] = 0  # type: ignore[index]
        yield
    finally:
        with torch.no_grad():
            for name, weight in original.items():
                layers[name].next_layers[1].weight.copy_(weight)  # type: ignore[index]


def prune_effect(
    run: RunFolder,
    screen: Screen,
    *,
    thresholds: Thresholds | None = None,
    names: Sequence[str] | None = None,
    n_random: int = 2,
    seed: int = 0,
    advance: Advance = no_progress,
) -> list[dict[str, Any]]:
    """Predict held-out sites without redundant filters and without random filters.

    Args:
        run: A finished run.
        screen: The screen of the run.
        thresholds: Thresholds for duplicates and bands; None for the defaults.
        names: Layers to prune together; None for all that can be pruned.
        n_random: Number of random prunings with as many filters of the same layers.
        seed: Seed of the random prunings.
        advance: Called after every prediction.

    Returns:
        Per kind: `kind`, `filters` (number of removed filters), `of`, `layers` (number per layer), `sites`, `accuracy`,
        `without`, `difference` with its 95 % `interval` over experiments, `changed` (share of sites with another
        prediction), and `random`, the differences for random prunings. If no filter meets the thresholds, `filters` is
        0 and the other entries are missing.

    Raises:
        RunError: The run is not finished, or the screen does not fit.
        ExplanationError: No layer can be pruned, nothing was held out, or no held-out site has a known label.
    """
    thresholds = thresholds or Thresholds()
    model, card = open_model(run)
    model.to(inference_device())
    layers = [layer for layer in filter_layers(model) if layer.next_layers is not None]
    layers = [layer for layer in layers if names is None or layer.name in names]
    if not layers:
        raise ExplanationError(
            f"No 1x1 convolution of {'these layers' if names else model.config.backbone} is followed by a norm, a ReLU "
            "and a convolution of its own, so no filter can be removed. Dense layers and bottlenecks can be pruned."
        )
    held_out = _HeldOutData.of(run, screen, card)
    try:
        results: list[dict[str, Any]] = []
        full: np.ndarray | None = None
        for kind in KINDS:
            removals = suggest_candidates(layers, kind, thresholds)
            counts = {layer.name: sum(removal.layer == layer.name for removal in removals) for layer in layers}
            result: dict[str, Any] = {
                "kind": kind,
                "filters": len(removals),
                "n_total": sum(layer.convolution.out_channels for layer in layers),
                "layers": {name: n for name, n in counts.items() if n},
            }
            results.append(result)
            if not removals:
                continue
            if full is None:
                full = held_out.predict(model)
                advance("whole network")
            with pruned_network(model, removals):
                without = held_out.predict(model)
            advance(kind)
            correct, still_correct = full == held_out.truth, without == held_out.truth
            change = still_correct.astype(float) - correct
            result |= {
                "sites": len(full),
                "accuracy": float(correct.mean()),
                "without": float(still_correct.mean()),
                "difference": float(change.mean()),
                "interval": mean_interval(change, held_out.experiments, min_error=1 / held_out.n_wells),
                "changed": float((full != without).mean()),
                "random": [],
            }
            for draw in range(n_random):
                random_removals = random_candidates(layers, removals, rng_for(seed, "prune", kind, "random", draw))
                with pruned_network(model, random_removals):
                    other = held_out.predict(model) == held_out.truth
                result["random"].append(float(other.mean() - correct.mean()))
                advance(f"random filters, {draw + 1}")
    finally:
        held_out.store.close()
    return results


def check_held_out(run: RunFolder) -> None:
    """Check that a run holds out sites.

    Args:
        run: The run.

    Raises:
        ExplanationError: The run was trained on all sites; the message names an alternative.
    """
    if (Folds.read(run.folds).table["fold"] == HELD_OUT).any():
        return
    fold = run.cross_validation / "fold-1"
    other = (
        f"a network of its cross-validation: `distangle explain {fold} --prune`"
        if run.describe().get("cross_validation")
        else "a run that held sites out: `distangle train SCREEN --hold-out COLUMN=VALUE`"
    )
    raise ExplanationError(
        f"The network of {run.root} was trained on all sites, so the accuracy on new sites without filters cannot be "
        f"measured. Use {other}."
    )


def _share(layer: FilterLayer, removed: int, representative: int) -> float:
    """Return the factor with which one filter's output best replaces another's.

    Outputs are compared after norm and ReLU. Both filters have the same direction, so their standardized maps are equal
    and only gamma and beta differ. The factor minimizes the squared error over a standard normal map; it is exact for
    proportional outputs.
    """
    norm = layer.next_layers[0]  # type: ignore[index]
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)

    def output(k: int) -> np.ndarray:
        gain, shift = (float(tensor[k]) for tensor in (norm.weight.detach(), norm.bias.detach()))
        return np.maximum(gain * nodes + shift, 0.0)

    of_representative, of_removed = output(representative), output(removed)
    power = float(weights @ np.square(of_representative))
    return float(weights @ (of_representative * of_removed)) / power if power > 0 else 0.0
