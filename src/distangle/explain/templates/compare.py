"""Comparison of templates and embeddings of one or two runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from distangle.core.progress import Advance, begin_step, no_progress, show_action
from distangle.core.random import rng_for
from distangle.core.stats import mean_interval
from distangle.errors import ExplanationError
from distangle.explain.selection import requested_sites, was_trained_on
from distangle.explain.templates.embeddings import (
    HEADS,
    TrainedTemplates,
    choose_perturbations,
    chosen_sites,
    clustering,
    read_templates,
)
from distangle.explain.templates.geometry import (
    Vectors,
    beside_random,
    cosines,
    dispersion,
    nearest,
    random_dispersions,
)
from distangle.explain.templates.project import Method, is_installed, project, projections, trustworthiness
from distangle.explain.templates.unused_classes import unused_class_separation
from distangle.explain.text import template_sentences
from distangle.results import Predictions, RunFolder, TemplateComparison
from distangle.results.run_screen import own_screen
from distangle.screen import Screen


class TemplateSettings(BaseModel):
    """How templates and embeddings are compared and laid out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[Method, ...] | None = Field(
        default=None, description="pca, tsne, umap; none: pca, and tsne where it is installed"
    )
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="of t-SNE and UMAP")
    perplexities: tuple[int, ...] = Field(default=(5, 30), min_length=1, description="of t-SNE")
    neighbours: int = Field(default=15, ge=2, description="of UMAP")
    k: int = Field(default=5, ge=1, description="neighbours that purity and trustworthiness count")
    n_draws: int = Field(default=200, ge=1, description="shuffles")
    n_random: int = Field(default=50, ge=2, description="sets of random templates")
    max_sites: int = Field(default=2000, ge=4, description="sites whose embeddings are compared")
    seed: int = Field(default=0, description="of all draws")


def compare_templates(
    run: RunFolder,
    *,
    screen: Screen | None = None,
    beside: RunFolder | None = None,
    perturbations: Sequence[str] | None = None,
    settings: TemplateSettings | None = None,
    advance: Advance = no_progress,
) -> TemplateComparison:
    """Compare templates and embeddings of a run.

    Those of a second run, such as one with pseudo labels, go into the same maps.

    Source: Figs. 7, 8 and 9
    Departs: the paper judges the spread from one t-SNE map. Here the numbers come from the full space, each beside
        what random templates or shuffled labels give, and every map says how well it keeps the neighbours.

    Args:
        run: Finished and predicted.
        screen: That both runs were trained on; None: where the run says it is.
        beside: Another run on the same screen; None for none.
        perturbations: Whose embeddings; None for the three with most wells.
        settings: None for the defaults.
        advance: Called after every run read.

    Raises:
        RunError: A run is not finished or not predicted, or the screen is not theirs.
        ExplanationError: A perturbation without held-out sites, runs that cannot be compared, or a package that is not
            installed.
        FoldError: The folds of a run do not know the sites of the screen.
        WeightsError: The weights of a run are damaged.
    """
    settings = settings or TemplateSettings()
    screen = screen or own_screen(run)
    runs = [run] if beside is None else [run, beside]
    begin_step(advance, "templates", len(runs), unit="run", alike=False)
    found = []
    for one, name in zip(runs, _names(runs), strict=True):
        found.append(read_templates(one, screen, name=name))
        advance(f"templates of {name}")
    sizes = {one.name: one.heads["softmax"].shape[1] for one in found}
    if len(set(sizes.values())) > 1:
        raise ExplanationError(
            f"The runs have embeddings of different sizes ({', '.join(f'{n}: {k}' for n, k in sizes.items())}), which "
            "have no map in common. Compare runs with the same network.embedding_size."
        )
    predictions = [Predictions.read(one.predictions, level="site", views=1) for one in runs]
    chosen = choose_perturbations(predictions[0].table, named=perturbations)
    sites = chosen_sites(
        predictions, chosen.names, most=settings.max_sites, rng=rng_for(settings.seed, "templates", "sites")
    )
    numbers: dict[str, Any] = {
        "runs": [{"name": one.name, "pseudo_labels": one.pseudo_labels} for one in found],
        "templates": _spreads(found, settings),
        "unused": {one.name: _junk(one, settings) for one in found},
        "perturbations": {"names": chosen.names, "wells": chosen.wells, "tied": chosen.tied},
        "trained_on": [one.name for one, (table, _) in zip(found, sites, strict=True) if was_trained_on(table).any()],
    }
    embeddings, numbers["embeddings"] = _embeddings([one.name for one in found], sites, settings)
    numbers["means"] = _means(found, predictions, settings)
    templates = pd.concat([_rows(one, head) for one in found for head in HEADS], ignore_index=True)
    sets = {f"{one.name}, {head}": one.heads[head] for one in found for head in HEADS}
    more = {one.name: vectors for one, (_, vectors) in zip(found, sites, strict=True)}
    placed, maps = _maps(sets, settings, of="templates")
    also, others = _maps(more, settings, of="embeddings")
    numbers["settings"] = settings.model_dump(mode="json")
    numbers["sentences"] = template_sentences(numbers)
    return TemplateComparison(
        templates=pd.concat([templates, placed], axis=1),
        embeddings=pd.concat([embeddings, also], axis=1),
        maps=[*maps, *others],
        numbers=numbers,
    )


def _names(runs: Sequence[RunFolder]) -> list[str]:
    names = [run.root.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.root) for run in runs]


