"""Optional analyses of a run: tests of its maps, its templates and its filters.

Explain a whole run: its held-out sites, its templates and its filters.
"""

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
from distangle.explain.faithfulness.similarity import map_method
from distangle.explain.filters.pruning import check_held_out
from distangle.explain.filters.run import examine_filters
from distangle.explain.maps.cells import on_cells
from distangle.explain.selection import training_remark
from distangle.explain.sites import NetworkSites
from distangle.explain.templates.compare import compare_templates
from distangle.explain.text import PARTS, Part
from distangle.results import Explanation, Faithfulness, RunFolder
from distangle.screen import Screen


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions:
    """What `explain_run` does beside explaining single sites.

    Attributes:
        parts: Which analyses; without `templates` and `filters` those of an earlier explanation stay.
        nuclear: Name of the channel that shows nuclei; None to recognise it by its name, stain or organelle.
        beside: Another run on the same screen, whose templates go into the same maps.
        embeddings: Perturbations whose embeddings are shown; None for the most frequent.
        prune: Measure what leaving filters out does to the accuracy; costs several predictions of the held-out fold.
        seeds: Runs on the same screen from other seeds, whose maps are compared.
        shuffled: A run trained with `shuffle_labels=true`, whose maps are compared.
    """

    parts: Sequence[Part] = PARTS
    nuclear: str | None = None
    beside: RunFolder | None = None
    embeddings: Sequence[str] | None = None
    prune: bool = False
    seeds: Sequence[RunFolder] = ()
    shuffled: RunFolder | None = None


def run_faithfulness(
    opened: ExplanationContext,
    explanation: Explanation,
    folder: Path,
    *,
    seeds: Sequence[ExplanationContext],
    shuffled: ExplanationContext | None,
    advance: Advance,
) -> tuple[Explanation, list[Path]]:
    """Test the maps of an explanation.

    Channel scores are tested with the removal of the explanation.

    Args:
        opened: What was explained.
        explanation: Of it.
        folder: Of the explanations.
        seeds: Runs of other seeds, opened at the same sites.
        shuffled: A run trained on shuffled labels, likewise.
        advance: Called after each test.

    Returns:
        The explanation with a column per test, NaN where a site was not tested; and the files written.
    """
    said = explanation.settings
    found = examine(
        opened.model,
        opened.sites,
        explanation.maps,
        rng=rng_for(0, "faithfulness"),
        settings=FaithfulnessSettings(removal=said["removal"]),
        method=map_method(said["method"], layer=said["requested_layer"], head=said["head"]),
        others=OtherNetworks(
            seeds=[NetworkSites(other.model, other.sites) for other in seeds],
            shuffled=None if shuffled is None else NetworkSites(shuffled.model, shuffled.sites),
        ),
        advance=advance,
    )
    columns = found.columns(len(explanation.table))
    table = explanation.table.assign(**{str(name): columns[name] for name in columns.columns})
    return dataclasses.replace(explanation, table=table), found.write(folder)


def run_network_analyses(run: RunFolder, screen: Screen, options: AnalysisOptions, *, advance: Advance) -> list[Path]:
    """Compare templates and examine filters of a run; return the files written.

    Args:
        run: A run that has been predicted.
        screen: Its screen.
        options: Which of the two, and how.
        advance: Called after each step.
    """
    written: list[Path] = []
    if "templates" in options.parts:
        compared = compare_templates(
            run, screen=screen, beside=options.beside, perturbations=options.embeddings, advance=advance
        )
        written += compared.write(run.explanations)
    if "filters" in options.parts:
        found = examine_filters(run, screen=screen if options.prune else None, advance=advance)
        written += found.write(run.explanations)
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

    If the run held nothing out, sites that it was trained on are explained. `remark` of the settings says so, and
    likewise for a network that was trained on everything after a cross-validation.

    With the parts of `options`: test the maps, compare the templates, examine the filters.

    Args:
        run: A run that has been predicted.
        screen: Its screen.
        selection: Which sites, and for which perturbation; None for the defaults.
        settings: How sites are explained; None for the defaults. The removal that was taken is written in their place.
        options: What else to do; None for all parts.
        advance: Called after each batch; begins `n_steps` steps.
        say: Told of a `truth.json` that is not of this screen.

    Raises:
        RunError: The run has not been predicted, or the screen does not fit the network.
        ExplanationError: No chosen site can be read, the settings name what is not there, another run held out other
            sites, or nothing was held out to try pruning on.
        WeightsError: The norm statistics of the run are damaged.
    """
    selection, options = selection or SiteSelection(), options or AnalysisOptions()
    settings = settings or ExplainSettings()
    if options.prune and "filters" in options.parts:
        check_held_out(run)
    begin_step(advance, "reading the chosen sites", 0)
    opened = load_context(run, screen, selection=selection, removal=settings.removal, say=say)
    explanation = explain_sites(
        opened.model,
        opened.sites,
        rng=rng_for(0, "explain"),
        settings=settings.model_copy(update={"removal": opened.removal}),
        channels_of=opened.channels_of,
        places=opened.places,
        advance=advance,
    )
    binning = float(opened.about.preprocessing.binning)
    asked = {"scale": [binning, binning], "requested_layer": settings.layer, "perturbation": selection.perturbation}
    asked["remark"] = training_remark(run, explanation.table)
    explanation = replace(explanation, settings={**explanation.settings, **asked})
    run.explanations.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(run.explanations)
    explanation = on_cells(explanation, opened.sites, screen.card.channels, nuclear=options.nuclear)
    if "faithfulness" in options.parts:
        explanation, written = run_faithfulness(
            opened,
            explanation,
            run.explanations,
            seeds=[_opened_beside(run, other, screen, opened) for other in options.seeds],
            shuffled=None if options.shuffled is None else _opened_beside(run, options.shuffled, screen, opened),
            advance=advance,
        )
    else:
        written = Faithfulness.remove(run.explanations)  # of other sites
    explanation = add_group_means(explanation)
    written += explanation.write(run.explanations)
    written += run_network_analyses(run, screen, options, advance=advance)
    run.record(*written)
    return explanation


def n_steps(parts: Sequence[Part]) -> int:
    """Return how many steps `explain_run` has: two for sites, one per part."""
    return 2 + len(parts)


def _opened_beside(run: RunFolder, other: RunFolder, screen: Screen, opened: ExplanationContext) -> ExplanationContext:
    """Open another run at the same sites; it must not have been trained on them."""
    if run.describe()["folds_sha256"] != other.describe()["folds_sha256"]:
        raise ExplanationError(
            f"{other.root} holds out other sites than {run.root} ({other.describe()['held_out']}), so it may have been "
            "trained on those to be explained. Train it with the same --hold-out, or the same --folds and --fold."
        )
    return load_context(other, screen, selection=SiteSelection(rows=opened.rows), removal=opened.removal)
