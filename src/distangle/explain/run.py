"""Explain a whole run: its held-out sites, its templates and its filters."""

from collections.abc import Sequence
from dataclasses import replace

from distangle.commit import sweep
from distangle.errors import ExplanationError
from distangle.explain.explain import ExplainSettings, explain_sites
from distangle.explain.filters.effect import check_held_out
from distangle.explain.grouped import with_later_means
from distangle.explain.on_cells import on_cells
from distangle.explain.opened import Opened, SiteSelection, open_run
from distangle.explain.parts import AnalysisOptions, of_the_network, tested
from distangle.explain.seen import remark_on
from distangle.explain.words import Part
from distangle.progress import Advance, begin_step, no_progress
from distangle.randomness import generator
from distangle.results import Explanation, Faithfulness, RunFolder
from distangle.screen import Screen


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
    opened = open_run(run, screen, selection=selection, removal=settings.removal, say=say)
    explanation = explain_sites(
        opened.model,
        opened.sites,
        rng=generator(0, "explain"),
        settings=settings.model_copy(update={"removal": opened.removal}),
        channels_of=opened.channels_of,
        places=opened.places,
        advance=advance,
    )
    binning = float(opened.about.preparation.binning)
    asked = {"scale": [binning, binning], "asked_layer": settings.layer, "perturbation": selection.perturbation}
    asked["remark"] = remark_on(run, explanation.table)
    explanation = replace(explanation, settings={**explanation.settings, **asked})
    run.explanations.mkdir(parents=True, exist_ok=True)
    sweep(run.explanations)
    explanation = on_cells(explanation, opened.sites, screen.card.channels, nuclear=options.nuclear)
    if "faithfulness" in options.parts:
        explanation, written = tested(
            opened,
            explanation,
            run.explanations,
            seeds=[_opened_beside(run, other, screen, opened) for other in options.seeds],
            shuffled=None if options.shuffled is None else _opened_beside(run, options.shuffled, screen, opened),
            advance=advance,
        )
    else:
        written = Faithfulness.remove(run.explanations)  # of other sites
    explanation = with_later_means(explanation)
    written += explanation.write(run.explanations)
    written += of_the_network(run, screen, options, advance=advance)
    run.record(*written)
    return explanation


def n_steps(parts: Sequence[Part]) -> int:
    """Return how many steps `explain_run` has: two for sites, one per part."""
    return 2 + len(parts)


def _opened_beside(run: RunFolder, other: RunFolder, screen: Screen, opened: Opened) -> Opened:
    """Open another run at the same sites; it must not have been trained on them."""
    if run.describe()["folds_sha256"] != other.describe()["folds_sha256"]:
        raise ExplanationError(
            f"{other.root} holds out other sites than {run.root} ({other.describe()['held_out']}), so it may have been "
            "trained on those to be explained. Train it with the same --hold-out, or the same --folds and --fold."
        )
    return open_run(other, screen, selection=SiteSelection(rows=opened.rows), removal=opened.removal)
