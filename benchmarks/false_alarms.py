"""P-values of data in which nothing is to be found: one function per p-value that the program prints.

Each takes a generator and returns one p-value. What is alike in a laboratory is alike here: sites of a well share their
map, wells of an experiment their batch, plates of one layout their treatments, wells of a perturbation their stain.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from distangle.explain import p_values, random_smooth_maps
from distangle.explain.channels.nulls import (
    combine_p_values,
    control_p_value,
    labels_null,
    mean_over_sites,
    null_correlation,
)
from distangle.explain.faithfulness.curves import null_p, site_p
from distangle.explain.filters.similarity import Thresholds, compare_with_nulls, shuffle_filters
from distangle.explain.maps import cells
from distangle.explain.summary import _family_p_by_well, _shuffle_nulls
from distangle.explain.templates.embeddings import clustering
from distangle.explain.templates.unused_classes import unused_class_separation
from distangle.images.quality.plate_effects import edge_effect
from distangle.screen.checks.leaks import _is_predictive

DRAWS = 99
STAINS = 4


def _null_answers(rng: np.random.Generator, *, sites: int, alike: bool) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of every stain with a random map, and with others: [site, stain] and [site, draw, stain]."""
    maps = random_smooth_maps(DRAWS + sites, grid=(4, 4), size=(16, 16), rng=rng)
    images = random_smooth_maps(sites * STAINS, grid=(8, 8), size=(16, 16), rng=rng).enlarged()
    scores = null_correlation(maps, images.reshape(sites, STAINS, 16, 16))
    target_columns = np.zeros(sites, dtype=int) if alike else np.arange(sites)
    return scores[np.arange(sites), target_columns], scores[:, sites:]


def map_of_site(rng: np.random.Generator) -> float:
    observed, null = _null_answers(rng, sites=1, alike=False)
    return float(p_values(observed, null)[0, 0])


def map_of_site_largest(rng: np.random.Generator) -> float:
    observed, null = _null_answers(rng, sites=1, alike=False)
    return min(1.0, STAINS * float(p_values(observed, null)[0, observed[0].argmax()]))


def map_of_well(rng: np.random.Generator) -> float:
    observed, null = _null_answers(rng, sites=3, alike=True)
    mean = mean_over_sites(null, rng=rng, groups=["B02"] * 3)
    return float(p_values(observed.mean(0)[None], mean[None])[0, 0])


def map_overall(rng: np.random.Generator) -> float:
    wells = [_null_answers(rng, sites=3, alike=True) for _ in range(6)]
    observed, null = (np.concatenate(one) for one in zip(*wells, strict=True))
    names = [f"B{well:02d}" for well in range(6) for _ in range(3)]
    return float(p_values(observed.mean(0)[None], mean_over_sites(null, rng=rng, groups=names)[None])[0, 0])


def _p_of_untreated_well(rng: np.random.Generator, *, sites: int) -> np.ndarray:
    """P of the sites of a well that is untreated itself, beside 39 untreated wells."""
    control_score = rng.normal(size=(39, 1))
    return control_p_value(
        np.repeat(rng.normal(size=(1, 1)), sites, axis=0) + 0.3 * rng.normal(size=(sites, 1)) * (sites > 1),
        ["own"] * sites,
        control_scores=control_score + 0.3 * rng.normal(size=(39, 1)) * (sites > 1),
        control_wells=[f"c{k}" for k in range(39)],
    )


def stain_of_site(rng: np.random.Generator) -> float:
    return float(_p_of_untreated_well(rng, sites=1)[0, 0])


def stain_of_well(rng: np.random.Generator) -> float:
    return float(combine_p_values(_p_of_untreated_well(rng, sites=3))[0])


def _null_scores(rng: np.random.Generator, *, by_perturbation: float) -> tuple[pd.DataFrame, np.ndarray]:
    """Two sites of each of three wells of eight perturbations, whose stains are drawn at random."""
    perturbation, well, site = (one.ravel() for one in np.indices((8, 3, 2)))
    table = pd.DataFrame({"Metadata_Experiment": "E1", "Metadata_Plate": "1"}, index=range(len(well)))
    table["Metadata_Well"] = [f"{p}-{w}" for p, w in zip(perturbation, well, strict=True)]
    table["explained"] = [f"p{k}" for k in perturbation]
    of_well = rng.normal(size=(8, 3, STAINS))[perturbation, well]
    perturbation_effect = by_perturbation * rng.normal(size=(8, STAINS))[perturbation]
    return table, perturbation_effect + of_well + 0.1 * rng.normal(size=(len(site), STAINS))