def _spreads(found: Sequence[TrainedTemplates], settings: TemplateSettings) -> dict[str, Any]:
    """Return the spread of trained templates beside random ones."""
    draws: dict[tuple[int, int], list[dict[str, float]]] = {}
    said: dict[str, dict[str, Any]] = {}
    for one in found:
        sets = {**one.heads, "softmax with bias": one.with_bias}
        for kind, vectors in sets.items():
            trained = vectors[~one.unused]
            if len(trained) < 2:
                continue
            shape = (len(trained), trained.shape[1])
            if shape not in draws:
                rng = rng_for(settings.seed, "templates", "random", *shape)
                draws[shape] = random_dispersions(*shape, rng=rng, n_draws=settings.n_random)
            said.setdefault(one.name, {})[kind] = beside_random(trained, draws[shape])
    return said


def _junk(one: TrainedTemplates, settings: TemplateSettings) -> dict[str, Any]:
    """Junk classes of each head after the training and before its first step."""
    said: dict[str, Any] = {"outputs": [name for name, flag in zip(one.perturbations, one.unused, strict=True) if flag]}
    for head in HEADS:
        for when, vectors in (("trained", one.heads[head]), ("first_values", one.first[head])):
            rng = rng_for(settings.seed, "templates", "junk", head, when)
            apart = unused_class_separation(vectors, one.unused, k=settings.k, rng=rng, n_draws=settings.n_draws)
            said.setdefault(head, {})[when] = apart
    return said


def _means(
    found: Sequence[TrainedTemplates], predictions: Sequence[Predictions], settings: TemplateSettings
) -> dict[str, Any]:
    """Return the spread of the mean embeddings of held-out perturbations."""
    said = {}
    for one, sites in zip(found, predictions, strict=True):
        table = sites.table
        fine = requested_sites(table) & (table["perturbation"] != "")
        frame = pd.DataFrame(sites.embedding[fine.to_numpy()].astype(np.float64))
        means = frame.groupby(table.loc[fine, "perturbation"].astype(str).to_numpy()).mean().to_numpy()
        if len(means) > 1:
            said[one.name] = {"n": len(means), **dispersion(means - means.mean(axis=0))}
    return said


def _rows(one: TrainedTemplates, head: str) -> pd.DataFrame:
    vectors = one.heads[head]
    pairs = cosines(vectors)
    near = nearest(pairs)
    alike = np.where(one.unused[:, None] == one.unused[None, :], pairs, -np.inf)
    np.fill_diagonal(alike, -np.inf)
    best = alike.max(axis=1)
    own_kind = np.where(np.isfinite(best), np.degrees(np.arccos(best.clip(-1, 1))), np.nan)
    return pd.DataFrame(
        {
            "run": one.name,
            "head": head,
            "output": np.arange(len(vectors)),
            "perturbation": one.perturbations,
            "training_wells": one.wells,
            "unused": one.unused,
            "norm": np.linalg.norm(vectors, axis=1),
            "bias": one.bias if head == "softmax" else np.nan,
            "nearest_angle_deg": near.angle_deg,
            "nearest": [one.perturbations[k] for k in near.index],
            "nearest_alike_angle_deg": own_kind,
            "mean_cosine": (pairs.sum(axis=1) - np.diagonal(pairs)) / (len(pairs) - 1),
        }
    )


def _embeddings(
    names: Sequence[str], sites: Sequence[tuple[pd.DataFrame, Vectors]], settings: TemplateSettings
) -> tuple[pd.DataFrame, dict[str, Any]]:
    tables, said, values = [], {}, []
    for name, (table, vectors) in zip(names, sites, strict=True):
        rng = rng_for(settings.seed, "templates", "embeddings")  # the same shuffles for both
        measured = clustering(vectors, table, k=settings.k, rng=rng, n_draws=settings.n_draws)
        kept = [
            column for column in table if str(column).startswith("Metadata_") or column in ("perturbation", "predicted")
        ]
        tables.append(table[kept].assign(silhouette=measured.silhouette, purity=measured.purity))
        tables[-1].insert(0, "run", name)
        said[name] = measured.said
        values.append(measured)
    if len(values) == 2:
        groups = sites[0][0]["Metadata_Experiment"].astype(str).to_numpy(dtype=object)
        said["difference"] = {}
        for kind in ("silhouette", "purity"):
            gain = getattr(values[1], kind) - getattr(values[0], kind)
            said["difference"][kind] = {"value": float(gain.mean()), "interval": mean_interval(gain, groups)}
    return pd.concat(tables, ignore_index=True), said


def _maps(
    sets: Mapping[str, Vectors], settings: TemplateSettings, *, of: str
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Lay all sets out together; return coordinates and facts on each map."""
    methods: list[Method] = ["pca", "tsne"] if is_installed("tsne") else ["pca"]
    together = np.concatenate(list(sets.values()))
    ends = np.cumsum([len(vectors) for vectors in sets.values()])
    columns: dict[str, np.ndarray] = {}
    maps = []
    wanted = [
        *projections(
            len(together),
            methods=settings.methods or methods,
            seeds=settings.seeds,
            perplexities=settings.perplexities,
            neighbours=settings.neighbours,
        )
    ]
    for number, layout in enumerate(wanted, start=1):
        show_action(f"laying out {of}", f"map {number} of {len(wanted)}, {layout.name}")
        points = project(together, layout)
        columns |= {f"{layout.name}_x": points[:, 0], f"{layout.name}_y": points[:, 1]}
        each = zip(sets.items(), np.split(points, ends[:-1]), strict=True)
        maps.append(
            {
                "source": of,
                "name": layout.name,
                "method": layout.method,
                "seed": layout.seed,
                "neighbours": layout.neighbours,
                "trustworthiness": trustworthiness(together, points, k=settings.k),
                "trustworthiness_of": {
                    name: trustworthiness(vectors, own, k=settings.k) for (name, vectors), own in each
                },
            }
        )
    return pd.DataFrame(columns), maps
