"""Benchmark every explanation method on a run whose screen has a planted truth."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from distangle.core.progress import Advance, no_progress
from distangle.errors import ExplanationError, ScreenError
from distangle.explain.benchmark.methods import (
    BenchmarkSites,
    maps_by_method,
    planted_rows,
    scores_by_method,
    select_benchmark_sites,
    untrained_copy,
)
from distangle.explain.channels.replacement import Removal
from distangle.explain.context import SiteSelection, load_context
from distangle.explain.ground_truth import circle_masks, peak_of, pointing_hits, share_of
from distangle.explain.maps.api import MAP_METHODS
from distangle.explain.maps.attribution_map import Head
from distangle.explain.selection import training_remark
from distangle.explain.summary import wells_of
from distangle.model import PerturbationClassifier
from distangle.results import Benchmark, Predictions, RunFolder
from distangle.screen import Screen
from distangle.synthetic.truth import read_truth, truth_of

MIN_CHANNEL_SHARE, MIN_REGION_SHARE, MAX_SHARE_OVER_CHANCE = 0.95, 0.90, 0.10
N_UNTRAINED = 3
N_BENCHMARK_STEPS = (1 + N_UNTRAINED) * (1 + len(MAP_METHODS))  # channel scores, and every map method


def channel_rows(
    scores: Mapping[str, np.ndarray],
    planted: np.ndarray,
    *,
    wells: np.ndarray,
    unit: Literal["wells", "sites"],
    network: str,
) -> list[dict[str, Any]]:
    """Count how often each method ranks the planted channel first.

    Args:
        scores: Method to scores [site, channel].
        planted: Index of the planted channel, per site.
        wells: Well of each site.
        unit: Count mean scores of wells, or scores of sites.
        network: Name of the network.
    """
    if unit == "wells":
        wells, first, index = np.unique(wells, return_index=True, return_inverse=True)
        planted = planted[first]
        scores = {method: _well_means(values, index) for method, values in scores.items()}
    rows = []
    for method, values in scores.items():
        top, channels = values.argmax(axis=1), values.shape[1]
        hits = top == planted
        # Hits if the answers were shuffled against the truth.
        swapped = [float((top == k).mean() * (planted == k).mean()) for k in range(channels)] if len(top) else None
        rows.append(
            {
                "network": network,
                "question": "channel",
                "method": method,
                "unit": unit,
                "hits": int(hits.sum()),
                **share_of(hits, wells),
                "chance": 1 / channels,
                "swapped": None if swapped is None else sum(swapped),
            }
        )
    return rows


def region_row(
    maps: np.ndarray, inside: np.ndarray, *, wells: np.ndarray, network: str, method: str, layer: str
) -> dict[str, Any]:
    """Count peaks of maps in the planted region, and measure the mass there.

    Args:
        maps: [site, height, width] in [0, 1].
        inside: Pixels of the region, bool, of the same shape.
        wells: Well of each site.
        network: Name of the network.
        method: Method of the maps.
        layer: Layer of the maps.
    """
    hits, masses = pointing_hits(maps, inside)
    peaks = np.array([peak_of(activation_map) for activation_map in maps])
    pointing = maps.max(axis=(1, 2)) > 0
    crossed = inside[:, peaks[:, 0], peaks[:, 1]] & pointing  # [region, map]
    others = ~np.eye(len(maps), dtype=bool)
    return {
        "network": network,
        "question": "region",
        "method": method,
        "unit": "sites",
        "hits": int(hits.sum()),
        **share_of(hits, wells),
        "chance": float(inside.mean()),
        "swapped": float(crossed[others].mean()) if len(maps) > 1 else None,
        "layer": layer,
        "mass": float(masses.mean()),
        "area": float(inside.mean()),
    }


def criteria(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Compare the benchmark with its four criteria.

    Two criteria are about the trained network and two about untrained networks. The untrained networks are judged with
    the method that was best for the trained network; the rows have the hits of the other methods.
    """

    def rows_of(network: str, question: str, unit: str) -> list[Mapping[str, Any]]:
        return [row for row in rows if (row["network"], row["question"], row["unit"]) == (network, question, unit)]

    shapley = [row for row in rows_of("trained", "channel", "wells") if row["method"] == "shapley"]
    results = [
        _criterion("planted channel ranked first by Shapley", shapley, limit=MIN_CHANNEL_SHARE, at_least=True),
        _criterion(
            "peak of the best map in the planted region",
            rows_of("trained", "region", "sites"),
            limit=MIN_REGION_SHARE,
            at_least=True,
        ),
    ]
    questions = (("channel", "wells"), ("region", "sites"))
    for (question, unit), method in zip(questions, [aim["method"] for aim in results], strict=True):
        excess = [
            {"method": row["method"], "share": None if row["share"] is None else row["share"] - row["chance"]}
            for row in rows_of("untrained", question, unit)
            if row["method"] == method
        ]
        results.append(
            _criterion(
                f"{question} hits of untrained networks over chance",
                excess,
                limit=MAX_SHARE_OVER_CHANCE,
                at_least=False,
            )
        )
    return results