def stain_overall(rng: np.random.Generator) -> float:
    table, values = _null_scores(rng, by_perturbation=2.0)
    return float(_shuffle_nulls("shapley", {"shapley": values}, table, rng=rng, n_draws=DRAWS)["p"][0])


def stain_overall_largest(rng: np.random.Generator) -> float:
    table, values = _null_scores(rng, by_perturbation=2.0)
    result = _shuffle_nulls("shapley", {"shapley": values}, table, rng=rng, n_draws=DRAWS)
    return float(min(result["p_family"]))


def stain_of_perturbation(rng: np.random.Generator) -> float:
    table, values = _null_scores(rng, by_perturbation=0.0)
    return min(_family_p_by_well(values[:30], table["Metadata_Well"].tolist()[:30], rng=rng, n_draws=DRAWS))


def stain_by_labels(rng: np.random.Generator) -> float:
    """Each of four experiments has two perturbations of its own, and a look that the network takes for one of them."""
    experiment, well = (one.ravel() for one in np.indices((4, 6)))
    targets = 2 * experiment + rng.permuted(np.tile([0, 1], (4, 3)), axis=1).ravel()
    look = np.zeros((24, STAINS, 8))
    for k in range(4):
        look[experiment == k, :, 2 * k : 2 * k + 2] = 2.0
    scores = look + rng.normal(size=look.shape)
    wells = [f"{e}-{w}" for e, w in zip(experiment, well, strict=True)]
    experiments = [str(e) for e in experiment]
    result = labels_null(scores, targets, rng=rng, groups=wells, within=experiments, n_draws=DRAWS)
    return 1.0 if result is None else float(result.p[0])


