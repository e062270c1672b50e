"""What leaving filters out does to the accuracy of a run."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distangle.errors import ExplanationError
from distangle.explain.filters.bands import Thresholds
from distangle.explain.filters.layers import filter_layers
from distangle.explain.filters.prune import Kind, pruned, random_removals, suggest_removals
from distangle.images import ImageStore
from distangle.inference import kept_norms, open_model, predict_sites, store_of
from distangle.intervals import mean_interval
from distangle.model import ModelCard, PerturbationClassifier, PlateNorms
from distangle.model.device import named_device
from distangle.progress import Advance, no_progress
from distangle.randomness import generator
from distangle.results import RunFolder
from distangle.screen import HELD_OUT, Folds, Screen

KINDS: tuple[Kind, ...] = ("merge_duplicates", "zero_bands")


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
    """Predict held-out sites without redundant filters, and without random ones.

    Args:
        run: Finished.
        screen: Its screen.
        thresholds: What counts as a duplicate or as a band; None for the defaults.
        names: Layers; None for all that allow it, together.
        n_random: Random choices of as many filters of the same layers.
        seed: Of random choices.
        advance: Called after every prediction.

    Returns:
        Per kind: `kind`, `filters` (how many are left out), `of`, `layers` (how many of each), `sites`, `accuracy`,
        `without`, `difference` with its 95 % `interval` over experiments, `changed` (share of sites predicted
        otherwise), and `random`, the differences with random filters left out. Where nothing meets the thresholds,
        `filters` is 0 and there is nothing else.

    Raises:
        RunError: The run is not finished, or the screen does not fit.
        ExplanationError: No layer of these can be pruned, nothing was held out, or no held-out site has a known label.
    """
    thresholds = thresholds or Thresholds()
    model, about = open_model(run)
    model.to(named_device())
    layers = [layer for layer in filter_layers(model) if layer.behind is not None]
    layers = [layer for layer in layers if names is None or layer.name in names]
    if not layers:
        raise ExplanationError(
            f"No 1x1 convolution of {'these layers' if names else model.config.backbone} is followed by a norm, a ReLU "
            "and a convolution of its own, so none of its filters can be left out. Dense layers and bottlenecks can."
        )
    held = _Held.of(run, screen, about)
    try:
        said: list[dict[str, Any]] = []
        whole: np.ndarray | None = None
        for kind in KINDS:
            removals = suggest_removals(layers, kind, thresholds)
            counts = {layer.name: sum(one.layer == layer.name for one in removals) for layer in layers}
            one: dict[str, Any] = {
                "kind": kind,
                "filters": len(removals),
                "of": sum(layer.convolution.out_channels for layer in layers),
                "layers": {name: n for name, n in counts.items() if n},
            }
            said.append(one)
            if not removals:
                continue
            if whole is None:
                whole = held.predict(model)
                advance("whole network")
            with pruned(model, removals):
                without = held.predict(model)
            advance(kind)
            right, still = whole == held.truth, without == held.truth
            change = still.astype(float) - right
            one |= {
                "sites": len(whole),
                "accuracy": float(right.mean()),
                "without": float(still.mean()),
                "difference": float(change.mean()),
                "interval": mean_interval(change, held.experiments, least_error=1 / held.n_wells),
                "changed": float((whole != without).mean()),
                "random": [],
            }
            for draw in range(n_random):
                chosen = random_removals(layers, removals, generator(seed, "prune", kind, "random", draw))
                with pruned(model, chosen):
                    other = held.predict(model) == held.truth
                one["random"].append(float(other.mean() - right.mean()))
                advance(f"as many at random, {draw + 1}")
    finally:
        held.store.close()
    return said


def check_held_out(run: RunFolder) -> None:
    """Check that the network of a run has sites that it was not trained on.

    Args:
        run: Begun.

    Raises:
        ExplanationError: It was trained on everything; says which run was not.
    """
    if (Folds.read(run.folds).table["fold"] == HELD_OUT).any():
        return
    fold = run.cross_validation / "fold-1"
    other = (
        f"a network of its cross-validation: `distangle explain {fold} --prune`"
        if run.describe().get("cross_validation")
        else "a run that held something out: `distangle train SCREEN --hold-out COLUMN=VALUE`"
    )
    raise ExplanationError(
        f"The network of {run.root} was trained on everything, so what leaving filters out costs on new sites cannot "
        f"be told. Ask {other}."
    )


@dataclass(frozen=True)
class _Held:
    """The labelled held-out sites, and how they are predicted."""

    store: ImageStore
    about: ModelCard
    rows: np.ndarray
    truth: np.ndarray
    experiments: np.ndarray
    n_wells: int
    norms: PlateNorms | None

    @classmethod
    def of(cls, run: RunFolder, screen: Screen, about: ModelCard) -> "_Held":
        fold = Folds.read(run.folds).of(screen)
        # All sites of their experiments: what an image is standardised by must be what it was.
        there = screen.sites["experiment"].isin(set(screen.sites["experiment"][fold == HELD_OUT])).to_numpy()
        sites = screen.sites[there].reset_index(drop=True)
        trained = about.trained_classes
        truth = sites[about.target].astype(str)
        rows = np.flatnonzero((fold[there] == HELD_OUT) & truth.isin(trained).to_numpy())
        if not len(rows):
            check_held_out(run)
            raise ExplanationError(
                "No held-out site has a label that the network was trained on: there is no accuracy to lose."
            )
        return cls(
            store=store_of(run, dataclasses.replace(screen, sites=sites), about),
            about=about,
            rows=rows,
            truth=truth.to_numpy(dtype=object)[rows],
            experiments=sites["experiment"].to_numpy(dtype=object)[rows],
            n_wells=len(sites.iloc[rows].drop_duplicates(["experiment", "plate", "well"])),
            norms=kept_norms(run),
        )

    def predict(self, model: PerturbationClassifier) -> np.ndarray:
        """Return the predicted name of each site; "" for an unreadable one."""
        found = predict_sites(model, self.about, self.store, norms=self.norms)
        return np.asarray(found.table["predicted"].to_numpy(dtype=object)[self.rows])
