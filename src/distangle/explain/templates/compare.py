"""Compare templates and embeddings of one or two runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from distangle.core.progress import Advance, begin_step, no_progress, show_action
from distangle.core.random import rng_for
from distangle.core.remote import address_of
from distangle.core.stats import mean_interval
from distangle.errors import ExplanationError
from distangle.explain.selection import explainable_sites, was_trained_on
from distangle.explain.templates.embeddings import (
    HEADS,
    TrainedTemplates,
    choose_perturbations,
    clustering,
    read_templates,
    shared_sites,
)
from distangle.explain.templates.unused_classes import unused_class_separation
from distangle.explain.text import template_sentences
from distangle.profiles.geometry import (
    Vectors,
    compare_with_random,
    cosines,
    dispersion,
    nearest,
    random_dispersions,
)
from distangle.profiles.project import Method, is_installed, project, projections, trustworthiness
from distangle.results import Predictions, RunFolder, TemplateComparison
from distangle.results.run_screen import own_screen
from distangle.screen import Screen


class TemplateSettings(BaseModel):
    """Settings of the comparison and projection of templates and embeddings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[Method, ...] | None = Field(
        default=None, description="pca, tsne, umap; none: pca, and tsne if it is installed"
    )
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="seeds of t-SNE and UMAP")
    perplexities: tuple[int, ...] = Field(default=(5, 30), min_length=1, description="perplexities of t-SNE")
    neighbors: int = Field(default=15, ge=2, description="neighbors of UMAP")
    k: int = Field(default=5, ge=1, description="neighbors that purity and trustworthiness count")
    n_draws: int = Field(default=200, ge=1, description="shuffles")
    n_random: int = Field(default=50, ge=2, description="sets of random templates")
    most_sites: int = Field(default=2000, ge=4, description="sites whose embeddings are compared")
    seed: int = Field(default=0, description="seed of all draws")


def compare_templates(
    run: RunFolder,
    *,
    screen: Screen | None = None,
    other_run: RunFolder | None = None,
    perturbations: Sequence[str] | None = None,
    settings: TemplateSettings | None = None,
    advance: Advance = no_progress,
) -> TemplateComparison:
    """Compare templates and embeddings of a run.

    The templates of a second run, such as one with pseudo labels, share the projections.

    Source: Figs. 7, 8 and 9
    Departs: the paper judges the spread from one t-SNE map. Here the numbers come from the full space, each beside
        what random templates or shuffled labels give, and every map says how well it keeps the neighbors.

    Args:
        run: A finished run with predictions.
        screen: The screen of both runs; None for the recorded location.
        other_run: Another run on the same screen, or None.
        perturbations: Perturbations whose embeddings are compared; None for the three with most wells.
        settings: None for the defaults.
        advance: Called after every run.

    Raises:
        RunError: A run is not finished or not predicted, or has another screen.
        ExplanationError: A perturbation has no held-out sites, the runs cannot be compared, or a package is not
            installed.
        FoldError: The folds of a run lack sites of the screen.
        WeightsError: The weights of a run are damaged.
    """
    settings = settings or TemplateSettings()
    screen = screen or own_screen(run)
    runs = [run] if other_run is None else [run, other_run]
    begin_step(advance, "templates", len(runs), unit="run", alike=False)
    trained = []
    for one_run, name in zip(runs, _names(runs), strict=True):
        trained.append(read_templates(one_run, screen, name=name))
        advance(f"templates of {name}")
    sizes = {templates.name: templates.heads["softmax"].shape[1] for templates in trained}
    if len(set(sizes.values())) > 1:
        raise ExplanationError(
            f"The runs have embeddings of different sizes ({', '.join(f'{n}: {k}' for n, k in sizes.items())}), so "
            "they have no common projection. Compare runs with the same network.embedding_size."
        )
    predictions = [Predictions.read(one_run.predictions, level="site", views=1, with_logits=False) for one_run in runs]
    selection = choose_perturbations(predictions[0].table, perturbations=perturbations)
    sites = shared_sites(
        predictions, selection.names, max_sites=settings.most_sites, rng=rng_for(settings.seed, "templates", "sites")
    )
    numbers: dict[str, Any] = {
        "runs": [{"name": templates.name, "pseudo_labels": templates.pseudo_labels} for templates in trained],
        "templates": _dispersions(trained, settings),
        "unused": {templates.name: _unused_classes(templates, settings) for templates in trained},
        "perturbations": {"names": selection.names, "wells": selection.wells, "tied": selection.tied},
        "trained_on": [
            templates.name for templates, (table, _) in zip(trained, sites, strict=True) if was_trained_on(table).any()
        ],
    }
    embeddings, numbers["embeddings"] = _embeddings([templates.name for templates in trained], sites, settings)
    numbers["means"] = _means(trained, predictions, settings)
    template_rows = pd.concat([_rows(templates, head) for templates in trained for head in HEADS], ignore_index=True)
    sets = {f"{templates.name}, {head}": templates.heads[head] for templates in trained for head in HEADS}
    embedding_sets = {templates.name: vectors for templates, (_, vectors) in zip(trained, sites, strict=True)}
    template_points, template_maps = _maps(sets, settings, of="templates")
    embedding_points, embedding_maps = _maps(embedding_sets, settings, of="embeddings")
    numbers["settings"] = settings.model_dump(mode="json")
    numbers["sentences"] = template_sentences(numbers)
    return TemplateComparison(
        templates=pd.concat([template_rows, template_points], axis=1),
        embeddings=pd.concat([embeddings, embedding_points], axis=1),
        maps=[*template_maps, *embedding_maps],
        numbers=numbers,
    )