def _areas(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Areas of maps that are alike on the three sites of a well, and of five random maps."""
    of_well = rng.normal(size=(8, 6)).repeat(3, axis=0) + 0.2 * rng.normal(size=(24, 6))
    return of_well[:, 0], of_well[:, 1:], [f"w{k}" for k in range(8) for _ in range(3)]


def places_overall(rng: np.random.Generator) -> float:
    observed, null, wells = _areas(rng)
    return null_p(observed, null, rng=rng, groups=wells, n_draws=DRAWS)


def places_of_site(rng: np.random.Generator) -> float:
    return float(site_p(rng.normal(size=1), rng.normal(size=(1, 19)))[0])


def _cells(rng: np.random.Generator) -> dict[str, Any]:
    """The summary of maps that are drawn at random, one for the sites of a well, over parts of three wells."""
    shares = rng.dirichlet(np.ones(3), size=(9, 1 + DRAWS)).astype(float)
    base = rng.dirichlet(np.ones(3), size=(3, 1 + DRAWS)).repeat(3, axis=0)
    shares = 0.8 * base + 0.2 * shares
    table = pd.DataFrame(shares[:, 0], columns=[f"{name}_share" for name in cells.PARTS])
    for name in cells.PARTS:
        table[f"{name}_area"] = 1 / 3
    wells = [f"w{k}" for k in range(3) for _ in range(3)]
    return cells._summarize_overlap(table, shares[:, 1:], None, wells, rng=rng)


def cells_of_site(rng: np.random.Generator) -> float:
    maps = random_smooth_maps(1, grid=(4, 4), size=(32, 32), rng=rng).enlarged()
    image = 1000 * random_smooth_maps(1, grid=(8, 8), size=(32, 32), rng=rng, smoothness=0.5).enlarged()
    result = cells.overlap_with_cells(maps, image[:, None], nuclear=0, grid=(4, 4), rng=rng, n_maps=19)
    return float(result.table["cells_p"].iloc[0])


def cells_overall(rng: np.random.Generator) -> float:
    return float(_cells(rng)["nuclei"]["p"])


def edge(rng: np.random.Generator) -> float:
    """Four plates of one layout: the treatments lie in the same wells of each, without any effect of the edge."""
    row, column = (one.ravel() for one in np.indices((6, 8)))
    treatment = 2 * rng.normal(size=48)
    plates = [
        pd.DataFrame(
            {"experiment": "E1", "plate": str(k), "row": row, "column": column,
             "value": treatment + rng.normal(size=48)}
        )
        for k in range(4)
    ]  # fmt: skip
    result = edge_effect(pd.concat(plates, ignore_index=True), seed=int(rng.integers(2**31)))
    return 1.0 if result is None else result.p_value


def leak(rng: np.random.Generator) -> float:
    """0 where a place is said to tell the label of wells that lie at random, else 1; two rules are tried."""
    n, names = int(rng.choice([12, 40, 200, 1000])), int(rng.choice([2, 5, 20]))
    shares = rng.binomial(n, 1 / names, size=2) / n
    return 0.0 if _is_predictive(float(shares.max()), 1 / names, n) else 1.0


def embeddings(rng: np.random.Generator) -> float:
    """Each of three experiments has two perturbations of its own and a batch effect; sites of a well are alike."""
    experiment, well, _ = (one.ravel() for one in np.indices((3, 4, 2)))
    labels = rng.permuted(np.tile([0, 0, 1, 1], (3, 1)), axis=1)[experiment, well]
    table = pd.DataFrame({"Metadata_Experiment": [f"E{k}" for k in experiment], "Metadata_Plate": "1"})
    table["Metadata_Well"] = [f"B{k:02d}" for k in well]
    table["perturbation"] = [f"p{e}-{label}" for e, label in zip(experiment, labels, strict=True)]
    look = 2 * rng.normal(size=(3, 6))[experiment] + rng.normal(size=(3, 4, 6))[experiment, well]
    vectors = look + 0.1 * rng.normal(size=(24, 6))
    return float(clustering(vectors, table, k=3, rng=rng, n_draws=39).summary["silhouette"]["p"])


def junk(rng: np.random.Generator) -> float:
    templates = rng.normal(size=(12, 5))
    result = unused_class_separation(templates, rng.permutation(12) < 4, k=3, rng=rng, n_draws=39)
    return 1.0 if result is None else float(result["p_mean_cosine"])


def filters(rng: np.random.Generator) -> float:
    weights = rng.normal(size=(8, 6))
    result = compare_with_nulls(
        weights, Thresholds(), nulls={"shuffled": [shuffle_filters(weights, rng) for _ in range(39)]}
    )
    return float(result["variation"]["shuffled"]["p"])


@dataclasses.dataclass(frozen=True)
class Null:
    """A p-value on data without anything to find.

    Attributes:
        draw: From a generator to a p-value.
        said: What is printed, and where.
        unit: What is independent under the null.
    """

    draw: Callable[[np.random.Generator], float]
    said: str
    unit: str


NULLS = {
    "map_of_site": Null(map_of_site, "stain and map (correlation, Eq. 15), one site", "site"),
    "map_of_site_largest": Null(map_of_site_largest, "the stain that the map resembles most, one site", "site"),
    "map_of_well": Null(map_of_well, "stain and map, one well", "well"),
    "map_overall": Null(map_overall, "stain and map, all sites", "well"),
    "stain_of_site": Null(stain_of_site, "Shapley and ablation, one site", "well"),
    "stain_of_well": Null(stain_of_well, "Shapley and ablation, one well", "well"),
    "stain_overall": Null(stain_overall, "Shapley and ablation, all sites, one stain", "perturbation and well"),
    "stain_overall_largest": Null(stain_overall_largest, "the first stain, all sites", "perturbation and well"),
    "stain_of_perturbation": Null(stain_of_perturbation, "the first stain, one perturbation", "well"),
    "stain_by_labels": Null(stain_by_labels, "stain against permuted labels", "well within its experiment"),
    "places_of_site": Null(places_of_site, "deletion, insertion, one site", "site"),
    "places_overall": Null(places_overall, "deletion, insertion, all sites", "well"),
    "cells_of_site": Null(cells_of_site, "map on nuclei and cells, one site", "site"),
    "cells_overall": Null(cells_overall, "maps on nuclei and cells, all sites", "well"),
    "edge": Null(edge, "edge of the plates", "place on the plates"),
    "leak": Null(leak, "a place tells the label (a limit, no p)", "well"),
    "embeddings": Null(embeddings, "embeddings by perturbation (silhouette, purity)", "well within its experiment"),
    "junk": Null(junk, "templates of junk classes", "template"),
    "filters": Null(filters, "1x1 filters against shuffled weights", "weight"),
}


def alarms(name: str, *, repeats: int, seed: int = 0) -> float:
    """Return the share of p-values at most .05."""
    draws = (NULLS[name].draw(np.random.default_rng([seed, k])) for k in range(repeats))
    return float(np.mean([p <= 0.05 + 1e-12 for p in draws]))