def mean_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of the rows of several networks, each site counted once.

    Args:
        rows: One row per network.
    """
    means = {
        name: float(np.mean([row[name] for row in rows]))
        # Also the interval limits: each interval covers the share of its network, so their mean covers the mean share.
        for name in ("hits", "share", "low", "high", "swapped", "mass")
        if all(row.get(name) is not None for row in rows)
    }
    return {**rows[0], **means}


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

    The result is written to `explanations/benchmark.json`. The target is the true perturbation, at sites where the
    network predicts it, because a wrong prediction has no planted truth. The same sites are also explained for networks
    with random weights: their hits come from the method and the images, not from training.

    Args:
        run: A run that has been predicted.
        screen: The screen of the run, with `truth.json` in the folder of the images.
        n_sites: Maximum number of sites; None for all held-out sites with a planted effect.
        layer: Layer for methods at a layer; None for the maps before the pooling.
        head: Head of the output that the maps explain.
        removal: What replaces an absent channel; None for the default of `load_context`.
        n_untrained: Number of networks with random weights.
        advance: Called after each of `N_BENCHMARK_STEPS`.

    Raises:
        ScreenError: The screen has no planted truth.
        ExplanationError: The run did not learn perturbations, or no held-out site has a planted effect.
        RunError: The run has not been predicted, or the screen does not fit the network.
    """
    source = screen.source
    if not isinstance(source, Path):
        raise ExplanationError(
            f"The images are at {source}, but a planted truth is only read from a local folder. Simulate the screen "
            "there."
        )
    notes: list[str] = []
    truth = truth_of(screen, say=notes.append) if (source / "truth.json").exists() else read_truth(source)
    if truth is None:
        raise ScreenError(
            f"{notes[0]} The benchmark needs a planted truth; make a screen with `distangle simulate OUT`."
        )
    rows = planted_rows(run, truth, n_sites=n_sites)
    context = load_context(run, screen, selection=SiteSelection(rows=rows), removal=removal)
    wells = Predictions.read(run.predictions, level="well", views=1, with_logits=False).table
    correct = wells[wells["predicted"] == wells["perturbation"]]
    benchmark_sites = select_benchmark_sites(context, rows, correct_wells=set(wells_of(correct)))
    settings = {"layer": layer, "head": head, "removal": benchmark_sites.removal, "untrained_networks": n_untrained}
    result_rows = [
        *_network_rows(context.model, benchmark_sites, network="trained", layer=layer, head=head, advance=advance)
    ]
    untrained_rows = []
    for seed in range(n_untrained):
        untrained = untrained_copy(context, benchmark_sites, run, screen, seed=seed)
        same_sites = replace(benchmark_sites, sites=untrained.sites)
        untrained_rows.append(
            _network_rows(untrained.model, same_sites, network="untrained", layer=layer, head=head, advance=advance)
        )
    result_rows += [mean_row(rows_of_networks) for rows_of_networks in zip(*untrained_rows, strict=True)]
    settings |= {"sites": len(benchmark_sites.sites), "held_out_with_effect": len(rows)}
    settings["remark"] = training_remark(run, benchmark_sites.sites.table)
    benchmark = Benchmark(rows=result_rows, aims=criteria(result_rows), settings=settings)
    run.record(*benchmark.write(run.explanations))
    return benchmark


def _well_means(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    sums = np.zeros((int(index.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(sums, index, values.astype(np.float64))
    return np.asarray(sums / np.bincount(index)[:, None])


def _criterion(description: str, rows: Sequence[Mapping[str, Any]], *, limit: float, at_least: bool) -> dict[str, Any]:
    """Compare the row with the largest share with a limit."""
    candidates = [row for row in rows if row["share"] is not None]
    best = max(candidates, key=lambda row: row["share"], default=None)
    value = None if best is None else float(best["share"])
    met = None if value is None else bool(value >= limit if at_least else value <= limit)
    return {
        "aim": description,
        "method": None if best is None else best["method"],
        "value": value,
        "limit": limit,
        "at_least": at_least,
        "met": met,
    }


def _network_rows(
    model: PerturbationClassifier,
    benchmark: BenchmarkSites,
    *,
    network: str,
    layer: str | None,
    head: Head,
    advance: Advance,
) -> list[dict[str, Any]]:
    single = np.flatnonzero(benchmark.channel >= 0).tolist()
    rows: list[dict[str, Any]] = []
    if single:
        sites = benchmark.sites.take(single)
        scores = scores_by_method(model, sites, removal=benchmark.removal, layer=layer, head=head)
        wells = np.array(wells_of(sites.table))
        units: tuple[tuple[Literal["wells", "sites"], np.ndarray], ...] = (
            ("wells", benchmark.well_is_correct[single]),
            ("sites", benchmark.site_is_correct[single]),
        )
        for unit, correct in units:
            correct_scores = {method: values[correct] for method, values in scores.items()}
            rows += channel_rows(
                correct_scores, benchmark.channel[single][correct], wells=wells[correct], unit=unit, network=network
            )
        advance(f"{network}: channel scores")
    if benchmark.regions:
        sites = benchmark.sites.take(list(benchmark.regions))
        inside, wells = circle_masks(list(benchmark.regions.values()), sites.size), np.array(wells_of(sites.table))
        for method in MAP_METHODS:
            method_maps = maps_by_method(model, sites, method=method, layer=layer, head=head)
            rows.append(
                region_row(
                    method_maps.maps, inside, wells=wells, network=network, method=method, layer=method_maps.layer
                )
            )
            advance(f"{network}: {method}")
    return rows
