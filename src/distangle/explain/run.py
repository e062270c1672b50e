"""Explain a whole run: choose held-out sites, explain what was predicted, compare with a planted truth."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from distangle.commit import sweep
from distangle.explain.explain import ExplainSettings, explain_sites
from distangle.explain.opened import open_run
from distangle.explain.stains.removal import Removal
from distangle.inference import preparation_of
from distangle.progress import Advance, no_progress
from distangle.randomness import generator
from distangle.results import Explanation, RunFolder
from distangle.screen import Screen


def explain_run(
    run: RunFolder,
    screen: Screen,
    *,
    n_sites: int = 96,
    only: Mapping[str, Sequence[str]] | None = None,
    perturbation: str | None = None,
    settings: ExplainSettings | None = None,
    removal: Removal | None = None,
    advance: Advance = no_progress,
) -> Explanation:
    """Explain the predicted perturbation of held-out sites, and write `explanations/`.

    Args:
        run: A run that has been predicted.
        screen: Its screen.
        n_sites: How many sites at most, dealt out over the perturbations.
        only: As `choose_rows` takes it; None for any held-out site.
        perturbation: What is to be explained of every site, instead of what was predicted for it.
        settings: None for the defaults.
        removal: What stands in for an absent stain, instead of the settings'. None takes the same stain of an
            untreated well of the same plate where every plate has one, else the channel's mean.
        advance: Called after each piece.

    Raises:
        RunError: The run has not been predicted, or the screen does not fit the network.
        ExplanationError: No chosen site can be read, or the settings name what is not there.
        WeightsError: The norm statistics of the run are damaged.
    """
    opened = open_run(run, screen, n_sites=n_sites, only=only, perturbation=perturbation, removal=removal)
    explanation = explain_sites(
        opened.model,
        opened.sites,
        rng=generator(0, "explain"),
        settings=(settings or ExplainSettings()).model_copy(update={"removal": opened.removal}),
        channels_of=opened.channels_of,
        places=opened.places,
        advance=advance,
    )
    binning = float(preparation_of(opened.about).binning)
    explanation = replace(explanation, settings={**explanation.settings, "scale": [binning, binning]})
    sweep(run.explanations)
    run.record(*explanation.write(run.explanations))
    return explanation