def _names(runs: Sequence[RunFolder]) -> list[str]:
    names = [run.root.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(address_of(run.root) or run.root) for run in runs]


def _dispersions(runs: Sequence[TrainedTemplates], settings: TemplateSettings) -> dict[str, Any]:
    """Return the dispersion of trained templates compared with random ones."""
    draws: dict[tuple[int, int], list[dict[str, float]]] = {}
    spreads: dict[str, dict[str, Any]] = {}
    for run in runs:
        sets = {**run.heads, "softmax with bias": run.with_bias}
        for kind, vectors in sets.items():
            trained = vectors[~run.is_unused]
            if len(trained) < 2:
                continue
            shape = (len(trained), trained.shape[1])
            if shape not in draws:
                rng = rng_for(settings.seed, "templates", "random", *shape)
                draws[shape] = random_dispersions(*shape, rng=rng, n_draws=settings.n_random)
            spreads.setdefault(run.name, {})[kind] = compare_with_random(trained, draws[shape])
    return spreads


def _unused_classes(run: TrainedTemplates, settings: TemplateSettings) -> dict[str, Any]:
    """Return the separation of unused classes per head, trained and untrained."""
    result: dict[str, Any] = {
        "outputs": [name for name, flag in zip(run.perturbations, run.is_unused, strict=True) if flag]
    }
    for head in HEADS:
        for stage, vectors in (("trained", run.heads[head]), ("first_values", run.initial[head])):
            rng = rng_for(settings.seed, "templates", "unused", head, stage)
            separation = unused_class_separation(
                vectors, run.is_unused, k=settings.k, rng=rng, n_draws=settings.n_draws
            )
            result.setdefault(head, {})[stage] = separation
    return result


def _means(
    runs: Sequence[TrainedTemplates], predictions: Sequence[Predictions], settings: TemplateSettings
) -> dict[str, Any]:
    """Return the dispersion of the mean embeddings of held-out perturbations."""
    spreads = {}
    for run, sites in zip(runs, predictions, strict=True):
        table = sites.table
        eligible = explainable_sites(table) & (table["perturbation"] != "")
        frame = pd.DataFrame(sites.embedding[eligible.to_numpy()].astype(np.float64))
        means = frame.groupby(table.loc[eligible, "perturbation"].astype(str).to_numpy()).mean().to_numpy()
        if len(means) > 1:
            spreads[run.name] = {"n": len(means), **dispersion(means - means.mean(axis=0))}
    return spreads


