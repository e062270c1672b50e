"""Benchmark every method on a run whose screen has a planted truth."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from distangle.errors import ExplanationError, ScreenError
from distangle.explain.benchmark.answers import maps_by, scores_by_method
from distangle.explain.benchmark.asked import Asked, ask, planted_rows, untrained
from distangle.explain.benchmark.rows import aims_of, mean_row, place_row, stain_rows
from distangle.explain.opened import SiteSelection, open_run
from distangle.explain.places.activation_map import Head
from distangle.explain.places.door import PLACE_METHODS
from distangle.explain.planted import circle_masks
from distangle.explain.seen import remark_on
from distangle.explain.stains.removal import Removal
from distangle.explain.summary import wells_of
from distangle.model import PerturbationClassifier
from distangle.progress import Advance, no_progress
from distangle.results import Benchmark, Predictions, RunFolder
from distangle.screen import Screen
from distangle.synthetic.truth import read_truth, truth_of

N_UNTRAINED = 3
BENCHMARK_PIECES = (1 + N_UNTRAINED) * (1 + len(PLACE_METHODS))  # stains, and every method of place


def benchmark_run(
    run: RunFolder,
    screen: Screen,
    *,
    n_sites: int | None = None,
    layer: str | None = None,
    head: Head = "softmax",
    removal: Removal | None = None,
    n_untrained: int = N_UNTRAINED,
    advance: Advance = no_progress,
) -> Benchmark:
    """Benchmark every method on held-out sites of a synthetic screen.

    Writes `explanations/benchmark.json`. Explained is the true perturbation, at sites where the network predicts it:
    whether a wrong prediction is explained well has no planted answer. The same sites are explained for networks of
    the same architecture with random weights, which know nothing of the cells: what they hit comes from the method
    and the images.

    Args:
        run: A run that has been predicted.
        screen: Its screen, with `truth.json` beside the images.
        n_sites: How many sites at most; None for all held-out ones with a planted effect.
        layer: Of the methods that look at a layer; None for the maps that are pooled.
        head: Whose output the maps explain.
        removal: What stands in for an absent stain; None as `open_run`.
        n_untrained: Networks with random weights.
        advance: Called after each of `BENCHMARK_PIECES`.

    Raises:
        ScreenError: Nothing was planted in this screen.
        ExplanationError: The run did not learn perturbations, or no held-out site has a planted effect.
        RunError: The run has not been predicted, or the screen does not fit the network.
    """
    source = screen.source
    if not isinstance(source, Path):
        raise ExplanationError(
            f"The images lie at {source}, and a planted truth is looked for on disk: simulate the screen there."
        )
    left_aside: list[str] = []
    truth = truth_of(screen, say=left_aside.append) if (source / "truth.json").exists() else read_truth(source)
    if truth is None:
        raise ScreenError(
            f"{left_aside[0]} So there is nothing to mark the methods by: `distangle simulate OUT` plants it."
        )
    rows = planted_rows(run, truth, n_sites=n_sites)
    opened = open_run(run, screen, selection=SiteSelection(rows=rows), removal=removal)
    wells = Predictions.read(run.predictions, level="well", views=1).table
    right = wells[wells["predicted"] == wells["perturbation"]]
    asked = ask(opened, rows, right_wells=set(wells_of(right)))
    settings = {"layer": layer, "head": head, "removal": asked.removal, "untrained_networks": n_untrained}
    found = [*_marked(opened.model, asked, network="trained", layer=layer, head=head, advance=advance)]
    blind = []
    for seed in range(n_untrained):
        other = untrained(opened, asked, run, screen, seed=seed)
        same = replace(asked, sites=other.sites)
        blind.append(_marked(other.model, same, network="untrained", layer=layer, head=head, advance=advance))
    found += [mean_row(rows_of_networks) for rows_of_networks in zip(*blind, strict=True)]
    settings |= {"sites": len(asked.sites), "held_out_with_effect": len(rows)}
    settings["remark"] = remark_on(run, asked.sites.table)
    benchmark = Benchmark(rows=found, aims=aims_of(found), settings=settings)
    run.record(*benchmark.write(run.explanations))
    return benchmark


def _marked(
    model: PerturbationClassifier,
    asked: Asked,
    *,
    network: str,
    layer: str | None,
    head: Head,
    advance: Advance,
) -> list[dict[str, Any]]:
    single = np.flatnonzero(asked.channel >= 0).tolist()
    rows: list[dict[str, Any]] = []
    if single:
        sites = asked.sites.take(single)
        scores = scores_by_method(model, sites, removal=asked.removal, layer=layer, head=head)
        wells = np.array(wells_of(sites.table))
        units: tuple[tuple[Literal["wells", "sites"], np.ndarray], ...] = (
            ("wells", asked.well_is_right[single]),
            ("sites", asked.site_is_right[single]),
        )
        for unit, right in units:
            kept = {method: values[right] for method, values in scores.items()}
            rows += stain_rows(kept, asked.channel[single][right], wells=wells[right], unit=unit, network=network)
        advance(f"{network}: stains")
    if asked.places:
        sites = asked.sites.take(list(asked.places))
        inside, wells = circle_masks(list(asked.places.values()), sites.size), np.array(wells_of(sites.table))
        for method in PLACE_METHODS:
            drawn = maps_by(model, sites, method=method, layer=layer, head=head)
            rows.append(place_row(drawn.maps, inside, wells=wells, network=network, method=method, layer=drawn.layer))
            advance(f"{network}: {method}")
    return rows
