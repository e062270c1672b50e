"""Explain a whole run: its held-out sites, its templates and its filters."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from distangle.core.io import remove_stale_temporaries
from distangle.core.progress import Advance, begin_step, no_progress
from distangle.core.random import rng_for
from distangle.errors import ExplanationError
from distangle.explain.aggregate import add_group_means
from distangle.explain.context import ExplanationContext, SiteSelection, load_context
from distangle.explain.explain_sites import ExplainSettings, explain_sites
from distangle.explain.faithfulness import FaithfulnessSettings, OtherNetworks, examine
from distangle.explain.faithfulness.map_similarity import map_method
from distangle.explain.filters.pruning import check_held_out
from distangle.explain.filters.run import examine_filters
from distangle.explain.maps.cells import add_cell_overlap
from distangle.explain.selection import training_remark
from distangle.explain.sites import NetworkSites
from distangle.explain.templates.compare import compare_templates
from distangle.explain.text import PARTS, Part
from distangle.results import Explanation, Faithfulness, RunFolder
from distangle.screen import Screen


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions:
    """Analyses of `explain_run` in addition to the explanation of sites.

    Attributes:
        parts: Analyses to run; files of `templates` and `filters` from an earlier explanation stay.
        nuclear: Name of the channel that shows nuclei; None to find it by name, stain or organelle.
        other_run: Another run on the same screen, whose templates are projected together with those of the run.
        embeddings: Perturbations whose embeddings are compared; None for the most frequent.
        prune: Measure the accuracy without redundant filters; predicts the held-out fold several times.
        seeds: Runs on the same screen with other seeds, for a comparison of the maps.
        shuffled: A run trained with `shuffle_labels=true`, for a comparison of the maps.
    """

    parts: Sequence[Part] = PARTS
    nuclear: str | None = None
    other_run: RunFolder | None = None
    embeddings: Sequence[str] | None = None
    prune: bool = False
    seeds: Sequence[RunFolder] = ()
    shuffled: RunFolder | None = None


def run_faithfulness(
    context: ExplanationContext,
    explanation: Explanation,
    folder: Path,
    *,
    seeds: Sequence[ExplanationContext],
    shuffled: ExplanationContext | None,
    advance: Advance,
) -> tuple[Explanation, list[Path]]:
    """Test the maps and channel scores of an explanation.

    The channel scores use the removal of the explanation.

    Args:
        context: The network and its sites.
        explanation: Explanation of these sites.
        folder: Folder of the explanations.
        seeds: Runs with other seeds, loaded at the same sites.
        shuffled: A run trained on shuffled labels, loaded at the same sites.
        advance: Called after each test.

    Returns:
        The explanation with one column per test (NaN for sites that were not tested), and the written files.
    """
    applied = explanation.settings
    results = examine(
        context.model,
        context.sites,
        explanation.maps,
        rng=rng_for(0, "faithfulness"),
        settings=FaithfulnessSettings(removal=applied["removal"]),
        method=map_method(applied["method"], layer=applied["requested_layer"], head=applied["head"]),
        other_networks=OtherNetworks(
            seeds=[NetworkSites(other.model, other.sites) for other in seeds],
            shuffled=None if shuffled is None else NetworkSites(shuffled.model, shuffled.sites),
        ),
        advance=advance,
    )
    columns = results.columns(len(explanation.table))
    table = explanation.table.assign(**{str(name): columns[name] for name in columns.columns})
    return dataclasses.replace(explanation, table=table), results.write(folder)


def run_network_analyses(run: RunFolder, screen: Screen, options: AnalysisOptions, *, advance: Advance) -> list[Path]:
    """Compare templates and examine filters of a run; return the written files.

    Args:
        run: A run that has been predicted.
        screen: The screen of the run.
        options: Analyses to run.
        advance: Called after each step.
    """
    written: list[Path] = []
    if "templates" in options.parts:
        templates = compare_templates(
            run, screen=screen, other_run=options.other_run, perturbations=options.embeddings, advance=advance
        )
        written += templates.write(run.explanations)
    if "filters" in options.parts:
        filters = examine_filters(run, screen=screen if options.prune else None, advance=advance)
        written += filters.write(run.explanations)
    return written


def explain_run(
    run: RunFolder,
    screen: Screen,
    *,
    selection: SiteSelection | None = None,
    settings: ExplainSettings | None = None,
    options: AnalysisOptions | None = None,
    advance: Advance = no_progress,
    say: Advance = no_progress,
) -> Explanation:
    """Explain the predicted perturbation of held-out sites; write `explanations/`.

    If the run held nothing out, training sites are explained. The `remark` of the settings names this, also for the
    final network of a cross-validation, which was trained on all sites. The parts of `options` add tests of the maps, a
    comparison of the templates and an analysis of the filters.

    Args:
        run: A run that has been predicted.
        screen: The screen of the run.
        selection: Sites and perturbation to explain; None for the defaults.
        settings: Settings of the explanation; None for the defaults. The stored settings name the removal in use.
        options: Further analyses; None for all parts.
        advance: Called after each batch; begins `n_steps` steps.
        say: Called with a message if `truth.json` belongs to another screen.

    Raises:
        RunError: The run has not been predicted, or the screen does not fit the network.
        ExplanationError: No selected site can be read, the settings name something unknown, another run held out
            other sites, or pruning has no held-out sites.
        WeightsError: The norm statistics of the run are damaged.
    """
    selection, options = selection or SiteSelection(), options or AnalysisOptions()
    settings = settings or ExplainSettings()
    if options.prune and "filters" in options.parts:
        check_held_out(run)
    begin_step(advance, "reading the selected sites", 0)
    context = load_context(run, screen, selection=selection, removal=settings.removal, say=say)
    explanation = explain_sites(
        context.model,
        context.sites,
        rng=rng_for(0, "explain"),
        settings=settings.model_copy(update={"removal": context.removal}),
        channels_of=context.channels_of,
        regions=context.regions,
        advance=advance,
    )
    binning = float(context.card.preprocessing.binning)
    extra = {"scale": [binning, binning], "requested_layer": settings.layer, "perturbation": selection.perturbation}
    extra["remark"] = training_remark(run, explanation.table)
    explanation = replace(explanation, settings={**explanation.settings, **extra})
    run.explanations.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(run.explanations)
    explanation = add_cell_overlap(explanation, context.sites, screen.metadata.channels, nuclear=options.nuclear)
    if "faithfulness" in options.parts:
        explanation, written = run_faithfulness(
            context,
            explanation,
            run.explanations,
            seeds=[_load_other(run, other, screen, context) for other in options.seeds],
            shuffled=None if options.shuffled is None else _load_other(run, options.shuffled, screen, context),
            advance=advance,
        )
    else:
        written = Faithfulness.remove(run.explanations)  # they would belong to other sites
    explanation = add_group_means(explanation)
    written += explanation.write(run.explanations)
    written += run_network_analyses(run, screen, options, advance=advance)
    run.record(*written)
    return explanation


def n_steps(parts: Sequence[Part]) -> int:
    """Return how many steps `explain_run` has: two for sites, one per part."""
    return 2 + len(parts)


def _load_other(run: RunFolder, other: RunFolder, screen: Screen, context: ExplanationContext) -> ExplanationContext:
    """Load another run at the same sites; it must hold out the same sites."""
    if run.describe()["folds_sha256"] != other.describe()["folds_sha256"]:
        raise ExplanationError(
            f"{other.root} holds out other sites ({other.describe()['held_out']}) than {run.root}, so it may have been "
            "trained on the sites to explain. Train it with the same --hold-out, or with the same --folds and --fold."
        )
    return load_context(other, screen, selection=SiteSelection(rows=context.rows), removal=context.removal)