def _rows(run: TrainedTemplates, head: str) -> pd.DataFrame:
    vectors = run.heads[head]
    pairs = cosines(vectors)
    nearest_other = nearest(pairs)
    same_kind = np.where(run.is_unused[:, None] == run.is_unused[None, :], pairs, -np.inf)
    np.fill_diagonal(same_kind, -np.inf)
    largest_cosine = same_kind.max(axis=1)
    own_kind = np.where(np.isfinite(largest_cosine), np.degrees(np.arccos(largest_cosine.clip(-1, 1))), np.nan)
    return pd.DataFrame(
        {
            "run": run.name,
            "head": head,
            "output": np.arange(len(vectors)),
            "perturbation": run.perturbations,
            "training_wells": run.wells,
            "unused": run.is_unused,
            "norm": np.linalg.norm(vectors, axis=1),
            "bias": run.bias if head == "softmax" else np.nan,
            "nearest_angle_deg": nearest_other.angle_deg,
            "nearest": [run.perturbations[k] for k in nearest_other.index],
            "nearest_alike_angle_deg": own_kind,
            "mean_cosine": (pairs.sum(axis=1) - np.diagonal(pairs)) / (len(pairs) - 1),
        }
    )


def _embeddings(
    names: Sequence[str], sites: Sequence[tuple[pd.DataFrame, Vectors]], settings: TemplateSettings
) -> tuple[pd.DataFrame, dict[str, Any]]:
    tables, summaries, values = [], {}, []
    for name, (table, vectors) in zip(names, sites, strict=True):
        rng = rng_for(settings.seed, "templates", "embeddings")  # the same shuffles for both runs
        result = clustering(vectors, table, k=settings.k, rng=rng, n_draws=settings.n_draws)
        columns = [
            column for column in table if str(column).startswith("Metadata_") or column in ("perturbation", "predicted")
        ]
        tables.append(table[columns].assign(silhouette=result.silhouette, purity=result.purity))
        tables[-1].insert(0, "run", name)
        summaries[name] = result.summary
        values.append(result)
    if len(values) == 2:
        groups = sites[0][0]["Metadata_Experiment"].astype(str).to_numpy(dtype=object)
        summaries["difference"] = {}
        for kind in ("silhouette", "purity"):
            gain = getattr(values[1], kind) - getattr(values[0], kind)
            summaries["difference"][kind] = {"value": float(gain.mean()), "interval": mean_interval(gain, groups)}
    return pd.concat(tables, ignore_index=True), summaries


def _maps(
    sets: Mapping[str, Vectors], settings: TemplateSettings, *, of: str
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Project all sets together; return the points and the quality of each projection."""
    methods: list[Method] = ["pca", "tsne"] if is_installed("tsne") else ["pca"]
    vectors_of_all = np.concatenate(list(sets.values()))
    ends = np.cumsum([len(vectors) for vectors in sets.values()])
    columns: dict[str, np.ndarray] = {}
    maps = []
    layouts = [
        *projections(
            len(vectors_of_all),
            methods=settings.methods or methods,
            seeds=settings.seeds,
            perplexities=settings.perplexities,
            neighbors=settings.neighbors,
        )
    ]
    for number, layout in enumerate(layouts, start=1):
        show_action(f"projecting {of}", f"projection {number} of {len(layouts)}, {layout.name}")
        points = project(vectors_of_all, layout)
        columns |= {f"{layout.name}_x": points[:, 0], f"{layout.name}_y": points[:, 1]}
        each = zip(sets.items(), np.split(points, ends[:-1]), strict=True)
        maps.append(
            {
                "source": of,
                "name": layout.name,
                "method": layout.method,
                "seed": layout.seed,
                "neighbors": layout.neighbors,
                "trustworthiness": trustworthiness(vectors_of_all, points, k=settings.k),
                "trustworthiness_of": {
                    name: trustworthiness(vectors, own, k=settings.k) for (name, vectors), own in each
                },
            }
        )
    return pd.DataFrame(columns), maps
